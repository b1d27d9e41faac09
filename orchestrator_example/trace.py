"""One W3C trace for a whole chain (https://www.w3.org/TR/trace-context/). Pure."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from contracts.message import HEADER_TRACEPARENT, HEADER_TRACESTATE

_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})(?![^-])"
)


def trace_id(headers: Mapping[str, Any], job_id: str) -> str:
    """Read the caller's trace id, or make the chain's own: the same on every orchestrator."""
    parts = _parts(headers)
    return parts[0] if parts else _digest(job_id)[:32]


def stage_headers(headers: Mapping[str, Any], job_id: str, stage_job_id: str) -> dict[str, str]:
    """Make the trace headers of a stage's request: a span of its own in the chain's trace."""
    trace, flags = _parts(headers) or (trace_id(headers, job_id), "01")
    made = {HEADER_TRACEPARENT: f"00-{trace}-{_digest(stage_job_id)[:16]}-{flags}"}
    if _parts(headers) and isinstance(state := headers.get(HEADER_TRACESTATE), str):
        made[HEADER_TRACESTATE] = state
    return made


def _parts(headers: Mapping[str, Any]) -> tuple[str, str] | None:
    match = _TRACEPARENT.match(str(headers.get(HEADER_TRACEPARENT, "")))
    return (match[1], match[2]) if match else None


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
