"""What a person sees of dead letters: a table, one letter in full, JSON. Pure.

The body is shown only where one letter was asked for: prompts are private. What strangers sent is
text, never markup, and never a control sequence of a terminal.
"""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from contracts.message import format_time
from contracts.topology import REQUESTS
from node.dead_letters.letter import DeadLetter, read_document
from node.dead_letters.replay import request_routing_key
from node.ports import IncomingMessage

HEAD: Final = ["JOB", "CODE", "TRIES", "REPLAYS", "AGE", "SIZE", "MODEL", "DETAIL"]
LEAST_DETAIL_CHARS: Final = 20
MAX_MODEL_CHARS: Final = 32
MAX_SHOWN_BYTES: Final = 64 * 1024
_UNITS: Final = (("d", 86400), ("h", 3600), ("min", 60), ("s", 1))
_SIZES: Final = (("MiB", 1024**2), ("KiB", 1024), ("B", 1))


def letters_table(letters: Sequence[DeadLetter], now: float, width: int) -> list[str]:
    """Write one line for each letter, below a head; job ids are never cut, details are."""
    rows = [HEAD, *([visible(cell) for cell in _cells(letter, now)] for letter in letters)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)][:-1]
    room = max(width - sum(widths) - 2 * len(widths), LEAST_DETAIL_CHARS)
    return ["  ".join([*map(str.ljust, row, widths), _cut(row[-1], room)]).rstrip() for row in rows]


def _cells(letter: DeadLetter, now: float) -> list[str]:
    return [
        letter.job_id,
        letter.code,
        str(letter.attempts),
        str(letter.replays),
        age(letter.died_at, now),
        size(letter.size_bytes),
        _cut(letter.model or "-", MAX_MODEL_CHARS),
        letter.detail,
    ]


def _cut(text: str, most_chars: int) -> str:
    return text if len(text) <= most_chars else text[: most_chars - 1] + "…"


def letter_in_full(
    service: str, letter: DeadLetter, message: IncomingMessage, now: float
) -> list[str]:
    """Write everything there is about a letter, line by line."""
    died = "unknown" if letter.died_at is None else format_time(letter.died_at)
    about = {
        "job": letter.job_id,
        "code": letter.code,
        "reason": letter.detail or "none given",
        "tries": str(letter.attempts),
        "replayed": f"{letter.replays} times",
        "died": f"{died} ({age(letter.died_at, now)} ago)" if letter.died_at else died,
        "model": letter.model or "none named",
        "replay to": f"{REQUESTS}, key {request_routing_key(service, message)}",
        "body": f"{size(letter.size_bytes)}, SHA-256 {letter.sha256}",
    }
    tables = {"properties": _properties(message), "headers": dict(message.properties.headers)}
    return [
        *(f"{name:<10} {visible(value)}" for name, value in about.items()),
        *(line for name, values in tables.items() for line in _lines(name, values)),
        "",
        *_body_lines(message.body),
    ]


def letter_document(letter: DeadLetter, now: float) -> dict[str, Any]:
    """Write a letter, without its body, as JSON for programs."""
    return {
        "job_id": letter.job_id,
        "code": letter.code,
        "detail": letter.detail,
        "attempts": letter.attempts,
        "replays": letter.replays,
        "died_at": None if letter.died_at is None else format_time(letter.died_at),
        "age_seconds": None if letter.died_at is None else round(now - letter.died_at, 3),
        "size_bytes": letter.size_bytes,
        "model": letter.model,
        "sha256": letter.sha256,
    }


def full_document(letter: DeadLetter, message: IncomingMessage, now: float) -> dict[str, Any]:
    """Write a letter with everything in it as JSON; a body that is none as base64."""
    body = read_document(message.body)
    raw = None if body is not None else base64.b64encode(message.body).decode()
    return letter_document(letter, now) | {
        "exchange": message.exchange,
        "routing_key": message.routing_key,
        "properties": _properties(message),
        "headers": _plain(message.properties.headers),
        "body": body,
        "body_base64": raw,
    }


def summary(letters: Sequence[DeadLetter], now: float) -> str:
    """Say in one line how many letters there are, of which kind and age."""
    codes = Counter(letter.code for letter in letters).most_common()
    kinds = ", ".join(f"{count} {visible(code)}" for code, count in codes)
    times = [letter.died_at for letter in letters if letter.died_at is not None]
    ages = (
        f"; the oldest {age(min(times), now)}, the newest {age(max(times), now)}" if times else ""
    )
    return f"{counted(len(letters), 'dead letter')}: {kinds}{ages}"


def counted(number: int, thing: str) -> str:
    """Count things: `1 dead letter`, `10,000 dead letters`."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}"


def age(since: float | None, now: float) -> str:
    """Write a duration in its largest unit: `3 h`."""
    if since is None:
        return "?"
    seconds = max(now - since, 0.0)
    unit, length = next(((u, n) for u, n in _UNITS if seconds >= n), ("s", 1))
    return f"{int(seconds / length)} {unit}"


def size(size_bytes: int) -> str:
    """Write a size in its largest unit: `12 KiB`."""
    unit, length = next(((u, n) for u, n in _SIZES if size_bytes >= n), ("B", 1))
    return f"{size_bytes // length} {unit}"


def visible(text: str) -> str:
    """Replace what a terminal would obey, or not show."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _properties(message: IncomingMessage) -> dict[str, Any]:
    given = message.properties
    return {
        "message_id": given.message_id,
        "correlation_id": given.correlation_id,
        "reply_to": given.reply_to,
        "content_type": given.content_type,
        "type": given.type,
        "priority": given.priority,
        "timestamp": given.timestamp,
    }


def _lines(name: str, values: dict[str, Any]) -> list[str]:
    shown = {key: value for key, value in values.items() if value is not None}
    lines = [f"  {visible(key)}: {visible(_text(value))}" for key, value in shown.items()]
    return [name, *(lines or ["  none"])]


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(_plain(value), ensure_ascii=False)


def _body_lines(body: bytes) -> list[str]:
    document = read_document(body)
    text = body[:MAX_SHOWN_BYTES].decode("utf-8", "replace")
    if isinstance(document, dict | list):
        text = json.dumps(document, indent=2, ensure_ascii=False)[:MAX_SHOWN_BYTES]
    lines = [visible(line) for line in text.splitlines()]
    if len(body) > MAX_SHOWN_BYTES:
        lines.append(f"… of {size(len(body))}; --json shows all of it")
    return lines


def _plain(value: Any) -> Any:
    """Make AMQP values fit for JSON."""
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value if isinstance(value, str | int | float | None) else str(value)
