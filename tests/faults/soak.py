"""A long run: nodes, hundreds of jobs of every kind, and faults drawn from a seed.

    python -m tests.faults.soak --jobs 500 --nodes 3 --seed 1

Exit code 0 means that nothing was lost, seen twice or unexpected.
"""

import argparse
import asyncio
import json
import random
import statistics
import sys
import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any, ClassVar, Final

from node.errors import BrokerUnavailable, Overloaded, TopologyMismatch, Unroutable
from node.log import configure_logging
from node.tasks import running
from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.fleet import Fleet, FleetNode
from tests.faults.harness.paced import paced
from tests.faults.harness.proxy import Proxy
from tests.faults.harness.report import Report

OUTSTANDING: Final = 30
"""Jobs on their way at any time."""
PAUSE_SECONDS: Final = (2.0, 5.0)
"""Between the end of a fault and the next one."""
PAST_HEARTBEAT_SECONDS: Final = 7.0
SETTLE_SECONDS: Final = 240.0

KINDS: Final[Mapping[str, float]] = {
    "plain": 68,
    "asked twice": 6,
    "cancelled": 6,
    "with a deadline": 5,
    "bad": 4,
    "out of memory once": 4,
    "crashes once": 3,
    "kept for a caller without a queue": 4,
}


class Soak:
    """One run; everything random is drawn from `seed`."""

    pause_seconds: ClassVar[tuple[float, float]] = PAUSE_SECONDS

    def __init__(
        self,
        broker: FaultyBroker,
        fleet: Fleet,
        proxies: Sequence[Proxy],
        account: Account,
        seed: int,
        outstanding: int = OUTSTANDING,
    ) -> None:
        self._broker = broker
        self._fleet = fleet
        self._proxies = proxies
        self._account = account
        self._outstanding = outstanding
        self._jobs = random.Random(f"jobs {seed}")
        self._chaos = random.Random(f"faults {seed}")
        self.kinds: Counter[str] = Counter()
        self.faults: Counter[str] = Counter()

    async def submit(self, count: int) -> None:
        """Submit so many jobs, a few at a time."""
        room = asyncio.Semaphore(self._outstanding)
        async with asyncio.TaskGroup() as tasks:
            for number in range(count):
                await room.acquire()
                task = tasks.create_task(self._job(number))
                task.add_done_callback(lambda _: room.release())

    async def torment(self) -> None:
        """Inject one fault after the other until cancelled, and heal each."""
        faults = self._faults()
        while True:
            await asyncio.sleep(self._chaos.uniform(*self.pause_seconds))
            name = self._draw(sorted(faults))
            self.faults[name] += 1
            fault = asyncio.create_task(self._one(name, faults[name]))
            try:
                await asyncio.shield(fault)
            except asyncio.CancelledError:
                await fault  # what has begun is healed
                raise

    def _draw(self, faults: Sequence[str]) -> str:
        return self._chaos.choice(faults)

    async def _one(self, name: str, fault: Callable[[], Awaitable[None]]) -> None:
        self._account.injected(name)
        await fault()
        self._account.healed(name)

    async def _job(self, number: int) -> None:
        draw = self._jobs
        kind = draw.choices(list(KINDS), list(KINDS.values()))[0]
        steps, delay = draw.randint(10, 100), draw.uniform(0.0, 2.0)
        self.kinds[kind] += 1
        submit, job_id = self._account.submit, f"soak-{number}"
        given: dict[str, Any] = {"steps": steps, "seed": number}
        match kind:
            case "asked twice":
                await confirmed(submit, paced(**given), job_id=job_id)
                await asyncio.sleep(delay)
                await confirmed(submit, paced(**given), job_id=job_id)
            case "cancelled":
                either = ("cancelled", "succeeded")
                await confirmed(submit, paced(**given), job_id=job_id, ends=either)
                await asyncio.sleep(delay)
                await confirmed(self._account.cancel, job_id)
            case "with a deadline":
                late = {"ends": ("expired", "succeeded"), "deadline_seconds": 2.0 + 3 * delay}
                await confirmed(submit, paced(**given), job_id=job_id, **late)
            case "bad":
                wrong = paced(**given, failure="generation")
                await confirmed(submit, wrong, job_id=job_id, ends=("generation_failed",))
            case "out of memory once":
                once = paced(**given, failure="out_of_memory", times=1)
                await confirmed(submit, once, job_id=job_id)
            case "crashes once":
                await confirmed(submit, paced(**given, failure="bug", times=1), job_id=job_id)
            case "kept for a caller without a queue":
                stranger = self._account.submit_raw
                await confirmed(stranger, paced(**given), job_id=job_id, answered=False)
                return  # it is read when all is over
            case _:
                await confirmed(submit, paced(**given), job_id=job_id)
        await self._account.result(job_id, SETTLE_SECONDS)

    def _faults(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        return {
            "node killed": self._node_killed,
            "node told to stop": self._node_stopped,
            "node frozen past the heartbeat": self._node_frozen,
            "broker killed": self._broker_killed,
            "broker restarted": self._broker.restart,
            "broker frozen past the heartbeat": self._broker_frozen,
            "all connections closed": self._broker.close_connections,
            "memory alarm": self._alarm,
            "link half open to the broker": lambda: self._half_open("to_broker"),
            "link half open to the node": lambda: self._half_open("to_client"),
            "link flapping": self._flapping,
            "link absent": self._absent,
            "link slow": self._slow,
        }

    def _node(self) -> FleetNode:
        name = self._chaos.choice(sorted({node.name for node in self._fleet.nodes}))
        return self._fleet.node(name)

    async def _node_killed(self) -> None:
        node = self._node()
        node.kill()
        await self._fleet.restart(node)

    async def _node_stopped(self) -> None:
        node = self._node()
        node.stop()
        await node.ended()
        await self._fleet.restart(node)

    async def _node_frozen(self) -> None:
        node = self._node()
        node.suspend()
        await asyncio.sleep(PAST_HEARTBEAT_SECONDS)
        node.cont()

    async def _broker_killed(self) -> None:
        await self._broker.kill()
        await self._broker.start()

    async def _broker_frozen(self) -> None:
        await self._broker.suspend()
        await asyncio.sleep(PAST_HEARTBEAT_SECONDS)
        await self._broker.resume()

    async def _alarm(self) -> None:
        await self._broker.alarm(True)
        await asyncio.sleep(4.0)
        await self._broker.alarm(False)

    async def _half_open(self, direction: Any) -> None:
        proxy = self._chaos.choice(self._proxies)
        proxy.half_open(direction)
        await asyncio.sleep(PAST_HEARTBEAT_SECONDS)
        proxy.restore()

    async def _flapping(self) -> None:
        proxy = self._chaos.choice(self._proxies)
        proxy.flap(2.0)
        await asyncio.sleep(10.0)
        proxy.restore()

    async def _absent(self) -> None:
        proxy = self._chaos.choice(self._proxies)
        proxy.refuse()
        await asyncio.sleep(5.0)
        proxy.restore()

    async def _slow(self) -> None:
        proxy = self._chaos.choice(self._proxies)
        proxy.latency(0.3)
        await asyncio.sleep(6.0)
        proxy.restore()


async def confirmed(call: Callable[..., Awaitable[Any]], *args: Any, **kwargs: Any) -> None:
    """Ask again until the broker confirms, as a patient caller does: the job id stays the same."""
    while True:
        try:
            await call(*args, **kwargs)
        except Overloaded as error:
            await asyncio.sleep(error.retry_after_seconds)
        except (BrokerUnavailable, Unroutable, TopologyMismatch):
            await asyncio.sleep(1.0)
        else:
            return


def soak_folder(stack: ExitStack, given: Path | None) -> Path:
    """Make the folder of logs and stores: the one that was given, or one that goes again."""
    if given is None:
        return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="text2image-soak-")))
    given.mkdir(parents=True, exist_ok=True)
    return given


