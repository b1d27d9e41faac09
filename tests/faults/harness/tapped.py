"""A broker whose every arriving message is seen by somebody else, too."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from node.amqp.broker import AmqpBroker
from node.amqp.subscription import AmqpSubscription
from node.ports import IncomingMessage, OnReady, Subscribed

HEARTBEAT_SECONDS: Final = 2
PUBLISH_SECONDS: Final = 3.0

Hear = Callable[[IncomingMessage], None]


class TappedSubscription(AmqpSubscription):
    """Tells `hear` every message that arrives, those that a client drops included."""

    hear: Hear

    async def __aiter__(self) -> AsyncIterator[IncomingMessage]:
        async for message in super().__aiter__():
            self.hear(message)
            yield message


class TappedBroker(AmqpBroker):
    """Makes subscriptions that are tapped."""

    def __init__(self, urls: Sequence[str], hear: Hear) -> None:
        super().__init__(
            urls, heartbeat_seconds=HEARTBEAT_SECONDS, publish_timeout_seconds=PUBLISH_SECONDS
        )
        self._hear = hear

    def subscription(
        self, subscribed: Sequence[Subscribed] = (), on_ready: OnReady | None = None
    ) -> AmqpSubscription:
        subscription = TappedSubscription(self._control, subscribed, on_ready)
        subscription.hear = self._hear
        return subscription
