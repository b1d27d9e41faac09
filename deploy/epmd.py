"""Erlang's name server, in which the brokers of one machine find each other."""

import os
import subprocess
from typing import Self

from deploy.broker_place import free_ports
from deploy.installation import require_installation
from deploy.processes import LastWill, signals_deferred


class Epmd:
    """Run Erlang's name server on a port of its own; brokers of one cluster share one."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self._process: subprocess.Popen[bytes] | None = None
        self._will = LastWill()

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it unless it runs."""
        if self._process is not None and self._process.poll() is None:
            return
        installation = require_installation(os.environ)
        command = installation.program("epmd", "-address", "127.0.0.1", "-port", str(self.port))
        self._will.write()
        with signals_deferred():
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                cwd="/",
            )
            self._will.write(["kill", "-KILL", str(self._process.pid)])

    def stop(self) -> None:
        """End it; it keeps nothing, so there is nothing to do in order."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        self._will.revoke()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
