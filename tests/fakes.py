"""Stand-ins for the outside world; they pass the same suites as the real thing."""

import asyncio
import itertools
from collections import Counter, defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from contracts.discovery import ModelInfo, ModelLimits
from contracts.result import JobResult, Status
from contracts.text2image import Text2ImageRequest, Text2ImageResult
from contracts.topology import Topology
from node.component import Component, DeviceInfo, Health, Invocation, ReportLoad
from node.errors import (
    BrokerUnavailable,
    InvalidRequest,
    JobStopped,
    ModelNotAvailable,
    PublishRefused,
    TopologyMismatch,
    Unroutable,
)
from node.ports import (
    Delivery,
    IncomingMessage,
    OnReady,
    OutgoingMessage,
    Prepare,
    QueueDepth,
    Subscribed,
)


class Fault(StrEnum):
    """What can go wrong while something here is awaited."""

    CONNECTION_LOST = "connection_lost"
    """Unanswered deliveries go back, and answers to them are stale."""
    ANSWER_LOST = "answer_lost"
    """The same, just after an answer was written: the broker never reads it."""
    CONSUMER_CANCELLED = "consumer_cancelled"
    """The same, because the broker took a queue away for a moment: its deliveries are orphans."""
    OUT_OF_ORDER = "out_of_order"
    """The first message of a queue goes to its end."""
    NOT_PUBLISHED = "not_published"
    CONFIRM_LOST = "confirm_lost"
    """The message was published, its publisher does not get to know it."""
    PUBLISHED_TWICE = "published_twice"
    REFUSED = "refused"
    STORE_AWAY = "store_away"
    STORE_ANSWER_LOST = "store_answer_lost"
    """The store did what was asked, who asked does not get to know it."""

    def __repr__(self) -> str:
        return f"Fault.{self.name}"


Inject = Callable[..., Awaitable[Fault | None]]
"""Called with the faults that are possible at an await; may take time, and chooses one or none."""


async def nothing_goes_wrong(*_: Fault) -> Fault | None:
    """Inject no faults, and add no await to those that are there anyway."""
    return None


def topic_matches(pattern: str, routing_key: str) -> bool:
    """Match a routing key as a topic exchange does."""
    return _words_match(pattern.split("."), routing_key.split("."))


def _words_match(pattern: list[str], words: list[str]) -> bool:
    if not pattern:
        return not words
    head, *rest = pattern
    if head == "#":
        return any(_words_match(rest, words[i:]) for i in range(len(words) + 1))
    return bool(words) and head in ("*", words[0]) and _words_match(rest, words[1:])


TIMER_ERROR_SECONDS = 1e-6
REFUSED_AGAIN_SECONDS = 1.0
UNSET_DELIVERY_LIMIT = 20
"""That of RabbitMQ 4; RabbitMQ 3 has none."""


@dataclass
class _Item:
    message: IncomingMessage
    expires_at: float | None = None
    redelivered: bool = False
    deliveries: int = 0


@dataclass
class _Queue:
    name: str
    arguments: dict[str, Any] = field(default_factory=dict)
    items: deque[_Item] = field(default_factory=deque)
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    consumers: dict[asyncio.Event, None] = field(default_factory=dict)
    """One for each consumer, in order: an event that many clear is missed by some."""

    def notify(self) -> None:
        for each in (self.changed, *self.consumers):
            each.set()