async def _soak(options: argparse.Namespace) -> tuple[Report, Soak]:
    """Run it and return the books."""
    with ExitStack() as stack:
        folder = soak_folder(stack, options.folder)
        broker = FaultyBroker()
        stack.callback(broker.private.close)
        await broker.start()
        proxies = [stack.enter_context(Proxy(broker.port)) for _ in range(options.nodes)]
        fleet = stack.enter_context(Fleet([broker.url], folder))
        settings = {} if options.alone else {"result_store": f"file://{folder}/results"}
        for number, proxy in enumerate(proxies, start=1):
            await fleet.start(f"node-{number}", urls=[proxy.url], **settings)
        async with Account.open([broker.url], fleet, f"soak, seed {options.seed}") as account:
            run = Soak(broker, fleet, proxies, account, options.seed)
            async with running(torment=run.torment()):
                await run.submit(options.jobs)
            return await account.settled(SETTLE_SECONDS), run


def shown(report: Report, run: Soak) -> str:
    """Write the report for people."""
    lines = [f"{name:>20} {value}" for name, value in asdict(report).items() if _is_count(value)]
    lines += ["", "jobs by kind", *(f"{n:>6} {kind}" for kind, n in run.kinds.most_common())]
    lines += ["", "seconds until the next result", "     n  median     max  fault"]
    for fault, seconds in sorted(report.recovery_seconds.items()):
        middle, longest = statistics.median(seconds), max(seconds)
        lines.append(f"{len(seconds):>6} {middle:>7.2f} {longest:>7.2f}  {fault}")
    lines += ["", f"generations per job: {dict(report.generations_per_job)}", *report.problems]
    return "\n".join(lines)


def _is_count(value: Any) -> bool:
    return isinstance(value, int | float)


def main() -> None:
    """Parse the command line, run, print; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--jobs", type=int, default=500)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--alone", action="store_true", help="nodes share no results")
    parser.add_argument("--folder", type=Path, help="keep the logs of the nodes in this folder")
    parser.add_argument("--json", type=Path, help="also write the report to this file")
    options = parser.parse_args()
    configure_logging("console", "ERROR")
    report, run = asyncio.run(_soak(options))
    print(shown(report, run))
    if options.json:
        options.json.write_text(json.dumps(asdict(report), indent=2) + "\n")
    sys.exit(bool(report.lost or report.visible_twice or report.unexpected))


if __name__ == "__main__":
    main()
