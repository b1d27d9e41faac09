"""RabbitMQ behind the ports of the node: three connections and what lives on them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from contracts.topology import Topology
from node.amqp.connection import SupervisedConnection
from node.amqp.inbox import AmqpInbox
from node.amqp.outbox import AmqpOutbox
from node.amqp.subscription import AmqpSubscription
from node.amqp.tolerance import tolerate_hostile_properties
from node.amqp.topology import apply_topology, check_topology, queue_depth
from node.ports import OnReady, Prepare, QueueDepth, Subscribed
from node.tasks import running


class AmqpBroker:
    """Three connections: a memory alarm blocks the publishing one, and acks must still flow."""

    def __init__(
        self,
        urls: Sequence[str],
        *,
        heartbeat_seconds: int = 12,
        publish_timeout_seconds: float = 15.0,
    ) -> None:
        tolerate_hostile_properties()
        self._consume = SupervisedConnection("consume", urls, heartbeat_seconds)
        self._publish = SupervisedConnection("publish", urls, heartbeat_seconds)
        self._control = SupervisedConnection("control", urls, heartbeat_seconds)
        self.outbox = AmqpOutbox(self._publish, publish_timeout_seconds)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keep the connections up inside the context."""
        async with (
            running(
                consume=self._consume.run(),
                publish=self._publish.run(),
                control=self._control.run(),
            ),
            running(outbox=self.outbox.run()),
        ):
            yield

    def inbox(
        self, queues: Sequence[str], prefetch_count: int, prepare: Prepare | None = None
    ) -> AmqpInbox:
        """Make an inbox over queues."""
        return AmqpInbox(self._consume, queues, prefetch_count, prepare)

    def subscription(
        self, subscribed: Sequence[Subscribed] = (), on_ready: OnReady | None = None
    ) -> AmqpSubscription:
        """Make a subscription on the control connection."""
        return AmqpSubscription(self._control, subscribed, on_ready)

    async def apply(self, topology: Topology) -> None:
        """Declare what is missing."""
        await apply_topology(self._control, topology)

    async def check(self, topology: Topology) -> None:
        """Raise TopologyMismatch that names everything that is missing."""
        await check_topology(self._control, topology)

    async def depth(self, queue: str) -> QueueDepth:
        """Ask how full a queue is. Raises TopologyMismatch when it is missing."""
        return await queue_depth(self._control, queue)

    def connected(self) -> bool:
        """Say whether every connection is up."""
        return all(each.up.is_set() for each in self._connections())

    def problem(self) -> str:
        """Say why a connection is down; empty when all are up."""
        return next((each.problem for each in self._connections() if not each.up.is_set()), "")

    async def wait_until_connected(self) -> None:
        """Wait until every connection was up."""
        for each in self._connections():
            await each.up.wait()

    def _connections(self) -> tuple[SupervisedConnection, ...]:
        return (self._consume, self._publish, self._control)
