"""Dead letters: looking loses nothing, replaying runs the same job again, removing removes what
was meant, and two operators do not get in each other's way."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest

from contracts.result import Status
from contracts.topology import Queue, Topology, dead_queue, service_topology
from node.amqp.broker import AmqpBroker
from node.app import SystemClock
from node.dead_letters import holding
from node.dead_letters.box import DeadLetterBox
from node.dead_letters.letter import DeadLetter, Selection
from node.errors import GenerationFailed, PublishRefused, SetupError
from node.ports import Broker, Delivery, OutgoingMessage, Properties
from node.tasks import running
from tests.fakes import ScriptedComponent
from tests.harness import SERVICE, Caller, World, until

PROMPT = {"prompt": "a secret horse", "num_inference_steps": 1}
DEAD = dead_queue(SERVICE)
LOOKS = 25
"""More than the 20 that RabbitMQ 4 allows where a queue does not say otherwise."""


@dataclass
class Operator:
    """A person with a connection of their own."""

    broker: Broker
    box: DeadLetterBox

    async def job_ids(self) -> list[str]:
        return [letter.job_id for letter in await self.box.letters()]

    async def replay(self, *job_ids: str, drop_deadline: bool = False) -> dict[str, str]:
        """Replay jobs, all where none is named; returns the problem of each."""
        chosen = Selection(frozenset(job_ids) if job_ids else None)
        done = await self.box.replay(chosen, drop_deadline=drop_deadline)
        return {each.letter.job_id: each.problem for each in done}

    async def puts_aside(self, job_id: str, body: bytes = b"{}", **headers: Any) -> None:
        """Put a letter there as a node does."""
        given = Properties(
            message_id=job_id, headers={"x-dead-code": "generation_failed"} | headers
        )
        message = OutgoingMessage("megaservice.dead-letter", DEAD, body, given)
        await self.broker.outbox.publish(message)

    @asynccontextmanager
    async def consuming(self, queue: str) -> AsyncIterator[list[Delivery]]:
        """Consume a queue without answering; everything goes back at the end."""
        inbox = self.broker.inbox([queue], prefetch_count=100)
        taken: list[Delivery] = []

        async def take() -> None:
            async for delivery in inbox:
                taken.append(delivery)  # noqa: PERF401 - seen while it grows

        async with running(inbox=inbox.run(), take=take()):
            yield taken


@pytest.fixture(autouse=True)
def quiet_is_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty queue is told by silence; a test need not wait as long for it."""
    monkeypatch.setattr(holding, "QUIET_SECONDS", 0.3)


@pytest.fixture
async def operator(world: World) -> Operator:
    return await new_operator(world)


async def new_operator(world: World) -> Operator:
    broker = await world.broker()
    return Operator(broker, DeadLetterBox(broker, SERVICE, SystemClock()))


async def letters(operator: Operator, count: int) -> list[DeadLetter]:
    """Wait until there are so many letters, and look at them."""
    found: list[DeadLetter] = []
    async with asyncio.timeout(20):
        while len(found) < count:
            found = await operator.box.letters()
    return found


def always_fails(*_: object) -> None:
    raise GenerationFailed("the pipeline made nothing")


async def failed_job(world: World, caller: Caller, **properties: Any) -> None:
    """Let a node fail a job for good, and go."""
    node = await world.node(ScriptedComponent(script=always_fails))
    await caller.publish(PROMPT, message_id="job", **properties)
    assert (await caller.next_result()).status is Status.FAILED
    await node.stop()


async def test_a_list_says_which_job_failed_and_why_and_never_shows_the_prompt(
    world: World, operator: Operator
) -> None:
    caller = await world.caller()
    await failed_job(world, caller)
    (letter,) = await letters(operator, 1)
    assert (letter.job_id, letter.code) == ("job", "generation_failed")
    assert (letter.detail, letter.attempts) == ("the pipeline made nothing", 1)
    assert letter.died_at == pytest.approx(SystemClock().time(), abs=30)
    assert "secret" not in repr(letter)
    ((_, message),) = await operator.box.find("job")
    assert b"secret" in message.body


async def test_looking_again_and_again_loses_nothing(operator: Operator) -> None:
    job_ids = [f"job-{n}" for n in range(5)]
    for job_id in job_ids:
        await operator.puts_aside(job_id)
    assert await operator.box.check() == ""
    for _ in range(LOOKS):
        assert await operator.job_ids() == job_ids


async def test_looking_keeps_the_order_of_the_queue(clean_amqp_url: str) -> None:
    broker = AmqpBroker([clean_amqp_url])
    async with broker.running():
        await broker.apply(service_topology(SERVICE))
        operator = Operator(broker, DeadLetterBox(broker, SERVICE, SystemClock()))
        job_ids = [f"job-{n}" for n in (3, 1, 4, 2, 5)]
        for job_id in job_ids:
            await operator.puts_aside(job_id)
        for _ in range(3):
            assert await operator.job_ids() == sorted(job_ids)
        async with operator.consuming(DEAD) as taken:
            await until(lambda: len(taken) == len(job_ids), "all letters")
        assert [delivery.message.properties.message_id for delivery in taken] == job_ids


