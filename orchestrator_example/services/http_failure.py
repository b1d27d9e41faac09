"""What goes wrong between a bridge and its HTTP service, and what to do about it. Pure."""

import os
from typing import Final

import aiohttp

from node.errors import InternalError, JobError
from orchestrator_example.services.http_errors import ServiceFailed
from orchestrator_example.services.http_settings import BridgeSettings, shown

FAILURES: Final = (aiohttp.ClientError, TimeoutError, OSError)
"""Everything that the client library raises for a call that came to nothing."""


def failure(error: Exception, settings: BridgeSettings) -> JobError:
    """Translate what went wrong between the bridge and the service; a repeat may succeed."""
    connecting = isinstance(error, aiohttp.ConnectionTimeoutError)
    too_slow = isinstance(error, TimeoutError) and not connecting
    return (ServiceFailed if too_slow else InternalError)(_explained(error, settings))


def reason(error: Exception) -> str:
    """Say the cause in a few words."""
    if isinstance(error, aiohttp.ClientConnectorError):
        known = (error.os_error.errno or 0) > 0
        # asyncio's own words repeat the address, and do not say what is wrong.
        return os.strerror(error.os_error.errno or 0) if known else str(error.os_error.strerror)
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return " ".join(str(error).split()) or type(error).__name__


def _explained(error: Exception, settings: BridgeSettings) -> str:
    where = shown(settings.url)
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return (
                f"{where}: its TLS certificate is not trusted: {error.certificate_error}; the "
                "operator names its authority in SSL_CERT_FILE"
            )
        case aiohttp.ClientSSLError() | aiohttp.ServerFingerprintMismatch():
            return f"{where}: TLS failed: {error}; is it http:// in truth (BRIDGE_URL)?"
        case aiohttp.ConnectionTimeoutError():
            return f"{where}: no connection within {settings.connect_seconds:g} s"
        case TimeoutError():
            return (
                f"{where}: no complete answer within {settings.timeout_seconds:g} s "
                "(BRIDGE_TIMEOUT_SECONDS)"
            )
        case aiohttp.ClientConnectorError():
            return f"{where}: no connection: {reason(error)}"
        case aiohttp.ClientPayloadError():
            return f"{where}: the answer broke off"
        case aiohttp.ServerDisconnectedError():
            return f"{where}: the service closed the connection without an answer"
        case aiohttp.ClientResponseError():
            return f"{where}: what came back is no HTTP: {error.message}"
        case _:
            return f"{where}: the connection broke: {reason(error)}"
