"""The command line: parse, run, exit code.

Exit codes: 0 done; 1 a person must change something, or the job failed; 2 wrong usage; 130 Ctrl-C.
"""

import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.markup import escape

from contracts.control import CancelRequest
from contracts.text2image import TEXT2IMAGE, Text2ImageRequest, Text2ImageResult
from node import __version__
from node.app import SystemClock
from node.client import Client
from node.commands import common
from node.commands.common import (
    HELP_OPTIONS,
    connected,
    console,
    errors,
    fail,
    quiet_settings,
    read_settings,
    run,
    say,
    warn,
    writing,
)
from node.commands.dead import dead_app
from node.commands.models import models_app
from node.commands.serve import make_nodes, run_nodes
from node.commands.services import ServicesView
from node.commands.topology import topology_app
from node.component import ComponentLoader, ComponentRegistry
from node.discovery.directory import ServiceDirectory
from node.doctor import Check, Verdict, examine
from node.documents import render_asyncapi, write_documents
from node.errors import NodeError, NodeUnfit, SetupError
from node.ingress.decoding import explain
from node.log import configure_logging
from node.progress import watched, write_images
from node.restart import restart_delay, start_anew
from node.tasks import running

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings=HELP_OPTIONS,
    help="Images from text, by message: publish requests to RabbitMQ, nodes make the pictures.",
    epilog="The broker is NODE_AMQP_URL; unset: amqp://guest:guest@localhost:5672/. Exit codes: "
    "0 done, 1 something must change or the job failed, 2 wrong usage, 130 Ctrl-C.",
)
app.add_typer(topology_app, name="topology")
app.add_typer(models_app, name="models")
app.add_typer(dead_app, name="dead")


def main() -> None:
    """Run the command line; every expected failure is one line and exit code 1."""
    try:
        app()
    except ValidationError as error:
        fail(explain(error))
    except (NodeError, TimeoutError) as error:
        fail(str(error) or "timed out")


def _print_version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"{__version__}\n")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Take the options that stand before a command."""


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Option(help="Default model: hub id, id@revision or folder [NODE_MODEL].")
    ] = None,
    component: Annotated[
        list[str] | None,
        typer.Option(help="Component to serve; several: repeat it [NODE_COMPONENT, with commas]."),
    ] = None,
) -> None:
    """Run a node: consume requests until SIGTERM or Ctrl-C, then drain."""
    settings = read_settings(model=model, component=",".join(component) if component else None)
    configure_logging(settings.log_format, settings.log_level)

    async def work() -> None:
        loader = ComponentLoader(ComponentRegistry(), settings)
        await run_nodes(make_nodes(settings, loader, restart_delay()), loader)

    try:
        run(work())
    except NodeUnfit:
        start_anew()


@app.command()
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
    try:
        request = Text2ImageRequest.model_validate(
            {
                "prompt": prompt,
                "negative_prompt": negative_prompt,
                "model": model,
                "width": width,
                "height": height,
                "num_inference_steps": steps,
                "guidance_scale": guidance,
                "num_images_per_prompt": count,
                "seed": seed,
                "scheduler": scheduler,
                "output_format": output_format,
            }
        )
    except ValidationError as error:
        raise SetupError(explain(error)) from error
    settings = quiet_settings()

    async def work() -> Text2ImageResult:
        async with connected(settings) as broker, Client(broker).running() as client:
            directory = ServiceDirectory(broker, SystemClock(), verify=settings.verify_announcers)
            given_id = await client.submit(
                request,
                job_id=job_id,
                deadline_seconds=deadline,
                priority=priority,
                watch=True,
                timeout_seconds=common.CONNECT_SECONDS,
            )

            def obstacles() -> tuple[str, ...]:
                return directory.can_serve(TEXT2IMAGE, request).reasons

            try:
                async with running(directory=directory.run()):
                    return await watched(client, given_id, timeout, errors, obstacles)
            except TimeoutError:
                raise SetupError(
                    f"no result within {timeout:g} s, and job {given_id} goes on: submit the same "
                    f"again with --job-id {given_id} to get it, or stop it with cancel"
                ) from None

    with writing():
        # Before anything is sent: images that nobody can write down would be lost.
        (out or Path()).parent.mkdir(parents=True, exist_ok=True)
    result: Text2ImageResult = run(work())
    if as_json:
        sys.stdout.write(result.model_dump_json(indent=2) + "\n")
        return
    for warning in result.warnings:
        warn(warning)
    with writing():
        for path in write_images(result.job_id, result.images, out):
            say(str(path))


@app.command()
def cancel(job: Annotated[str, typer.Argument(help="Job id.")]) -> None:
    """Cancel a job wherever it is."""
    CancelRequest(job_id=job)
    settings = quiet_settings()

    async def work() -> None:
        async with connected(settings) as broker, Client(broker).running() as client:
            await client.cancel(job)

    run(work())
    say(f"asked every node to cancel {job}")


@app.command()
def services(
    watch: Annotated[bool, typer.Option("--watch", help="Keep the table up to date.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to listen before printing.")] = 1.0,
    stats: Annotated[bool, typer.Option("--stats", help="Show what each one has done.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="For programs; with --watch, a line for each change.")
    ] = False,
) -> None:
    """Show the services that are there."""
    settings = quiet_settings()

    async def work() -> None:
        async with connected(settings) as broker:
            clock = SystemClock()
            directory = ServiceDirectory(broker, clock, verify=settings.verify_announcers)
            view = ServicesView(directory, clock, console, stats=stats)
            async with running(directory=directory.run()):
                await (view.watch if watch else view.once)(wait, as_json=as_json)

    run(work())


@app.command()
def doctor() -> None:
    """Check this machine and the broker; every line says what to do about a problem."""
    settings = quiet_settings()
    marks = {
        Verdict.OK: "[green]ok  [/]",
        Verdict.WARN: "[yellow]warn[/]",
        Verdict.FAIL: "[red]fail[/]",
    }
    checks: list[Check] = run(examine(settings))
    for check in checks:
        line = f"{marks[check.verdict]} {escape(f'{check.name}: {check.finding}')}"
        console.print(line, highlight=False, soft_wrap=True)
        if check.remedy:
            say(f"     -> {check.remedy}")
    if any(check.verdict is Verdict.FAIL for check in checks):
        sys.exit(1)


@app.command()
def asyncapi(
    write: Annotated[
        Path | None, typer.Option(help="Folder to write asyncapi.yaml and schemas/ into.")
    ] = None,
) -> None:
    """Print the AsyncAPI document of the wire."""
    if write is None:
        sys.stdout.write(render_asyncapi())
        return
    with writing():
        write_documents(write)


@app.command()
def version() -> None:
    """Print the version."""
    _print_version(wanted=True)
