"""The gateway as a process runs it: beside the nodes of its mega-services, until a signal."""

import asyncio
import logging
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

import structlog
import uvicorn

from contracts.service import ServiceContract
from node.discovery.directory import ServiceDirectory
from node.errors import SetupError
from node.ports import Broker, Clock
from node.tasks import running
from orchestrator_example.gateway.app import make_app
from orchestrator_example.gateway.connections import CallerProtocol
from orchestrator_example.gateway.desk import JobDesk
from orchestrator_example.gateway.keys import ANONYMOUS, KeyRing
from orchestrator_example.gateway.limits import Limits
from orchestrator_example.gateway.settings import GatewaySettings

KEEP_ALIVE_SECONDS: Final = 30
LAST_WORDS_SECONDS: Final = 2.0
"""How long it may take to tell callers that nobody waits for their jobs any more."""

log = structlog.get_logger(__name__)


class _Server(uvicorn.Server):
    """Uvicorn's server; signals are for the whole process, and whoever runs it hears them."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


class Gateway:
    """Serves HTTP in front of a broker."""

    def __init__(
        self,
        settings: GatewaySettings,
        broker: Broker,
        services: Iterable[ServiceContract],
        clock: Clock,
        *,
        verify_announcers: bool = False,
    ) -> None:
        self._settings = settings
        self._broker = broker
        default = replace(
            ANONYMOUS,
            requests_per_minute=settings.requests_per_minute,
            concurrent=settings.concurrent,
        )
        self._keys = KeyRing.read(settings.keys_file, default)
        self._directory = ServiceDirectory(broker, clock, verify=verify_announcers)
        self.desk = JobDesk(broker, self._directory, services, settings, Limits(clock.monotonic))
        self._app = make_app(self.desk, self._keys, clock)
        self._server = _Server(
            uvicorn.Config(
                self._app,
                http=CallerProtocol,
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                forwarded_allow_ips=settings.forwarded_allow_ips,
                timeout_keep_alive=KEEP_ALIVE_SECONDS,
                timeout_graceful_shutdown=round(settings.grace_seconds + LAST_WORDS_SECONDS),
            )
        )
        self.port: int | None = None

    def describe(self) -> None:
        """Write the OpenAPI document ahead: its first reader would hold everybody up."""
        self._app.openapi()

    async def run(self, _: object = None) -> None:
        """Serve until `stop`. Raises SetupError when the port is taken."""
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
        with _listening(self._settings.host, self._settings.port) as listener:
            self.port = listener.getsockname()[1]
            async with (
                self._broker.running(),
                running(directory=self._directory.run(), keys=self._keys.watch()),
                self.desk.open(),
            ):
                log.info("gateway.opened", url=f"http://{self._settings.host}:{self.port}")
                await self._server.serve(sockets=[listener])
        log.info("gateway.stopped")

    def stop(self) -> None:
        """Take no more calls, and end when those that wait are answered; again: at once."""
        self._server.force_exit = self._server.should_exit
        self._server.should_exit = True
        self.desk.stop()
        grace_seconds = 0.0 if self._server.force_exit else self._settings.grace_seconds
        log.info("gateway.stopping", grace_seconds=grace_seconds)
        asyncio.get_running_loop().call_later(grace_seconds, self.desk.give_up)


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=2048)
    except OSError as error:
        raise SetupError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; "
            "set GATEWAY_HOST or GATEWAY_PORT"
        ) from error
    with listener:
        # Connections inherit it. asyncio sets it for sockets only that name their protocol, and
        # without it each answer waits 40 ms for the caller's delayed ACK of its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield listener