class InMemoryServer:
    """The broker itself: exchanges, queues, bindings; dead-letters, TTLs and limits included."""

    def __init__(self) -> None:
        self.exchanges: dict[str, str] = {"": "direct"}
        self.queues: dict[str, _Queue] = {}
        self.bindings: list[tuple[str, str, str]] = []
        self.names = (f"amq.gen-{n}" for n in itertools.count(1))
        self.published = asyncio.Event()
        self.consumers: Counter[str] = Counter()
        self.user = "guest"
        """Who everybody is logged in as."""

    def declare(self, topology: Topology) -> None:
        for exchange in topology.exchanges:
            self.exchanges[exchange.name] = exchange.type
        for queue in topology.queues:
            declared = self.queues.setdefault(queue.name, _Queue(queue.name, queue.arguments))
            for name in queue.arguments.keys() | declared.arguments.keys():
                if queue.arguments.get(name) != declared.arguments.get(name):
                    raise TopologyMismatch(
                        f"PRECONDITION_FAILED - inequivalent arg '{name}' for queue '{queue.name}'"
                    )
        for binding in topology.bindings:
            self.bind(binding.exchange, binding.queue, binding.routing_key)

    def bind(self, exchange: str, queue: str, routing_key: str) -> None:
        if (exchange, queue, routing_key) not in self.bindings:
            self.bindings.append((exchange, queue, routing_key))

    def route(self, exchange: str, routing_key: str) -> list[_Queue]:
        if exchange == "":
            return [self.queues[routing_key]] if routing_key in self.queues else []
        kind = self.exchanges[exchange]
        names = {
            queue
            for source, queue, key in self.bindings
            if source == exchange
            and (
                kind == "fanout"
                or (kind == "direct" and key == routing_key)
                or (kind == "topic" and topic_matches(key, routing_key))
            )
        }
        return [self.queues[name] for name in sorted(names) if name in self.queues]

    def publish(self, message: OutgoingMessage) -> int:
        queues = self.route(message.exchange, message.routing_key)
        for queue in queues:
            limit = queue.arguments.get("x-max-length")
            if limit is not None and len(queue.items) >= limit:
                if queue.arguments.get("x-overflow") == "reject-publish":
                    raise PublishRefused(f"queue {queue.name} is full")
                queue.items.popleft()
        for queue in queues:
            incoming = IncomingMessage(
                message.exchange,
                message.routing_key,
                message.body,
                message.properties,
                user_id=self.user if message.signed else None,
            )
            self.enqueue(queue, _Item(incoming, self._expires_at(queue, message)))
        self.published.set()
        return len(queues)

    def _expires_at(self, queue: _Queue, message: OutgoingMessage) -> float | None:
        ttls = [message.properties.expiration_seconds]
        if "x-message-ttl" in queue.arguments:
            ttls.append(queue.arguments["x-message-ttl"] / 1000)
        given = [ttl for ttl in ttls if ttl is not None]
        if not given:
            return None
        return self._expires_in(queue, min(given))

    def _expires_in(self, queue: _Queue, seconds: float) -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(seconds, queue.notify)
        loop.call_later(seconds, self.sweep, queue)
        return loop.time() + seconds

    def enqueue(self, queue: _Queue, item: _Item, *, front: bool = False) -> None:
        if front:
            queue.items.appendleft(item)
        else:
            queue.items.append(item)
        queue.notify()

    def take(self, queue: _Queue) -> _Item | None:
        self.sweep(queue)
        return queue.items.popleft() if queue.items else None

    def sweep(self, queue: _Queue) -> None:
        while queue.items:
            item = queue.items[0]
            # A timer may fire a rounding error early, and no other one would follow.
            now = asyncio.get_running_loop().time() + TIMER_ERROR_SECONDS
            if item.expires_at is None or item.expires_at > now:
                return
            try:
                self.dead_letter(queue, item, "expired")
            except PublishRefused:
                # Dead-lettered at least once: it stays until the next queue has room for it.
                item.expires_at = self._expires_in(queue, REFUSED_AGAIN_SECONDS)
                return
            queue.items.popleft()

    def give_back(self, queue: _Queue, item: _Item) -> None:
        item.redelivered = True
        limit = queue.arguments.get("x-delivery-limit", UNSET_DELIVERY_LIMIT)
        if item.deliveries > limit:
            self.dead_letter(queue, item, "delivery_limit")
        else:
            self.enqueue(queue, item, front=True)

    def dead_letter(self, queue: _Queue, item: _Item, reason: str) -> None:
        exchange = queue.arguments.get("x-dead-letter-exchange")
        if exchange is None:
            return
        message = item.message
        death = {"reason": reason, "queue": queue.name, "time": datetime.now(UTC)}
        headers = {**message.properties.headers, "x-death": [death]}
        self.publish(
            OutgoingMessage(
                exchange,
                queue.arguments.get("x-dead-letter-routing-key", message.routing_key),
                message.body,
                replace(message.properties, headers=headers, expiration_seconds=None),
            )
        )


