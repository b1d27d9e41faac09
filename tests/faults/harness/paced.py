"""A component without torch whose jobs take as long, and go as wrong, as their prompts say.

Nodes serve it with NODE_COMPONENT=tests.faults.harness.paced:PacedComponent. Each generation is
written down in the file NODE_PACED_LOG, which all nodes of a fleet share: work that was done twice
shows there, whatever became of its results.
"""

import base64
import hashlib
import json
import os
import struct
import time
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Literal, Self

from contracts.discovery import ModelInfo, ModelLimits
from contracts.result import JobResult, Status
from contracts.text2image import (
    TEXT2IMAGE,
    EffectiveParameters,
    GeneratedImage,
    Text2ImageRequest,
    Text2ImageResult,
)
from node.component import Component, DeviceInfo, Invocation, ReportLoad
from node.errors import (
    GenerationFailed,
    InternalError,
    InvalidRequest,
    JobError,
    JobStopped,
    ModelNotAvailable,
    OutOfMemory,
)
from node.inference.thread import InferenceThread
from node.settings import Settings

MODEL: Final = "paced"
SIDE_PIXELS: Final = 64
LIMITS: Final = ModelLimits(min_pixels=64, max_pixels=64, max_images=8, max_inference_steps=1000)

Failure = Literal["", "internal", "generation", "out_of_memory", "bug", "abort"]


@dataclass(frozen=True, slots=True)
class Pace:
    """What a job does; it travels in the prompt, behind a bar."""

    step_seconds: float = 0.02
    """Length of one inference step."""
    failure: Failure = ""
    """What goes wrong: `bug` is an exception that nobody foresaw, `abort` ends the process."""
    at_step: int = 1
    """The step before which it goes wrong, and the loop is held or the thread hangs."""
    at_image: int = 0
    """The image that goes wrong; images before it are finished."""
    times: int = 1000
    """In how many of the job's first generations, counted over all nodes, this happens."""
    hold_loop_seconds: float = 0.0
    """How long the event loop of the node stands still."""
    hang_seconds: float = 0.0
    """How long the inference thread hears no stop request."""
    padding_bytes: int = 0
    """Bytes that cannot be compressed, added to each image."""

    def prompt(self, text: str) -> str:
        """Write a prompt that says so."""
        return f"{text} | {json.dumps({k: v for k, v in asdict(self).items() if v != _PLAIN[k]})}"

    @classmethod
    def of(cls, prompt: str) -> Self:
        """Read a prompt."""
        _, _, directives = prompt.partition(" | ")
        return cls(**json.loads(directives)) if directives else cls()


_PLAIN: Final = asdict(Pace())


def paced(text: str = "a cat", *, steps: int = 4, **given: Any) -> Text2ImageRequest:
    """Make a request; fields of `Pace` say how it goes, all others are the request's own."""
    pace = Pace(**{name: given.pop(name) for name in list(given) if name in _PLAIN})
    given = {"seed": 1, **given}
    return Text2ImageRequest(prompt=pace.prompt(text), num_inference_steps=steps, **given)


def expected_image(request: Text2ImageRequest, index: int) -> bytes:
    """Return the file that any node makes of this request."""
    key = f"{request.prompt} {request.seed} {index}".encode()
    return _png(hashlib.sha256(key).digest(), Pace.of(request.prompt).padding_bytes)


@dataclass(frozen=True, slots=True)
class Generation:
    """One run of a job, as the log of generations has it."""

    job_id: str
    instance: str
    what: Literal["started", "finished", "stopped"]
    time: float


