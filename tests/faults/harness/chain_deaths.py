"""Orchestrators that die each at another point of a chain, and one that goes on with them all."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.faults.harness.chain_account import ChainAccount
from tests.faults.harness.chain_fleet import ChainFleet
from tests.faults.harness.chain_services import chained
from tests.faults.harness.fleet import FleetNode
from tests.faults.harness.waiting import until

FINISHING_SECONDS: Final = 60.0
TAKEN: Final = ("request.held_elsewhere", "job.started", "request.replayed")


@dataclass(frozen=True, slots=True)
class Death:
    """One chain and the orchestrator that began it."""

    kill_at: int
    chain: str
    point: str
    """Where it was killed; empty when its chain had ended before."""


class Deaths:
    """Makes deaths in batches: each orchestrator of a batch has one chain of its own."""

    def __init__(self, fleet: ChainFleet, account: ChainAccount, folder: Path) -> None:
        self._fleet = fleet
        self._account = account
        self._folder = folder

    def launch(self, points: Sequence[int]) -> dict[int, FleetNode]:
        """Start orchestrators that will die at these points; each takes one chain at a time."""
        return {point: self._launch(point, self._gate(points[0])) for point in points}

    async def die(self, doomed: dict[int, FleetNode]) -> list[Death]:
        """Give each a chain, let all begin at once, and wait until each died or was done."""
        await asyncio.gather(*(node.ready() for node in doomed.values()))
        requests = [chained(f"chain {point}", failures=1) for point in doomed]
        await asyncio.gather(*(self._account.submit(request) for request in requests))
        began = [await node.logged("job.started") for node in doomed.values()]
        chains = {point: line["job_id"] for point, line in zip(doomed, began, strict=True)}
        self._gate(min(doomed)).touch()
        await asyncio.gather(*(self._over(node, chains[point]) for point, node in doomed.items()))
        return [self._death(point, chains[point], node) for point, node in doomed.items()]

    async def survivor(self, name: str, deaths: Sequence[Death]) -> FleetNode:
        """Start another orchestrator, and wait until it has all the chains that were left."""
        (survivor,) = await self._fleet.orchestrate(name)
        left = {death.chain for death in deaths if death.point}
        await until(lambda: left <= _taken(survivor), f"{name} has {len(left)} chains")
        return survivor

    async def ended(self, survivor: FleetNode, deaths: Sequence[Death]) -> None:
        """Wait until all chains have ended, and stop the one that went on with them."""
        for death in deaths:
            await self._account.result(death.chain, FINISHING_SECONDS)
        survivor.kill()

    async def _over(self, node: FleetNode, chain: str) -> None:
        entry = self._account.entries[chain]
        await until(
            lambda: node.exit_code is not None or entry.visible,
            f"{node.name} dies, or is done with its chain",
        )

    def _launch(self, point: int, gate: Path) -> FleetNode:
        settings = {
            "slots": "1",
            "look_ahead": "0",
            "chain_kill_at": str(point),
            "chain_points": str(self._points(point)),
            "chain_gate": str(gate),
        }
        return self._fleet.launch_orchestrator(f"doomed-{point}", **settings)

    def _points(self, point: int) -> Path:
        return self._folder / f"points-{point}"

    def _gate(self, first: int) -> Path:
        return self._folder / f"gate-{first}"

    def _death(self, point: int, chain: str, node: FleetNode) -> Death:
        if node.exit_code is None:
            node.kill()
            return Death(point, chain, "")
        return Death(point, chain, self._points(point).read_text().splitlines()[-1])


def _taken(node: FleetNode) -> set[str]:
    return {line["job_id"] for line in node.log() if line["event"] in TAKEN}
