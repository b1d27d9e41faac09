"""Commands: parse, run, exit code; every expected failure is one line that says what to do."""

import json
import logging
import socket
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
import structlog
import yaml
from typer.testing import CliRunner

from contracts.topology import EXCHANGES, request_queues, service_topology
from node import __version__, cli, doctor
from node.commands import common
from node.errors import JobFailed, SetupError
from tests.fakes import InMemoryBroker
from tests.unit.builders import failed, image, with_images


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> str:
    """A port on which nobody listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    monkeypatch.setenv("NODE_AMQP_URL", f"amqp://guest:guest@127.0.0.1:{port}/")
    monkeypatch.setattr(common, "CONNECT_SECONDS", 0.3)
    monkeypatch.setattr(doctor, "BROKER_SECONDS", 0.3)
    return f"127.0.0.1:{port}"


@dataclass
class Run:
    """How a command ended."""

    exit_code: int
    out: str
    err: str
    seconds: float


Command = Callable[..., Run]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run a command as a shell does."""
    # Lines are not folded to the width of a terminal that is not there.
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str) -> Run:
        monkeypatch.setattr(sys, "argv", ["text2image-node", *arguments])
        started_at = time.monotonic()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        captured = capsys.readouterr()
        code = ended.value.code
        seconds = time.monotonic() - started_at
        return Run(code if isinstance(code, int) else 0, captured.out, captured.err, seconds)

    return run


def test_the_version_is_that_of_the_package() -> None:
    assert CliRunner().invoke(cli.app, ["version"]).output.strip() == __version__


def test_the_version_is_an_option_as_well() -> None:
    assert CliRunner().invoke(cli.app, ["--version"]).output.strip() == __version__


@pytest.mark.parametrize("group", [[], ["dead"], ["topology"], ["models"], ["dead", "replay"]])
def test_help_is_an_h_away(group: list[str]) -> None:
    result = CliRunner().invoke(cli.app, [*group, "-h"])
    assert (result.exit_code, "Usage" in result.output) == (0, True)


def test_the_help_says_where_the_broker_is_looked_for() -> None:
    assert "NODE_AMQP_URL" in CliRunner().invoke(cli.app, ["--help"]).output


def test_the_topology_is_exported_as_definitions_for_rabbitmq() -> None:
    result = CliRunner().invoke(cli.app, ["topology", "export", "--model", "org/model"])
    exported = json.loads(result.output)
    assert {each["name"] for each in exported["exchanges"]} == {e.name for e in EXCHANGES}
    queues = {each["name"] for each in exported["queues"]}
    assert set(request_queues("text2image", ["org/model"])) < queues
    for binding in exported["bindings"]:
        assert binding["destination"] in queues


def test_the_asyncapi_document_is_yaml() -> None:
    result = CliRunner().invoke(cli.app, ["asyncapi"])
    assert result.exit_code == 0
    assert yaml.safe_load(result.output)["asyncapi"].startswith("3.")


def test_the_asyncapi_document_can_be_written_to_a_folder(tmp_path: Path) -> None:
    assert CliRunner().invoke(cli.app, ["asyncapi", "--write", str(tmp_path)]).exit_code == 0
    assert yaml.safe_load((tmp_path / "asyncapi.yaml").read_text())["asyncapi"].startswith("3.")


def test_without_a_command_the_help_is_shown() -> None:
    assert "submit" in CliRunner().invoke(cli.app, []).output


def test_an_unknown_option_is_wrong_usage(command: Command) -> None:
    assert command("submit", "x", "--colour", "red").exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["   "], "prompt"),
        (["x", "--steps", "0"], "num_inference_steps"),
        (["x", "--width", "7"], "width"),
        (["x", "--format", "bmp"], "output_format"),
        (["x", "--model", "../../etc"], "model"),
    ],
)
def test_a_bad_request_is_refused_in_one_line_before_anything_is_sent(
    command: Command, no_broker: str, arguments: list[str], said: str
) -> None:
    run = command("submit", *arguments)
    assert (run.exit_code, run.out) == (1, "")
    (line,) = run.err.splitlines()
    assert line.startswith("error")
    assert said in line


@pytest.mark.parametrize("job_id", ["", "no # wildcards"])
def test_what_is_no_job_id_is_refused_before_anything_is_sent(
    command: Command, no_broker: str, job_id: str
) -> None:
    run = command("cancel", job_id)
    (line,) = run.err.splitlines()
    assert (run.exit_code, line.startswith("error job_id")) == (1, True)


@pytest.mark.parametrize(
    "arguments", [["asyncapi", "--write"], ["submit", "x", "--out"]], ids=" ".join
)
def test_a_file_that_cannot_be_written_is_one_line_before_anything_is_sent(
    command: Command, no_broker: str, tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "file").touch()
    run = command(*arguments, str(tmp_path / "file" / "image.png"))
    (line,) = run.err.splitlines()
    assert (run.exit_code, line.startswith("error cannot write")) == (1, True)
    assert str(tmp_path) in line


