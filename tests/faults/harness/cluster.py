"""A cluster of private brokers, and the faults that only a cluster can have."""

import asyncio
import json
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from contracts.topology import service_topology
from deploy.handshake import broker_answers
from deploy.private_broker import BrokerCommandFailed, Epmd, PrivateBroker
from node.amqp.broker import AmqpBroker
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.paced import MODEL
from tests.harness import SERVICE

T = TypeVar("T")

SETTINGS: Final = (
    # A member that sees no majority stops serving. Members that go on alone on both sides of a
    # partition would each answer for exclusive queues and bindings as they remember them.
    "cluster_partition_handling = pause_minority",
)
START_SECONDS: Final = 180.0
WHOLE_SECONDS: Final = 90.0
PAUSE_SECONDS: Final = 20.0
LOOK_SECONDS: Final = 0.2
STRANGER: Final = "a_cookie_that_no_member_has"


class PrivateCluster:
    """Own brokers that form one cluster on loopback: one name server, one cookie.

    Quorum queues that are declared on it have a replica on each member. Fault verbs on one member
    (kill, start, stop, suspend, resume) are those of `FaultyBroker`.
    """

    def __init__(self, size: int = 3) -> None:
        self._cookie = secrets.token_hex(16)
        self._epmd = Epmd()
        self._partitioned: list[FaultyBroker] = []
        self.members = [self._member() for _ in range(size)]

    def _member(self) -> FaultyBroker:
        return FaultyBroker(PrivateBroker(epmd=self._epmd, cookie=self._cookie, settings=SETTINGS))

    @property
    def urls(self) -> list[str]:
        """Addresses of all members."""
        return [member.url for member in self.members]

    def urls_from(self, first: FaultyBroker) -> list[str]:
        """Addresses of all members in the order in which a client attached to `first` has them."""
        return [member.url for member in (first, *self.others(first))]

    def others(self, *members: FaultyBroker) -> list[FaultyBroker]:
        """Return all members but these."""
        return [each for each in self.members if each not in members]

    async def start(self) -> None:
        """Start every member and have them join the first."""
        async with asyncio.timeout(START_SECONDS):
            self._epmd.start()
            await asyncio.gather(*(member.start() for member in self.members))
            first, *later = self.members
            for member in later:
                await member.ctl("stop_app")
                await member.ctl("join_cluster", first.private.node_name)
                await member.ctl("start_app")
        await self.wait_until_whole()

    async def lay_out(self, at: FaultyBroker) -> None:
        """Declare the service's queues; the member where that is done leads all of them."""
        broker = AmqpBroker([at.url])
        async with broker.running(), asyncio.timeout(START_SECONDS):
            await broker.apply(service_topology(SERVICE, [MODEL]))

    async def leader_of(self, queue: str) -> FaultyBroker:
        """Ask the members that run which one leads a queue, until they have elected one."""

        async def leader() -> FaultyBroker | None:
            for member in self._running():
                if found := self._named(await self._leader_seen_by(member, queue)):
                    return found
            return None

        return await eventually(leader, f"{queue} has a leader", WHOLE_SECONDS)

    async def _leader_seen_by(self, member: FaultyBroker, queue: str) -> str:
        """Ask the replica of a member; an election that goes on leaves it without an answer."""
        server = f"{{'%2F_{queue}', node()}}"
        asked = f"case ra:members({server}) of {{ok, _, {{_, L}}}} -> L; _ -> none end."
        try:
            return (await member.eval(asked)).strip("'")
        except BrokerCommandFailed:
            return "none"

    def _named(self, node_name: str) -> FaultyBroker | None:
        running = (each for each in self._running() if each.private.node_name == node_name)
        return next(running, None)

    def _running(self) -> list[FaultyBroker]:
        return [member for member in self.members if member.private.pid is not None]

    async def wait_until_whole(self) -> None:
        """Wait until every member serves and sees all others, and every replica takes part."""
        await eventually(self._is_whole, "the cluster is whole", WHOLE_SECONDS)

    async def _is_whole(self) -> bool:
        if not all([await _answers(member) for member in self.members]):
            return False
        names = {each.private.node_name for each in self.members}
        try:
            sight = await _json(self.members[0], "cluster_status")
            queues = await _json(self.members[0], "list_queues", "type", "online")
        except BrokerCommandFailed:
            return False  # it has just paused
        replicas = [set(queue["online"]) for queue in queues if queue["type"] == "quorum"]
        united = set(sight["running_nodes"]) == names and not sight["partitions"]
        return united and all(online == names for online in replicas)

    async def partition(self, member: FaultyBroker) -> None:
        """Cut a member off from all others, and wait until it has noticed.

        Members that have different cookies for each other cannot connect. Only those of this
        member are changed, and all before the first connection is closed: while the cut is half
        done, those on the other side could take it for a fault of their own.
        """
        self._partitioned.append(member)
        await member.eval(
            f"Others = {self._names_but(member)}, "
            f"[erlang:set_cookie(N, {STRANGER}) || N <- Others], "
            "[erlang:disconnect_node(N) || N <- Others]."
        )
        await eventually(lambda: _silent(member), "it stops serving", PAUSE_SECONDS)

    async def heal(self, member: FaultyBroker) -> None:
        """Let a member that was cut off find the others again, and wait until it has."""
        await member.eval(
            f"[erlang:set_cookie(N, '{self._cookie}') || N <- {self._names_but(member)}]."
        )
        self._partitioned.remove(member)
        await self.wait_until_whole()

    def _names_but(self, member: FaultyBroker) -> str:
        names = (f"'{other.private.node_name}'" for other in self.others(member))
        return f"[{', '.join(names)}]"

    async def start_all(self) -> None:
        """Start every member that is down, at once: each waits for the others."""
        await asyncio.gather(*(each.start() for each in self.members if each.private.pid is None))

    async def repair(self) -> None:
        """Undo what a scenario did: every member serves, and no queue of ours is left."""
        for member in self._running():
            await member.resume()
        await self.start_all()
        for member in list(self._partitioned):
            await self.heal(member)
        await self.wait_until_whole()
        await self.members[0].clean()

    def close(self) -> None:
        """End all members and throw their data away."""
        for member in self.members:
            member.private.close()
        self._epmd.stop()


async def eventually(question: Callable[[], Awaitable[T]], what: str, patience_seconds: float) -> T:
    """Ask until the answer is true, and return it."""
    try:
        async with asyncio.timeout(patience_seconds):
            while True:
                if answer := await question():
                    return answer
                await asyncio.sleep(LOOK_SECONDS)
    except TimeoutError:
        raise AssertionError(f"{what}: not so within {patience_seconds} s") from None


async def _silent(member: FaultyBroker) -> bool:
    return not await _answers(member)


async def _answers(member: FaultyBroker) -> bool:
    return await asyncio.to_thread(broker_answers, "127.0.0.1", member.port)


async def _json(member: FaultyBroker, *command: str) -> Any:
    return json.loads(await member.ctl(*command, "--formatter", "json"))
