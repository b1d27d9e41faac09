"""What a user of the broker may do who serves services, or calls them, and no more. Pure.

Exchanges are shared by all services, so that only the routing key tells whose a message is: on
topic exchanges RabbitMQ checks that, too.
"""

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from contracts.discovery import Verb
from contracts.topology import CONTROL, DEAD_LETTER, DISCOVERY, EVENTS, REQUESTS, RESULTS, RETRY

NOTHING: Final = "^$"
DEFAULT_EXCHANGE: Final = "amq.default"
"""What RabbitMQ calls it in permissions. The way to any queue by its name, `reply_to` for one."""
_OWN_QUEUES: Final = r"amq\.gen-.*"
_VERBS: Final = f"({'|'.join(Verb)})"
_ANSWERS: Final = r"reply\.[^.]+"
_ASKS: Final = rf"{_VERBS}(\..+)?"
_HEARS: Final = r"(announce|goodbye|reply|ping)\..+"


@dataclass(frozen=True, slots=True)
class Permissions:
    """Regular expressions for names of exchanges and queues."""

    configure: str
    write: str
    read: str


@dataclass(frozen=True, slots=True)
class TopicPermissions:
    """Regular expressions for the routing keys of one exchange."""

    exchange: str
    write: str
    read: str


@dataclass(frozen=True, slots=True)
class Role:
    """What one user of the broker does.

    Without `replies` the results of what it serves go to `megaservice.results` only.
    """

    serves: Collection[str] = ()
    calls: Collection[str] = ()
    replies: bool = True

    def permissions(self) -> Permissions:
        """Let it work on queues that somebody else declares, and on exclusive ones of its own."""
        write, read = [*_names(DISCOVERY), _OWN_QUEUES], [*_names(DISCOVERY), _OWN_QUEUES]
        if self.serves:
            write += _names(REQUESTS, RETRY, DEAD_LETTER, RESULTS, EVENTS)
            read += [*_names(CONTROL), *_each(self.serves, r"(\..*)?")]
        if self.serves and self.replies:
            write += _names(DEFAULT_EXCHANGE)
        if self.calls:
            write += _names(REQUESTS, CONTROL)
            read += _names(EVENTS)
        return Permissions(f"^{_OWN_QUEUES}$", _one_of(write), _one_of(read))

    def topic_permissions(self) -> tuple[TopicPermissions, ...]:
        """Let it speak in the name of what it serves, be asked, and hear of what it calls."""
        served, called = _each(self.serves, r"\..+"), _each(self.calls, r"\..+")
        says = _each(self.serves, r"\.[^.]+", before=r"(announce|goodbye)\.")
        hears = [_VERBS, *_each(self.serves, r"(\.[^.]+)?", before=rf"{_VERBS}\.")]
        says, hears = ([*says, _ANSWERS], hears) if self.serves else ([], [])
        if self.calls:
            says, hears = [*says, _ASKS], [*hears, _HEARS]
        return (
            TopicPermissions(DISCOVERY, _one_of(says), _one_of(hears)),
            TopicPermissions(EVENTS, _one_of(served), _one_of(called)),
            TopicPermissions(RESULTS, _one_of(served), NOTHING),
        )


def _names(*names: str) -> list[str]:
    # A hyphen means something inside of brackets only.
    return [re.escape(name).replace(r"\-", "-") for name in names]


def _each(services: Collection[str], after: str, *, before: str = "") -> list[str]:
    return [f"{before}({'|'.join(_names(*services))}){after}"] if services else []


def _one_of(patterns: Collection[str]) -> str:
    return f"^({'|'.join(dict.fromkeys(patterns))})$" if patterns else NOTHING


def rabbitmqctl_lines(role: Role, user: str, vhost: str) -> list[str]:
    """Write the commands that give a user what its role needs."""
    may = role.permissions()
    lines = [("set_permissions", "-p", vhost, user, may.configure, may.write, may.read)]
    topics = [
        ("set_topic_permissions", "-p", vhost, user, each.exchange, each.write, each.read)
        for each in role.topic_permissions()
    ]
    return [shlex.join(("rabbitmqctl", *line)) for line in (*lines, *topics)]
