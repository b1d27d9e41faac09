"""The services of a graph, over one broker: a client for each, and who of them is there."""

from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager

from pydantic import ValidationError

from contracts.message import AnyMessage, Message
from contracts.result import AnyResult
from contracts.text2image import TEXT2IMAGE, Text2ImageRequest
from node.client import Client
from node.discovery.directory import ServiceDirectory
from node.ports import Broker, Clock
from node.tasks import running


class ServiceClients:
    """Speaks to the services; `verify` says which announcements are believed."""

    def __init__(
        self, broker: Broker, services: Iterable[str], clock: Clock, *, verify: bool = False
    ) -> None:
        self._broker = broker
        self._clients = {service: Client(broker, service, AnyResult) for service in services}
        self._directory = ServiceDirectory(broker, clock, verify=verify)

    def __getitem__(self, service: str) -> Client:
        return self._clients[service]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Be connected inside the context."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._broker.running())
            for client in self._clients.values():
                await stack.enter_async_context(client.running())
            await stack.enter_async_context(running(directory=self._directory.run()))
            await self._broker.wait_until_connected()
            yield

    def obstacles(self, service: str, request: AnyMessage) -> str:
        """Say why no live node of a service would do a request; empty where one would.

        For people and errors only: a request is sent all the same, and waits in its queue.
        """
        return "; ".join(self._directory.can_serve(service, _judged(service, request)).reasons)


def _judged(service: str, request: AnyMessage) -> Message:
    """Read what pre-flight knows of; of other services it judges only who is there."""
    if service == TEXT2IMAGE:
        try:
            return Text2ImageRequest.model_validate(request.model_extra)
        except ValidationError:
            pass  # The service says what is wrong.
    return Message()