class GenerationLog:
    """A file of one line for each begin and end; a line is one write, so writers do not mix."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def note(self, generation: Generation) -> None:
        """Add a line."""
        line = json.dumps(asdict(generation)).encode() + b"\n"
        file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(file, line)
        finally:
            os.close(file)

    def read(self) -> list[Generation]:
        """Return all lines so far."""
        if not self._path.exists():
            return []
        lines = self._path.read_text().splitlines(keepends=True)
        return [Generation(**json.loads(line)) for line in lines if line.endswith("\n")]

    def count(self, job_id: str, what: str = "started") -> int:
        """Count the runs of a job that began (or finished)."""
        return sum(1 for each in self.read() if (each.job_id, each.what) == (job_id, what))


class PacedComponent(Component):
    """Takes steps in the node's real inference thread, and asks between them whether to stop."""

    name = TEXT2IMAGE
    service_type = "TEXT2IMAGE"
    description = "Makes images of one colour, for fault tests"
    request_model = Text2ImageRequest
    result_model = Text2ImageResult

    def __init__(self, settings: Settings) -> None:
        self._instance = settings.instance_id or f"pid-{os.getpid()}"
        self._generations = GenerationLog(Path(os.environ["NODE_PACED_LOG"]))
        self._thread = InferenceThread("paced")

    async def load(self, report: ReportLoad) -> None:
        return None

    def models(self) -> list[ModelInfo]:
        return [ModelInfo(id=MODEL, warm=True, default=True, limits=LIMITS)]

    def device(self) -> DeviceInfo | None:
        return DeviceInfo("cpu", "float32", "no model is run")

    def admit(self, request: Any) -> None:
        if request.model not in (None, MODEL):
            raise ModelNotAvailable(f"this node does not offer {request.model!r}")
        if request.num_images_per_prompt > LIMITS.max_images:
            raise InvalidRequest(f"num_images_per_prompt: at most {LIMITS.max_images}")

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        self._note(invocation.job_id, "started")
        pace = Pace.of(request.prompt)
        troubled = self._generations.count(invocation.job_id) <= pace.times
        if troubled and pace.hold_loop_seconds:
            time.sleep(pace.hold_loop_seconds)  # noqa: ASYNC251 - holding the loop is the fault
        images = await self._thread.run(_images, request, invocation, pace, troubled)
        self._note(invocation.job_id, "finished")
        return Text2ImageResult(
            job_id=invocation.job_id,
            status=Status.SUCCEEDED,
            model=MODEL,
            images=images,
            parameters=EffectiveParameters(prompt=request.prompt, response=request.response),
        )

    async def close(self) -> None:
        self._thread.close()

    def _note(self, job_id: str, what: Literal["started", "finished"]) -> None:
        self._generations.note(Generation(job_id, self._instance, what, time.time()))


def _images(
    request: Text2ImageRequest, invocation: Invocation, pace: Pace, troubled: bool
) -> list[GeneratedImage]:
    return [
        _image(request, index, invocation, pace, troubled and index == pace.at_image)
        for index in range(request.num_images_per_prompt)
    ]


def _image(
    request: Text2ImageRequest, index: int, invocation: Invocation, pace: Pace, troubled: bool
) -> GeneratedImage:
    steps = request.num_inference_steps or 4
    for step in range(1, steps + 1):
        if status := invocation.stop_requested():
            raise JobStopped(status)
        if troubled and step == pace.at_step:
            time.sleep(pace.hang_seconds)
            _go_wrong(pace.failure, index)
        time.sleep(pace.step_seconds)
        invocation.inference_step(step, steps)
    image = generated(expected_image(request, index), index)
    invocation.image(image)
    return image


def _go_wrong(failure: Failure, index: int) -> None:
    if failure == "abort":
        os.abort()
    if failure == "bug":
        raise ZeroDivisionError("a bug that the prompt asked for")
    errors: dict[str, type[JobError]] = {
        "internal": InternalError,
        "generation": GenerationFailed,
        "out_of_memory": OutOfMemory,
    }
    if failure:
        raise errors[failure](f"image {index}: the prompt asked for it")


def generated(data: bytes, index: int) -> GeneratedImage:
    """Describe a file as a result does."""
    return GeneratedImage(
        index=index,
        b64_json=base64.b64encode(data).decode(),
        media_type="image/png",
        width=SIDE_PIXELS,
        height=SIDE_PIXELS,
        seed=index,
        sha256=hashlib.sha256(data).hexdigest(),
    )


def _png(digest: bytes, padding_bytes: int) -> bytes:
    """Write a picture of one colour; padding goes into a text chunk, which viewers skip."""
    row = b"\0" + digest[:3] * SIDE_PIXELS
    header = struct.pack(">IIBBBBB", SIDE_PIXELS, SIDE_PIXELS, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(row * SIDE_PIXELS))]
    if padding_bytes:
        chunks.append((b"tEXt", b"padding\0" + hashlib.shake_128(digest).digest(padding_bytes)))
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunks([*chunks, (b"IEND", b"")]))


def _chunks(chunks: Iterable[tuple[bytes, bytes]]) -> Iterable[bytes]:
    for name, data in chunks:
        yield (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )
