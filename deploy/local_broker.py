"""Find a RabbitMQ broker for this machine, or bring one up and take it down again.

    python3 -m deploy.local_broker run -- COMMAND ARGS...
    python3 -m deploy.local_broker ensure

`run` gives COMMAND the broker's address as NODE_AMQP_URL. Runs on a bare Python 3.11, before
anything is installed.
"""

import argparse
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from enum import StrEnum
from typing import assert_never

from deploy.broker_place import BrokerUnavailable, search_path
from deploy.handshake import broker_answers, wait_until_answering
from deploy.installation import ROOT_VARIABLE, find_installation
from deploy.private_broker import PrivateBroker
from deploy.processes import Foreground, LastWill

__all__ = ["Broker", "BrokerUnavailable", "PrivateBroker", "Source", "main", "provide"]

URL_VARIABLE = "NODE_AMQP_URL"
USUAL_URL = "amqp://guest:guest@localhost:5672/"
IMAGE = "rabbitmq:4"
NO_BROKER = (
    "no RabbitMQ broker: install one (macOS: `brew install rabbitmq`, Debian and Ubuntu: "
    "`sudo apt-get install rabbitmq-server`) or start Docker"
)
CANNOT_RUN = 126
COMMAND_NOT_FOUND = 127

# Debian starts a service as it installs one, and again with the machine. Ours is the private
# broker only, so both are declined, and what declines them is removed again. dpkg must not be
# interrupted, so this ignores the signals that would end it.
INSTALL_SCRIPT = """
trap '' HUP INT TERM
export DEBIAN_FRONTEND=noninteractive
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
    trap 'rm -f $policy' EXIT
    printf '#!/bin/sh\\nexit 101\\n' > $policy && chmod 755 $policy
fi
apt-get update -q && apt-get install -q -y -o DPkg::Lock::Timeout=300 rabbitmq-server || exit
if [ -d /run/systemd/system ]; then systemctl --quiet disable rabbitmq-server || true; fi
"""


class Source(StrEnum):
    """Where a broker can come from, in the order in which they are tried."""

    GIVEN = "given"
    RUNNING = "running"
    PRIVATE = "private"
    CONTAINER = "container"
    INSTALLED = "installed"


@dataclass(frozen=True, slots=True)
class Broker:
    """A broker to use, and in words which one and why."""

    url: str
    description: str


Probe = tuple[Source, Callable[[], bool]]


def probes(environ: Mapping[str, str]) -> tuple[Probe, ...]:
    """Pair every source with the question whether it can be had here; cheap ones come first.

    Who asks for a certain RabbitMQ does not want the one that happens to run.
    """
    asked_for = environ.get(ROOT_VARIABLE)
    return (
        (Source.GIVEN, lambda: bool(environ.get(URL_VARIABLE))),
        (Source.RUNNING, lambda: not asked_for and broker_answers("localhost", 5672)),
        (Source.PRIVATE, lambda: find_installation(environ) is not None),
        (Source.CONTAINER, lambda: docker_answers() and image_is_here()),
        (Source.INSTALLED, can_install),
    )


def choose(candidates: Sequence[Probe]) -> Source:
    """Return the first source that can be had; those after it are not asked."""
    for source, available in candidates:
        if available():
            return source
    raise BrokerUnavailable(f"{NO_BROKER}, or set {URL_VARIABLE}")


def provide(environ: Mapping[str, str]) -> AbstractContextManager[Broker]:
    """Return a context in which a broker answers; it ends the broker only if it started it."""
    match choose(probes(environ)):
        case Source.GIVEN:
            return nullcontext(Broker(environ[URL_VARIABLE], f"the one in {URL_VARIABLE}"))
        case Source.RUNNING:
            return nullcontext(Broker(USUAL_URL, "the one that answers on localhost:5672"))
        case Source.CONTAINER:
            return container()
        case Source.PRIVATE | Source.INSTALLED:
            return private_broker()
        case never:
            assert_never(never)


@contextmanager
def private_broker() -> Iterator[Broker]:
    """Run a private broker, and install RabbitMQ before where that is needed and possible."""
    ensure_server()
    with PrivateBroker() as broker:
        where = f"a private one on port {broker.port}, stopped again at the end"
        yield Broker(broker.url, f"{where} (nothing answers on localhost:5672)")


@contextmanager
def container() -> Iterator[Broker]:
    """Run a container that is removed at the end, also if this process is killed."""
    name = f"text2image-broker-{secrets.token_hex(4)}"
    will = LastWill()
    will.write(["docker", "rm", "--force", name])
    try:
        docker("run", "--rm", "--detach", "--name", name, "--publish", "127.0.0.1::5672", IMAGE)
        port = int(docker("port", name, "5672/tcp").splitlines()[0].rpartition(":")[2])
        if not wait_until_answering(port, timeout_seconds=90):
            log = docker("logs", "--tail", "20", name)
            raise BrokerUnavailable(f"the container {IMAGE} did not answer in time:\n{log}")
        where = f"a container of {IMAGE} on port {port}, removed again at the end"
        yield Broker(f"amqp://guest:guest@127.0.0.1:{port}/", f"{where} (RabbitMQ not installed)")
    finally:
        subprocess.run(["docker", "rm", "--force", name], capture_output=True, check=False)
        will.revoke()