class InMemoryInbox:
    """Passes the same suites as `node.amqp.inbox.AmqpInbox`."""

    def __init__(
        self,
        server: InMemoryServer,
        queues: Sequence[str],
        prefetch_count: int,
        inject: Inject = nothing_goes_wrong,
    ) -> None:
        self._server = server
        self._names = queues
        self._prefetch_count = prefetch_count
        self._inject = inject
        self._interruptions = 0
        self._generation = 1
        self._unanswered: dict[int, tuple[_Queue, _Item]] = {}
        self._tags = itertools.count(1)
        self._handed_over: asyncio.Queue[Delivery | None] = asyncio.Queue()
        self._consumers: list[asyncio.Event] = []
        self._withdrawn: set[tuple[int, str]] = set()
        self._stopped = False

    async def run(self) -> None:
        self._server.consumers.update(self._names)
        try:
            async with asyncio.TaskGroup() as tasks:
                for name in self._names:
                    tasks.create_task(self._consume(name))
        finally:
            self.lose_connection()
            self._server.consumers.subtract(self._names)
            for queue, wake in itertools.product(self._server.queues.values(), self._consumers):
                queue.consumers.pop(wake, None)

    async def _consume(self, name: str) -> None:
        wake = asyncio.Event()
        self._consumers.append(wake)
        while True:
            queue = self._server.queues.get(name)
            if queue is None:
                await asyncio.sleep(0.01)
                continue
            queue.consumers[wake] = None
            wake.clear()  # before the look: what changes during it counts
            await self._upset(queue)
            item = self._next(queue)
            if item is None:
                await wake.wait()
            else:
                self._hand_over(queue, item)

    def _next(self, queue: _Queue) -> _Item | None:
        held = sum(1 for each, _ in self._unanswered.values() if each is queue)
        if self._stopped or self._interruptions or held >= self._prefetch_count:
            return None
        return self._server.take(queue)

    async def _upset(self, queue: _Queue) -> None:
        possible = [Fault.CONNECTION_LOST] if self._unanswered else []
        if any(each is queue for each, _ in self._unanswered.values()):
            possible.append(Fault.CONSUMER_CANCELLED)
        if len(queue.items) > 1:
            possible.append(Fault.OUT_OF_ORDER)
        fault = await self._inject(*possible)
        if fault is Fault.OUT_OF_ORDER:
            queue.items.rotate(-1)
        elif fault is not None:
            if fault is Fault.CONSUMER_CANCELLED:
                self._withdrawn.add((self._generation, queue.name))
            self.lose_connection()

    def _hand_over(self, queue: _Queue, item: _Item) -> None:
        item.deliveries += 1
        tag = next(self._tags)
        self._unanswered[tag] = (queue, item)
        self._handed_over.put_nowait(
            Delivery(item.message, queue.name, self._generation, tag, item.redelivered)
        )

    async def __aiter__(self) -> AsyncIterator[Delivery]:
        while (delivery := await self._handed_over.get()) is not None:
            if await self._inject(Fault.CONNECTION_LOST) is not None:
                self.lose_connection()
            yield delivery

    def is_live(self, delivery: Delivery) -> bool:
        return delivery.generation == self._generation and delivery.tag in self._unanswered

    def is_orphan(self, delivery: Delivery) -> bool:
        withdrawn = (delivery.generation, delivery.queue) in self._withdrawn
        return withdrawn or delivery.queue not in self._server.queues

    async def ack(self, delivery: Delivery) -> bool:
        if await self._answer_is_lost(delivery):
            return True
        return self._answer(delivery) is not None

    async def requeue(self, delivery: Delivery) -> bool:
        if await self._answer_is_lost(delivery):
            return True
        answered = self._answer(delivery)
        if answered is not None:
            self._server.give_back(*answered)
        return answered is not None

    async def _answer_is_lost(self, delivery: Delivery) -> bool:
        fault = await self._inject(Fault.CONNECTION_LOST, Fault.ANSWER_LOST)
        lost = fault is Fault.ANSWER_LOST and self.is_live(delivery)
        if fault is not None:
            self.lose_connection()
        return lost

    def _answer(self, delivery: Delivery) -> tuple[_Queue, _Item] | None:
        self._notify()
        if delivery.generation != self._generation:
            return None
        return self._unanswered.pop(delivery.tag, None)

    async def stop_consuming(self) -> None:
        if await self._inject(Fault.CONNECTION_LOST) is not None:
            self.lose_connection()
        self._stopped = True
        self._handed_over.put_nowait(None)

    def unanswered(self) -> list[tuple[str, str | None]]:
        """List queue and message id of the deliveries that the broker waits for an answer to."""
        held = self._unanswered.values()
        return [(queue.name, item.message.properties.message_id) for queue, item in held]

    def may_answer(self, message_id: str | None) -> bool:
        """Say whether a message is here to be answered, or was, and its queue was taken away."""
        return bool(self._withdrawn) or message_id in [held for _, held in self.unanswered()]

    def die(self) -> None:
        """End as a process does that is killed."""
        self._stopped = True
        self.lose_connection()

    def interrupt(self, seconds: float) -> None:
        """Lose the connection, and get the next one only after so long."""
        self._interruptions += 1
        self.lose_connection()
        asyncio.get_running_loop().call_later(seconds, self._resume)

    def _resume(self) -> None:
        self._interruptions -= 1
        self._notify()

    def _notify(self) -> None:
        for each in self._consumers:
            each.set()

    def lose_connection(self) -> None:
        """Drop the connection: every unanswered delivery goes back to its queue."""
        unanswered, self._unanswered = self._unanswered, {}
        self._generation += 1
        for queue, item in reversed(unanswered.values()):
            self._server.give_back(queue, item)
        self._notify()


