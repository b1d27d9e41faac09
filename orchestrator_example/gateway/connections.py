"""Connections of callers: one that sends no whole head of a request in time is closed.

Uvicorn waits for the first byte, and for the end of a head, as long as the caller likes; a thousand
idle connections would cost a stranger nothing, and us a thousand open files.
"""

import asyncio
from typing import Any, Final

import h11
import structlog
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD_SECONDS: Final = 15.0
"""How long the head of a request may take, counted from the connection or the answer before."""

log = structlog.get_logger(__name__)


class PatientProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, with a bound on waiting for heads."""

    _head_due: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the head of the first request."""
        super().connection_made(transport)
        self._expect_head()

    def handle_events(self) -> None:
        """Take what has arrived; between requests, wait for the next head."""
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._stop_expecting()
        elif self._head_due is None:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_expecting()
        super().connection_lost(exc)

    def _expect_head(self) -> None:
        self._head_due = self.loop.call_later(HEAD_SECONDS, self._give_up)

    def _stop_expecting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None

    def _give_up(self) -> None:
        log.debug("connection.gave_no_request", caller=self.client and self.client[0])
        self.transport.close()
