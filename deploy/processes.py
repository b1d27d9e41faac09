"""Start processes that do not outlive us, and find those that stand below another."""

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

Handler = Callable[[int, FrameType | None], object] | int | None


class LastWill:
    """Run shell commands once this process is gone, however it went, unless revoked before.

    A small shell reads a pipe whose other end only this process holds: end of file means that we
    are gone, also after SIGKILL. It runs the last line that it was given.
    """

    _EXECUTOR = "trap '' HUP INT TERM; while read -r line; do will=$line; done; eval \"$will\""

    def __init__(self) -> None:
        self._executor: subprocess.Popen[str] | None = None

    def write(self, *commands: Sequence[str | Path]) -> None:
        """Put these commands in the place of the ones before.

        Written once empty before a process starts, the will is ready to take that process up in
        no time.
        """
        if self._executor is None:
            self._executor = subprocess.Popen(
                ["/bin/sh", "-c", self._EXECUTOR],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
                text=True,
            )
        assert self._executor.stdin is not None
        self._executor.stdin.write("; ".join(map(_quoted, commands)) + "\n")
        self._executor.stdin.flush()

    def revoke(self) -> None:
        """Have nothing done, now or later."""
        if self._executor is not None:
            self._executor.kill()
            with suppress(BrokenPipeError):
                self._executor.communicate()
            self._executor = None


def _quoted(command: Sequence[str | Path]) -> str:
    return shlex.join(str(word) for word in command)


class Foreground:
    """Run one command as if it stood in our place: signals reach it once, its exit code is ours.

    The command leads its own process group, so that a terminal's Ctrl-C comes to us alone and is
    passed on. Before the command runs, a signal ends us with SystemExit; after it ended, signals
    are ignored, because what follows is a short clean-up.
    """

    def __init__(self) -> None:
        self._command: subprocess.Popen[bytes] | None = None
        self._will = LastWill()
        self._before: dict[signal.Signals, Handler] = {}
        self._passed_on = False

    def __enter__(self) -> Self:
        self._before = {number: signal.signal(number, self._on_signal) for number in ENDING_SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def run(self, command: Sequence[str], environ: Mapping[str, str]) -> int:
        """Run the command to its end and return the exit code that a shell would show.

        A process group in the background may not read the terminal: the command gets no input
        where ours is one.
        """
        stdin = subprocess.DEVNULL if sys.stdin is None or sys.stdin.isatty() else None
        self._will.write()
        with signals_deferred():
            self._command = subprocess.Popen(command, env=environ, stdin=stdin, process_group=0)
            self._will.write(["kill", "-s", "TERM", "--", f"-{self._command.pid}"])
        return_code = self._command.wait()
        if self._passed_on:
            # A shell that was about to start a child may have lost the signal meant for it.
            with suppress(ProcessLookupError):
                os.killpg(self._command.pid, signal.SIGTERM)
        self._will.revoke()
        return return_code if return_code >= 0 else 128 - return_code

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self._command is None:
            raise SystemExit(128 + number)
        if self._command.returncode is None:
            self._passed_on = True
            with suppress(ProcessLookupError):
                os.killpg(self._command.pid, number)


@contextmanager
def signals_deferred() -> Iterator[None]:
    """Let signals act after this block: a process that was just started is not lost track of.

    Only the main thread is ever interrupted, and only it may do this.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    received: list[int] = []
    handled = [number for number in ENDING_SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    before = {
        number: signal.signal(number, lambda arrived, _frame: received.append(arrived))
        for number in handled
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for arrived in received:
            signal.raise_signal(arrived)


def running_processes() -> dict[int, int]:
    """Return the parent of every process on this machine; zombies do not count."""
    rows = _linux_processes() if Path("/proc/self/stat").exists() else _posix_processes()
    return {pid: parent for pid, parent, state in rows if not state.startswith("Z")}


def _linux_processes() -> list[tuple[int, int, str]]:
    rows = []
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            # The name in parentheses may hold anything, so the fields are counted from its end.
            state, parent, *_rest = (folder / "stat").read_text().rpartition(")")[2].split()
            rows.append((int(folder.name), int(parent), state))
    return rows


def _posix_processes() -> list[tuple[int, int, str]]:
    listing = subprocess.run(
        ["ps", "-A", "-o", "pid=,ppid=,stat="], capture_output=True, text=True, check=True
    )
    fields = (line.split(maxsplit=2) for line in listing.stdout.splitlines())
    return [(int(pid), int(parent), state) for pid, parent, state in fields]


def descendants(root: int) -> set[int]:
    """Return the ids of all processes below this one."""
    parents = running_processes()
    found: set[int] = set()
    level = {root}
    while level:
        level = {pid for pid, parent in parents.items() if parent in level} - found
        found |= level
    return found


def wait_until_stopped(child: subprocess.Popen[bytes], *, timeout_seconds: float) -> None:
    """Wait for a child that was sent SIGSTOP: until then its threads may go on for a while."""
    deadline = time.monotonic() + timeout_seconds
    while child.returncode is None and time.monotonic() < deadline:
        changed, status = os.waitpid(child.pid, os.WUNTRACED | os.WNOHANG)
        if changed and os.WIFSTOPPED(status):
            return
        if changed:
            child.returncode = os.waitstatus_to_exitcode(status)  # it ended instead
        time.sleep(0.01)


def wait_until_gone(pids: Collection[int], *, timeout_seconds: float) -> set[int]:
    """Wait for these processes to end; return those that have not."""
    deadline = time.monotonic() + timeout_seconds
    while (left := set(pids) & running_processes().keys()) and time.monotonic() < deadline:
        time.sleep(0.02)
    return left
