"""Connections of callers: a head that is broken, too long or too slow ends its connection.

Uvicorn waits for the end of a head as long as the caller likes; a thousand connections without one
would cost a stranger nothing, and us a thousand open files. What it cannot read it answers in plain
text; callers of ours may count on JSON.
"""

import asyncio
import json
import sys
from typing import Any, Final

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from orchestrator_example.gateway.errors import BadRequest
from orchestrator_example.gateway.problems import PROBLEM_MEDIA_TYPE, refusal_of

HEAD_SECONDS: Final = 15.0
"""How long the head of a request may take; the first one from the moment of connecting."""

LINGER_SECONDS: Final = 2.0
"""How long a caller who sent what cannot be read may take to hang up."""


class HeadTooLong(BadRequest):
    status, code, title = 431, "head_too_long", "The request has too long a head"


class CallerProtocol(H11Protocol):
    """Uvicorn's HTTP/1.1, with a bound on waiting for heads, and with problems in JSON."""

    _head_due: asyncio.TimerHandle | None = None
    _broken = False

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the head of the first request."""
        super().connection_made(transport)
        self._expect_head()

    def handle_events(self) -> None:
        """Take what has arrived; a head that has only begun must end in time."""
        super().handle_events()
        if self.conn.their_state is not h11.IDLE:
            self._stop_expecting()
        elif self._head_due is None and self.conn.trailing_data[0]:
            self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_expecting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what has arrived, until something of it cannot be read."""
        if not self._broken:
            super().data_received(data)

    def send_400_response(self, msg: str) -> None:
        """Say what is wrong with the bytes that came, unless an answer is on its way; and close."""
        self._broken = True
        if self.conn.our_state in {h11.IDLE, h11.SEND_RESPONSE}:
            broken = sys.exception()
            hint = getattr(broken, "error_status_hint", 400)
            kind = HeadTooLong if hint == HeadTooLong.status else BadRequest
            self._answer(kind(f"this is not HTTP/1.1 as it should be: {broken or msg}"))
        # Closed at once it would be reset while more comes, and the answer lost with it.
        if self.transport.can_write_eof():
            self.transport.write_eof()
        self.loop.call_later(LINGER_SECONDS, self.transport.close)

    def _answer(self, error: BadRequest) -> None:
        body = json.dumps(refusal_of(error).problem.model_dump(exclude_none=True)).encode()
        headers = [
            ("Content-Type", PROBLEM_MEDIA_TYPE),
            ("Content-Length", str(len(body))),
            ("Connection", "close"),
        ]
        head = h11.Response(status_code=error.status, headers=headers, reason=error.title)
        for event in (head, h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")

    def _expect_head(self) -> None:
        self._head_due = self.loop.call_later(HEAD_SECONDS, self.transport.close)

    def _stop_expecting(self) -> None:
        if self._head_due is not None:
            self._head_due.cancel()
            self._head_due = None