async def test_there_may_be_no_letter_at_all(operator: Operator) -> None:
    assert await operator.box.letters() == []
    assert await operator.box.find("job") == []
    assert await operator.replay() == {}
    assert await operator.box.remove([]) == 0


async def test_a_replayed_job_runs_under_its_id_and_answers_whoever_asked(
    world: World, operator: Operator
) -> None:
    caller = await world.caller()
    await failed_job(world, caller, correlation_id="mine")
    assert await operator.replay("job") == {"job": ""}
    assert await operator.box.letters() == []
    healthy = ScriptedComponent()
    await world.node(healthy)
    message = await caller.next_message()
    assert message.properties.correlation_id == "mine"
    assert b'"status":"succeeded"' in message.body
    assert healthy.invocations == ["job"]


async def test_a_replay_counts_itself_for_the_node(world: World, operator: Operator) -> None:
    await operator.puts_aside("job", **{"x-replay": 4, "x-attempt": 3})
    assert await operator.replay("job") == {"job": ""}
    async with operator.consuming(SERVICE) as taken:
        await until(lambda: taken, "the request")
    (request,) = taken
    # A broker may add headers of its own to a redelivered message.
    headers = request.message.properties.headers
    assert (headers["x-replay"], "x-attempt" in headers) == (5, False)
    assert not any(name.startswith("x-dead") for name in headers)


async def test_the_result_of_a_requester_who_has_gone_is_kept(
    world: World, operator: Operator
) -> None:
    caller = await world.caller()
    node = await world.node(ScriptedComponent(script=always_fails))
    await caller.publish(PROMPT, message_id="job", reply_to="gone")
    await letters(operator, 1)
    await node.stop()
    assert await operator.replay("job") == {"job": ""}
    await world.node()
    first, second = await world.kept_results(2)
    assert b'"status":"failed"' in first.body
    assert b'"status":"succeeded"' in second.body


async def test_a_request_that_killed_every_node_is_a_letter_that_can_be_replayed(
    world: World, operator: Operator
) -> None:
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="poison")
    for _ in range(6):
        async with (await new_operator(world)).consuming(SERVICE) as taken:
            await until(lambda taken=taken: taken, "a delivery")
    (letter,) = await letters(operator, 1)
    assert (letter.job_id, letter.code, letter.attempts) == ("poison", "delivery_limit", 6)
    assert letter.died_at == pytest.approx(SystemClock().time(), abs=30)
    assert await operator.replay("poison") == {"poison": ""}
    async with operator.consuming(SERVICE) as taken:
        await until(lambda: taken, "the request")


async def test_a_request_that_expired_is_replayed_without_its_deadline_only(
    world: World, operator: Operator
) -> None:
    caller = await world.caller()
    await caller.publish(PROMPT, message_id="late", expiration_seconds=0.01)
    (letter,) = await letters(operator, 1)
    assert letter.code == "expired"
    problem = (await operator.replay("late"))["late"]
    assert "its deadline passed" in problem
    assert "--drop-deadline" in problem
    assert await operator.job_ids() == ["late"]
    assert await operator.replay("late", drop_deadline=True) == {"late": ""}
    await world.node()
    # The result that the broker's giving up left owed comes as well: late, or as one more copy.
    assert Status.SUCCEEDED in {(await caller.next_result()).status for _ in range(2)}


async def test_a_request_for_a_model_that_nobody_offers_stays(operator: Operator) -> None:
    await operator.puts_aside("job", b'{"model": "nobody/has-it"}')
    assert "'nobody/has-it'" in (await operator.replay("job"))["job"]
    assert await operator.job_ids() == ["job"]


async def test_copies_of_one_request_are_replayed_once(operator: Operator) -> None:
    await operator.puts_aside("job", b'{"prompt": "x"}')
    await operator.puts_aside("job", b'{"prompt": "x"}')
    assert await operator.replay() == {"job": ""}
    assert await operator.box.letters() == []
    assert (await operator.broker.depth(SERVICE)).messages == 1


async def test_different_requests_under_one_id_are_left_to_a_person(operator: Operator) -> None:
    await operator.puts_aside("job", b'{"prompt": "x"}')
    await operator.puts_aside("job", b'{"prompt": "y"}', **{"x-dead-code": "invalid_request"})
    assert "--code" in (await operator.replay("job"))["job"]
    assert len(await operator.box.letters()) == 2
    chosen = Selection(frozenset({"job"}), code="invalid_request")
    (replayed,) = await operator.box.replay(chosen, drop_deadline=False)
    assert replayed.problem == ""
    (left,) = await operator.box.letters()
    assert left.code == "generation_failed"


