"""Run a RabbitMQ server of our own, apart from any other broker on this machine.

Everything that two brokers could share is private: ports, data, Erlang name, cookie, name server
(epmd). All of it listens on loopback only and ends with this process.
"""

import os
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from deploy.broker_place import (
    PLUGIN_LISTENERS,
    BrokerUnavailable,
    Place,
    broker_environment,
    free_ports,
    write_files,
)
from deploy.epmd import Epmd
from deploy.handshake import broker_answers
from deploy.installation import require_installation
from deploy.processes import (
    LastWill,
    descendants,
    signals_deferred,
    wait_until_gone,
    wait_until_stopped,
)

__all__ = ["BrokerCommandFailed", "Epmd", "PrivateBroker", "telling_lines"]

SHOWN_LOG_LINES = 20


class BrokerCommandFailed(RuntimeError):
    """A command-line tool of the broker ended with an error."""


class PrivateBroker:
    """Own one broker: start, stop, kill and start it again on the same data and port.

    Leaving the context throws the data away. Brokers that are to form a cluster are given the
    same `epmd` (started and stopped by the caller) and the same `cookie`. `settings` are lines of
    rabbitmq.conf.
    """

    def __init__(
        self,
        *,
        plugins: Sequence[str] = (),
        settings: Sequence[str] = (),
        epmd: Epmd | None = None,
        cookie: str | None = None,
    ) -> None:
        token = secrets.token_hex(4)
        self._installation = require_installation(os.environ)
        self._epmd = epmd or Epmd()
        self._owns_epmd = epmd is None
        self._plugins = plugins
        self._settings = settings
        self._cookie = cookie or secrets.token_hex(16)
        self._server: subprocess.Popen[bytes] | None = None
        self._will = LastWill()
        self._log_start = 0
        listening = [plugin for plugin in plugins if plugin in PLUGIN_LISTENERS]
        amqp_port, distribution_port, *plugin_ports = free_ports(
            2 + len(listening), taken={self._epmd.port}
        )
        self.place = Place(
            folder=self._installation.temporary_folder / f"text2image-broker-{token}",
            node_name=f"text2image-{token}@localhost",
            amqp_port=amqp_port,
            distribution_port=distribution_port,
            epmd_port=self._epmd.port,
            plugin_ports=dict(zip(listening, plugin_ports, strict=True)),
        )

    @property
    def url(self) -> str:
        """The address for clients, with the default login."""
        return f"amqp://guest:guest@127.0.0.1:{self.port}/"

    @property
    def port(self) -> int:
        """The AMQP port; it stays the same from start to start."""
        return self.place.amqp_port

    @property
    def node_name(self) -> str:
        """The Erlang node name."""
        return self.place.node_name

    @property
    def log_path(self) -> Path:
        """The file with all that the server has printed, over all its starts."""
        return self.place.folder / "broker.log"

    @property
    def pid(self) -> int | None:
        """The process id of the Erlang machine while it runs."""
        return self._server.pid if self._server else None

    @property
    def pids(self) -> set[int]:
        """The process ids of all that runs for this broker."""
        server = {self._server.pid} | descendants(self._server.pid) if self._server else set()
        name_server = {self._epmd.pid} if self._owns_epmd and self._epmd.pid else set()
        return server | name_server

    def start(self, *, timeout_seconds: float = 90.0) -> None:
        """Start the server and return when it answers AMQP."""
        if self._server is not None and not self._has_ended(self._server):
            raise RuntimeError("the broker runs already")
        write_files(self.place, self._plugins, self._settings, self._cookie)
        self._leave_behind("rm", "-rf", self.place.folder)
        if self._owns_epmd:
            self._epmd.start()
        with signals_deferred():
            self._server = self._spawn()
            self._leave_behind("kill", "-KILL", str(self._server.pid))
        self._wait_until_answering(self._server, timeout_seconds)

    def stop(self, *, timeout_seconds: float = 60.0) -> None:
        """Shut down in order and leave no process behind; what was durable stays for a start."""
        self._end(signal.SIGTERM, timeout_seconds)
        if self._owns_epmd:
            self._epmd.stop()

    def kill(self) -> None:
        """End the server as a crash would; its name server goes on, as on a real host."""
        self._end(signal.SIGKILL, timeout_seconds=10.0)

    def suspend(self) -> None:
        """Freeze the server with its connections open, and return when all of it stands still."""
        server = self._running()
        server.send_signal(signal.SIGSTOP)
        wait_until_stopped(server, timeout_seconds=5.0)

    def resume(self) -> None:
        """Let a frozen server go on."""
        self._running().send_signal(signal.SIGCONT)

    def ctl(
        self, *arguments: str, program: str = "rabbitmqctl", timeout_seconds: float = 90.0
    ) -> str:
        """Run one of RabbitMQ's command-line tools against this broker; return what it printed."""
        self._running()
        finished = subprocess.run(
            self._installation.script(program, "--quiet", *arguments),
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=self.place.folder,
            timeout=timeout_seconds,
            check=False,
        )
        if finished.returncode != 0:
            said = (finished.stderr or finished.stdout).strip()
            raise BrokerCommandFailed(f"{program} {' '.join(arguments)}: {said}")
        return finished.stdout.strip()

    def close(self) -> None:
        """Stop at once and throw the data away."""
        with ExitStack() as steps:
            steps.callback(self._will.revoke)
            steps.callback(shutil.rmtree, self.place.folder, ignore_errors=True)
            if self._owns_epmd:
                steps.callback(self._epmd.stop)
            self.kill()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _has_ended(self, server: subprocess.Popen[bytes]) -> bool:
        """Tell whether someone else ended the server, be it a moment ago."""
        with suppress(subprocess.TimeoutExpired):
            server.wait(timeout=2.0)
        return server.returncode is not None

    def _running(self) -> subprocess.Popen[bytes]:
        if self._server is None:
            raise RuntimeError("the broker does not run")
        return self._server

    def _leave_behind(self, *command: str | Path) -> None:
        self._will.write(command, ["rm", "-rf", self.place.folder])

    def _environment(self) -> dict[str, str]:
        folder = self._installation.seen_inside(self.place.folder)
        return broker_environment(replace(self.place, folder=folder), os.environ)

    def _spawn(self) -> subprocess.Popen[bytes]:
        with self.log_path.open("ab") as log:
            self._log_start = log.tell()
            return subprocess.Popen(
                self._installation.script("rabbitmq-server"),
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                cwd=self.place.folder,
            )

    def _wait_until_answering(
        self, server: subprocess.Popen[bytes], timeout_seconds: float
    ) -> None:
        deadline = time.monotonic() + timeout_seconds
        while not broker_answers("127.0.0.1", self.port):
            if server.poll() is not None:
                raise BrokerUnavailable(self._with_log("RabbitMQ ended while it started"))
            if time.monotonic() > deadline:
                raise BrokerUnavailable(self._with_log("RabbitMQ did not answer in time"))
            time.sleep(0.05)

    def _with_log(self, reason: str) -> str:
        printed = self.log_path.read_bytes()[self._log_start :].decode(errors="replace")
        return "\n".join([f"{reason}; from its log:", *telling_lines(printed.splitlines())])

    def _end(self, number: signal.Signals, timeout_seconds: float) -> None:
        """Signal the server, wait for it and what it had started, and force what stays."""
        if self._server is None:
            return
        server, family = self._server, descendants(self._server.pid)
        server.send_signal(number)
        server.send_signal(signal.SIGCONT)  # a frozen process keeps other signals waiting
        try:
            server.wait(timeout_seconds)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        self._server = None
        self._leave_behind("true")
        for pid in wait_until_gone(family, timeout_seconds=5.0):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def telling_lines(log: Sequence[str]) -> Sequence[str]:
    """Return the lines from the first error on, else the last ones.

    After an error RabbitMQ prints pages on how Erlang stopped; the reason stands at their top.
    """
    for place, line in enumerate(log):
        if "[error]" in line:
            return log[place : place + SHOWN_LOG_LINES]
    return log[-SHOWN_LOG_LINES:]