class InMemoryOutbox:
    """Passes the same suites as `node.amqp.outbox.AmqpOutbox`; `faults` are raised first."""

    def __init__(self, server: InMemoryServer, inject: Inject = nothing_goes_wrong) -> None:
        self._server = server
        self._inject = inject
        self.faults: deque[Exception] = deque()

    async def publish(self, message: OutgoingMessage) -> None:
        await asyncio.sleep(0)
        if self.faults:
            raise self.faults.popleft()
        possible = [Fault.NOT_PUBLISHED, Fault.CONFIRM_LOST, Fault.PUBLISHED_TWICE]
        if self._may_be_refused(message):
            possible.append(Fault.REFUSED)
        fault = await self._inject(*possible)
        if fault is Fault.NOT_PUBLISHED:
            raise BrokerUnavailable("injected: the message did not get to the broker")
        if fault is Fault.REFUSED:
            raise PublishRefused("injected: the queue is full")
        if fault is Fault.PUBLISHED_TWICE:
            self._route(message)
        self._route(message)
        if fault is Fault.CONFIRM_LOST:
            raise BrokerUnavailable("injected: the confirm did not get back")
        await self._inject()

    def _may_be_refused(self, message: OutgoingMessage) -> bool:
        queues = self._server.route(message.exchange, message.routing_key)
        return any(each.arguments.get("x-overflow") == "reject-publish" for each in queues)

    def _route(self, message: OutgoingMessage) -> None:
        kind = self._server.exchanges.get(message.exchange)
        if self._server.publish(message) == 0 and kind != "fanout":
            raise Unroutable("no queue takes the message")

    def offer(self, message: OutgoingMessage) -> None:
        with suppress(PublishRefused):
            self._server.publish(message)

    async def flush(self, timeout_seconds: float) -> None:
        return None


