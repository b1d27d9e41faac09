"""RabbitMQ is found on this machine or in a folder, and run with the folder as its `/`."""

import os
from pathlib import Path

import pytest

from deploy import local_broker
from deploy.broker_place import BrokerUnavailable
from deploy.installation import (
    ROOT_VARIABLE,
    Installation,
    find_installation,
    installation_in,
    require_installation,
)
from deploy.local_broker import Source, choose, probes

SCRIPTS = Path("usr/lib/rabbitmq/lib/rabbitmq_server-4.0.5/sbin")


@pytest.fixture(autouse=True)
def root_user(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who runs the tests does not matter."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder with RabbitMQ in it, as far as looking for it goes."""
    with_program(tmp_path / SCRIPTS / "rabbitmq-server")
    return tmp_path


def with_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o755)
    return path


def test_the_folder_that_is_asked_for_is_used(root: Path) -> None:
    found = find_installation({ROOT_VARIABLE: str(root)})
    assert found == Installation(root / SCRIPTS, root)


def test_an_empty_variable_asks_for_nothing(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_program(root / "bin" / "rabbitmq-server")
    monkeypatch.setattr("deploy.installation.SCRIPTS", "nowhere")
    found = find_installation({ROOT_VARIABLE: "", "PATH": str(root / "bin")})
    assert found == Installation(root / "bin")


def test_of_several_releases_the_latest_is_used(root: Path) -> None:
    later = root / "usr/lib/rabbitmq/lib/rabbitmq_server-4.1.0/sbin"
    with_program(later / "rabbitmq-server")
    assert installation_in(root).scripts == later


def test_a_folder_without_it_is_refused_with_advice(tmp_path: Path) -> None:
    with pytest.raises(BrokerUnavailable, match=f"rabbitmq4 install {tmp_path}"):
        require_installation({ROOT_VARIABLE: str(tmp_path)})


def test_a_folder_is_refused_to_others_than_root(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(BrokerUnavailable, match="sudo"):
        installation_in(root)


def test_nothing_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deploy.installation.SCRIPTS", "nowhere")
    monkeypatch.setattr("deploy.installation.search_path", lambda _: "/nowhere")
    assert find_installation({}) is None
    with pytest.raises(BrokerUnavailable, match="not installed"):
        require_installation({})


def test_scripts_of_this_machine_are_run_as_they_are() -> None:
    installation = Installation(Path("/opt/sbin"))
    assert installation.script("rabbitmqctl", "status") == ["/opt/sbin/rabbitmqctl", "status"]
    assert installation.seen_inside(Path("/tmp/broker")) == Path("/tmp/broker")


def test_scripts_of_a_folder_see_it_as_their_root(root: Path) -> None:
    installation = installation_in(root)
    command = installation.script("rabbitmqctl", "status")
    assert command[0] == "unshare"
    assert f"--root={root}" in command
    assert command[-2:] == [f"/{SCRIPTS}/rabbitmqctl", "status"]


def test_data_lies_where_the_programs_of_a_folder_reach_it(root: Path) -> None:
    installation = installation_in(root)
    assert installation.temporary_folder == root / "tmp"
    assert installation.seen_inside(root / "tmp" / "broker") == Path("/tmp/broker")


def test_programs_of_erlang_are_those_of_the_folder(root: Path) -> None:
    with_program(root / "usr/bin/epmd")
    command = installation_in(root).program("epmd", "-port", "1")
    assert command[-3:] == ["/usr/bin/epmd", "-port", "1"]


def test_a_folder_without_erlang_is_refused(root: Path) -> None:
    with pytest.raises(BrokerUnavailable, match=f"epmd, .* {root}"):
        installation_in(root).program("epmd")


def test_who_asks_for_a_folder_is_not_given_the_broker_that_happens_to_run(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_broker, "broker_answers", lambda *_: True)
    assert choose(probes({})) is Source.RUNNING
    assert choose(probes({ROOT_VARIABLE: str(root)})) is Source.PRIVATE
