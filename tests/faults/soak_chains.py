"""A long run of chains: three services, two orchestrators, and faults drawn from a seed.

    python -m tests.faults.soak_chains --chains 200 --seed 1

Exit code 0 means that nothing was lost, seen twice or unexpected, and no confirmed work repeated.
"""

import argparse
import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any, Final

from node.log import configure_logging
from node.tasks import running
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.chain_account import ChainAccount
from tests.faults.harness.chain_fleet import CHAIN_SERVICES, ChainFleet
from tests.faults.harness.chain_services import STAGES, chained
from tests.faults.harness.fleet import FleetNode
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.report import Report
from tests.faults.soak import (
    PAST_HEARTBEAT_SECONDS,
    SETTLE_SECONDS,
    Soak,
    confirmed,
    shown,
    soak_folder,
)

OUTSTANDING: Final = 8
"""Chains on their way at any time."""
ORCHESTRATORS: Final = ("orchestrator-1", "orchestrator-2")
DIRECTIONS: Final = ("to_broker", "to_client")
KINDS: Final[Mapping[str, float]] = {
    "plain": 40,
    "a stage fails once": 25,
    "made once": 15,
    "cancelled": 12,
    "with a deadline": 8,
}


class ChainSoak(Soak):
    """One run; everything random is drawn from `seed`."""

    pause_seconds = (0.5, 2.0)

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._round: list[str] = []

    def _draw(self, faults: Sequence[str]) -> str:
        """Draw each fault once before any of them comes again."""
        if not self._round:
            self._round = self._chaos.sample(faults, k=len(faults))
        return self._round.pop()

    async def _job(self, number: int) -> None:
        draw = self._jobs
        kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
        paces: dict[str, Any] = {
            stage: draw.uniform(0.5, 4.0) for stage in draw.sample(STAGES, k=2)
        }
        delay = draw.uniform(0.0, 4.0)
        self.kinds[kind] += 1
        chain, text = f"soak-{number}", f"chain {number}"
        match kind:
            case "a stage fails once":
                await self._ask(chained(text, failures=1, **paces), chain)
            case "made once":
                await self._ask(chained(text, seed=2, **paces), chain)
            case "cancelled":
                await self._ask(chained(text, **paces), chain, ends=("cancelled", "succeeded"))
                await asyncio.sleep(delay)
                await confirmed(self._account.cancel, chain)
            case "with a deadline":
                late = {"ends": ("expired", "succeeded"), "deadline_seconds": 3.0 + 6 * delay}
                await self._ask(chained(text, **paces), chain, **late)
            case _:
                await self._ask(chained(text, **paces), chain)
        await self._account.result(chain, SETTLE_SECONDS)

    async def _ask(self, request: Any, chain: str, **given: Any) -> None:
        await confirmed(self._account.submit, request, job_id=chain, **given)

    def _faults(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        services = sorted({node.name for node in self._fleet.nodes} - set(ORCHESTRATORS))
        return {
            "broker killed": self._broker_killed,
            "broker restarted": self._broker.restart,
            "broker frozen past the heartbeat": self._broker_frozen,
            "all connections closed": self._broker.close_connections,
            "link half open": lambda: self._half_open(self._chaos.choice(DIRECTIONS)),
            "link flapping": self._flapping,
            "link absent": self._absent,
            **{
                f"{what} {verb}": partial(fault, names)
                for what, names in (("orchestrator", ORCHESTRATORS), ("service", services))
                for verb, fault in (
                    ("killed", self._killed),
                    ("told to stop", self._stopped),
                    ("frozen past the heartbeat", self._frozen),
                )
            },
        }

    def _one_of(self, names: Sequence[str]) -> FleetNode:
        return self._fleet.node(self._chaos.choice(names))

    async def _killed(self, names: Sequence[str]) -> None:
        node = self._one_of(names)
        node.kill()
        await self._fleet.restart(node)

    async def _stopped(self, names: Sequence[str]) -> None:
        node = self._one_of(names)
        node.stop()
        await node.ended()
        await self._fleet.restart(node)

    async def _frozen(self, names: Sequence[str]) -> None:
        node = self._one_of(names)
        node.suspend()
        await asyncio.sleep(PAST_HEARTBEAT_SECONDS)
        node.cont()


async def _soak(options: argparse.Namespace) -> tuple[Report, ChainSoak, int]:
    """Run it; return the books, and how often confirmed work was repeated."""
    with ExitStack() as stack:
        folder = soak_folder(stack, options.folder)
        broker = FaultyBroker()
        broker.services |= CHAIN_SERVICES
        stack.callback(broker.private.close)
        await broker.start()
        fleet = stack.enter_context(ChainFleet([broker.url], folder))
        await fleet.serve(1, 2, **fleet.shared)
        proxies = [stack.enter_context(Proxy(broker.port)) for _ in ORCHESTRATORS]
        for name, proxy in zip(ORCHESTRATORS, proxies, strict=True):
            await fleet.orchestrate(name, urls=[proxy.url])
        scenario = f"soak of chains, seed {options.seed}"
        async with ChainAccount.open([broker.url], fleet, scenario) as account:
            account.store = fleet.store
            run = ChainSoak(broker, fleet, proxies, account, options.seed, OUTSTANDING)
            async with running(torment=run.torment()):
                await run.submit(options.chains)
            return await account.settled(SETTLE_SECONDS), run, len(account.repeated())


def main() -> None:
    """Parse the command line, run, print; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--chains", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--folder", type=Path, help="keep the logs of the nodes in this folder")
    options = parser.parse_args()
    configure_logging("console", "ERROR")
    report, run, repeated = asyncio.run(_soak(options))
    print(shown(report, run), f"{repeated:>20} repeated confirmed work", sep="\n")
    sys.exit(bool(report.lost or report.visible_twice or report.unexpected))


if __name__ == "__main__":
    main()
