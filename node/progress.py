"""What a person sees of a job: a live progress bar, then files."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from contracts.events import JobEvent, ProgressEvent
from contracts.text2image import GeneratedImage, Text2ImageResult
from node.client import Client
from node.errors import StoreError
from node.stores.artifacts import EXTENSIONS, image_bytes

SILENCE_SECONDS: Final = 3.0
"""How long a job may lie in its queue before a person wonders why."""


async def watched(
    client: Client,
    job_id: str,
    timeout_seconds: float,
    console: Console,
    obstacles: Callable[[], Sequence[str]],
) -> Text2ImageResult:
    """Show a live progress bar until the job ends. Ctrl-C cancels the job.

    When nothing happens for a while, `obstacles` are said once: why no node could take the job.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    silence = asyncio.create_task(_explained(console, obstacles))
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
            bar = progress.add_task("queued", total=None)
            async with asyncio.timeout(timeout_seconds):
                async for event in client.events(job_id):
                    silence.cancel()
                    progress.update(bar, **_progress_of(event))
    except asyncio.CancelledError:
        await client.cancel(job_id)
        raise
    finally:
        silence.cancel()
    result: Text2ImageResult = await client.result(job_id)
    return result


async def _explained(console: Console, obstacles: Callable[[], Sequence[str]]) -> None:
    """Say why nothing happens, if that is known."""
    await asyncio.sleep(SILENCE_SECONDS)
    for reason in obstacles():
        console.print(f"[yellow]queued[/] {escape(reason)}", highlight=False, soft_wrap=True)


def _progress_of(event: JobEvent) -> dict[str, Any]:
    if isinstance(event, ProgressEvent):
        return {
            "description": f"step {event.step}/{event.num_inference_steps}",
            "total": event.num_inference_steps,
            "completed": event.step,
        }
    return {"description": str(event.event)}


def write_images(job_id: str, images: Sequence[GeneratedImage], out: Path | None) -> list[str]:
    """Write the images to a file or folder; not to be called from an event loop.

    Returns the path of each, or its URI and why where the store does not give it.
    """
    paths = _image_paths(job_id, images, out)
    return [_written(image, path) for image, path in zip(images, paths, strict=True)]


def _written(image: GeneratedImage, path: Path) -> str:
    try:
        data = asyncio.run(image_bytes(image))
    except StoreError as error:
        return f"{image.uri or f'image {image.index}'} (not written: {error})"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def _image_paths(job_id: str, images: Sequence[GeneratedImage], out: Path | None) -> Iterator[Path]:
    """Name a file for each image: numbered where there are several."""
    for position, image in enumerate(images):
        suffix = "." + EXTENSIONS.get(image.media_type, "bin")
        number = f"-{position}" if len(images) > 1 else ""
        if out is None or out.is_dir():
            yield (out or Path()) / f"{job_id.replace('/', '_')}{number}{suffix}"
        else:
            yield out.with_name(f"{out.stem}{number}{out.suffix or suffix}")
