"""The processes that chains need: nodes of three services, and orchestrators."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.faults.harness.chain_orchestrator import CHAIN
from tests.faults.harness.chain_services import SERVICES
from tests.faults.harness.fleet import Fleet, FleetNode

HERE: Final = "tests.faults.harness"
CHAIN_SERVICES: Final = frozenset({CHAIN, *(service.name for service in SERVICES)})


class ChainFleet(Fleet):
    """Nodes of chains; `store` is where orchestrators keep answers, and services share results."""

    def __init__(self, urls: Sequence[str], folder: Path) -> None:
        super().__init__(urls, folder)
        self.store = folder / "store"

    @property
    def shared(self) -> dict[str, str]:
        """Settings of a node that keeps what it knows in the store."""
        return {"result_store": f"file://{self.store}"}

    async def serve(self, *numbers: int, **settings: str) -> list[FleetNode]:
        """Start a node of each service for each number: `chain-writer-1` and so on."""
        nodes = [
            self.launch(
                f"{service.name}-{number}",
                **{"component": f"{HERE}.chain_services:{service.__name__}", **settings},
            )
            for number in numbers
            for service in SERVICES
        ]
        return await _ready(nodes)

    async def orchestrate(
        self, *names: str, urls: Sequence[str] | None = None, **settings: str
    ) -> list[FleetNode]:
        """Start orchestrators; they keep answers unless told otherwise."""
        return await _ready([self.launch_orchestrator(n, urls=urls, **settings) for n in names])

    def launch_orchestrator(
        self, name: str, *, urls: Sequence[str] | None = None, **settings: str
    ) -> FleetNode:
        """Start an orchestrator without waiting for it."""
        component = f"{HERE}.chain_orchestrator:Orchestrator"
        return self.launch(name, urls=urls, **{"component": component, **self.shared, **settings})


async def _ready(nodes: list[FleetNode]) -> list[FleetNode]:
    await asyncio.gather(*(node.ready() for node in nodes))
    return nodes