async def test_a_request_under_the_id_of_another_job_is_not_replayed(operator: Operator) -> None:
    await operator.puts_aside("job", **{"x-dead-code": "conflict"})
    assert "new id" in (await operator.replay())["job"]
    assert await operator.job_ids() == ["job"]


async def test_while_the_queue_is_full_the_letters_stay(connect: Callable[[], Broker]) -> None:
    broker = connect()
    async with broker.running():
        await broker.apply(with_small_request_queue())
        operator = Operator(broker, DeadLetterBox(broker, SERVICE, SystemClock()))
        filler = OutgoingMessage("", SERVICE, b"{}", Properties(message_id="filler"))
        with suppress(PublishRefused):
            while True:
                await broker.outbox.publish(filler)
        for n in range(3):
            await operator.puts_aside(f"job-{n}")
        assert all("full" in why for why in (await operator.replay()).values())
        assert await operator.job_ids() == ["job-0", "job-1", "job-2"]


def with_small_request_queue() -> Topology:
    topology = service_topology(SERVICE)
    queues = (
        replace(queue, arguments=queue.arguments | {"x-max-length": 1})
        if queue.name == SERVICE
        else queue
        for queue in topology.queues
    )
    return replace(topology, queues=tuple(queues))


async def test_exactly_the_letters_that_were_meant_are_removed(operator: Operator) -> None:
    for job_id in ("a", "b", "c"):
        await operator.puts_aside(job_id)
    meant = [letter for letter in await operator.box.letters() if letter.job_id != "b"]
    await operator.puts_aside("came-since")
    assert await operator.box.remove(meant) == 2
    assert sorted(await operator.job_ids()) == ["b", "came-since"]
    assert await operator.box.remove(meant) == 0


async def test_operators_who_look_at_the_same_time_all_see_everything(
    world: World, operator: Operator
) -> None:
    job_ids = [f"job-{n:02}" for n in range(20)]
    for job_id in job_ids:
        await operator.puts_aside(job_id)
    operators = [operator, await new_operator(world), await new_operator(world)]
    seen = await asyncio.gather(*(each.job_ids() for each in operators))
    assert seen == [job_ids] * 3


async def test_operators_who_replay_at_the_same_time_replay_a_job_once(
    world: World, operator: Operator
) -> None:
    await operator.puts_aside("job", b'{"prompt": "x"}')
    other = await new_operator(world)
    done = await asyncio.gather(operator.replay("job"), other.replay("job"))
    assert sorted(done, key=len) == [{}, {"job": ""}]
    assert (await operator.broker.depth(SERVICE)).messages == 1


async def test_one_letter_is_removed_by_one_operator(world: World, operator: Operator) -> None:
    await operator.puts_aside("job")
    meant = await operator.box.letters()
    other = await new_operator(world)
    counts = await asyncio.gather(operator.box.remove(meant), other.box.remove(meant))
    assert sorted(counts) == [0, 1]


async def test_a_program_that_reads_the_letters_is_named_instead_of_half_a_list(
    world: World, operator: Operator, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(holding, "TURN_SECONDS", 1.0)
    await operator.puts_aside("job")
    async with (await new_operator(world)).consuming(DEAD) as taken:
        await until(lambda: taken, "the letter")
        with pytest.raises(SetupError, match=r"somebody else reads text2image\.dead"):
            await operator.box.letters()
    assert await operator.job_ids() == ["job"]


async def test_without_a_queue_it_is_said_how_to_declare_it(connect: Callable[[], Broker]) -> None:
    broker = connect()
    async with broker.running():
        box = DeadLetterBox(broker, SERVICE, SystemClock())
        with pytest.raises(SetupError, match="topology apply"):
            await box.check()


async def test_a_queue_in_which_looking_would_lose_letters_is_not_looked_into(
    connect: Callable[[], Broker],
) -> None:
    broker = connect()
    async with broker.running():
        bounded = {"x-queue-type": "quorum", "x-max-length": 10_000, "x-message-ttl": 604_800_000}
        await broker.apply(Topology((), (Queue(DEAD, bounded),), ()))
        with pytest.raises(SetupError, match="21st look"):
            await DeadLetterBox(broker, SERVICE, SystemClock()).check()


async def test_a_queue_with_other_bounds_can_be_looked_into_with_a_warning(
    connect: Callable[[], Broker],
) -> None:
    broker = connect()
    async with broker.running():
        other = {
            "x-queue-type": "quorum",
            "x-max-length": 5,
            "x-message-ttl": 604_800_000,
            "x-delivery-limit": 1_000_000,
        }
        await broker.apply(Topology((), (Queue(DEAD, other),), ()))
        assert "x-max-length" in await DeadLetterBox(broker, SERVICE, SystemClock()).check()
