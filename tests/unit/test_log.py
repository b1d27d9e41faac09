"""Logs: one line an event, the same format for ours and for libraries'."""

import json
import logging
from collections.abc import Iterator
from datetime import datetime

import pytest
import structlog

from node.log import configure_logging


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    captured = capsys.readouterr()
    assert captured.out == ""
    return [json.loads(line) for line in captured.err.splitlines()]


def test_an_event_is_one_line_of_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "INFO")
    structlog.get_logger("mine").info("request.settled", job_id="job", seconds=1.5)
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["logger"]) == ("request.settled", "info", "mine")
    assert (line["job_id"], line["seconds"]) == ("job", 1.5)
    assert datetime.fromisoformat(str(line["timestamp"])).utcoffset().total_seconds() == 0


def test_what_libraries_log_looks_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "INFO")
    logging.getLogger("library").warning("%s is %s", "this", "theirs")
    (line,) = lines(capsys)
    assert (line["event"], line["level"], line["logger"]) == (
        "this is theirs",
        "warning",
        "library",
    )


def test_configuring_twice_gives_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "INFO")
    configure_logging("json", "INFO")
    structlog.get_logger("mine").info("once")
    assert [line["event"] for line in lines(capsys)] == ["once"]


def test_what_is_below_the_level_is_not_logged(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "WARNING")
    structlog.get_logger("mine").info("no")
    logging.getLogger("library").info("no")
    structlog.get_logger("mine").warning("yes")
    assert [line["event"] for line in lines(capsys)] == ["yes"]


def test_an_exception_stays_on_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "INFO")
    try:
        raise ValueError("the cause")
    except ValueError:
        structlog.get_logger("mine").exception("component.crashed")
    (line,) = lines(capsys)
    assert "ValueError: the cause" in str(line["exception"])


def test_ids_bound_once_are_on_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("json", "INFO")
    structlog.contextvars.bind_contextvars(job_id="job")
    structlog.get_logger("mine").info("one")
    assert lines(capsys)[0]["job_id"] == "job"


@pytest.mark.parametrize("name", ["aiormq", "aiormq.connection", "aio_pika", "aiohttp.access"])
def test_libraries_that_tell_every_lost_connection_are_kept_quiet(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    configure_logging("json", "DEBUG")
    logging.getLogger(name).warning("Traceback of a lost connection")
    assert lines(capsys) == []


def test_away_from_a_terminal_auto_means_json(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("auto", "INFO")
    structlog.get_logger("mine").info("for machines")
    assert lines(capsys)[0]["event"] == "for machines"


def test_people_get_a_line_that_reads_well(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging("console", "INFO")
    structlog.get_logger("mine").info("node.ready", instance_id="one")
    (line,) = capsys.readouterr().err.splitlines()
    assert "node.ready" in line
    assert not line.startswith("{")


@pytest.mark.parametrize("log_format", ["json", "console"])
def test_a_crash_is_told_without_what_was_asked_for(
    capsys: pytest.CaptureFixture[str], log_format: str
) -> None:
    configure_logging(log_format, "INFO")
    prompt = "a secret " + "picture"
    try:
        raise ValueError(len(prompt))
    except ValueError:
        structlog.get_logger("mine").error("task.crashed", exc_info=True)
    told = capsys.readouterr().err
    assert "ValueError" in told
    assert "a secret picture" not in told
