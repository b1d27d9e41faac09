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
from contracts.text2image import TEXT2IMAGE
from node import __version__
from node.app import SystemClock
from node.client import Client
from node.commands.common import (
    HELP_OPTIONS,
    connected,
    console,
    fail,
    quiet_settings,
    read_settings,
    run,
    say,
    writing,
)
from node.commands.dead import dead_app
from node.commands.models import models_app
from node.commands.serve import make_nodes, run_nodes
from node.commands.services import ServicesView
from node.commands.submit import submit
from node.commands.topology import topology_app
from node.component import ComponentLoader, ComponentRegistry
from node.discovery.directory import ServiceDirectory
from node.doctor import Check, Verdict, examine
from node.documents import render_asyncapi, write_documents
from node.errors import NodeError, NodeUnfit
from node.ingress.decoding import explain
from node.log import configure_logging
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


app.command()(submit)


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
    component: Annotated[
        str, typer.Option(help="Component whose document it is; others than text2image, too.")
    ] = TEXT2IMAGE,
    write: Annotated[
        Path | None, typer.Option(help="Folder to write asyncapi.yaml and schemas/ into.")
    ] = None,
) -> None:
    """Print the AsyncAPI document of a service."""
    built = ComponentLoader(ComponentRegistry(), read_settings()).build(component)
    if write is None:
        sys.stdout.write(render_asyncapi(built.contract()))
        return
    with writing():
        write_documents(write, built.contract())


@app.command()
def version() -> None:
    """Print the version."""
    _print_version(wanted=True)
