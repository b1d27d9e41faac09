"""A process that starts anew keeps its id and its command line, and waits longer each time."""

import subprocess
import sys
import time

import pytest

from node import restart

ANEW = """
import os, sys
from node.restart import RESTARTS_VARIABLE, restart_delay, start_anew
print(os.getpid(), sys.argv[1:], os.environ.get(RESTARTS_VARIABLE), restart_delay(), flush=True)
if os.environ.get(RESTARTS_VARIABLE) != "2":
    start_anew()
"""


def test_the_new_process_has_the_same_id_and_arguments_and_counts() -> None:
    command = [sys.executable, "-c", ANEW, "serve", "--model", "a b"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    lines = [line.split(" ", 1) for line in done.stdout.splitlines()]
    assert len({pid for pid, _ in lines}) == 1
    arguments = "['serve', '--model', 'a b']"
    assert [rest for _, rest in lines] == [
        f"{arguments} None 0.0",
        f"{arguments} 1 2.0",
        f"{arguments} 2 4.0",
    ]


@pytest.mark.parametrize(
    ("restarts", "seconds"),
    [("", 0.0), ("nonsense", 0.0), ("5", 32.0), ("6", 60.0), ("9999", 60.0)],
)
def test_the_delay_is_bounded(
    monkeypatch: pytest.MonkeyPatch, restarts: str, seconds: float
) -> None:
    monkeypatch.setattr(restart, "_BORN_AT", time.monotonic())
    monkeypatch.setenv(restart.RESTARTS_VARIABLE, restarts)
    assert restart.restart_delay() == seconds


def test_a_process_that_was_fit_for_long_starts_anew_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(restart.RESTARTS_VARIABLE, "5")
    monkeypatch.setattr(restart, "_BORN_AT", time.monotonic() - restart.FIT_SECONDS - 1)
    assert restart.restart_delay() == 0.0
