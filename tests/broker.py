"""Provide the RabbitMQ broker that integration tests run against."""

import gc
import os
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

from deploy.broker_place import BrokerUnavailable
from deploy.installation import ROOT_VARIABLE
from deploy.local_broker import IMAGE, docker_answers, private_broker

URL_VARIABLE = "NODE_TEST_AMQP_URL"


@contextmanager
def provide_broker(environ: Mapping[str, str] = os.environ) -> Iterator[str]:
    """Yield the address of a broker: the given one, else a container, else a private server.

    Tests that need a broker are never skipped: without one this raises and says what to install.
    """
    with ExitStack() as stack:
        given = environ.get(URL_VARIABLE)
        # A container would not be of the release that was asked for.
        if given is None and not environ.get(ROOT_VARIABLE):
            given = _container_url(stack)
        yield given or _private_url(stack)


def _container_url(stack: ExitStack) -> str | None:
    """Start a container if Docker can; what keeps it from that is a warning, not a failure."""
    if not docker_answers():
        return None
    with _quietly():
        try:
            return stack.enter_context(_container())
        except Exception as error:
            reason = str(error)
    print(f"warning: no RabbitMQ container ({reason}); using a private server", file=sys.stderr)
    return None


@contextmanager
def _container() -> Iterator[str]:
    from testcontainers.community.rabbitmq import RabbitMqContainer

    container = RabbitMqContainer(IMAGE)
    try:
        container.start()
        host, port = container.get_container_host_ip(), container.get_exposed_port(5672)
        yield f"amqp://guest:guest@{host}:{port}/"
    finally:
        with _quietly():
            container.stop()


@contextmanager
def _quietly() -> Iterator[None]:
    """Ignore the library's warnings, those about sockets that it leaves to the collector too."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
        gc.collect()


def _private_url(stack: ExitStack) -> str:
    try:
        return stack.enter_context(private_broker()).url
    except BrokerUnavailable as error:
        raise BrokerUnavailable(f"{URL_VARIABLE} is not set; {error}") from None
