"""Findings about this machine and the broker; where something is wrong, what to do."""

import shutil
import socket
from collections import namedtuple
from pathlib import Path

import pytest

from contracts.topology import service_topology
from node import doctor
from node.doctor import Verdict, examine
from node.errors import BrokerUnavailable, TopologyMismatch
from node.settings import Settings
from tests.fakes import InMemoryBroker

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def no_inference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "find_spec", lambda _: None)


@pytest.fixture
def broker(monkeypatch: pytest.MonkeyPatch) -> InMemoryBroker:
    broker = InMemoryBroker()
    broker.server.declare(service_topology("text2image"))
    monkeypatch.setattr(doctor, "AmqpBroker", lambda *_, **__: broker)
    return broker


async def found(name: str, **settings: object) -> doctor.Check:
    checks = await examine(Settings(**settings))
    return next(check for check in checks if check.name == name)


@pytest.mark.usefixtures("no_inference", "broker")
async def test_a_machine_in_order_has_no_failure() -> None:
    checks = await examine(Settings())
    assert [check.name for check in checks] == ["python", "inference", "broker", "queues", "disk"]
    assert not [check for check in checks if check.verdict is Verdict.FAIL]


@pytest.mark.usefixtures("no_inference", "broker")
async def test_whatever_is_not_in_order_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(1, 1, 0))
    for check in await examine(Settings()):
        assert bool(check.remedy) is (check.verdict is not Verdict.OK)


@pytest.mark.usefixtures("no_inference", "broker")
async def test_a_machine_without_torch_can_submit() -> None:
    check = await found("inference")
    assert check.verdict is Verdict.WARN
    assert "pip install 'text2image-node[inference]'" in check.remedy


@pytest.mark.usefixtures("no_inference", "broker")
async def test_an_old_python_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "OLDEST_PYTHON", (99, 0))
    assert (await found("python")).verdict is Verdict.FAIL


@pytest.mark.usefixtures("no_inference")
async def test_a_broker_that_does_not_answer_is_named_without_its_password(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(doctor, "BROKER_SECONDS", 0.2)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"amqp://me:secret@127.0.0.1:{port}/"
    check = await found("broker", amqp_url=[url])
    assert check.verdict is Verdict.FAIL
    assert f"127.0.0.1:{port}" in check.finding
    assert "secret" not in check.finding


@pytest.mark.usefixtures("no_inference")
@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (TopologyMismatch("queue text2image: not found"), Verdict.WARN),
        (BrokerUnavailable("gone"), Verdict.FAIL),
    ],
)
async def test_missing_queues_can_be_mended(
    broker: InMemoryBroker,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    verdict: Verdict,
) -> None:
    async def check_fails(_: object) -> None:
        raise error

    monkeypatch.setattr(broker, "check", check_fails)
    check = await found("queues")
    assert (check.verdict, check.finding) == (verdict, str(error))


@pytest.mark.usefixtures("no_inference", "broker")
async def test_the_disk_is_that_of_the_model_cache_even_before_it_exists(tmp_path: Path) -> None:
    assert str(tmp_path) in (await found("disk", cache_dir=tmp_path / "not" / "yet")).finding


@pytest.mark.usefixtures("no_inference", "broker")
async def test_a_nearly_full_disk_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(100, 99, 1024**3))
    check = await found("disk")
    assert (check.verdict, check.finding[:7]) == (Verdict.WARN, "1.0 GiB")
