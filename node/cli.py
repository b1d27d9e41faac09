"""The command line: parse, run, exit code.

Exit codes: 0 done; 1 a person must change something, or the job failed; 2 wrong usage; 130 Ctrl-C.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TransferSpeedColumn,
)

from contracts.discovery import LoadState
from contracts.text2image import Text2ImageRequest, Text2ImageResult
from contracts.topology import definitions, service_topology
from node import __version__
from node.amqp.broker import AmqpBroker
from node.app import Node, SystemClock, make_broker
from node.client import Client
from node.component import ComponentLoader, ComponentRegistry
from node.discovery.directory import ServiceDirectory
from node.doctor import Check, Verdict, examine
from node.documents import render_asyncapi, write_documents
from node.errors import NodeError, SetupError
from node.ingress.decoding import explain
from node.log import configure_logging
from node.progress import watched, write_images
from node.services_table import services_table
from node.settings import Settings
from node.tasks import running

CONNECT_SECONDS = 10.0

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Images from text, by message: publish requests to RabbitMQ, nodes make the pictures.",
)
topology_app = typer.Typer(no_args_is_help=True, help="Exchanges and queues on the broker.")
models_app = typer.Typer(no_args_is_help=True, help="Models on this machine.")
app.add_typer(topology_app, name="topology")
app.add_typer(models_app, name="models")

# Rich takes a pipe for 80 columns wide, and would fold what programs want to read.
console = Console(width=None if sys.stdout.isatty() else 200)
errors = Console(stderr=True)


def main() -> None:
    """Run the command line; every expected failure is one line and exit code 1."""
    try:
        app()
    except ValidationError as error:
        _fail(f"settings: {explain(error)}")
    except (NodeError, TimeoutError) as error:
        _fail(str(error) or "timed out")


def _fail(why: str) -> NoReturn:
    errors.print(f"[red]error[/] {escape(why)}", highlight=False, soft_wrap=True)
    sys.exit(1)


def _run(work: Coroutine[Any, Any, Any]) -> Any:
    try:
        return asyncio.run(work)
    except KeyboardInterrupt:
        sys.exit(130)


def _settings(**given: Any) -> Settings:
    return Settings(**{name: value for name, value in given.items() if value is not None})


def _quiet(settings: Settings) -> None:
    """Keep logs out of the way of a command's own output."""
    configure_logging(settings.log_format, "ERROR")


@asynccontextmanager
async def _connected(settings: Settings) -> AsyncIterator[AmqpBroker]:
    """Open the broker for a command that a person waits for. Raises SetupError."""
    broker = make_broker(settings)
    async with broker.running():
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await broker.wait_until_connected()
        except TimeoutError:
            why = broker.problem()
            raise SetupError(f"{why}; start a broker, or set NODE_AMQP_URL") from None
        yield broker


@app.command()
def serve(
    model: Annotated[
        str | None, typer.Option(help="Default model: hub id, id@revision or folder [NODE_MODEL].")
    ] = None,
    component: Annotated[
        str | None, typer.Option(help="Component to serve [NODE_COMPONENT].")
    ] = None,
) -> None:
    """Run a node: consume requests until SIGTERM or Ctrl-C, then drain."""
    settings = _settings(model=model, component=component)
    configure_logging(settings.log_format, settings.log_level)

    async def work() -> None:
        loader = ComponentLoader(ComponentRegistry(), settings)
        node = Node(settings, loader.build(settings.component), make_broker(settings))
        await node.run(loader)

    _run(work())


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
    settings = _settings()
    _quiet(settings)

    async def work() -> Text2ImageResult:
        async with _connected(settings) as broker, Client(broker).running() as client:
            given_id = await client.submit(
                request,
                job_id=job_id,
                deadline_seconds=deadline,
                priority=priority,
                watch=True,
                timeout_seconds=CONNECT_SECONDS,
            )
            return await watched(client, given_id, timeout, errors)

    result: Text2ImageResult = _run(work())
    if as_json:
        print(result.model_dump_json(indent=2))
        return
    for warning in result.warnings:
        errors.print(f"[yellow]warning[/] {escape(warning)}", highlight=False, soft_wrap=True)
    for path in write_images(result, out):
        console.print(escape(str(path)), soft_wrap=True, highlight=False)


