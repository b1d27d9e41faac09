"""What a caller sees: one result a job, whatever the broker does in between."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest

from contracts.events import ProgressEvent, StartedEvent, TerminalEvent
from contracts.failure import FailureCode, Problem
from contracts.message import (
    HEADER_EXPIRYTIME,
    MAX_FIELDS,
    AnyMessage,
    Message,
    format_time,
    parse_expirytime,
)
from contracts.result import Status
from contracts.text2image import Text2ImageRequest, Text2ImageResult
from contracts.topology import CONTROL, EVENTS, service_topology
from node import client as client_module
from node.client import KEPT_RESULTS, Client
from node.errors import (
    BrokerUnavailable,
    Conflict,
    JobCancelled,
    JobExpired,
    JobFailed,
    ModelNotAvailable,
    Overloaded,
    PublishRefused,
    TopologyMismatch,
)
from node.ports import IncomingMessage, OnReady, OutgoingMessage, Properties, Subscribed
from node.tasks import running
from tests.fakes import InMemoryBroker, InMemorySubscription
from tests.harness import until

REQUEST = Text2ImageRequest(prompt="An astronaut riding a green horse")
OTHER = Text2ImageRequest(prompt="A cat")


class LosableSubscription(InMemorySubscription):
    """Loses its queue when told to, and comes back with another one."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        self._lost = asyncio.Event()
        self.made = 0

    async def run(self) -> None:
        while True:
            with suppress(TimeoutError):
                self.made += 1
                task = asyncio.create_task(super().run())
                try:
                    await self._lost.wait()
                finally:
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                self._ready.clear()
                self._lost.clear()

    def lose(self) -> None:
        self._lost.set()

    async def __aiter__(self) -> AsyncIterator[IncomingMessage]:
        while True:
            await self._ready.wait()
            queue = self._queue
            while (item := self._server.take(queue)) is not None:
                yield item.message
            if queue is self._queue:
                queue.changed.clear()
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await queue.changed.wait()


class Broker(InMemoryBroker):
    """An in-memory broker whose subscriptions can be lost."""

    def __init__(self) -> None:
        super().__init__()
        self.subscriptions: list[LosableSubscription] = []

    def subscription(
        self, subscribed: Any = (), on_ready: OnReady | None = None
    ) -> LosableSubscription:
        self.subscriptions.append(LosableSubscription(self.server, subscribed, on_ready))
        return self.subscriptions[-1]


