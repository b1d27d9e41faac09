"""The orchestrator of the chains of the fault suite, with points at which it can be made to die.

Nodes serve it with NODE_COMPONENT=tests.faults.harness.chain_orchestrator:Orchestrator.

    NODE_CHAIN_GATE      chains begin once this file is there
    NODE_CHAIN_KILL_AT   the number of the point at which the process dies; 0: it only counts
    NODE_CHAIN_POINTS    the file that the points are written to
"""

import asyncio
import os
from pathlib import Path
from typing import Any, Final

from contracts.result import JobResult
from node.component import Invocation, ReportLoad
from node.settings import Settings
from orchestrator_example.megaservice import MegaService
from tests.faults.harness.chain_points import FaultPoints
from tests.faults.harness.chain_services import chain_graph

CHAIN: Final = "chain"
PAUSE_SECONDS: Final = 0.01


class Orchestrator(MegaService):
    """Runs chains of the scripted services."""

    name = CHAIN
    graph = chain_graph()

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        gate, points = os.environ.get("NODE_CHAIN_GATE"), os.environ.get("NODE_CHAIN_POINTS")
        self._gate = Path(gate) if gate else None
        kill_at = int(os.environ.get("NODE_CHAIN_KILL_AT", "0"))
        self._points = FaultPoints(Path(points), kill_at) if points else None

    async def load(self, report: ReportLoad) -> None:
        await super().load(report)
        if self._points is not None:
            self._points.install()

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        while self._gate is not None and not self._gate.exists():  # noqa: ASYNC110
            await asyncio.sleep(PAUSE_SECONDS)
        chain = super().invoke(request, invocation)
        return await (chain if self._points is None else self._points.stepped(chain))