def test_a_job_that_takes_too_long_says_how_to_get_its_result(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    @asynccontextmanager
    async def connected(_: object) -> AsyncIterator[InMemoryBroker]:
        broker = InMemoryBroker()
        await broker.apply(service_topology("text2image"))
        yield broker

    monkeypatch.setattr(common, "connected", connected)
    run = command("submit", "x", "--job-id", "mine", "--timeout", "0.05")
    (line,) = (line for line in run.err.splitlines() if line.startswith("error"))
    assert run.exit_code == 1
    assert "no result within 0.05 s" in line
    assert "--job-id mine" in line


def test_a_bad_setting_is_one_line(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NODE_SLOTS", "many")
    run = command("services")
    (line,) = run.err.splitlines()
    assert (run.exit_code, line.startswith("error settings: slots")) == (1, True)


@pytest.mark.parametrize(
    "arguments",
    [
        ["services", "--wait", "0.3"],
        ["topology", "check"],
        ["topology", "apply"],
        ["submit", "x"],
        ["cancel", "job"],
        ["dead", "list"],
        ["dead", "show", "job"],
        ["dead", "replay", "--all"],
        ["dead", "purge", "--all", "--yes"],
    ],
    ids=" ".join,
)
def test_without_a_broker_a_command_says_what_to_do_within_seconds(
    command: Command, no_broker: str, arguments: list[str]
) -> None:
    run = command(*arguments)
    assert run.exit_code == 1
    (line,) = run.err.splitlines()
    assert "NODE_AMQP_URL" in line
    assert run.seconds < 5


def test_the_doctor_tells_what_is_wrong_and_what_to_do_about_it(
    command: Command, no_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    run = command("doctor")
    assert (run.exit_code, run.err) == (1, "")
    assert f"fail broker: cannot connect to {no_broker}" in run.out
    assert "NODE_AMQP_URL" in run.out
    assert "ok   python" in run.out
    assert run.seconds < 5


def test_a_job_that_failed_is_one_line_with_its_code(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(work: object) -> None:
        work.close()
        raise JobFailed(failed().result)

    monkeypatch.setattr(common, "run", fails)
    run = command("submit", "x")
    assert (run.exit_code, run.err) == (1, "error invalid_request: what went wrong\n")


def test_a_timeout_is_one_line_as_well(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def times_out(work: object) -> None:
        work.close()
        raise TimeoutError

    monkeypatch.setattr(common, "run", times_out)
    run = command("submit", "x")
    assert (run.exit_code, run.err) == (1, "error timed out\n")


def test_what_a_broker_says_is_printed_as_it_is(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(work: object) -> None:
        work.close()
        raise SetupError("queue [x] differs: [/red] arg 'x' [bold]")

    monkeypatch.setattr(common, "run", fails)
    assert "[x] differs: [/red] arg 'x' [bold]" in command("submit", "x").err


@pytest.mark.parametrize(
    ("images", "out", "written"),
    [
        (1, None, ["job.png"]),
        (1, "horse.png", ["horse.png"]),
        (1, "horse", ["horse.png"]),
        (2, "horse.png", ["horse-0.png", "horse-1.png"]),
        (2, "made/by/me.png", ["made/by/me-0.png", "made/by/me-1.png"]),
        (1, ".", ["job.png"]),
    ],
)
def test_images_are_written_where_they_are_wanted(
    command: Command,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    images: int,
    out: str | None,
    written: list[str],
) -> None:
    def succeeds(work: object) -> object:
        work.close()
        return with_images(*(image(f"{n}".encode(), n) for n in range(images)))

    monkeypatch.setattr(common, "run", succeeds)
    monkeypatch.chdir(tmp_path)
    run = command("submit", "x", *(["--out", out] if out else []))
    assert run.exit_code == 0
    assert run.out.splitlines() == written
    contents = [(tmp_path / name).read_bytes() for name in written]
    assert contents == [f"{n}".encode() for n in range(images)]


def test_the_doctor_names_packages_with_their_extras(
    command: Command, no_broker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)
    assert "-> pip install 'text2image-node[inference]'" in command("doctor").out


@pytest.mark.parametrize(
    ("components", "words"),
    [
        (["text2image", "text2image"], "two components serve text2image"),
        (["text2image", "nothing"], "no component 'nothing'"),
        (["text2image,nothing"], "no component 'nothing'"),
    ],
)
def test_components_that_cannot_be_served_together_are_one_line(
    no_broker: str, command: Command, components: list[str], words: str
) -> None:
    options = [word for each in components for word in ("--component", each)]
    ended = command("serve", *options)
    assert (ended.exit_code, len(ended.err.splitlines())) == (1, 1)
    assert words in ended.err


def test_any_component_has_an_asyncapi_document() -> None:
    result = CliRunner().invoke(cli.app, ["asyncapi", "--component", "captioner"])
    document = yaml.safe_load(result.output)
    assert document["info"]["title"] == "captioner"
    assert list(document["channels"]["queue.captioner"]["messages"]) == ["CaptionerRequest"]
