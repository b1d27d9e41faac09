"""Find RabbitMQ: installed on this machine, or in a folder that holds a whole system of its own.

TEXT2IMAGE_RABBITMQ_ROOT names such a folder (`deploy.rabbitmq4` makes one), which is how another
release than this machine's is run. Its programs see the folder as `/`; they are children of ours
like any other, so that their process ids, signals and sockets are the machine's.
"""

import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from deploy.broker_place import BrokerUnavailable, search_path

ROOT_VARIABLE = "TEXT2IMAGE_RABBITMQ_ROOT"
SCRIPTS = "usr/lib/rabbitmq/lib/*/sbin/rabbitmq-server"


@dataclass(frozen=True, slots=True)
class Installation:
    """Say where RabbitMQ's scripts are, and where `/` is for them."""

    scripts: Path
    root: Path = Path("/")

    @property
    def temporary_folder(self) -> Path:
        """A folder for data that its programs can reach, too."""
        return self.root / "tmp" if self._is_apart() else Path(tempfile.gettempdir())

    def seen_inside(self, path: Path) -> Path:
        """Spell a path below the root as the programs do."""
        return Path("/") / path.relative_to(self.root)

    def script(self, name: str, *arguments: str) -> list[str]:
        """Return the command that runs one of RabbitMQ's scripts."""
        return self._inside([str(self.seen_inside(self.scripts / name)), *arguments])

    def program(self, name: str, *arguments: str) -> list[str]:
        """Return the command that runs one of Erlang's programs."""
        places = search_path(os.environ).split(os.pathsep)
        found = shutil.which(name, path=os.pathsep.join(map(self._seen_outside, places)))
        if found is None:
            raise BrokerUnavailable(f"{name}, a part of Erlang, is not installed in {self.root}")
        return self._inside([str(self.seen_inside(Path(found).absolute())), *arguments])

    def _seen_outside(self, folder: str) -> str:
        return str(self.root / folder.lstrip("/")) if self._is_apart() else folder

    def _is_apart(self) -> bool:
        return self.root != Path("/")

    def _inside(self, command: Sequence[str]) -> list[str]:
        """Run a command in the root; it replaces `unshare`, so the process stays our child.

        RabbitMQ reads from /proc how much memory there is and how much it uses. It is mounted in
        a mount namespace that ends with the process, so that nothing stays mounted.
        """
        if not self._is_apart():
            return list(command)
        return ["unshare", "--mount", f"--root={self.root}", "--mount-proc", *command]


def find_installation(environ: Mapping[str, str]) -> Installation | None:
    """Find the RabbitMQ that is asked for, else the one of this machine, if there is one.

    Debian's program in /usr/sbin switches to the user rabbitmq and refuses all others, so the
    scripts behind it come first.
    """
    if environ.get(ROOT_VARIABLE):
        return installation_in(Path(environ[ROOT_VARIABLE]))
    scripts = _scripts_below(Path("/"))
    if scripts is None:
        found = shutil.which("rabbitmq-server", path=search_path(environ))
        scripts = Path(found).absolute().parent if found else None
    return Installation(scripts) if scripts else None


def require_installation(environ: Mapping[str, str]) -> Installation:
    """Find RabbitMQ, or raise BrokerUnavailable."""
    installation = find_installation(environ)
    if installation is None:
        raise BrokerUnavailable("RabbitMQ is not installed")
    return installation


def installation_in(root: Path) -> Installation:
    """Return the installation in a folder, or say what keeps it from being used."""
    scripts = _scripts_below(root)
    if scripts is None:
        advice = f"`python3 -m deploy.rabbitmq4 install {root}` puts RabbitMQ 4 there"
        raise BrokerUnavailable(f"there is no RabbitMQ in {root}; {advice}")
    if os.geteuid() != 0:
        raise BrokerUnavailable(f"only root may run the RabbitMQ in {root}; use sudo")
    return Installation(scripts.resolve(), root.resolve())


def _scripts_below(root: Path) -> Path | None:
    found = sorted(root.glob(SCRIPTS))
    return found[-1].parent if found else None
