"""A component that does what the prompt says, and writes down each generation."""

import asyncio
import base64
import hashlib
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from contracts.result import JobResult, Status
from contracts.text2image import GeneratedImage, Text2ImageResult
from node.component import Invocation
from node.errors import GenerationFailed, InvalidRequest, JobStopped, ModelNotAvailable, OutOfMemory
from tests.fakes import ScriptedComponent
from tests.properties.scenarios import Behaviour

MODEL: Final = "scripted"
STEP_SECONDS: Final = 1.0
STEPS: Final = {Behaviour.SLOW: 30}
FAILURES: Final = {
    Behaviour.CRASHES_ONCE: 1,
    Behaviour.OUT_OF_MEMORY_TWICE: 2,
    Behaviour.CRASHES_FIVE_TIMES: 5,
    Behaviour.CRASHES_ALWAYS: 1_000,
    Behaviour.HANGS_ONCE: 1,
}


@dataclass(slots=True)
class Generation:
    """One run of one job in a component."""

    number: int
    job_id: str
    prompt: str
    node: str
    started_at: float
    failures_before: int
    stepped_at: list[float] = field(default_factory=list)
    failed: bool = False
    succeeded: bool = False


def behaviour_of(prompt: str) -> Behaviour:
    """Read from a prompt what the request does."""
    return Behaviour(prompt.split(maxsplit=1)[0])


class Generations:
    """Every generation of every node, in order."""

    def __init__(self) -> None:
        self.all: list[Generation] = []

    def begin(self, job_id: str, prompt: str, node: str) -> Generation:
        """Write down that a generation starts."""
        before = sum(g.failed for g in self.of(job_id) if g.prompt == prompt)
        now = asyncio.get_running_loop().time()
        generation = Generation(len(self.all), job_id, prompt, node, now, before)
        self.all.append(generation)
        return generation

    def of(self, job_id: str) -> list[Generation]:
        """List the generations of a job."""
        return [each for each in self.all if each.job_id == job_id]


class Process(Protocol):
    """What a component runs in."""

    name: str

    def kill(self) -> None:
        """End at once."""

    async def thawed(self) -> None:
        """Wait while the process is stopped."""


class ObedientComponent(ScriptedComponent):
    """Runs requests as their prompts say; each generation gives an image of its own."""

    def __init__(self, process: Process, generations: Generations) -> None:
        super().__init__()
        self._process = process
        self._generations = generations

    def admit(self, request: Any) -> None:
        if request.model not in (None, MODEL):
            raise ModelNotAvailable(f"this node does not offer {request.model!r}")
        if behaviour_of(request.prompt) is Behaviour.TOO_MUCH:
            raise InvalidRequest("scripted to be too much")

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        generation = self._generations.begin(invocation.job_id, request.prompt, self._process.name)
        behaviour = behaviour_of(request.prompt)
        steps = STEPS.get(behaviour, 3)
        for step in range(1, steps + 1):
            if status := invocation.stop_requested():
                raise JobStopped(status)
            generation.stepped_at.append(asyncio.get_running_loop().time())
            await asyncio.sleep(STEP_SECONDS)
            await self._process.thawed()
            invocation.inference_step(step, steps)
            if step == 2:
                await self._misbehave(behaviour, generation)
        generation.succeeded = True
        image = _image(generation)
        return Text2ImageResult(
            job_id=invocation.job_id, status=Status.SUCCEEDED, model="scripted", images=[image]
        )

    async def _misbehave(self, behaviour: Behaviour, generation: Generation) -> None:
        if behaviour is Behaviour.KILLS:
            self._process.kill()
            raise asyncio.CancelledError
        if behaviour is Behaviour.IMPOSSIBLE:
            raise GenerationFailed("scripted to be impossible")
        if generation.failures_before >= FAILURES.get(behaviour, 0):
            return
        generation.failed = True
        if behaviour is Behaviour.HANGS_ONCE:
            await asyncio.Event().wait()
        if behaviour is Behaviour.OUT_OF_MEMORY_TWICE:
            raise OutOfMemory("scripted to need more memory")
        raise RuntimeError("scripted to crash")


def _image(generation: Generation) -> GeneratedImage:
    # As with a random seed, no two generations give the same bytes.
    data = f"{generation.job_id} {generation.number} {generation.prompt}".encode()
    return GeneratedImage(
        index=0,
        b64_json=base64.b64encode(data).decode(),
        media_type="image/png",
        width=64,
        height=64,
        seed=generation.number,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def prompt_of(image: GeneratedImage) -> str:
    """Read from an image which prompt it was made for."""
    return base64.b64decode(image.b64_json or "").decode().split(" ", 2)[2]
