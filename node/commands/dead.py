"""`text2image-node dead`: requests that were given up, for a person to read, replay or remove."""

import json
import re
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Annotated, Final

import typer

from node.commands.common import (
    HELP_OPTIONS,
    Service,
    complain,
    connected,
    console,
    errors,
    fail,
    quiet_settings,
    run,
    say,
    warn,
)
from node.commands.dead_views import (
    counted,
    full_document,
    letter_document,
    letter_in_full,
    letters_table,
    summary,
    visible,
)
from node.dead_letters.box import DeadLetterBox
from node.dead_letters.letter import DeadLetter, Selection
from node.dead_letters.replaying import Replayed
from node.errors import SetupError
from node.parts import SystemClock

SHOWN_PROBLEMS: Final = 20
UNIT_SECONDS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}

dead_app = typer.Typer(
    no_args_is_help=True,
    context_settings=HELP_OPTIONS,
    help="Requests that were given up: read, replay or remove them. They are kept for seven days.",
)


def parse_duration(text: str) -> float:
    """Read `90s`, `30m`, `2h` or `7d` as seconds."""
    match = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)([smhd])", text.strip())
    if match is None:
        raise typer.BadParameter(f"{text!r} is not a duration such as 90s, 30m, 2h or 7d")
    return float(match[1]) * UNIT_SECONDS[match[2]]


JobIds = Annotated[list[str] | None, typer.Argument(metavar="JOB_ID", help="Job ids.")]
All = Annotated[bool, typer.Option("--all", help="All letters, or all that the filters choose.")]
Code = Annotated[str | None, typer.Option(help="Only those given up with this code.")]
OlderThan = Annotated[
    float | None,
    typer.Option(parser=parse_duration, metavar="DURATION", help="Only older ones: 30m, 2h, 7d."),
]


@dead_app.command("list")
def dead_list(
    code: Code = None,
    older_than: OlderThan = None,
    limit: Annotated[int, typer.Option(min=0, help="Rows to show; 0: all.")] = 50,
    oldest: Annotated[bool, typer.Option("--oldest", help="Oldest first.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    service: Service = "text2image",
) -> None:
    """List dead letters, newest first: which job, why, after how many tries. Never the prompt."""
    found = _find(service, _selection(None, code, older_than))
    now = SystemClock().time()
    ordered = found if oldest else found[::-1]
    shown = ordered[:limit] if limit else ordered
    if as_json:
        _write_json([letter_document(letter, now) for letter in shown])
    elif shown:
        say("\n".join(letters_table(shown, now, console.width)))
    else:
        say("no dead letter" if code is None and older_than is None else "no dead letter matches")
    if len(shown) < len(found):
        more = counted(len(found) - len(shown), "more dead letter")
        complain("note", f"{more}; --limit 0 shows all, --code and --older-than choose", "cyan")


@dead_app.command("show")
def dead_show(
    job_id: Annotated[str, typer.Argument(metavar="JOB_ID", help="Job id.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array.")] = False,
    service: Service = "text2image",
) -> None:
    """Show everything about a job's dead letter: the reason, the headers, and the request."""

    async def work() -> None:
        async with _box(service) as box:
            found = await box.find(job_id)
        now = SystemClock().time()
        if not found:
            raise SetupError(_unknown(job_id))
        if as_json:
            _write_json([full_document(letter, message, now) for letter, message in found])
            return
        for number, (letter, message) in enumerate(found):
            say("\n".join([""] * (number > 0) + letter_in_full(service, letter, message, now)))

    run(work())


@dead_app.command("replay")
def dead_replay(
    job_ids: JobIds = None,
    every: All = False,
    code: Code = None,
    older_than: OlderThan = None,
    drop_deadline: Annotated[
        bool, typer.Option("--drop-deadline", help="Replay without the request's deadline.")
    ] = False,
    service: Service = "text2image",
) -> None:
    """Run jobs again, under the same job id; a letter goes once its request is in the queue."""
    _check_choice(job_ids, every)
    chosen = _selection(job_ids, code, older_than)

    async def work() -> list[Replayed]:
        async with _box(service) as box:
            return await box.replay(chosen, drop_deadline=drop_deadline)

    done: list[Replayed] = run(work())
    replayed = {each.letter.job_id for each in done if not each.problem}
    say(f"replayed {counted(len(replayed), 'job')}")
    problems = {each.letter.job_id: each.problem for each in done if each.problem}
    told = [f"not replayed: {visible(job)}: {why}" for job, why in problems.items()]
    _end(told + _missing(job_ids, [each.letter for each in done]))


@dead_app.command("purge")
def dead_purge(
    job_ids: JobIds = None,
    every: All = False,
    code: Code = None,
    older_than: OlderThan = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    service: Service = "text2image",
) -> None:
    """Remove dead letters for good; says which, and asks before."""
    _check_choice(job_ids, every)
    found = _find(service, _selection(job_ids, code, older_than))
    if not found:
        say("no dead letter matches")
    elif yes or _confirmed(found):

        async def work() -> int:
            async with _box(service) as box:
                return await box.remove(found)

        removed: int = run(work())
        say(f"removed {counted(removed, 'dead letter')}")
        if removed < len(found):
            gone = len(found) - removed
            warn(f"{gone} had gone meanwhile, or stayed: see text2image-node dead list")
    else:
        say("nothing was removed")
    _end(_missing(job_ids, found))


@asynccontextmanager
async def _box(service: str) -> AsyncIterator[DeadLetterBox]:
    async with connected(quiet_settings()) as broker:
        box = DeadLetterBox(broker, service, SystemClock())
        if doubt := await box.check():
            warn(doubt)
        yield box


def _find(service: str, chosen: Selection) -> list[DeadLetter]:
    async def work() -> list[DeadLetter]:
        async with _box(service) as box:
            return [letter for letter in await box.letters() if chosen.matches(letter)]

    found: list[DeadLetter] = run(work())
    return found


def _selection(
    job_ids: Sequence[str] | None, code: str | None, older_than: float | None
) -> Selection:
    return Selection(
        job_ids=frozenset(job_ids) if job_ids else None,
        code=code,
        died_before=None if older_than is None else SystemClock().time() - older_than,
    )


def _check_choice(job_ids: Sequence[str] | None, every: bool) -> None:
    if bool(job_ids) == every:
        raise typer.BadParameter("give job ids, or --all (which --code and --older-than narrow)")


def _confirmed(found: Sequence[DeadLetter]) -> bool:
    errors.print(summary(found, SystemClock().time()), highlight=False, markup=False)
    try:
        return typer.confirm("Remove for good?", err=True)
    except typer.Abort:
        errors.print()
        raise SetupError("nothing was removed: nobody answered; --yes does not ask") from None


def _missing(job_ids: Sequence[str] | None, found: Sequence[DeadLetter]) -> list[str]:
    there = {letter.job_id for letter in found}
    return [_unknown(job_id) for job_id in dict.fromkeys(job_ids or ()) if job_id not in there]


def _unknown(job_id: str) -> str:
    return f"no dead letter of job {visible(job_id)} matches; see text2image-node dead list"


def _end(problems: Sequence[str]) -> None:
    """Name the problems, and end with exit code 1 where there are any."""
    for problem in problems[:SHOWN_PROBLEMS]:
        complain("error", problem, "red")
    if len(problems) > SHOWN_PROBLEMS:
        fail(f"and {len(problems) - SHOWN_PROBLEMS:,} more")
    if problems:
        sys.exit(1)


def _write_json(document: object) -> None:
    sys.stdout.write(json.dumps(document, indent=2) + "\n")