def docker(*arguments: str, timeout_seconds: float = 120.0) -> str:
    """Run a docker command and return what it printed; an error is `BrokerUnavailable`."""
    finished = subprocess.run(
        ["docker", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_seconds,
        check=False,
    )
    if finished.returncode != 0:
        raise BrokerUnavailable(f"docker {arguments[0]}: {finished.stderr.strip()}")
    return finished.stdout.strip()


def docker_answers() -> bool:
    """Tell whether a Docker daemon answers soon."""
    return _docker_succeeds("version", timeout_seconds=5)


def image_is_here() -> bool:
    """Tell whether the image is present; pull it if not."""
    if _docker_succeeds("image", "inspect", IMAGE, timeout_seconds=10):
        return True
    say(f"pulling the image {IMAGE}")
    return _docker_succeeds("pull", "--quiet", IMAGE, timeout_seconds=600)


def _docker_succeeds(*arguments: str, timeout_seconds: float) -> bool:
    try:
        docker(*arguments, timeout_seconds=timeout_seconds)
    except (BrokerUnavailable, OSError, subprocess.TimeoutExpired):
        return False
    return True


def ensure_server() -> None:
    """Install RabbitMQ's server unless it is here."""
    if find_installation(os.environ) is not None:
        return
    if not can_install():
        raise BrokerUnavailable(NO_BROKER)
    say("installing the package rabbitmq-server with apt-get; its service is not started")
    install()
    if find_installation(os.environ) is None:
        raise BrokerUnavailable("rabbitmq-server was installed but is not found")


def can_install() -> bool:
    """Tell whether apt-get is here and may be used without a password."""
    path = search_path(os.environ)
    if shutil.which("apt-get", path=path) is None:
        return False
    if os.geteuid() == 0:
        return True
    sudo = shutil.which("sudo", path=path)
    return sudo is not None and _succeeds([sudo, "-n", "true"])


def _succeeds(command: Sequence[str]) -> bool:
    finished = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
    )
    return finished.returncode == 0


def install() -> None:
    """Install the package; once begun it is finished, whatever ends this process."""
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    with tempfile.TemporaryFile() as output:
        process = subprocess.Popen(
            [*as_root, "/bin/sh", "-c", INSTALL_SCRIPT],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, "PATH": search_path(os.environ)},
        )
        try:
            return_code = process.wait()
        except BaseException:
            process.wait()
            raise
        if return_code != 0:
            output.seek(0)
            end = "\n".join(output.read().decode(errors="replace").splitlines()[-10:])
            raise BrokerUnavailable(f"apt-get could not install rabbitmq-server:\n{end}")


def ensure(environ: Mapping[str, str]) -> int:
    """Make sure that `run` will find a broker, without starting one."""
    source = choose(probes(environ))
    if source is Source.INSTALLED:
        ensure_server()
    return 0


def run(command: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the command with a broker and return its exit code."""
    with Foreground() as foreground, provide(environ) as broker:
        say(broker.description)
        try:
            return foreground.run(command, {**environ, URL_VARIABLE: broker.url})
        except FileNotFoundError:
            say(f"{command[0]}: not found")
            return COMMAND_NOT_FOUND
        except PermissionError:
            say(f"{command[0]}: may not be run")
            return CANNOT_RUN


def say(text: str) -> None:
    """Print one line that does not mix with the command's output."""
    print(f"broker: {text}", file=sys.stderr, flush=True)


def parse(arguments: Sequence[str]) -> list[str] | None:
    """Return the command to run; None stands for `ensure`."""
    parser = argparse.ArgumentParser(
        prog="python3 -m deploy.local_broker",
        description="Find a RabbitMQ broker for this machine, or bring one up.",
        usage="%(prog)s run -- COMMAND ARGS... | ensure",
    )
    parser.add_argument("action", choices=["run", "ensure"])
    ours, separator, command = _split(list(arguments))
    action = parser.parse_args(ours).action
    if (action == "run") != bool(separator and command):
        parser.error("a command after `--` belongs to `run`")
    return command if action == "run" else None


def _split(arguments: list[str]) -> tuple[list[str], bool, list[str]]:
    if "--" not in arguments:
        return arguments, False, []
    place = arguments.index("--")
    return arguments[:place], True, arguments[place + 1 :]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code."""
    command = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        return ensure(os.environ) if command is None else run(command, os.environ)
    except BrokerUnavailable as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