class Node:
    """The other side, played by the test."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker

    def requests(self, queue: str = "text2image") -> list[IncomingMessage]:
        return [item.message for item in self.broker.server.queues[queue].items]

    async def send(self, body: bytes, reply_to: str, correlation_id: str | None = None) -> None:
        properties = Properties(correlation_id=correlation_id)
        await self.broker.outbox.publish(OutgoingMessage("", reply_to, body, properties))

    async def answer(self, request: IncomingMessage, status: Status = Status.SUCCEEDED) -> None:
        job_id = str(request.properties.message_id)
        error = None
        if status is not Status.SUCCEEDED:
            code = FailureCode.GENERATION_FAILED
            error = Problem.of(code, "what went wrong", job_id=job_id, retryable=False)
        result = Text2ImageResult(job_id=job_id, status=status, error=error, model="m")
        given = request.properties
        await self.send(result.to_json(), str(given.reply_to), given.correlation_id)

    def tell(self, job_id: str, event: Message, kind: str) -> None:
        key = f"text2image.{job_id}.{kind}"
        self.broker.outbox.offer(OutgoingMessage(EVENTS, key, event.to_json()))

    def tell_started(self, job_id: str) -> None:
        self.tell(job_id, StartedEvent(job_id=job_id, sequence=1, time=format_time(0)), "started")

    def tell_ended(self, job_id: str, status: Status = Status.SUCCEEDED) -> None:
        event = TerminalEvent(job_id=job_id, sequence=9, time=format_time(0), event=status)
        self.tell(job_id, event, status.value)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "RESUBMIT_SECONDS", 0.0)


@pytest.fixture
async def broker() -> Broker:
    broker = Broker()
    await broker.apply(service_topology("text2image", ["scripted"]))
    return broker


@pytest.fixture
def node(broker: Broker) -> Node:
    return Node(broker)


@pytest.fixture
async def client(broker: Broker) -> AsyncIterator[Client]:
    async with Client(broker).running() as client:
        yield client


async def collected(client: Client, job_id: str) -> list[Any]:
    async with asyncio.timeout(10):
        return [event async for event in client.events(job_id)]


async def test_a_request_says_all_that_the_wire_asks_for(client: Client, node: Node) -> None:
    job_id = await client.submit(
        REQUEST, deadline_seconds=60.0, headers={"traceparent": "00-1"}, priority=3
    )
    (message,) = node.requests()
    given = message.properties
    assert given.message_id == job_id
    assert given.correlation_id
    assert given.reply_to in node.broker.server.queues
    assert (given.content_type, given.type) == ("application/json", "text2image.request")
    assert (given.priority, given.headers["traceparent"]) == (3, "00-1")
    left = parse_expirytime(given.headers[HEADER_EXPIRYTIME]) - given.timestamp
    assert left == pytest.approx(60.0, abs=0.1)
    assert Text2ImageRequest.model_validate_json(message.body) == REQUEST


async def test_urgent_requests_and_those_for_a_model_have_queues_of_their_own(
    client: Client, node: Node
) -> None:
    await client.submit(REQUEST, priority=5)
    await client.submit(REQUEST.model_copy(update={"model": "scripted"}))
    assert len(node.requests("text2image.high")) == 1
    assert len(node.requests("text2image.model.scripted")) == 1


async def test_a_result_is_had_as_often_as_it_is_asked_for(client: Client, node: Node) -> None:
    job_id = await client.submit(REQUEST)
    waiting = asyncio.create_task(client.result(job_id, 10))
    await node.answer(node.requests()[0])
    first = await waiting
    assert (first.job_id, first.status) == (job_id, Status.SUCCEEDED)
    assert await client.result(job_id) is first


async def test_the_second_copy_of_a_result_is_dropped(client: Client, node: Node) -> None:
    job_id = await client.submit(REQUEST)
    (request,) = node.requests()
    await node.answer(request)
    first = await client.result(job_id, 10)
    await node.answer(request, Status.FAILED)
    marker = await client.submit(REQUEST)
    await node.answer(node.requests()[-1])
    await client.result(marker, 10)
    assert await client.result(job_id) is first


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (Status.FAILED, JobFailed),
        (Status.CANCELLED, JobCancelled),
        (Status.EXPIRED, JobExpired),
    ],
)
async def test_a_job_that_did_not_succeed_raises_and_tells_the_whole_story(
    client: Client, node: Node, status: Status, error: type[Exception]
) -> None:
    job_id = await client.submit(REQUEST)
    await node.answer(node.requests()[0], status)
    with pytest.raises(error, match="generation_failed: what went wrong") as raised:
        await client.result(job_id, 10)
    assert raised.value.result.status is status


async def test_an_answer_that_makes_no_sense_is_survived(client: Client, node: Node) -> None:
    job_id = await client.submit(REQUEST)
    (request,) = node.requests()
    for body in (b"", b"\xff", b"[]", b'{"job_id": 1}'):
        await node.send(body, str(request.properties.reply_to))
    await node.answer(request)
    assert (await client.result(job_id, 10)).status is Status.SUCCEEDED


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"oops",
        b"\xff",
        b"[]",
        b'{"job_id": "%s"}',
        b'{"job_id": "%s", "status": "done"}',
        b'{"job_id": "%s", "status": "succeeded", "deep": ' + b"[" * 300 + b"]" * 300 + b"}",
        json.dumps(dict.fromkeys(map(str, range(MAX_FIELDS + 1)))).encode(),
    ],
)
async def test_a_job_whose_answer_cannot_be_read_has_failed_and_only_that_job(
    client: Client, node: Node, body: bytes
) -> None:
    job_id, other = await client.submit(REQUEST, watch=True), await client.submit(REQUEST)
    asked, next_one = node.requests()
    given = asked.properties
    body = body.replace(b"%s", job_id.encode())
    await node.send(body, str(given.reply_to), given.correlation_id)
    with pytest.raises(JobFailed, match="text2image answered what cannot be read: ") as raised:
        await client.result(job_id, 10)
    assert raised.value.result.job_id == job_id
    assert [event.event for event in await collected(client, job_id)] == ["failed"]
    await node.answer(asked)
    await node.answer(next_one)
    assert (await client.result(other, 10)).status is Status.SUCCEEDED
    with pytest.raises(JobFailed):
        await client.result(job_id, 10)


async def test_waiting_for_a_result_has_a_bound_and_the_job_goes_on(
    client: Client, node: Node
) -> None:
    job_id = await client.submit(REQUEST)
    with pytest.raises(TimeoutError):
        await client.result(job_id, 0.01)
    await node.answer(node.requests()[0])
    assert (await client.result(job_id, 10)).status is Status.SUCCEEDED


async def test_a_job_submitted_elsewhere_is_not_known(client: Client) -> None:
    with pytest.raises(KeyError):
        await client.result("never-submitted")


async def test_results_are_kept_in_bounds(
    client: Client, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert KEPT_RESULTS > 0
    monkeypatch.setattr(client_module, "KEPT_RESULTS", 2)
    ids = [await client.submit(REQUEST) for _ in range(3)]
    for request in node.requests():
        await node.answer(request)
    await client.result(ids[2], 10)
    with pytest.raises(KeyError):
        await client.result(ids[0])


async def test_a_result_that_was_had_can_be_forgotten(client: Client, node: Node) -> None:
    job_id, other = await client.submit(REQUEST), await client.submit(REQUEST)
    for request in node.requests():
        await node.answer(request)
    await client.result(other, 10)
    await client.result(job_id, 10)
    client.forget(job_id)
    with pytest.raises(KeyError):
        await client.result(job_id)
    assert (await client.result(other)).job_id == other


async def test_the_same_id_and_body_is_the_same_job(client: Client, node: Node) -> None:
    assert await client.submit(REQUEST, job_id="mine") == await client.submit(
        REQUEST, job_id="mine"
    )
    assert len(node.requests()) == 1


async def test_the_same_id_with_another_body_is_a_conflict(client: Client) -> None:
    await client.submit(REQUEST, job_id="mine")
    with pytest.raises(Conflict, match="mine"):
        await client.submit(OTHER, job_id="mine")


async def test_a_finished_id_may_be_submitted_again(client: Client, node: Node) -> None:
    await client.submit(REQUEST, job_id="mine")
    await node.answer(node.requests()[0])
    await client.result("mine", 10)
    await client.submit(REQUEST, job_id="mine")
    assert len(node.requests()) == 2


async def test_a_late_copy_of_the_first_result_is_not_taken_for_that_of_a_second_request(
    client: Client, node: Node
) -> None:
    await client.submit(REQUEST, job_id="mine")
    first = node.requests()[0]
    await node.answer(first)
    await client.result("mine", 10)
    await client.submit(OTHER, job_id="mine")
    await node.answer(first)
    await node.answer(node.requests()[1], Status.FAILED)
    with pytest.raises(JobFailed):
        await client.result("mine", 10)


async def test_a_result_that_overtakes_its_confirm_is_as_good_as_that(
    client: Client, broker: Broker, node: Node
) -> None:
    class ConfirmLost(BrokerUnavailable):
        """The request was routed; only its confirm was not heard."""

    publish, lost = broker.outbox.publish, []

    async def lose_first_confirm(message: OutgoingMessage) -> None:
        if lost and message.properties.message_id == "mine":
            raise PublishRefused("full")
        await publish(message)
        if message.properties.message_id == "mine":
            lost.append(message)
            await node.answer(node.requests()[0])
            raise ConfirmLost("no confirm")

    broker.outbox.publish = lose_first_confirm
    submitted = await asyncio.gather(
        *(asyncio.wait_for(client.submit(REQUEST, job_id="mine"), 10) for _ in range(2))
    )
    assert submitted == ["mine", "mine"]
    assert (await client.result("mine", 10)).status is Status.SUCCEEDED


async def test_a_settled_result_stays_when_its_id_is_submitted_again_and_refused(
    client: Client, broker: Broker, node: Node
) -> None:
    await client.submit(REQUEST, job_id="mine")
    await node.answer(node.requests()[0])
    before = await client.result("mine", 10)
    broker.outbox.faults.append(PublishRefused("full"))
    with pytest.raises(Overloaded):
        await client.submit(REQUEST, job_id="mine")
    assert await client.result("mine", 10) == before


async def test_a_full_queue_is_said_at_once_and_the_id_is_free_again(
    client: Client, broker: Broker
) -> None:
    broker.outbox.faults.append(PublishRefused("full"))
    with pytest.raises(Overloaded, match="full"):
        await client.submit(REQUEST, job_id="mine")
    await client.submit(OTHER, job_id="mine")


async def test_the_suggested_wait_grows_while_the_queue_stays_full_and_is_bounded(
    client: Client, broker: Broker
) -> None:
    async def refused() -> float:
        broker.outbox.faults.append(PublishRefused("full"))
        with pytest.raises(Overloaded, match=r"try again in [0-9.]+ seconds") as raised:
            await client.submit(REQUEST)
        return raised.value.retry_after_seconds

    waits = [await refused() for _ in range(8)]
    assert 1.0 <= waits[0] <= 2.0
    assert all(30.0 <= wait <= 60.0 for wait in waits[6:])
    await client.submit(REQUEST)
    assert await refused() <= 2.0


async def test_a_model_that_no_node_offers_is_said_by_name(client: Client) -> None:
    with pytest.raises(ModelNotAvailable, match="nobody/has-it"):
        await client.submit(REQUEST.model_copy(update={"model": "nobody/has-it"}))


async def test_a_broker_without_our_queues_says_what_to_do() -> None:
    broker = Broker()
    broker.server.exchanges["megaservice.requests"] = "direct"
    async with Client(broker).running() as client:
        with pytest.raises(TopologyMismatch, match="topology apply"):
            await client.submit(REQUEST)


async def test_a_publish_that_may_have_happened_is_repeated_under_the_same_id(
    client: Client, broker: Broker, node: Node
) -> None:
    broker.outbox.faults.extend([BrokerUnavailable("no confirm")] * 3)
    job_id = await client.submit(REQUEST)
    assert [message.properties.message_id for message in node.requests()] == [job_id]


async def test_a_broker_that_stays_away_is_said_within_the_bound(
    client: Client, broker: Broker
) -> None:
    broker.outbox.faults.extend([BrokerUnavailable("away")] * 10_000)
    with pytest.raises(BrokerUnavailable, match="no confirm within"):
        await client.submit(REQUEST, job_id="mine", timeout_seconds=0.05)
    with pytest.raises(KeyError):
        await client.result("mine")


async def test_pending_requests_are_submitted_again_to_the_new_reply_queue(
    client: Client, broker: Broker, node: Node
) -> None:
    job_id = await client.submit(REQUEST)
    (first,) = node.requests()
    broker.subscriptions[0].lose()
    await until(lambda: len(node.requests()) == 2, "the request to come again")
    second = node.requests()[1]
    assert second.properties.message_id == job_id
    assert second.body == first.body
    assert second.properties.reply_to != first.properties.reply_to
    await node.answer(second)
    assert (await client.result(job_id, 10)).status is Status.SUCCEEDED


async def test_finished_requests_are_not_submitted_again(
    client: Client, broker: Broker, node: Node
) -> None:
    done = await client.submit(REQUEST)
    await node.answer(node.requests()[0])
    await client.result(done, 10)
    pending = await client.submit(OTHER)
    broker.subscriptions[0].lose()
    await until(lambda: len(node.requests()) == 3, "the pending request to come again")
    assert node.requests()[2].properties.message_id == pending


async def test_forgotten_requests_are_not_submitted_again(
    client: Client, broker: Broker, node: Node
) -> None:
    forgotten = await client.submit(REQUEST, watch=True)
    waiting = asyncio.create_task(client.result(forgotten))
    await asyncio.sleep(0)
    client.forget(forgotten)
    with pytest.raises(BrokerUnavailable, match="not waited for any more"):
        await waiting
    pending = await client.submit(OTHER)
    broker.subscriptions[0].lose()
    await until(lambda: len(node.requests()) == 3, "the pending request to come again")
    assert node.requests()[2].properties.message_id == pending


@pytest.mark.parametrize("model", [5, ["x"], {"a": 1}, "", "x" * 5000])
async def test_a_model_that_is_no_name_is_left_to_the_service_to_refuse(
    client: Client, node: Node, model: Any
) -> None:
    await client.submit(AnyMessage.model_validate({"prompt": "a cat", "model": model}))
    (request,) = node.requests()
    assert request.routing_key == "text2image"


async def test_submitting_again_goes_on_while_the_broker_is_away(
    client: Client, broker: Broker, node: Node
) -> None:
    job_id = await client.submit(REQUEST)
    broker.outbox.faults.extend([BrokerUnavailable("away")] * 3)
    broker.subscriptions[0].lose()
    await until(lambda: len(node.requests()) == 2, "the request to come again")
    assert [each.properties.message_id for each in node.requests()] == [job_id, job_id]


async def test_watching_tells_every_event_and_ends_with_the_terminal_one(
    client: Client, node: Node
) -> None:
    job_id = await client.submit(REQUEST, watch=True)
    node.tell_started(job_id)
    progress = ProgressEvent(
        job_id=job_id,
        sequence=2,
        time=format_time(0),
        step=1,
        num_inference_steps=1,
        fraction=1.0,
    )
    node.tell(job_id, progress, "progress")
    events = asyncio.create_task(collected(client, job_id))
    await until(lambda: not node.broker.subscriptions[1]._queue.items, "the events to be read")
    node.tell_ended(job_id)
    await node.answer(node.requests()[0])
    assert [event.event for event in await events] == ["started", "progress", "succeeded"]


async def test_a_lost_terminal_event_still_ends_the_stream(client: Client, node: Node) -> None:
    job_id = await client.submit(REQUEST, watch=True)
    await node.answer(node.requests()[0], Status.FAILED)
    (terminal,) = await collected(client, job_id)
    assert (terminal.event, terminal.error.detail) == (Status.FAILED, "what went wrong")


async def test_watching_may_begin_late(client: Client, node: Node) -> None:
    job_id = await client.submit(REQUEST)
    events = asyncio.create_task(collected(client, job_id))
    await until(lambda: node.broker.server.route(EVENTS, f"text2image.{job_id}.x"), "the binding")
    node.tell_started(job_id)
    await until(lambda: not node.broker.subscriptions[1]._queue.items, "the event to be read")
    await node.answer(node.requests()[0])
    assert [event.event for event in await events] == ["started", "succeeded"]


async def test_the_events_of_a_finished_job_are_its_end(client: Client, node: Node) -> None:
    job_id = await client.submit(REQUEST)
    await node.answer(node.requests()[0])
    await client.result(job_id, 10)
    assert [event.event for event in await collected(client, job_id)] == ["succeeded"]


async def test_watching_ends_when_the_job_is_not_waited_for_any_more(client: Client) -> None:
    job_id = await client.submit(REQUEST, watch=True)
    events = asyncio.create_task(collected(client, job_id))
    await asyncio.sleep(0)
    client.forget(job_id)
    assert await asyncio.wait_for(events, 10) == []


async def test_a_watched_job_leaves_no_binding_behind(client: Client, node: Node) -> None:
    job_id = await client.submit(REQUEST, watch=True)
    key = f"text2image.{job_id}.x"
    assert node.broker.server.route(EVENTS, key)
    await node.answer(node.requests()[0])
    await client.result(job_id, 10)
    await until(lambda: not node.broker.server.route(EVENTS, key), "no binding")


async def test_an_event_that_makes_no_sense_is_survived(client: Client, node: Node) -> None:
    job_id = await client.submit(REQUEST, watch=True)
    for body in (b"", b"\xff", b"[]", b'{"event": "exploded"}'):
        node.broker.outbox.offer(OutgoingMessage(EVENTS, f"text2image.{job_id}.x", body))
    node.tell_started(job_id)
    await until(lambda: not node.broker.subscriptions[1]._queue.items, "the events to be read")
    await node.answer(node.requests()[0])
    assert [event.event for event in await collected(client, job_id)] == ["started", "succeeded"]


async def test_a_cancel_goes_to_every_node(client: Client, broker: Broker) -> None:
    control = broker.subscription([Subscribed(CONTROL)])
    async with running(control=control.run()):
        await control.queue_name()
        await client.cancel("mine")
        message = await asyncio.wait_for(anext(aiter(control)), 10)
    assert b'"job_id":"mine"' in message.body
    assert message.properties == Properties(content_type="application/json", type="cancel")


class HeldOutbox:
    """Publishes at once and lets the confirm wait until the test releases it."""

    def __init__(self, outbox: Any) -> None:
        self._outbox = outbox
        self.released = asyncio.Event()
        self.error: Exception | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._outbox, name)

    async def publish(self, message: OutgoingMessage) -> None:
        await self._outbox.publish(message)
        await self.released.wait()
        if self.error is not None:
            raise self.error


async def test_a_reply_queue_lost_before_the_confirm_is_not_relied_on(
    client: Client, broker: Broker, node: Node
) -> None:
    outbox = broker.outbox = HeldOutbox(broker.outbox)
    submitting = asyncio.create_task(client.submit(REQUEST))
    await until(node.requests, "the request")
    broker.subscriptions[0].lose()
    await until(lambda: broker.subscriptions[0].made == 2, "another reply queue")
    outbox.released.set()
    job_id = await asyncio.wait_for(submitting, 10)
    first, *_, last = node.requests()
    assert last.properties.reply_to != first.properties.reply_to
    await node.answer(last)
    assert (await client.result(job_id, 10)).status is Status.SUCCEEDED


async def test_a_second_submit_shares_the_fate_of_the_first_and_nobody_waits_for_ever(
    client: Client, broker: Broker, node: Node
) -> None:
    outbox = broker.outbox = HeldOutbox(broker.outbox)
    first = asyncio.create_task(client.submit(REQUEST, job_id="shared"))
    await until(node.requests, "the request")
    second = asyncio.create_task(client.submit(REQUEST, job_id="shared"))
    waiting = asyncio.create_task(client.result("shared"))
    await asyncio.sleep(0)
    assert not second.done()
    outbox.error = PublishRefused("full")
    outbox.released.set()
    ended = await asyncio.wait_for(
        asyncio.gather(first, second, waiting, return_exceptions=True), 10
    )
    assert [type(each) for each in ended] == [Overloaded] * 3
