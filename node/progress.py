"""What a person sees of a job: a live progress bar, then files."""

import asyncio
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from contracts.events import JobEvent, ProgressEvent
from contracts.text2image import GeneratedImage, Text2ImageResult
from node.client import Client
from node.errors import StoreError
from node.stores.artifacts import image_bytes


async def watched(
    client: Client, job_id: str, timeout_seconds: float, console: Console
) -> Text2ImageResult:
    """Show a live progress bar until the job ends. Ctrl-C cancels the job."""
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    try:
        with Progress(*columns, TimeRemainingColumn(), console=console, transient=True) as progress:
            bar = progress.add_task("queued", total=None)
            async with asyncio.timeout(timeout_seconds):
                async for event in client.events(job_id):
                    progress.update(bar, **_progress_of(event))
    except asyncio.CancelledError:
        await client.cancel(job_id)
        raise
    result: Text2ImageResult = await client.result(job_id)
    return result


def _progress_of(event: JobEvent) -> dict[str, Any]:
    if isinstance(event, ProgressEvent):
        return {
            "description": f"step {event.step}/{event.num_inference_steps}",
            "total": event.num_inference_steps,
            "completed": event.step,
        }
    return {"description": str(event.event)}


def write_images(result: Text2ImageResult, out: Path | None) -> list[str]:
    """Write the images to a file or folder; not to be called from an event loop.

    Returns the path of each, or its URI and why where the store does not give it.
    """
    return [_written(result, image, out) for image in result.images]


def _written(result: Text2ImageResult, image: GeneratedImage, out: Path | None) -> str:
    try:
        data = asyncio.run(image_bytes(image))
    except StoreError as error:
        return f"{image.uri or f'image {image.index}'} (not written: {error})"
    path = _image_path(result, image.index, image.media_type, out)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return str(path)


def _image_path(result: Text2ImageResult, index: int, media_type: str, out: Path | None) -> Path:
    suffix = "." + media_type.removeprefix("image/").replace("jpeg", "jpg")
    number = f"-{index}" if len(result.images) > 1 else ""
    name = f"{result.job_id}".replace("/", "_")
    if out is None or out.is_dir():
        return (out or Path()) / f"{name}{number}{suffix}"
    return out.with_name(f"{out.stem}{number}{out.suffix or suffix}")
