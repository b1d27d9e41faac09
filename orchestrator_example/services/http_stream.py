"""Server-sent events of OPEA's services, joined to what a result can carry. Pure.

Three kinds of `data:` are joined to a text: chunks of OpenAI's completions (`delta.content` or
`text` of their `choices`), JSON strings, and the Python literals that OPEA's older LLM services and
its guardrail write (`b' horse'`, `' horse'`). Other JSON is kept as a list of events.
"""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import pydantic_core

from orchestrator_example.services.http_errors import ServiceFailed

END: Final = "[DONE]"
FAILED: Final = "[ERROR]"
_LITERAL: Final = re.compile(r"b?(?:'.*'|\".*\")", re.DOTALL)
_LINE_END: Final = re.compile(r"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Joined:
    """What a stream amounts to; not `complete` when it lacks the end mark that OPEA's have."""

    output: dict[str, Any]
    complete: bool


def join(stream: str) -> Joined:
    """Join a whole stream. Raises ServiceFailed where the service reports a failure in it."""
    events: list[Any] = []
    for data in event_data(stream):
        if data == END:
            return Joined(_joined(events), complete=True)
        if data == FAILED:
            raise ServiceFailed("the service broke off its stream with an error")
        events.append(_understood(data))
    return Joined(_joined(events), complete=False)


def event_data(stream: str) -> Iterator[str]:
    """Read the data of each event; names, ids and comments are passed over."""
    lines: list[str] = []
    for line in (*_LINE_END.split(stream.removeprefix("\ufeff")), ""):
        name, _, value = line.partition(":")
        if name == "data":
            lines.append(value.removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []


def _understood(data: str) -> Any:
    """Read one event: JSON, a Python literal of text or bytes, or the text that it is."""
    if _LITERAL.fullmatch(data.strip()):
        try:
            return ast.literal_eval(data.strip())
        except (ValueError, SyntaxError):
            return data
    try:
        event = pydantic_core.from_json(data, allow_inf_nan=False)
    except ValueError:
        return data
    if isinstance(event, dict) and event.get("error"):
        raise ServiceFailed(f"the service failed amid its stream: {event['error']!s:.300}")
    return event if isinstance(event, dict | list | str) else data


def _joined(events: list[Any]) -> dict[str, Any]:
    texts = [event for event in events if isinstance(event, str | bytes)]
    if len(texts) == len(events):
        # Bytes are joined first: a character may be cut in two.
        parts = [each.encode(errors="replace") if isinstance(each, str) else each for each in texts]
        return {"text": b"".join(parts).decode(errors="replace")}
    choices = _choices(events)
    if choices is None:
        return {"events": [_jsonable(event) for event in events]}
    if len(choices) == 1:
        return {"text": choices[0]}
    return {"text": choices[0], "choices": choices}


def _choices(events: list[Any]) -> list[str] | None:
    """Join the chunks of each choice; None when the events are no chunks of completions."""
    texts: dict[int, str] = defaultdict(str)
    for event in events:
        if not isinstance(event, dict) or not isinstance(event.get("choices"), list):
            return None
        for choice in event["choices"]:
            index, text = _chunk(choice)
            texts[index] += text
    return [texts[index] for index in sorted(texts)] or None


def _chunk(choice: Any) -> tuple[int, str]:
    """Read which choice a chunk belongs to, and its text; one without text says nothing."""
    choice = choice if isinstance(choice, dict) else {}
    delta, index = choice.get("delta"), choice.get("index")
    text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
    return index if type(index) is int else 0, text if isinstance(text, str) else ""


def _jsonable(event: Any) -> Any:
    return event.decode(errors="replace") if isinstance(event, bytes) else event
