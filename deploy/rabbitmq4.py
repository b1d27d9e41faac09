"""Put RabbitMQ 4 into a folder, beside the release that this machine has.

    sudo python3 -m deploy.rabbitmq4 install [FOLDER] [--mirror URL]

Debian 13 packages RabbitMQ 4.0.5. `debootstrap` lays a small Debian 13 with it out in the folder,
and brokers run from there when TEXT2IMAGE_RABBITMQ_ROOT names it (`deploy.installation`). An
installation that was interrupted leaves nothing but the packages it had fetched, which the next one
uses. Runs on a bare Python 3.11.
"""

import argparse
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from deploy.broker_place import BrokerUnavailable, search_path
from deploy.installation import ROOT_VARIABLE, Installation, installation_in
from deploy.processes import LastWill, signals_deferred

RELEASE = "trixie"
PACKAGE = "rabbitmq-server"
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
INSTALL_SECONDS = 1800.0
SHOWN_LOG_LINES = 15


def usual_folder() -> Path:
    """Return where RabbitMQ 4 is put unless told otherwise."""
    return Path.home() / ".cache" / "text2image-node" / "rabbitmq-4"


def install(folder: Path, mirror: str | None) -> Installation:
    """Put RabbitMQ 4 into the folder unless it is there; the folder appears when it is complete."""
    if folder.exists():
        return installation_in(folder)
    check_prerequisites()
    archive = mirror or debian_archive()
    packages = folder.with_name(f"{folder.name}.packages")
    packages.mkdir(parents=True, exist_ok=True)
    say(f"putting Debian's {PACKAGE} into {folder}; takes a minute or two")
    with growing(folder) as growth:
        debootstrap(growth, packages, archive)
        installation_in(growth)
        growth.rename(folder)
    shutil.rmtree(packages)
    return installation_in(folder)


def check_prerequisites() -> None:
    """Raise BrokerUnavailable that says what is missing."""
    if os.geteuid() != 0:
        raise BrokerUnavailable("only root can lay out a system in a folder; use sudo")
    if shutil.which("debootstrap", path=search_path(os.environ)) is None:
        raise BrokerUnavailable("debootstrap is missing; on Debian: apt-get install debootstrap")
    if not KEYRING.exists():
        advice = "on Debian: apt-get install debian-archive-keyring"
        raise BrokerUnavailable(f"Debian's keys are missing ({KEYRING}); {advice}")


def debian_archive() -> str:
    """Return the address of the Debian archive that this machine's apt is set up with."""
    which = ["Origin: Debian", "Label: Debian", "Created-By: Packages"]
    try:
        listing = subprocess.run(
            ["apt-get", "indextargets", "--format", "$(REPO_URI)", *which],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        raise BrokerUnavailable("apt-get does not work here; name an archive: --mirror") from None
    if not listing.stdout.strip():
        advice = "run `apt-get update` where that is not so, or name an archive: --mirror URL"
        raise BrokerUnavailable(f"apt on this machine knows no archive of Debian's; {advice}")
    return listing.stdout.splitlines()[0]


@contextmanager
def growing(folder: Path) -> Iterator[Path]:
    """Yield a folder beside it to fill and rename; what is not renamed is removed."""
    growth = folder.with_name(f"{folder.name}.{secrets.token_hex(4)}")
    try:
        yield growth
    finally:
        shutil.rmtree(growth, ignore_errors=True)


def debootstrap(target: Path, packages: Path, archive: str) -> None:
    """Lay the system out; however this process ends, nothing goes on, stays mounted or stays.

    `debootstrap` mounts /proc in the target; in a mount namespace of its own that ends with it.
    """
    command = ["unshare", "--mount", "debootstrap", "--variant=minbase", f"--include={PACKAGE}"]
    command += [f"--cache-dir={packages}", "--force-check-gpg", f"--keyring={KEYRING}"]
    log_path = packages / "debootstrap.log"
    will = LastWill()
    will.write(["rm", "-rf", target])
    with log_path.open("wb") as log, signals_deferred():
        process = subprocess.Popen(
            [*command, RELEASE, target, archive],
            env={**os.environ, "PATH": search_path(os.environ), "LC_ALL": "C"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            process_group=0,
        )
        will.write(["kill", "-s", "KILL", "--", f"-{process.pid}"], ["rm", "-rf", target])
    try:
        return_code = process.wait(INSTALL_SECONDS)
    except subprocess.TimeoutExpired:
        raise BrokerUnavailable(f"debootstrap is not done after {INSTALL_SECONDS:g} s") from None
    finally:
        _end_group(process)
        will.revoke()
    if return_code != 0:
        raise BrokerUnavailable(f"debootstrap failed with {archive}:\n{_end_of(log_path, target)}")


def _end_group(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _end_of(log_path: Path, target: Path) -> str:
    """Return the last that was printed; the reason of a failed package stands in a log inside."""
    logs = [log_path, target / "debootstrap" / "debootstrap.log"]
    lines = [line for log in logs if log.exists() for line in log.read_text().splitlines()]
    return "\n".join(lines[-SHOWN_LOG_LINES:])


def say(text: str) -> None:
    """Print one line that does not mix with the command's output."""
    print(f"rabbitmq-4: {text}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        prog="python3 -m deploy.rabbitmq4",
        description="Put RabbitMQ 4 into a folder, beside the release that this machine has.",
    )
    parser.add_argument("action", choices=["install"])
    parser.add_argument("folder", nargs="?", type=Path, default=usual_folder())
    parser.add_argument("--mirror", metavar="URL", help="the Debian archive to install from")
    given = parser.parse_args(arguments)
    try:
        installation = install(given.folder.absolute(), given.mirror)
    except BrokerUnavailable as error:
        say(str(error))
        return 1
    except KeyboardInterrupt:
        say("interrupted; what was fetched is kept for the next time")
        return 130
    say(f"{installation.scripts.parent.name} is in {installation.root}")
    print(f"{ROOT_VARIABLE}={installation.root}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
