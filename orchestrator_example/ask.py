"""Ask a mega-service from the command line, and see what its stages do."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from contracts.events import StageEvent
from contracts.megaservice import MegaServiceResult
from contracts.message import AnyMessage
from node.client import Client
from node.commands import common
from node.errors import JobNotSucceeded, SetupError
from node.ingress.decoding import explain
from node.progress import write_images
from orchestrator_example.telling import event_text, is_end, report_lines

SUBMIT_SECONDS = 10.0


def ask(
    prompt: Annotated[str, typer.Argument(help="What the chain begins with.")],
    service: Annotated[str, typer.Option(help="The mega-service.")] = "checked-painter",
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="STAGE.FIELD=VALUE, as in text2image.seed=42."),
    ] = None,
    field: Annotated[
        list[str] | None, typer.Option("--field", "-f", help="FIELD=VALUE of the request itself.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File (or folder) to write.")] = None,
    deadline: Annotated[float | None, typer.Option(help="Seconds until it is too late.")] = None,
    job_id: Annotated[str | None, typer.Option(help="Job id; unset: random.")] = None,
) -> None:
    """Run a prompt through a mega-service, tell of each stage, and write the pictures."""
    request = _request(prompt, parameter or [], field or [])
    result = common.run(_asked(service, request, job_id, deadline))
    for line in report_lines(result):
        common.say(line)
    for warning in result.warnings:
        common.warn(warning)
    with common.writing():
        for path in write_images(result.job_id, result.images, out):
            common.say(path)
    if result.error is not None:
        common.fail(f"{result.error.code}: {result.error.detail}")


def _request(prompt: str, parameters: list[str], fields: list[str]) -> AnyMessage:
    stages: dict[str, dict[str, Any]] = defaultdict(dict)
    for name, value in _assignments(parameters):
        stage, dot, field = name.rpartition(".")
        if not dot:
            raise SetupError(f"{name!r} names no stage; write it as STAGE.FIELD=VALUE")
        stages[stage][field] = value
    given = {"prompt": prompt, "parameters": dict(stages), **dict(_assignments(fields))}
    try:
        return AnyMessage.model_validate(given)
    except ValidationError as error:
        raise SetupError(explain(error)) from error


def _assignments(words: Iterable[str]) -> Iterator[tuple[str, Any]]:
    """Read NAME=VALUE; a value that is no JSON is a string."""
    for word in words:
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise SetupError(f"{word!r} gives no value; write it as NAME=VALUE")
        try:
            yield name, json.loads(value)
        except ValueError:
            yield name, value


async def _asked(
    service: str, request: AnyMessage, job_id: str | None, deadline: float | None
) -> MegaServiceResult:
    """Submit a request and wait for the end. Ctrl-C cancels the whole chain."""
    async with (
        common.connected(common.quiet_settings()) as broker,
        Client(broker, service, MegaServiceResult).running() as client,
    ):
        given_id = await client.submit(
            request,
            job_id=job_id,
            deadline_seconds=deadline,
            watch=True,
            timeout_seconds=SUBMIT_SECONDS,
        )
        try:
            await _tell(client, given_id)
            result: Any = await client.result(given_id)
        except asyncio.CancelledError:
            await client.cancel(given_id)
            raise
        except JobNotSucceeded as error:
            result = error.result
        assert isinstance(result, MegaServiceResult)
        return result


async def _tell(client: Client, job_id: str) -> None:
    """Show what the stages tell: what has ended stays, the rest is overwritten."""
    with common.errors.status("queued") as status:
        async for event in client.events(job_id):
            if isinstance(event, StageEvent) and (text := event_text(event)) is not None:
                status.update(text)
                if is_end(event):
                    common.errors.print(text, markup=False, highlight=False)
