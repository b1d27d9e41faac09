"""`text2image-node services`: who is there, once or for as long as somebody watches."""

import asyncio
import json
import time
from typing import Any, Final

from rich.console import Console
from rich.live import Live

from contracts.discovery import Verb
from node.discovery.directory import ServiceDirectory
from node.ports import Clock
from node.services_table import View, services_json, services_table, told

REDRAW_SECONDS: Final = 0.5
STATS_SECONDS: Final = 5.0
"""How often figures are asked for anew."""


class ServicesView:
    """Shows the table of one listener on a console."""

    def __init__(
        self, directory: ServiceDirectory, clock: Clock, console: Console, *, stats: bool
    ) -> None:
        self._directory = directory
        self._clock = clock
        self._console = console
        self._stats = stats
        self._asked_at = float("-inf")

    async def once(self, wait: float, *, as_json: bool) -> None:
        """Listen for a while, then print."""
        if self._stats:
            # First it must be known who is there.
            await asyncio.sleep(wait / 2)
            self._directory.ask(Verb.STATS)
            await asyncio.sleep(wait / 2)
        else:
            await asyncio.sleep(wait)
        if as_json:
            self._print_json(services_json(self._look()), indent=2)
        else:
            self._console.print(services_table(self._look(), self._console.width))

    async def watch(self, wait: float, *, as_json: bool) -> None:
        """Show changes until cancelled: in place on a terminal, else whenever there are any."""
        await asyncio.sleep(wait)
        if self._console.is_terminal and not as_json:
            await self._redraw()
        else:
            await self._print_changes(as_json=as_json)

    async def _redraw(self) -> None:
        with Live(console=self._console, auto_refresh=False) as live:
            while True:
                live.update(services_table(self._look(), self._console.width), refresh=True)
                await asyncio.sleep(REDRAW_SECONDS)

    async def _print_changes(self, *, as_json: bool) -> None:
        shown = None
        while True:
            view = self._look()
            if (now := told(view)) != shown:
                shown = now
                if as_json:
                    self._print_json(services_json(view))
                else:
                    self._console.print(
                        time.strftime("%H:%M:%S"),
                        services_table(view, self._console.width),
                        sep="\n",
                    )
            await asyncio.sleep(REDRAW_SECONDS)

    def _look(self) -> View:
        directory, now = self._directory, self._clock.monotonic()
        if not self._stats:
            return View(directory.services(), now, directory.cut_off())
        if now - self._asked_at > STATS_SECONDS:
            self._asked_at = now
            directory.ask(Verb.STATS)
        return View(directory.services(), now, directory.cut_off(), directory.stats())

    def _print_json(self, document: dict[str, Any], indent: int | None = None) -> None:
        text = json.dumps(document, indent=indent, ensure_ascii=True)
        self._console.out(text, highlight=False)
