"""The nodes of a process: one for each component that it serves.

Components may share what they have loaded. A signal reaches every node, and one that fails ends
the others: what they run goes back to the broker, and the process ends or starts anew as one.
"""

import asyncio
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final, Protocol

from node.app import Node
from node.component import Component, ComponentLoader
from node.errors import SetupError
from node.parts import make_broker
from node.settings import Settings

LAST_PORT: Final = 65535


class Served(Protocol):
    """What a process runs: a node, or a gateway."""

    async def run(self, loader: ComponentLoader) -> None:
        """Serve until `stop`."""

    def stop(self) -> None:
        """Finish and end; called again: at once."""


def make_nodes(settings: Settings, loader: ComponentLoader, delay_seconds: float) -> list[Node]:
    """Build a node for each component that NODE_COMPONENT names. Raises SetupError."""
    names = [name.strip() for name in settings.component.split(",") if name.strip()]
    components: list[Component] = []
    for component in map(loader.build, names):
        if component.name in (each.name for each in components):
            raise SetupError(f"two components serve {component.name}: name each service once")
        for sibling in components:
            component.share(sibling)
        components.append(component)
    if not components:
        raise SetupError("no component to serve: set NODE_COMPONENT, or pass --component")
    return [
        Node(_with_port(settings, index), component, make_broker(settings), delay_seconds)
        for index, component in enumerate(components)
    ]


def _with_port(settings: Settings, index: int) -> Settings:
    """Give each node of a process its own port for health and metrics: one after the other."""
    if settings.http_port == 0 or index == 0:
        return settings
    port = settings.http_port + index
    return settings.model_copy(update={"http_port": port if port <= LAST_PORT else 0})


async def run_nodes(nodes: Sequence[Served], loader: ComponentLoader) -> None:
    """Run the nodes of a process until a signal; one that fails ends them all.

    The others give back what they run, as after a second signal. Raises what that one raised.
    """
    tasks = [asyncio.create_task(node.run(loader)) for node in nodes]
    try:
        with _signals(nodes):
            done, left = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
            if left:
                _stop_at_once(nodes)
                await asyncio.wait(left)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _stop_at_once(nodes: Sequence[Served]) -> None:
    """Drain without waiting for running jobs, as after a second signal."""
    for node in (*nodes, *nodes):
        node.stop()


@contextmanager
def _signals(nodes: Sequence[Served]) -> Iterator[None]:
    """Pass SIGTERM and SIGINT on to every node."""

    def stop() -> None:
        for node in nodes:
            node.stop()

    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for each in signals:
        loop.add_signal_handler(each, stop)
    try:
        yield
    finally:
        for each in signals:
            loop.remove_signal_handler(each)
