"""Commands on dead letters: what a tired person reads, and what their shell gets."""

import asyncio
import io
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest
import typer

from contracts.message import format_time
from contracts.topology import dead_queue, service_topology
from node import cli
from node.app import SystemClock
from node.commands import dead
from node.commands.dead import parse_duration
from node.dead_letters import holding
from node.ports import OutgoingMessage, Properties
from tests.fakes import InMemoryBroker

SERVICE = "text2image"
DEAD = dead_queue(SERVICE)
HOUR = 3600.0


@dataclass
class Run:
    """How a command ended."""

    exit_code: int
    out: str
    err: str


Command = Callable[..., Awaitable[Run]]


@pytest.fixture
async def broker(monkeypatch: pytest.MonkeyPatch) -> InMemoryBroker:
    """A broker that commands find instead of a real one."""
    broker = InMemoryBroker()
    await broker.apply(service_topology(SERVICE))

    @asynccontextmanager
    async def connected(_: object) -> AsyncIterator[InMemoryBroker]:
        yield broker

    monkeypatch.setattr(dead, "connected", connected)
    monkeypatch.setattr(holding, "QUIET_SECONDS", 0.02)
    return broker


@pytest.fixture
async def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command as a shell does; what it awaits runs on the loop of the test."""
    loop = asyncio.get_running_loop()

    def run_here(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loop).result(20)

    def main() -> int:
        with pytest.raises(SystemExit) as ended:
            cli.main()
        return ended.value.code if isinstance(ended.value.code, int) else 0

    async def run(*arguments: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["text2image-node", "dead", *arguments])
        code = await asyncio.to_thread(main)
        captured = capsys.readouterr()
        return Run(code, captured.out, captured.err)

    monkeypatch.setattr(dead, "run", run_here)
    monkeypatch.setenv("COLUMNS", "200")
    return run


async def put_aside(
    broker: InMemoryBroker,
    job_id: str,
    body: bytes = b'{"prompt": "a secret horse", "model": "org/model"}',
    *,
    code: str = "generation_failed",
    age_seconds: float = HOUR,
    detail: str = "the pipeline made nothing",
    **headers: Any,
) -> None:
    died = format_time(SystemClock().time() - age_seconds)
    reason = {"x-dead-code": code, "x-dead-detail": detail, "x-dead-time": died, "x-attempt": 4}
    given = Properties(message_id=job_id, correlation_id="mine", headers=reason | headers)
    await broker.outbox.publish(OutgoingMessage("megaservice.dead-letter", DEAD, body, given))


def left(broker: InMemoryBroker, queue: str = DEAD) -> list[str | None]:
    return [item.message.properties.message_id for item in broker.server.queues[queue].items]


async def test_a_row_says_why_a_job_failed_and_keeps_the_prompt_to_itself(
    broker: InMemoryBroker, command: Command
) -> None:
    await put_aside(broker, "job", **{"x-replay": 2})
    run = await command("list")
    assert run.out.splitlines() == [
        "JOB  CODE               TRIES  REPLAYS  AGE  SIZE  MODEL      DETAIL",
        "job  generation_failed  4      2        1 h  50 B  org/model  the pipeline made nothing",
    ]
    assert (run.exit_code, run.err) == (0, "")
    assert "secret" not in run.out


async def test_the_newest_letters_come_first_and_the_rest_is_counted(
    broker: InMemoryBroker, command: Command
) -> None:
    for age, job_id in enumerate(["newest", "new", "old", "oldest"], start=1):
        await put_aside(broker, job_id, age_seconds=age * HOUR)
    run = await command("list", "--limit", "2")
    assert [line.split()[0] for line in run.out.splitlines()[1:]] == ["newest", "new"]
    assert "2 more dead letters; --limit 0 shows all" in run.err
    run = await command("list", "--oldest", "--limit", "0")
    expected = ["oldest", "old", "new", "newest"]
    assert [line.split()[0] for line in run.out.splitlines()[1:]] == expected
    assert run.err == ""


async def test_letters_are_chosen_by_code_and_age(broker: InMemoryBroker, command: Command) -> None:
    await put_aside(broker, "a", code="internal", age_seconds=3 * HOUR)
    await put_aside(broker, "b", code="internal")
    await put_aside(broker, "c", age_seconds=3 * HOUR)
    run = await command("list", "--code", "internal", "--older-than", "2h")
    assert [line.split()[0] for line in run.out.splitlines()[1:]] == ["a"]
    run = await command("list", "--code", "out_of_memory")
    assert run == Run(0, "no dead letter matches\n", "")


async def test_a_long_reason_is_cut_and_a_job_id_never(
    broker: InMemoryBroker, command: Command
) -> None:
    await put_aside(broker, "x" * 100, detail="very long " * 100)
    row = (await command("list")).out.splitlines()[1]
    assert row.startswith("x" * 100 + "  ")
    assert row.endswith("…")
    assert len(row) <= 200


async def test_an_empty_list_says_so(broker: InMemoryBroker, command: Command) -> None:
    assert await command("list") == Run(0, "no dead letter\n", "")
    assert await command("list", "--json") == Run(0, "[]\n", "")


async def test_a_list_for_programs_is_json_without_the_prompt(
    broker: InMemoryBroker, command: Command
) -> None:
    await put_aside(broker, "job")
    run = await command("list", "--json")
    (letter,) = json.loads(run.out)
    assert letter["job_id"] == "job"
    assert (letter["attempts"], letter["replays"], letter["size_bytes"]) == (4, 0, 50)
    assert letter["age_seconds"] == pytest.approx(HOUR, abs=60)
    assert "secret" not in run.out


async def test_one_letter_is_shown_with_everything_in_it(
    broker: InMemoryBroker, command: Command
) -> None:
    await put_aside(broker, "job")
    run = await command("show", "job")
    assert run.exit_code == 0
    for said in ("generation_failed", "the pipeline made nothing", "(1 h ago)", "mine"):
        assert said in run.out
    assert "megaservice.requests, key text2image.org-model" in run.out
    assert "  x-attempt: 4\n" in run.out
    assert '  "prompt": "a secret horse",\n' in run.out
    (shown,) = json.loads((await command("show", "job", "--json")).out)
    assert shown["body"]["prompt"] == "a secret horse"
    assert shown["properties"]["correlation_id"] == "mine"
    assert left(broker) == ["job"]


async def test_what_strangers_sent_cannot_command_the_terminal(
    broker: InMemoryBroker, command: Command
) -> None:
    evil = "\x1b]0;title\x07[red]\u202egnp"
    await put_aside(broker, "job", evil.encode() + b"\xff\r\n\x00", detail=evil, **{evil: evil})
    for arguments in (["list"], ["list", "--json"], ["show", "job"], ["show", "job", "--json"]):
        run = await command(*arguments)
        assert run.exit_code == 0
        assert not set(run.out) & set("\x1b\x07\u202e\x00\r")
    assert "[red]" in (await command("show", "job")).out


async def test_a_huge_body_is_cut_unless_a_program_asks(
    broker: InMemoryBroker, command: Command
) -> None:
    await put_aside(broker, "job", b"x" * 200_000)
    run = await command("show", "job")
    assert len(run.out) < 70_000
    assert "of 195 KiB; --json shows all of it" in run.out
    (shown,) = json.loads((await command("show", "job", "--json")).out)
    assert len(shown["body_base64"]) > 200_000


async def test_an_unknown_job_is_one_sentence(broker: InMemoryBroker, command: Command) -> None:
    await put_aside(broker, "job")
    for arguments in (["show", "nobody"], ["replay", "nobody"], ["purge", "nobody", "--yes"]):
        run = await command(*arguments)
        assert run.exit_code == 1
        (line,) = run.err.splitlines()
        assert line.startswith("error no dead letter of job nobody")
    assert left(broker) == ["job"]


async def test_named_jobs_are_replayed_and_unknown_ones_named(
    broker: InMemoryBroker, command: Command
) -> None:
    await put_aside(broker, "job", b'{"prompt": "x"}')
    await put_aside(broker, "other", b'{"prompt": "x"}')
    run = await command("replay", "job", "nobody")
    assert (run.exit_code, run.out) == (1, "replayed 1 job\n")
    assert "nobody" in run.err
    assert (left(broker), left(broker, SERVICE)) == (["other"], ["job"])


async def test_all_jobs_of_a_code_are_replayed(broker: InMemoryBroker, command: Command) -> None:
    for n in range(3):
        await put_aside(broker, f"job-{n}", b'{"prompt": "x"}', code="internal")
    await put_aside(broker, "other", b'{"prompt": "x"}')
    run = await command("replay", "--all", "--code", "internal")
    assert run == Run(0, "replayed 3 jobs\n", "")
    assert left(broker) == ["other"]
    assert sorted(map(str, left(broker, SERVICE))) == ["job-0", "job-1", "job-2"]


async def test_what_cannot_be_replayed_says_why_and_stays(
    broker: InMemoryBroker, command: Command
) -> None:
    past = {"cloudEvents_expirytime": "2020-01-01T00:00:00Z"}
    await put_aside(broker, "late", b'{"prompt": "x"}', **past)
    run = await command("replay", "late")
    assert (run.exit_code, run.out) == (1, "replayed 0 jobs\n")
    assert "its deadline passed at 2020-01-01" in run.err
    assert left(broker) == ["late"]
    assert (await command("replay", "late", "--drop-deadline")).exit_code == 0
    assert left(broker, SERVICE) == ["late"]


async def test_a_long_row_of_problems_is_cut(broker: InMemoryBroker, command: Command) -> None:
    for n in range(25):
        await put_aside(broker, f"job-{n}", code="conflict")
    run = await command("replay", "--all")
    assert run.exit_code == 1
    assert len(run.err.splitlines()) == 21
    assert run.err.endswith("error and 5 more\n")


@pytest.mark.parametrize("action", ["replay", "purge"])
@pytest.mark.parametrize("arguments", [[], ["job", "--all"], ["--code", "internal"]], ids=str)
async def test_it_must_be_said_which_letters_are_meant(
    broker: InMemoryBroker, command: Command, action: str, arguments: list[str]
) -> None:
    await put_aside(broker, "job")
    run = await command(action, *arguments)
    assert run.exit_code == 2
    assert "job ids, or --all" in run.err
    assert left(broker) == ["job"]


async def test_purging_asks_first(
    broker: InMemoryBroker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_aside(broker, "a", code="internal")
    await put_aside(broker, "b", age_seconds=48 * HOUR)
    answers = iter([False, True])
    monkeypatch.setattr(typer, "confirm", lambda *_, **__: next(answers))
    run = await command("purge", "--all")
    assert (run.exit_code, run.out) == (0, "nothing was removed\n")
    assert "2 dead letters: " in run.err
    assert "the oldest 2 d, the newest 1 h" in run.err
    assert left(broker) != []
    run = await command("purge", "--all", "--older-than", "1d")
    assert (run.exit_code, run.out) == (0, "removed 1 dead letter\n")
    assert left(broker) == ["a"]


async def test_where_nobody_can_answer_nothing_is_removed(
    broker: InMemoryBroker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    await put_aside(broker, "job")
    run = await command("purge", "--all")
    assert run.exit_code == 1
    assert "--yes" in run.err.splitlines()[-1]
    assert left(broker) == ["job"]


async def test_what_came_while_a_person_thought_is_not_removed(
    broker: InMemoryBroker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    await put_aside(broker, "job")

    def thinks(*_: object, **__: object) -> bool:
        asyncio.run_coroutine_threadsafe(put_aside(broker, "new"), loop).result(5)
        return True

    monkeypatch.setattr(typer, "confirm", thinks)
    run = await command("purge", "--all")
    assert (run.exit_code, run.out) == (0, "removed 1 dead letter\n")
    assert left(broker) == ["new"]


async def test_what_went_while_a_person_thought_is_not_counted(
    broker: InMemoryBroker, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    await put_aside(broker, "job")
    monkeypatch.setattr(
        typer, "confirm", lambda *_, **__: broker.server.queues[DEAD].items.clear() is None
    )
    run = await command("purge", "--all")
    assert (run.exit_code, run.out) == (0, "removed 0 dead letters\n")
    assert "1 had gone meanwhile" in run.err


async def test_a_service_of_its_own_has_letters_of_its_own(
    broker: InMemoryBroker, command: Command
) -> None:
    await put_aside(broker, "job")
    run = await command("list", "--service", "upscale")
    assert run.exit_code == 1
    assert "no queue upscale.dead" in run.err
    assert "topology apply --service upscale" in run.err


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129_600), (" 7d ", 604_800)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "5", "h", "-1h", "1e3s", "2 weeks", "9" * 400 + "s"])
async def test_what_is_no_duration_is_wrong_usage(
    broker: InMemoryBroker, command: Command, text: str
) -> None:
    run = await command("list", f"--older-than={text}")
    assert run.exit_code == 2
    assert "is not a duration" in run.err