@app.command()
def cancel(job: Annotated[str, typer.Argument(help="Job id.")]) -> None:
    """Cancel a job wherever it is."""
    settings = _settings()
    _quiet(settings)

    async def work() -> None:
        async with _connected(settings) as broker, Client(broker).running() as client:
            await client.cancel(job)

    _run(work())
    console.print(f"asked every node to cancel {escape(job)}", highlight=False)


@app.command()
def services(
    watch: Annotated[bool, typer.Option("--watch", help="Keep the table up to date.")] = False,
    wait: Annotated[float, typer.Option(help="Seconds to listen before printing.")] = 1.0,
) -> None:
    """Show the services that are there."""
    settings = _settings()
    _quiet(settings)

    async def work() -> None:
        async with _connected(settings) as broker:
            directory = ServiceDirectory(broker, SystemClock())
            async with running(directory=directory.run()):
                await asyncio.sleep(wait)
                if not watch:
                    console.print(services_table(directory.services()))
                    return
                with Live(services_table(directory.services()), console=console) as live:
                    while True:
                        await asyncio.sleep(0.5)
                        live.update(services_table(directory.services()))

    _run(work())


@app.command()
def doctor() -> None:
    """Check this machine and the broker; every line says what to do about a problem."""
    settings = _settings()
    _quiet(settings)
    marks = {
        Verdict.OK: "[green]ok  [/]",
        Verdict.WARN: "[yellow]warn[/]",
        Verdict.FAIL: "[red]fail[/]",
    }
    checks: list[Check] = _run(examine(settings))
    for check in checks:
        line = f"{marks[check.verdict]} {escape(f'{check.name}: {check.finding}')}"
        console.print(line, highlight=False, soft_wrap=True)
        if check.remedy:
            console.print(escape(f"     -> {check.remedy}"), highlight=False, soft_wrap=True)
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
    else:
        write_documents(write)


@app.command()
def version() -> None:
    """Print the version."""
    print(__version__)


def _with_topology(action: str, models: list[str] | None, service: str) -> None:
    settings = _settings()
    _quiet(settings)
    topology = service_topology(service, models or settings.models)

    async def work() -> None:
        async with _connected(settings) as broker:
            await getattr(broker, action)(topology)

    _run(work())


Models = Annotated[
    list[str] | None, typer.Option("--model", help="Models with a queue of their own.")
]
Service = Annotated[str, typer.Option(help="Name of the service.")]


@topology_app.command("apply")
def topology_apply(model: Models = None, service: Service = "text2image") -> None:
    """Declare every exchange and queue that is missing."""
    _with_topology("apply", model, service)
    console.print("the topology is in place")


@topology_app.command("check")
def topology_check(model: Models = None, service: Service = "text2image") -> None:
    """Check, without declaring anything, that every exchange and queue is there."""
    _with_topology("check", model, service)
    console.print("the topology is in place")


@topology_app.command("export")
def topology_export(model: Models = None, service: Service = "text2image") -> None:
    """Print the topology as RabbitMQ definitions (rabbitmqctl import_definitions)."""
    print(json.dumps(definitions(service_topology(service, model or [])), indent=2))


@models_app.command("list")
def models_list() -> None:
    """List the models in the local cache."""
    from node.inference.hub import cached_models

    found = cached_models(_hub(_settings()))
    for model in found:
        size = f"{model.size_bytes / 1024**3:.1f} GiB"
        console.print(f"{model.id}  {size}  {', '.join(model.revisions)}", highlight=False)
    if not found:
        console.print("no model is cached; fetch one: text2image-node models fetch ID")


@models_app.command("fetch")
def models_fetch(
    model: Annotated[str, typer.Argument(help="Hub id, or id@revision.")],
) -> None:
    """Download a model into the local cache, with progress."""
    from node.inference.hub import fetch_model
    from node.inference.offers import parse_models

    (spec,) = parse_models(model, [])
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn())
    with Progress(*columns, TransferSpeedColumn(), console=errors) as progress:
        bar = progress.add_task(f"downloading {spec.name}", total=None)

        def show(state: LoadState) -> None:
            progress.update(bar, total=state.bytes_total, completed=state.bytes_done)

        path = fetch_model(spec, _hub(_settings()), show)
    console.print(escape(str(path)), highlight=False, soft_wrap=True)


def _hub(settings: Settings) -> Any:
    from node.inference.hub import Hub

    return Hub(settings.hf_token, settings.cache_dir, settings.offline)
