"""What a listener takes in: who may say what. Pure."""

import re
from dataclasses import dataclass
from typing import Annotated, Final

from pydantic import Field, TypeAdapter, ValidationError

from contracts.discovery import Announcement, Goodbye, InfoReply, PingReply, StatsReply
from node.ports import IncomingMessage

MAX_MESSAGE_BYTES: Final = 64 * 1024
"""Larger ones are not read; the announcement of a node with 50 models takes half of it."""

News = Announcement | Goodbye | PingReply | InfoReply | StatsReply
_News: Final[TypeAdapter[News]] = TypeAdapter(Annotated[News, Field(discriminator="type")])

_WORD: Final = re.compile(r"[\w-]{1,128}")
"""A name or an id: one word of a routing key, so that no two addresses look the same."""


@dataclass(frozen=True, slots=True)
class Doubt:
    """Why a message is left aside; `event` is what the log calls that."""

    event: str
    reason: str


def read_news(message: IncomingMessage, listener_id: str, *, verify: bool) -> News | Doubt:
    """Read what an instance says, or say why it is not taken in.

    Fields that are unknown here are ignored: instances of a later version are seen, too.
    """
    if len(message.body) > MAX_MESSAGE_BYTES:
        size = len(message.body)
        return Doubt("discovery.not_understood", f"{size} bytes, at most {MAX_MESSAGE_BYTES}")
    try:
        news = _News.validate_json(message.body, extra="ignore")
    except ValidationError as error:
        return Doubt("discovery.not_understood", _first(error))
    reason = _reason_to_doubt(message, news, listener_id, verify=verify)
    return Doubt("discovery.not_believed", reason) if reason else news


def _reason_to_doubt(
    message: IncomingMessage, news: News, listener_id: str, *, verify: bool
) -> str:
    if not (_WORD.fullmatch(news.name) and _WORD.fullmatch(news.id)):
        return f"{news.name[:80]!r}, {news.id[:80]!r} are not a service and an instance id"
    if message.routing_key != (expected := _routing_key(news, listener_id)):
        return f"it came as {message.routing_key!r} and calls itself {expected!r}"
    if verify and not is_named_like(message.user_id, news.name):
        return (
            f"the user {message.user_id!r} may not speak for {news.name!r}: "
            f"users of this service are called {news.name!r} or '{news.name}.…'"
        )
    return ""


def _routing_key(news: News, listener_id: str) -> str:
    match news:
        case Announcement():
            return f"announce.{news.name}.{news.id}"
        case Goodbye():
            return f"goodbye.{news.name}.{news.id}"
        case _:
            return f"reply.{listener_id}"


def is_named_like(user: str | None, service: str) -> bool:
    """Say whether a user of the broker belongs to a service.

    No hyphen: `prompt-writer` is a service of its own, not a user of `prompt`.
    """
    return user is not None and (user == service or user.startswith(f"{service}."))


def _first(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part)[:80] for part in first["loc"])
    return f"{place or 'the message'}: {first['msg'][:200]}"
