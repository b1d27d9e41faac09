"""A component in a process that may take so much more memory, and no more; used by test_memory.

    python tests/integration/scarce_memory.py CHECKPOINT EXTRA_MIB < requests.json

Loads and warms up, then limits the address space, makes each request of the list, lifts the limit
and makes each once more. Writes what became of them, the health and the changes of plan as JSON.
"""

import asyncio
import json
import resource
import sys
from pathlib import Path
from typing import Any

import structlog

from contracts.text2image import Text2ImageRequest, Text2ImageResult
from node.component import Invocation
from node.errors import JobError
from node.inference.component import Text2ImageComponent
from node.settings import Settings

MIB = 2**20


class Silent:
    """An invocation that nobody watches."""

    job_id = "job"

    def stop_requested(self) -> None:
        return None

    def inference_step(self, step: int, num_inference_steps: int) -> None:
        pass

    def preview(self, step: int, data: bytes, media_type: str) -> None:
        pass

    def image(self, image: Any) -> None:
        pass


def limit_address_space(extra_bytes: int) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    used = pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + extra_bytes, resource.RLIM_INFINITY))


async def end_of(component: Text2ImageComponent, request: dict[str, Any]) -> dict[str, Any]:
    invocation: Invocation = Silent()
    try:
        result = await component.invoke(Text2ImageRequest(**request), invocation)
    except JobError as error:
        return {"error": type(error).__name__, "detail": error.detail}
    assert isinstance(result, Text2ImageResult)
    return {
        "identity": result.identity,
        "warnings": result.warnings,
        "sha256": [image.sha256 for image in result.images],
    }


async def main(folder: str, extra_mib: str) -> None:
    requests = json.loads(sys.stdin.read())
    events: list[dict[str, Any]] = []
    settings = Settings(
        model=folder, device="cpu", dtype="float32", max_pixels=1024, offline=True, http_port=0
    )
    component = Text2ImageComponent(settings)
    await component.load(lambda state: None)
    structlog.configure(processors=[lambda _, __, event: events.append(event) or str(event)])
    limit_address_space(int(extra_mib) * MIB)
    scarce = [await end_of(component, request) for request in requests]
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    plenty = [await end_of(component, request) for request in requests]
    healthy = component.health().healthy
    changes = [event for event in events if str(event["event"]).startswith("memory.")]
    await component.close()
    report = {"scarce": scarce, "plenty": plenty, "healthy": healthy, "changes": changes}
    sys.stdout.write(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
