"""`text2image-node submit`: one job, from the prompt to the files."""

import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from contracts.text2image import TEXT2IMAGE, Text2ImageRequest, Text2ImageResult
from node.client import Client
from node.commands import common
from node.discovery.directory import ServiceDirectory
from node.errors import SetupError
from node.ingress.decoding import explain
from node.parts import SystemClock
from node.progress import watched, write_images
from node.tasks import running


def submit(
    prompt: Annotated[str, typer.Argument(help="What the image shows.")],
    negative_prompt: Annotated[str | None, typer.Option(help="What it avoids.")] = None,
    model: Annotated[str | None, typer.Option(help="Model; unset: the node's default.")] = None,
    width: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    height: Annotated[int | None, typer.Option(help="Pixels.")] = None,
    steps: Annotated[int | None, typer.Option(help="Inference steps.")] = None,
    guidance: Annotated[float | None, typer.Option(help="Guidance scale.")] = None,
    count: Annotated[int, typer.Option("--count", "-n", help="How many images.")] = 1,
    seed: Annotated[int | None, typer.Option(help="Seed; unset: random.")] = None,
    scheduler: Annotated[str | None, typer.Option(help="Noise scheduler.")] = None,
    output_format: Annotated[str, typer.Option("--format", help="png, jpeg or webp.")] = "png",
    out: Annotated[Path | None, typer.Option(help="File (or folder) to write.")] = None,
    priority: Annotated[int, typer.Option(help="5 and more: urgent.")] = 0,
    deadline: Annotated[float | None, typer.Option(help="Seconds until it is too late.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the result.")] = 600.0,
    job_id: Annotated[str | None, typer.Option(help="Job id; unset: random.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result, no files.")] = False,
) -> None:
    """Submit a request, show its progress, and write the images."""
    request = _request(
        prompt=prompt,
        negative_prompt=negative_prompt,
        model=model,
        width=width,
        height=height,
        num_inference_steps=steps,
        guidance_scale=guidance,
        num_images_per_prompt=count,
        seed=seed,
        scheduler=scheduler,
        output_format=output_format,
    )
    options = {"job_id": job_id, "deadline_seconds": deadline, "priority": priority}
    with common.writing():
        # Before anything is sent: images that nobody can write down would be lost.
        (out or Path()).parent.mkdir(parents=True, exist_ok=True)
    result: Text2ImageResult = common.run(_done(request, timeout, options))
    if as_json:
        sys.stdout.write(result.model_dump_json(indent=2) + "\n")
        return
    for warning in result.warnings:
        common.warn(warning)
    with common.writing():
        for path in write_images(result.job_id, result.images, out):
            common.say(path)


def _request(**fields: Any) -> Text2ImageRequest:
    try:
        return Text2ImageRequest.model_validate(fields)
    except ValidationError as error:
        raise SetupError(explain(error)) from error


async def _done(
    request: Text2ImageRequest, timeout_seconds: float, options: dict[str, Any]
) -> Text2ImageResult:
    """Submit the request and watch it to its end."""
    settings = common.quiet_settings()
    async with common.connected(settings) as broker, Client(broker).running() as client:
        job_id = await client.submit(
            request, watch=True, timeout_seconds=common.CONNECT_SECONDS, **options
        )
        directory = ServiceDirectory(broker, SystemClock(), verify=settings.verify_announcers)

        def obstacles() -> tuple[str, ...]:
            return directory.can_serve(TEXT2IMAGE, request).reasons

        try:
            async with running(directory=directory.run()):
                return await watched(client, job_id, timeout_seconds, common.errors, obstacles)
        except TimeoutError:
            raise SetupError(
                f"no result within {timeout_seconds:g} s, and job {job_id} goes on: submit the "
                f"same again with --job-id {job_id} to get it, or stop it with cancel"
            ) from None