class InMemorySubscription:
    """Passes the same suites as `node.amqp.subscription.AmqpSubscription`."""

    def __init__(
        self,
        server: InMemoryServer,
        subscribed: Sequence[Subscribed],
        on_ready: OnReady | None,
        inject: Inject = nothing_goes_wrong,
    ) -> None:
        self._server = server
        self._subscribed = dict.fromkeys(subscribed)
        self._on_ready = on_ready
        self._inject = inject
        self._queue: _Queue | None = None
        self._ready = asyncio.Event()
        self._interrupted = asyncio.Event()
        self._down_seconds = 0.0

    async def run(self) -> None:
        while True:
            await self._listen_until_interrupted()
            await asyncio.sleep(self._down_seconds)

    async def _listen_until_interrupted(self) -> None:
        queue = self._queue = _Queue(next(self._server.names))
        self._server.queues[queue.name] = queue
        for each in self._subscribed:
            self._server.bind(each.exchange, queue.name, each.routing_key)
        self._interrupted.clear()
        self._ready.set()
        try:
            if self._on_ready is not None:
                await self._on_ready(queue.name)
            await self._interrupted.wait()
        finally:
            self._ready.clear()
            queue.items.clear()
            del self._server.queues[queue.name]
            queue.changed.set()

    def interrupt(self, seconds: float) -> None:
        """Lose the connection, and the queue with what is in it; get new ones after so long."""
        self._down_seconds = seconds
        self._interrupted.set()

    async def __aiter__(self) -> AsyncIterator[IncomingMessage]:
        while True:
            await self._ready.wait()
            queue = self._queue
            assert queue is not None
            while (item := self._server.take(queue)) is not None:
                if await self._inject(Fault.CONNECTION_LOST) is not None:
                    self.interrupt(0.0)
                yield item.message
            if queue.name in self._server.queues:
                queue.changed.clear()
                await queue.changed.wait()

    async def queue_name(self) -> str:
        await self._ready.wait()
        assert self._queue is not None
        return self._queue.name

    async def bind(self, subscribed: Subscribed) -> None:
        self._subscribed[subscribed] = None
        if self._queue is not None:
            self._server.bind(subscribed.exchange, self._queue.name, subscribed.routing_key)

    async def unbind(self, subscribed: Subscribed) -> None:
        self._subscribed.pop(subscribed, None)
        if self._queue is not None:
            binding = (subscribed.exchange, self._queue.name, subscribed.routing_key)
            with suppress(ValueError):
                self._server.bindings.remove(binding)


class InMemoryBroker:
    """One connection to an `InMemoryServer`."""

    def __init__(
        self, server: InMemoryServer | None = None, inject: Inject = nothing_goes_wrong
    ) -> None:
        self.server = server or InMemoryServer()
        self.outbox = InMemoryOutbox(self.server, inject)
        self.inboxes: list[InMemoryInbox] = []
        self._subscriptions: list[InMemorySubscription] = []
        self._inject = inject

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        yield

    def inbox(
        self, queues: Sequence[str], prefetch_count: int, prepare: Prepare | None = None
    ) -> InMemoryInbox:
        inbox = InMemoryInbox(self.server, queues, prefetch_count, self._inject)
        self.inboxes.append(inbox)
        return inbox

    def subscription(
        self, subscribed: Sequence[Subscribed] = (), on_ready: OnReady | None = None
    ) -> InMemorySubscription:
        subscription = InMemorySubscription(self.server, subscribed, on_ready, self._inject)
        self._subscriptions.append(subscription)
        return subscription

    def interrupt(self, seconds: float) -> None:
        """Lose every connection, and get the next ones only after so long."""
        for each in (*self.inboxes, *self._subscriptions):
            each.interrupt(seconds)

    def die(self) -> None:
        """End as a process does that is killed; what it awaits then must not go on."""
        for each in self.inboxes:
            each.die()

    async def apply(self, topology: Topology) -> None:
        self.server.declare(topology)

    async def check(self, topology: Topology) -> None:
        return None

    async def depth(self, queue: str) -> QueueDepth:
        if (found := self.server.queues.get(queue)) is None:
            raise TopologyMismatch(f"NOT_FOUND - no queue '{queue}'")
        return QueueDepth(len(found.items), self.server.consumers[queue])

    def connected(self) -> bool:
        return True

    def problem(self) -> str:
        return ""

    async def wait_until_connected(self) -> None:
        return None


