"""All trainings run in turn, and the first that fails ends the run with a sentence."""

import importlib.util

import pytest

from training import __main__ as everything


@pytest.mark.parametrize("name", [name for name, _ in everything.PROGRAMS])
def test_every_program_exists(name: str) -> None:
    assert importlib.util.find_spec(f"training.{name}") is not None


def test_it_says_beforehand_how_long_it_takes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ran: list[str] = []
    monkeypatch.setattr(everything, "exit_without_font", lambda: None)
    monkeypatch.setattr(everything, "_run", ran.append)
    everything.main()
    assert ran == [name for name, _ in everything.PROGRAMS]
    first = capsys.readouterr().out.splitlines()[0]
    assert f"about {sum(minutes for _, minutes in everything.PROGRAMS)} minutes" in first


def test_a_program_that_fails_ends_the_run_with_a_sentence() -> None:
    with pytest.raises(SystemExit, match=r"error: training\.no_such_program failed"):
        everything._run("no_such_program")
