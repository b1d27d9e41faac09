"""What the node needs from the outside world, as plain nouns.

`node.amqp` implements these on RabbitMQ; `tests/fakes.py` in memory. Both pass the same suites.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from contracts.topology import Topology
from node.job import Outcome

UNREADABLE_HEADERS: Final = "x-unreadable"
"""The only header of a message whose headers could not be read; its value says why."""


@dataclass(frozen=True, slots=True)
class Properties:
    """AMQP basic properties; `expiration_seconds` is relative, `timestamp` in Unix seconds."""

    message_id: str | None = None
    correlation_id: str | None = None
    reply_to: str | None = None
    content_type: str | None = None
    type: str | None = None
    expiration_seconds: float | None = None
    priority: int = 0
    timestamp: float | None = None
    headers: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class OutgoingMessage:
    """A message to publish; the empty exchange routes to the queue named by the routing key.

    A signed one carries the name of its publisher's user, which the broker checks.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: Properties = field(default_factory=Properties)
    persistent: bool = True
    signed: bool = False


@dataclass(frozen=True, slots=True)
class IncomingMessage:
    """A message as the broker handed it over.

    `user_id` is the user who published it, as the broker checked; None where it is not signed. It
    is no property that could be passed on: nobody may publish under another's name.
    """

    exchange: str
    routing_key: str
    body: bytes
    properties: Properties
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that must be answered exactly once.

    `generation` counts connections: an answer on an older one means nothing to the broker.
    """

    message: IncomingMessage
    queue: str
    generation: int
    tag: int
    redelivered: bool = False


class Inbox(Protocol):
    """Deliveries from queues, across reconnections."""

    async def run(self) -> None:
        """Consume until cancelled."""

    def __aiter__(self) -> AsyncIterator[Delivery]:
        """Iterate over deliveries; ends once consuming was stopped and all were taken."""

    def is_live(self, delivery: Delivery) -> bool:
        """Say whether the broker still waits for an answer to this delivery."""

    def is_orphan(self, delivery: Delivery) -> bool:
        """Say whether its queue was taken away: nobody will hand the message out again."""

    async def ack(self, delivery: Delivery) -> bool:
        """Settle a delivery; False when it was stale and the broker will redeliver it."""

    async def requeue(self, delivery: Delivery) -> bool:
        """Give a delivery back for another consumer; False when it was stale."""

    async def stop_consuming(self) -> None:
        """Take no more deliveries; those that were taken can still be settled."""


class Outbox(Protocol):
    """Messages to the broker."""

    async def publish(self, message: OutgoingMessage) -> None:
        """Publish once; on return it was routed to a queue and confirmed.

        Raises Unroutable, PublishRefused, TopologyMismatch, or BrokerUnavailable when there was
        no confirm within the bound: then the message may or may not have been published.
        """

    def offer(self, message: OutgoingMessage) -> None:
        """Publish soon, or drop the message when the broker is slow or away. Never blocks."""

    async def flush(self, timeout_seconds: float) -> None:
        """Wait until offered messages are out, at most so long."""


OnReady = Callable[[str], Awaitable[None]]
"""Called with the server-given queue name each time a subscription is (re-)established."""


Prepare = Callable[[], Awaitable[None]]
"""Puts in place what consuming needs. Raises TopologyMismatch, BrokerUnavailable."""


@dataclass(frozen=True, slots=True)
class Subscribed:
    """An exchange and a routing key that a subscription listens to."""

    exchange: str
    routing_key: str = ""


@dataclass(frozen=True, slots=True)
class QueueDepth:
    """What a queue holds ready to be delivered, and how many consumers it has.

    A consumer counts for as long as it has deliveries that it did not answer.
    """

    messages: int
    consumers: int


class Subscription(Protocol):
    """An exclusive queue of one's own, made anew after a reconnection."""

    async def run(self) -> None:
        """Listen until cancelled."""

    def __aiter__(self) -> AsyncIterator[IncomingMessage]:
        """Iterate over messages as they come."""

    async def queue_name(self) -> str:
        """Wait until listening and return the current name of the queue."""

    async def bind(self, subscribed: Subscribed) -> None:
        """Listen to one more routing key, also after a reconnection."""

    async def unbind(self, subscribed: Subscribed) -> None:
        """Stop listening to a routing key."""


class Broker(Protocol):
    """A message broker, with reconnection inside."""

    @property
    def outbox(self) -> Outbox:
        """Where messages go out."""

    def running(self) -> AbstractAsyncContextManager[None]:
        """Keep the connections up inside the context."""

    def inbox(
        self, queues: Sequence[str], prefetch_count: int, prepare: Prepare | None = None
    ) -> Inbox:
        """Make an inbox; `prefetch_count` bounds the unanswered deliveries of each queue.

        `prepare` is awaited before consuming resumes after an interruption: the broker that
        answers then may not have the queues any more.
        """

    def subscription(
        self, subscribed: Sequence[Subscribed] = (), on_ready: OnReady | None = None
    ) -> Subscription:
        """Make a subscription."""

    async def apply(self, topology: Topology) -> None:
        """Declare what is missing. Raises TopologyMismatch where something differs."""

    async def check(self, topology: Topology) -> None:
        """Raise TopologyMismatch that names everything that is missing or forbidden."""

    async def depth(self, queue: str) -> QueueDepth:
        """Ask how full a queue is. Raises TopologyMismatch when it is missing."""

    def connected(self) -> bool:
        """Say whether every connection is up."""

    def problem(self) -> str:
        """Say why a connection is down; empty when all are up."""

    async def wait_until_connected(self) -> None:
        """Wait until every connection was up."""


class ArtifactStore(Protocol):
    """Where image files go that do not travel inside a message."""

    async def put(self, data: bytes, sha256: str, media_type: str) -> str:
        """Keep bytes under their content address and return a URI.

        On return the store holds these bytes: they were read back, or were there before and are
        what their address says. Raises StoreUnavailable, ArtifactCorrupt.
        """

    async def sweep(self, max_age_seconds: float) -> int:
        """Delete what was put longer ago and return how many. Raises StoreUnavailable."""


@dataclass(frozen=True, slots=True)
class KeptResult:
    """How a job ended, kept for further copies of its request.

    `replay` counts how often a person took the request out of the dead-letter queue.
    """

    job_id: str
    fingerprint: str
    outcome: Outcome
    replay: int = 0


class ResultStore(Protocol):
    """Results of finished jobs, and which node works on which job, shared by the nodes of a fleet.

    All methods raise StoreUnavailable when the store does not answer: then a node goes on alone.
    """

    async def run(self) -> None:
        """Keep the claims of this node alive until cancelled."""

    async def find(self, job_id: str) -> KeptResult | None:
        """Look up how a job ended."""

    async def keep(self, kept: KeptResult) -> KeptResult:
        """Keep a result, unless the job has one with the same or a later `replay`.

        Returns the result that stands: all nodes answer with that one.
        """

    async def claim(self, job_id: str) -> bool:
        """Take the work on a job; False while another living node has it.

        A claim lasts until `release`, or until its node was not heard of for the lease.
        """

    async def release(self, job_id: str) -> None:
        """Give the work up, so that another node may claim it at once."""

    async def sweep(self, max_age_seconds: float) -> int:
        """Delete what was kept longer ago and return how many."""


class Clock(Protocol):
    """Time, so that tests can move it."""

    def time(self) -> float:
        """Unix seconds, for deadlines."""

    def monotonic(self) -> float:
        """Seconds that never go back, for durations."""