class ManualClock:
    """A clock that a test moves."""

    def __init__(self, now: float = 1_000_000.0) -> None:
        self.now = now

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now


LIMITS = ModelLimits(min_pixels=64, max_pixels=1024, max_images=4, max_inference_steps=100)

Script = Callable[[Text2ImageRequest, Invocation], Any]


class ScriptedComponent(Component):
    """A component whose steps a test lets happen one by one.

    `step()` releases one inference step; with `free_running` steps need no release. `script` may
    raise to make a job fail.
    """

    name = "text2image"
    service_type = "TEXT2IMAGE"
    description = "Scripted"
    request_model = Text2ImageRequest
    result_model = Text2ImageResult

    def __init__(self, *, free_running: bool = True, script: Script | None = None) -> None:
        self.free_running = free_running
        self.script = script
        self.invocations: list[str] = []
        self.finished: list[str] = []
        self.steps_seen: dict[str, int] = defaultdict(int)
        self.loaded = False
        self.healthy = True
        self._steps = asyncio.Semaphore(0)
        self._started = asyncio.Event()

    async def load(self, report: ReportLoad) -> None:
        self.loaded = True

    def health(self) -> Health:
        return Health(self.healthy, "" if self.healthy else "scripted to be unhealthy")

    def models(self) -> list[ModelInfo]:
        return [ModelInfo(id="scripted", warm=True, default=True, limits=LIMITS)]

    def device(self) -> DeviceInfo | None:
        return DeviceInfo("cpu", "float32", "scripted")

    def admit(self, request: Any) -> None:
        if request.model not in (None, "scripted"):
            raise ModelNotAvailable(f"this node does not offer {request.model!r}")
        if request.num_images_per_prompt > LIMITS.max_images:
            raise InvalidRequest("num_images_per_prompt: at most 4")

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        self.invocations.append(invocation.job_id)
        self._started.set()
        if self.script is not None:
            self.script(request, invocation)
        steps = request.num_inference_steps or 4
        for step in range(1, steps + 1):
            if not self.free_running:
                await self._wait_for_step(invocation)
            if status := invocation.stop_requested():
                raise JobStopped(status)
            self.steps_seen[invocation.job_id] = step
            invocation.inference_step(step, steps)
            await asyncio.sleep(0)
        self.finished.append(invocation.job_id)
        return Text2ImageResult(
            job_id=invocation.job_id, status=Status.SUCCEEDED, model="scripted", images=[]
        )

    async def _wait_for_step(self, invocation: Invocation) -> None:
        # As a real step does, a scripted one ends whether or not a stop was asked for meanwhile.
        while not self.free_running and invocation.stop_requested() is None:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01):
                    await self._steps.acquire()
                    return

    def step(self, count: int = 1) -> None:
        """Let inference steps happen."""
        for _ in range(count):
            self._steps.release()

    async def started(self) -> None:
        """Wait until a job began."""
        await self._started.wait()
        self._started.clear()
