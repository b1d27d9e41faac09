"""What a person or a program sees of the services that are there. Pure.

What others announce is text: never markup, and never a control sequence of a terminal.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Group
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from contracts.discovery import StatsReply
from node.discovery.table import Key, ServiceEntry

NAME_COLUMNS = ("service", "instance")
STATUS_COLUMNS = ("state", "jobs", "s/image", "health", "device", "models")
STATS_COLUMNS = ("requests", "errors", "s/request", "since", "last error")
LEFT_OUT_WHERE_NARROW = {"health", "device", "since"}
NARROW_CHARS = 110
FOLDED = {"models", "device", "last error"}
WIDE = 200


@dataclass(frozen=True, slots=True)
class View:
    """What a listener knows at a time on its own clock; `cut_off` says why it hears nothing.

    With `stats`, figures are shown instead of what the instances are.
    """

    entries: Sequence[ServiceEntry]
    now: float
    cut_off: str = ""
    stats: Mapping[Key, StatsReply] | None = None

    def age(self, entry: ServiceEntry) -> int:
        """Whole seconds since an instance was heard last."""
        return max(round(self.now - entry.heard_at), 0)


@dataclass(frozen=True, slots=True)
class Lines:
    """The cells of a table, without the ages: equal if nothing worth telling changed."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    remarks: tuple[str, ...]


def services_table(view: View, width: int = WIDE) -> Group:
    """Draw live services; below stands what a person should know, that there are none included."""
    lines = told(view)
    named = len(NAME_COLUMNS)
    shown = [*lines.columns[:named], "heard", *lines.columns[named:]]
    if width < NARROW_CHARS:
        shown = [column for column in shown if column not in LEFT_OUT_WHERE_NARROW]
    table = Table(box=None, padding=(0, 2, 0, 0), show_header=bool(view.entries))
    for column in shown:
        table.add_column(column, no_wrap=column not in FOLDED, overflow="fold")
    for entry, row in zip(view.entries, lines.rows, strict=True):
        cells = dict(zip(lines.columns, row, strict=True))
        cells["heard"] = f"{view.age(entry)} s"
        table.add_row(*(escape(cells[column]) for column in shown))
    return Group(table, *map(Text, lines.remarks))


def told(view: View) -> Lines:
    """Write what a view tells, but for the ages."""
    columns = STATUS_COLUMNS if view.stats is None else STATS_COLUMNS
    rows = ((entry.name, entry.instance_id, *_about(entry, view.stats)) for entry in view.entries)
    return Lines(
        (*NAME_COLUMNS, *columns),
        tuple(tuple(map(_visible, row)) for row in rows),
        tuple(map(_visible, _remarks(view))),
    )


def services_json(view: View) -> dict[str, Any]:
    """Write a view for programs."""
    return {
        "listening": not view.cut_off,
        "problem": view.cut_off,
        "services": [_entry_json(entry, view) for entry in view.entries],
    }


def _entry_json(entry: ServiceEntry, view: View) -> dict[str, Any]:
    stats = (view.stats or {}).get((entry.name, entry.instance_id))
    return {
        "name": entry.name,
        "id": entry.instance_id,
        "version": entry.version,
        "state": entry.metadata.state.value,
        "duplicate": entry.duplicate,
        "heard_seconds_ago": view.age(entry),
        "metadata": json.loads(entry.metadata.model_dump_json()),
        "stats": [each.model_dump() for each in stats.endpoints] if stats else None,
    }


def _remarks(view: View) -> list[str]:
    remarks = []
    if view.cut_off:
        remarks.append(f"broker away: {view.cut_off}; shown is what was known before")
    elif not view.entries:
        remarks.append("no service is announced on this broker")
    twice = [entry.instance_id for entry in view.entries if entry.duplicate]
    if twice:
        remarks.append(
            f"two processes use the id {', '.join(twice)}: give each its own NODE_INSTANCE_ID; "
            "shown is the one that started later"
        )
    return remarks


def _state(entry: ServiceEntry) -> str:
    about = entry.metadata
    state = about.state.value
    if about.loading is not None:
        total = about.loading.bytes_total
        share = f" {about.loading.bytes_done / total:.0%}" if total else ""
        state = f"{about.loading.stage}{share}"
    return f"{state}, TWICE" if entry.duplicate else state


def _about(entry: ServiceEntry, stats: Mapping[Key, StatsReply] | None) -> tuple[str, ...]:
    return _status(entry) if stats is None else _figures(entry, stats)


def _status(entry: ServiceEntry) -> tuple[str, ...]:
    about = entry.metadata
    p50 = about.p50_seconds_per_image
    waiting = f" +{about.local_queue_depth}" if about.local_queue_depth else ""
    return (
        _state(entry),
        f"{about.slots_busy}/{about.slots_total}{waiting}",
        f"{p50:.2f}" if p50 is not None else "",
        f":{about.http_port}" if about.http_port else "",
        f"{about.device} {about.dtype}" if about.device else "",
        ", ".join(model.id for model in about.models),
    )


def _figures(entry: ServiceEntry, stats: Mapping[Key, StatsReply]) -> tuple[str, ...]:
    reply = stats.get((entry.name, entry.instance_id))
    if reply is None or not reply.endpoints:
        return ("", "", "", "", "not answered")
    done = reply.endpoints[0]
    return (
        str(done.num_requests),
        str(done.num_errors),
        f"{done.average_processing_time:.2f}",
        reply.started,
        done.last_error or "",
    )


def _visible(text: str) -> str:
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
