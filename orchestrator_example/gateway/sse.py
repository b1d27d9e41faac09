"""Server-sent events over a connection that may be silent for long."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Final

from fastapi.responses import StreamingResponse
from fastapi.sse import format_sse_event

KEEPALIVE_SECONDS: Final = 15.0
_HEADERS: Final = {"X-Accel-Buffering": "no"}
"""nginx would collect events before it passes them on."""


def event_stream(events: AsyncIterator[bytes]) -> StreamingResponse:
    """Answer with events, and with a comment whenever there was none for a while."""
    return StreamingResponse(_kept_alive(events), media_type="text/event-stream", headers=_HEADERS)


async def _kept_alive(events: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Pass events on; a proxy that hears nothing for a minute closes the connection."""
    following = asyncio.ensure_future(anext(events, None))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=KEEPALIVE_SECONDS)
            if not done:
                yield format_sse_event(comment="still there")
                continue
            event = following.result()
            if event is None:
                return
            yield event
            following = asyncio.ensure_future(anext(events, None))
    finally:
        # The caller is gone, perhaps: what waits for the next event must learn it, and clean up.
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following
        if hasattr(events, "aclose"):
            await events.aclose()
