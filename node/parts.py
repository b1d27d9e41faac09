"""What a node or a command is made with: the clock, and what the settings name."""

import time

from contracts.result import JobResult
from node.amqp.broker import AmqpBroker
from node.ports import Clock, ResultStore
from node.settings import Settings
from node.stores.recent import RecentResults
from node.stores.results import FsspecResultStore
from node.stores.shared import SharedResults


class SystemClock:
    """The machine's clocks."""

    def time(self) -> float:
        """Unix seconds."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds that never go back."""
        return time.monotonic()


def make_broker(settings: Settings) -> AmqpBroker:
    """Build the broker that the settings name."""
    return AmqpBroker(
        settings.amqp_url,
        heartbeat_seconds=settings.heartbeat_seconds,
        publish_timeout_seconds=settings.publish_timeout_seconds,
    )


def make_results(
    settings: Settings, owner: str, result_model: type[JobResult], clock: Clock
) -> ResultStore:
    """Build where results are kept: in memory, and where nodes share them, there as well."""
    recent = RecentResults(
        settings.recent_results, settings.recent_results_bytes, settings.result_seconds, clock
    )
    if settings.result_store is None:
        return recent
    return SharedResults(recent, FsspecResultStore(settings.result_store, owner, result_model))
