"""A fleet around one broker, to which a scenario happens."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any, Final, assert_never

import structlog.testing

from contracts.topology import (
    RETRY_DELAYS_SECONDS,
    request_queues,
    retry_queue,
    service_topology,
    unanswered_queue,
)
from tests.properties import virtual_time
from tests.properties.callers import Asked, Caller, job_id_of, request_of
from tests.properties.components import MODEL, Generations
from tests.properties.nodes import SERVICE, Ground, NodeProcess
from tests.properties.records import PUBLISHER, RecordingServer
from tests.properties.scenarios import (
    BrokerAway,
    Cancel,
    Drain,
    Freeze,
    Interrupt,
    InterruptCaller,
    Kill,
    KillAtAwait,
    Pass,
    QueuesFull,
    Replay,
    Scenario,
    Start,
    Step,
    Submit,
    SubmitBroken,
    Trouble,
    Turns,
)
from tests.properties.weather import Weather

SETTLED_SECONDS: Final = 1_500.0
"""More than every retry of every job takes, with nodes that die on the way."""
LOOK_SECONDS: Final = 2.5
STILL_BAD_SECONDS: Final = 60.0
LATE_SECONDS: Final = 60.0
DRAINED_SECONDS: Final = 60.0
RETRIES: Final = tuple(retry_queue(SERVICE, delay) for delay in RETRY_DELAYS_SECONDS)
REQUEST_QUEUES: Final = request_queues(SERVICE, [MODEL])
MUST_BE_EMPTY: Final = (*REQUEST_QUEUES, *RETRIES, unanswered_queue(SERVICE))


class World:
    """What happened to a scenario's fleet, while it happens and afterwards."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.server = RecordingServer()
        self.weather = Weather(scenario.rhythm)
        self.generations = Generations()
        self.nodes: list[NodeProcess] = []
        self.asked: list[Asked] = []
        self.cancelled_at: dict[str, float] = {}
        self.freezes = 0
        self.logged: list[Any] = []
        self.unhandled: list[dict[str, Any]] = []
        self.remains: dict[str, Any] = {}
        self.never_ended: list[str] = []
        self._ground = Ground(scenario, self.server, self.weather, self.generations, {})
        self._callers = [Caller(f"caller-{n}", self.server, self.weather) for n in range(4)]
        self._tasks: list[asyncio.Task[None]] = []
        self._capacities: dict[str, dict[str, Any]] = {}

    async def live(self) -> None:
        """Let the whole scenario happen, then let the fleet come to rest."""
        asyncio.get_running_loop().set_exception_handler(lambda _, c: self.unhandled.append(c))
        self.server.declare(service_topology(SERVICE, [MODEL]))
        with structlog.testing.capture_logs() as self.logged:
            async with AsyncExitStack() as stack:
                for caller in self._callers:
                    PUBLISHER.set(caller.name)
                    await stack.enter_async_context(caller.client.running())
                for _ in range(self.scenario.nodes):
                    self._start()
                for step in self.scenario.steps:
                    await self._happen(step)
                await self._settle()
                self.remains = self.left_over()
                await self._end()

    async def _happen(self, step: Step) -> None:  # noqa: C901 - a case for each kind of step
        match step:
            case Submit():
                self._submit(step)
            case SubmitBroken():
                self._submit_broken(step)
            case Cancel():
                self._cancel(step)
            case Replay():
                self._spawn(3, self._callers[3].replay())
            case Trouble() | KillAtAwait():
                self.weather.expect(step)
            case Kill():
                self._node(step.node).kill()
            case Drain():
                self._node(step.node).stop(step.grace_seconds)
            case Start():
                self._start()
            case Interrupt():
                self._node(step.node).interrupt(step.seconds)
            case Freeze():
                self.freezes += 1
                self._node(step.node).freeze(step.seconds)
            case InterruptCaller():
                self._callers[step.caller].broker.interrupt(step.seconds)
            case BrokerAway():
                self._lose_broker(step.seconds)
            case QueuesFull():
                self._fill(RETRIES if step.retries else REQUEST_QUEUES, step.seconds)
            case Pass():
                await asyncio.sleep(step.seconds)
            case Turns():
                for _ in range(step.count):
                    await asyncio.sleep(0)
            case _ as never:
                assert_never(never)

    def _start(self) -> None:
        name = f"node-{len(self.nodes)}"
        PUBLISHER.set(name)
        self.nodes.append(NodeProcess(name, self._ground))

    def _node(self, number: int) -> NodeProcess:
        # The latest ones: those that were started first are the likeliest to be gone.
        return self.nodes[-1 - number % len(self.nodes)]

    def _submit(self, step: Submit) -> None:
        body = self.scenario.body(step)
        asked = Asked(job_id_of(step.job), body)
        self.asked.append(asked)
        if step.caller is not None:
            self._spawn(step.caller, self._callers[step.caller].ask(step, asked, body))
            return
        asked.correlation_id = f"copy-{len(self.asked)}"
        published = self._callers[2].publish(asked, request_of(body).to_json(), step)
        self._spawn(2, published)

    def _submit_broken(self, step: SubmitBroken) -> None:
        asked = Asked(job_id_of(step.job), None, f"copy-{len(self.asked) + 1}")
        self.asked.append(asked)
        self._spawn(2, self._callers[2].publish(asked, b"no JSON"))

    def _cancel(self, step: Cancel) -> None:
        job_id = job_id_of(step.job)
        self.cancelled_at.setdefault(job_id, asyncio.get_running_loop().time())
        self._spawn(2, self._callers[2].cancel(job_id))

    def _spawn(self, caller: int, coroutine: Any) -> None:
        PUBLISHER.set(self._callers[caller].name)
        self._tasks.append(asyncio.create_task(coroutine))

    def _lose_broker(self, seconds: float) -> None:
        self.weather.broker_away(seconds)
        for each in self._living():
            each.interrupt(seconds)
        for caller in self._callers:
            caller.broker.interrupt(seconds)

    def _fill(self, names: tuple[str, ...], seconds: float) -> None:
        for name in names:
            queue = self.server.queues[name]
            self._capacities.setdefault(name, queue.arguments)
            queue.arguments = queue.arguments | {"x-max-length": 0}
        asyncio.get_running_loop().call_later(seconds, self._make_room, names)

    def _make_room(self, names: tuple[str, ...]) -> None:
        for name in names:
            if name in self._capacities:
                self.server.queues[name].arguments = self._capacities.pop(name)

    def _living(self) -> list[NodeProcess]:
        return [node for node in self.nodes if not node.dead]

    async def _settle(self) -> None:
        """Stop all faults, keep a node up, and wait until nothing is left to do."""
        await asyncio.sleep(STILL_BAD_SECONDS)
        self.weather.clear_up()
        self._make_room(tuple(self._capacities))
        for _ in range(int(SETTLED_SECONDS / LOOK_SECONDS)):
            if not any(not node.leaving for node in self._living()):
                self._start()
            if not self.left_over():
                break
            await asyncio.sleep(LOOK_SECONDS)
        await asyncio.sleep(LATE_SECONDS)

    def left_over(self) -> dict[str, Any]:
        """Say what is not at rest: what queues, nodes and callers still hold."""
        held: dict[str, Any] = {
            name: len(queue.items)
            for name in MUST_BE_EMPTY
            if (queue := self.server.queues[name]).items
        }
        held |= {node.name: what for node in self._living() if (what := node.left_over())}
        waiting = [each.job_id for each in self.asked if not self._is_over(each)]
        return held | ({"waiting": waiting} if waiting else {})

    def _is_over(self, asked: Asked) -> bool:
        if asked.refused is not None or asked.outcome is not None:
            return True
        return asked.confirmed and asked.correlation_id is not None

    async def _end(self) -> None:
        """Drain every node that is left, and let nobody wait any longer."""
        for node in self._living():
            node.stop(grace_seconds=0.0)
        await asyncio.sleep(DRAINED_SECONDS)
        self.never_ended = [node.name for node in self._living()]
        for task in self._tasks:
            task.cancel()
        for node in self._living():
            node.kill()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for node in self.nodes:
            await node.ended()


def live(scenario: Scenario) -> World:
    """Let a scenario happen from beginning to end, on virtual time."""

    async def begin() -> World:
        world = World(scenario)
        await world.live()
        return world

    return virtual_time.run(begin())
