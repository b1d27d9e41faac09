"""Three services without models, and a graph of them in which everything happens once.

    plan >> (left, right) >> make >> judge     `left` fails once when its request says so;
                                               `judge` wants an even seed, else both run again

What they answer depends on their requests alone, so that every chain has one right end. Requests
may say how long a job takes (`seconds`) and how many jobs of the stage fail (`failures`). Each
begin and end is written down in the file NODE_PACED_LOG, which all nodes of a fleet share.
"""

import asyncio
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.message import AnyMessage
from contracts.result import AnyResult, JobResult, Status
from node.component import Component, Invocation, ReportLoad
from node.errors import GenerationFailed, JobStopped
from node.settings import Settings
from orchestrator_example.graph import ServiceGraph, Stage
from orchestrator_example.kinds import Kinds
from orchestrator_example.policy import Policy
from tests.faults.harness.paced import Generation, GenerationLog

STEP_SECONDS: Final = 0.02
FIRST_SEED: Final = 1
STAGES: Final = ("plan", "left", "right", "make", "judge")


class ChainService(Component):
    """Takes its time, asks meanwhile whether to stop, and answers."""

    service_type = "SCRIPTED"
    description = "A stage of a chain, for fault tests"
    request_model = AnyMessage
    result_model = AnyResult
    slots = 16

    def __init__(self, settings: Settings) -> None:
        self._instance = settings.instance_id or f"pid-{os.getpid()}"
        self._log = GenerationLog(Path(os.environ["NODE_PACED_LOG"]))

    async def load(self, report: ReportLoad) -> None:
        return None

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        fields: Mapping[str, Any] = request.model_extra or {}
        self._note(invocation, "started")
        await self._work(float(fields.get("seconds", 0.0)), invocation)
        self._note(invocation, "finished")
        if job_number(invocation.job_id) <= fields.get("failures", 0):
            raise GenerationFailed("the request asked for it")
        return AnyResult(job_id=invocation.job_id, status=Status.SUCCEEDED, **self.answer(fields))

    def answer(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        """Say what such a request is answered with."""
        raise NotImplementedError

    async def _work(self, seconds: float, invocation: Invocation) -> None:
        steps = max(1, int(seconds / STEP_SECONDS))
        for step in range(steps + 1):
            if (status := invocation.stop_requested()) is not None:
                self._note(invocation, "stopped")
                raise JobStopped(status)
            invocation.inference_step(step, steps)
            await asyncio.sleep(STEP_SECONDS if step < steps else 0.0)

    def _note(
        self, invocation: Invocation, what: Literal["started", "finished", "stopped"]
    ) -> None:
        self._log.note(Generation(invocation.job_id, self._instance, what, time.time()))


class Writer(ChainService):
    """Marks a text."""

    name = "chain-writer"

    def answer(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"text": f"{fields['mark']}({fields['text']})"}


class Maker(ChainService):
    """Makes something of two texts and a seed."""

    name = "chain-maker"

    def answer(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        text = f"{fields['one']} & {fields['two']} #{fields['seed']}"
        return {"text": text, "seed": fields["seed"]}


class Judge(ChainService):
    """Finds good what was made of an even seed."""

    name = "chain-judge"

    def answer(self, fields: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"good": fields["seed"] % 2 == 0, "text": f"seen: {fields['text']}"}


SERVICES: Final[tuple[type[ChainService], ...]] = (Writer, Maker, Judge)


def chain_graph() -> ServiceGraph:
    """Draw a graph with parallel branches, a fan-in, a retry and a repeat."""
    text = Kinds({"text": "text"}, {"text": "text"})
    graph = ServiceGraph()
    for name in ("plan", "left", "right"):
        policy = Policy(retries=1)
        stage = Stage(name, Writer.name, {"mark": name}, kinds=text, policy=policy)
        graph = graph.add(stage)
    graph = graph.add(Stage("make", Maker.name, {"seed": FIRST_SEED}))
    graph = graph.add(Stage("judge", Judge.name)).follow(["plan >> (left, right)"])
    graph = graph.flow_to("left", "make", {"one": "text"}).flow_to("right", "make", {"two": "text"})
    graph = graph.flow_to("make", "judge", {"text": "text", "seed": "seed"})
    return graph.repeat("make", "judge", {"good": True}, vary={"seed": 1})


def chained(
    prompt: str = "a cat", *, failures: int = 0, seed: int = FIRST_SEED, **seconds: float
) -> MegaServiceRequest:
    """Make a request; `failures` are those of `left`, `seconds` are by the name of the stage."""
    parameters: dict[str, dict[str, Any]] = {
        name: {"seconds": seconds[name]} for name in STAGES if name in seconds
    }
    if failures:
        parameters.setdefault("left", {})["failures"] = failures
    if seed != FIRST_SEED:
        parameters.setdefault("make", {})["seed"] = seed
    return MegaServiceRequest(prompt=prompt, parameters=parameters)


def is_right(request: MegaServiceRequest, result: MegaServiceResult) -> bool:
    """Say whether a chain ended with what its request asks for."""
    seed = request.parameters.get("make", {}).get("seed", FIRST_SEED)
    plan = f"plan({request.prompt})"
    text = f"seen: left({plan}) & right({plan}) #{seed + seed % 2}"
    return result.stages["judge"].output == {"good": True, "text": text}


def jobs_of(request: MegaServiceRequest) -> dict[str, int]:
    """Count the jobs of each stage that a chain needs."""
    failures = request.parameters.get("left", {}).get("failures", 0)
    rounds = 1 + request.parameters.get("make", {}).get("seed", FIRST_SEED) % 2
    return {"plan": 1, "left": 1 + failures, "right": 1, "make": rounds, "judge": rounds}


def job_number(stage_job_id: str) -> int:
    """Read which job of its stage this is."""
    return int(stage_job_id.split(":")[-2])


def stage_of(stage_job_id: str) -> str:
    """Read the stage that a job is of."""
    return stage_job_id.split(":")[-3]


def chain_of(stage_job_id: str) -> str:
    """Read the chain that a job is of."""
    return stage_job_id.rsplit(":", 3)[0]
