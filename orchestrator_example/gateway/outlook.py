"""How many jobs are ahead of one, and how long it will take. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from contracts.discovery import NodeState
from node.discovery.table import ServiceEntry


class Line:
    """The jobs of one queue in their order, of which only our own are known one by one.

    Each gets a ticket: its place, counted from the first that was ever seen. When a job begins,
    all before it have, whoever submitted them: queues are first in, first out.
    """

    def __init__(self) -> None:
        self._last = 0
        self._begun = 0

    def join(self, depth: int) -> int:
        """Give the next job its ticket; `depth` jobs wait already."""
        self._last = max(self._last, self._begun + depth) + 1
        return self._last

    def began(self, ticket: int) -> None:
        """Note that a job is not in the queue any more."""
        self._begun = max(self._begun, ticket)

    def ahead(self, ticket: int, depth: int | None) -> int:
        """Count the jobs before one. `depth` is what waits now, itself included; None: unknown."""
        ahead = ticket - self._begun - 1
        return max(ahead if depth is None else min(ahead, depth - 1), 0)


@dataclass(frozen=True, slots=True)
class Fleet:
    """What the live instances of a service can do together."""

    slots: int
    waiting: int
    """Jobs that instances have taken from the queue and not begun."""
    seconds_per_image: float | None
    """Median over instances; None while nobody made an image."""


def fleet_of(entries: Iterable[ServiceEntry], service: str) -> Fleet:
    """Sum up what instances announce."""
    takers = [
        entry.metadata
        for entry in entries
        if entry.name == service and entry.metadata.state is NodeState.READY
    ]
    paces = [each.p50_seconds_per_image for each in takers if each.p50_seconds_per_image]
    return Fleet(
        slots=sum(each.slots_total for each in takers),
        waiting=sum(each.local_queue_depth for each in takers),
        seconds_per_image=median(paces) if paces else None,
    )


def eta_seconds(fleet: Fleet, ahead: int, images: int = 1) -> float | None:
    """Estimate the time until a job is done; the ones ahead count for one image each."""
    if fleet.seconds_per_image is None or not fleet.slots:
        return None
    return round(fleet.seconds_per_image * (ahead / fleet.slots + images), 1)
