"""A node with the shipped models, and a gateway."""

import socket
from collections.abc import Iterator

import pytest

from orchestrator_example.gateway.keys_file import new_key
from tests.opea.processes import GatewayProcess, Opea, gateway_process
from tests.processes import NodeProcess, node_process


@pytest.fixture(scope="module")
def node(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeProcess]:
    folder = tmp_path_factory.mktemp("node")
    settings = {"component": "text2image,image2image,prompt-writer", "max_inference_steps": "1000"}
    with node_process(amqp_url, folder, **settings) as process:
        process.wait_for("node.ready")
        yield process


@pytest.fixture(scope="module")
def gateway(
    amqp_url: str, node: NodeProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[GatewayProcess]:
    with gateway_process(amqp_url, tmp_path_factory.mktemp("gateway")) as process:
        yield process


@pytest.fixture(scope="module")
def opea(gateway: GatewayProcess) -> Opea:
    return Opea(gateway)


@pytest.fixture
def key_and_entry() -> tuple[str, str]:
    return new_key("opea")


@pytest.fixture
def guarded(
    amqp_url: str,
    node: NodeProcess,
    key_and_entry: tuple[str, str],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[GatewayProcess]:
    """A gateway that lets one key in."""
    folder = tmp_path_factory.mktemp("guarded")
    keys_file = folder / "keys.yaml"
    keys_file.write_text("keys:\n" + key_and_entry[1])
    with gateway_process(amqp_url, folder, keys_file=str(keys_file)) as process:
        yield process


@pytest.fixture
def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
