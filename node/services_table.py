"""The table of live services, for people."""

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from node.discovery.directory import ServiceEntry


def services_table(entries: Sequence[ServiceEntry]) -> Table:
    """Draw live services; an empty table says so."""
    table = Table(title=None if entries else "no service is announced on this broker")
    for column in ("service", "instance", "state"):
        table.add_column(column, no_wrap=True)
    for column in ("model", "device", "busy", "waiting", "p50 s/image", "health"):
        table.add_column(column)
    for entry in entries:
        # What others announce is text, never markup.
        table.add_row(*map(escape, _cells(entry)))
    return table


def _cells(entry: ServiceEntry) -> list[str]:
    about = entry.metadata
    state = about.state.value
    if about.loading is not None:
        total = about.loading.bytes_total
        share = f" {about.loading.bytes_done / total:.0%}" if total else ""
        state = f"{about.loading.stage}{share}"
    p50 = about.p50_seconds_per_image
    return [
        entry.name,
        entry.instance_id,
        state,
        ", ".join(model.id for model in about.models),
        f"{about.device} {about.dtype}" if about.device else "",
        f"{about.slots_busy}/{about.slots_total}",
        str(about.local_queue_depth),
        f"{p50:.2f}" if p50 is not None else "",
        f":{about.http_port}" if about.http_port else "",
    ]
