"""RabbitMQ 4 is put into a folder completely or not at all; `debootstrap` is a script here."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy import rabbitmq4
from deploy.processes import wait_until_gone

ROOT = Path(__file__).parents[3]
ARCHIVE = "https://archive.example/debian/"
WELL = """
for last; do previous=$target; target=$last; done
mkdir -p "$previous/usr/lib/rabbitmq/lib/rabbitmq_server-4.0.5/sbin"
touch "$previous/usr/lib/rabbitmq/lib/rabbitmq_server-4.0.5/sbin/rabbitmq-server"
"""
BADLY = """
for last; do previous=$target; target=$last; done
mkdir -p "$previous/debootstrap"
echo 'no such package' > "$previous/debootstrap/debootstrap.log"
exit 1
"""
# Writes down its process id and does not end.
FOREVER = """
for last; do previous=$target; target=$last; done
mkdir -p "$previous"
echo $$ > "{pid_file}"
exec sleep 600
"""
INSTALLER = """
import os, sys
from pathlib import Path
from deploy import rabbitmq4
os.geteuid = lambda: 0
rabbitmq4.KEYRING = Path("/dev/null")
sys.exit(rabbitmq4.main(["install", sys.argv[1], "--mirror", "https://archive.example/"]))
"""

Script = Callable[[str, str], None]


@pytest.fixture
def script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """Put programs in the place of those of the machine; each call of them is written down."""
    programs = tmp_path / "programs"
    programs.mkdir()
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")

    def write(name: str, text: str) -> None:
        program = programs / name
        program.write_text(f'#!/bin/sh\necho {name} "$@" >> {tmp_path}/calls\n{text}')
        program.chmod(0o755)

    return write


@pytest.fixture
def machine(script: Script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Script:
    """A machine on which the installation goes well; return a way to change its programs."""
    script("unshare", 'shift; exec "$@"')
    script("apt-get", f"echo {ARCHIVE}")
    script("debootstrap", WELL)
    (tmp_path / "keyring").touch()
    monkeypatch.setattr(rabbitmq4, "KEYRING", tmp_path / "keyring")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    return script


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where to put it; nothing is there yet, the folder above included."""
    return tmp_path / "cache" / "rabbitmq-4"


def install(folder: Path, *arguments: str) -> int:
    return rabbitmq4.main(["install", str(folder), *arguments])


def calls(tmp_path: Path) -> list[str]:
    return (tmp_path / "calls").read_text().splitlines()


@pytest.mark.usefixtures("machine")
def test_it_is_put_into_the_folder_and_the_variable_for_it_is_printed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert install(folder) == 0
    assert capsys.readouterr().out == f"TEXT2IMAGE_RABBITMQ_ROOT={folder}\n"
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.usefixtures("machine")
def test_the_archive_is_the_one_of_this_machine_and_its_packages_are_checked(
    folder: Path, tmp_path: Path
) -> None:
    assert install(folder) == 0
    (call,) = [call for call in calls(tmp_path) if call.startswith("debootstrap")]
    assert call.endswith(f" {ARCHIVE}")
    assert "--force-check-gpg" in call
    assert f"--keyring={tmp_path}/keyring" in call


@pytest.mark.usefixtures("machine")
def test_a_given_archive_is_used_instead(folder: Path, tmp_path: Path) -> None:
    assert install(folder, "--mirror", "file:///mnt/debian") == 0
    assert calls(tmp_path)[-1].endswith(" file:///mnt/debian")
    assert not [call for call in calls(tmp_path) if call.startswith("apt-get")]


@pytest.mark.usefixtures("machine")
def test_once_installed_nothing_is_done_again(folder: Path, tmp_path: Path) -> None:
    assert install(folder) == 0
    before = calls(tmp_path)
    assert install(folder) == 0
    assert calls(tmp_path) == before


def test_a_failure_shows_why_and_the_next_attempt_has_what_was_fetched(
    machine: Script, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine("debootstrap", BADLY)
    assert install(folder) == 1
    assert "no such package" in capsys.readouterr().err
    (packages,) = folder.parent.iterdir()
    machine("debootstrap", WELL)
    assert install(folder) == 0
    assert f"--cache-dir={packages} " in calls(tmp_path)[-1]
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.usefixtures("machine")
def test_a_folder_with_something_else_in_it_is_left_alone(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder.mkdir(parents=True)
    (folder / "thesis").touch()
    assert install(folder) == 1
    assert "no RabbitMQ" in capsys.readouterr().err
    assert [path.name for path in folder.iterdir()] == ["thesis"]
    assert not (tmp_path / "calls").exists()


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("missing", "advice"),
    [
        ("root", "sudo"),
        ("debootstrap", "apt-get install debootstrap"),
        ("keys", "apt-get install debian-archive-keyring"),
    ],
)
def test_what_is_missing_is_said(
    missing: str,
    advice: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if missing == "root":
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
    if missing == "debootstrap":
        monkeypatch.setattr(rabbitmq4, "search_path", lambda _: "/nowhere")
    if missing == "keys":
        monkeypatch.setattr(rabbitmq4, "KEYRING", folder)
    assert install(folder) == 1
    assert advice in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "advice"), [("", "apt-get update"), ("exit 1", "--mirror")])
def test_without_an_archive_of_debians_it_is_said_what_to_do(
    machine: Script, answer: str, advice: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine("apt-get", answer)
    assert install(folder) == 1
    assert advice in capsys.readouterr().err


@pytest.mark.parametrize("end", [subprocess.Popen.kill, subprocess.Popen.terminate])
def test_an_installation_that_is_ended_leaves_nothing_half_done(
    end: Callable[["subprocess.Popen[bytes]"], None], machine: Script, folder: Path, tmp_path: Path
) -> None:
    pid_file = tmp_path / "pid"
    machine("debootstrap", FOREVER.format(pid_file=pid_file))
    with subprocess.Popen([sys.executable, "-c", INSTALLER, folder], cwd=ROOT) as installer:
        wait_for(lambda: pid_file.exists() and pid_file.read_text().endswith("\n"))
        assert len(list(folder.parent.iterdir())) == 2
        end(installer)
    assert wait_until_gone({int(pid_file.read_text())}, timeout_seconds=10) == set()
    wait_for(lambda: [path.suffix for path in folder.parent.iterdir()] == [".packages"])


def wait_for(condition: Callable[[], bool]) -> None:
    """Wait until the condition holds, but not for ever."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
