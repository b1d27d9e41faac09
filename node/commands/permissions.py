"""What a user of the broker may do who serves one service, and no more. Pure.

Exchanges are shared by all services, so that only the routing key tells whose a message is: on
topic exchanges RabbitMQ checks that, too.
"""

import re
import shlex
from dataclasses import dataclass

from contracts.discovery import Verb
from contracts.topology import CONTROL, DEAD_LETTER, DISCOVERY, EVENTS, REQUESTS, RESULTS, RETRY

NOTHING = "^$"
_OWN_QUEUES = r"amq\.gen-.*"


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


def node_permissions(service: str) -> Permissions:
    """Let a node of one service work on queues that somebody else declares.

    It may not write to the default exchange: results go to `megaservice.results` only.
    """
    written = _any(REQUESTS, RETRY, DEAD_LETTER, RESULTS, EVENTS, DISCOVERY)
    return Permissions(
        configure=f"^{_OWN_QUEUES}$",
        write=f"^({written}|{_OWN_QUEUES})$",
        read=rf"^({_any(service)}(\..*)?|{_any(CONTROL, DISCOVERY)}|{_OWN_QUEUES})$",
    )


def node_topic_permissions(service: str) -> tuple[TopicPermissions, ...]:
    """Let it speak in the name of its own service only, and be asked."""
    own = _any(service)
    verbs = "|".join(verb.value for verb in Verb)
    announces = rf"^((announce|goodbye)\.{own}\.[^.]+|reply\.[^.]+)$"
    is_asked = rf"^({verbs})(\.{own}(\.[^.]+)?)?$"
    return (
        TopicPermissions(DISCOVERY, announces, is_asked),
        TopicPermissions(EVENTS, rf"^{own}\..+$", NOTHING),
        TopicPermissions(RESULTS, rf"^{own}\..+$", NOTHING),
    )


def _any(*names: str) -> str:
    # A hyphen means something inside of brackets only.
    return "|".join(re.escape(name).replace(r"\-", "-") for name in names)


def rabbitmqctl_lines(service: str, user: str, vhost: str) -> list[str]:
    """Write the commands that give a user these permissions."""
    may = node_permissions(service)
    lines = [("set_permissions", "-p", vhost, user, may.configure, may.write, may.read)]
    topics = [
        ("set_topic_permissions", "-p", vhost, user, each.exchange, each.write, each.read)
        for each in node_topic_permissions(service)
    ]
    return [shlex.join(("rabbitmqctl", *line)) for line in (*lines, *topics)]
