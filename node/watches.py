"""The events of the jobs that a client watches."""

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Final

import structlog
from pydantic import ValidationError

from contracts.events import EVENT_ADAPTER, JobEvent, TerminalEvent
from contracts.message import format_time
from contracts.result import JobResult
from contracts.topology import EVENTS, job_routing_key
from node.errors import BrokerUnavailable
from node.ports import Broker, IncomingMessage, Subscribed
from node.tasks import running

LATE_EVENTS_SECONDS: Final = 0.5
"""How long a watched job waits for its last events after the result came."""

log = structlog.get_logger(__name__)


@dataclass(slots=True)
class Watch:
    """The events of one job. It ends when both the result and the terminal event came.

    They come on different queues, in either order, and the event may be lost: the result decides.
    None is the end of a watch without a result.
    """

    events: "asyncio.Queue[JobEvent | None]" = field(default_factory=asyncio.Queue)
    result: JobResult | None = None
    terminal_came: bool = False

    async def __aiter__(self) -> AsyncIterator[JobEvent]:
        while (event := await self.events.get()) is not None:
            yield event
            if isinstance(event, TerminalEvent):
                return


class Watches:
    """Listens to the events of jobs, by job id."""

    def __init__(self, broker: Broker, service: str) -> None:
        self._service = service
        self._subscription = broker.subscription()
        self._watches: dict[str, Watch] = {}
        self._ended: asyncio.Queue[str] = asyncio.Queue()

    async def run(self) -> None:
        """Listen until cancelled."""
        async with running(events=self._subscription.run(), unbind=self._unbind_ended()):
            async for message in self._subscription:
                self._take(message)

    def get(self, job_id: str) -> Watch | None:
        """Find the watch of a job."""
        return self._watches.get(job_id)

    async def open(self, job_id: str) -> Watch:
        """Watch a job from now on."""
        watch = self._watches[job_id] = Watch()
        await self._subscription.queue_name()
        try:
            await self._subscription.bind(self._key(job_id))
        except BrokerUnavailable as error:
            log.info("watch.bound_on_reconnection", job_id=job_id, reason=str(error))
        return watch

    def result_came(self, result: JobResult) -> None:
        """End the watch of a job, once its last events had their chance."""
        if (watch := self._watches.get(result.job_id)) is not None:
            watch.result = result
            delay = 0.0 if watch.terminal_came else LATE_EVENTS_SECONDS
            asyncio.get_running_loop().call_later(delay, self.forget, result.job_id)

    def forget(self, job_id: str) -> None:
        """Stop watching a job; who iterates gets the terminal event, or comes to the end."""
        watch = self._watches.pop(job_id, None)
        if watch is None:
            return
        self._ended.put_nowait(job_id)
        watch.events.put_nowait(None if watch.result is None else terminal_event(watch.result))

    def _take(self, message: IncomingMessage) -> None:
        try:
            event = EVENT_ADAPTER.validate_json(message.body)
        except ValidationError as error:
            log.warning("client.event_not_understood", reason=str(error).splitlines()[0])
            return
        watch = self._watches.get(event.job_id)
        if watch is None:
            return
        if not isinstance(event, TerminalEvent):
            watch.events.put_nowait(event)
            return
        watch.terminal_came = True
        if watch.result is not None:
            self.forget(event.job_id)

    async def _unbind_ended(self) -> None:
        while True:
            await self._subscription.unbind(self._key(await self._ended.get()))

    def _key(self, job_id: str) -> Subscribed:
        return Subscribed(EVENTS, job_routing_key(self._service, job_id, "#"))


def terminal_event(result: JobResult) -> TerminalEvent:
    """Make the last event of a job from its result."""
    return TerminalEvent(
        job_id=result.job_id,
        sequence=1,
        time=format_time(time.time()),
        event=result.status,
        error=result.error,
    )
