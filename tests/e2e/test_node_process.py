"""The real thing, end to end: processes, RabbitMQ, Diffusers, PNG files."""

import base64
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pika
import pytest
from PIL import Image

from tests.processes import NodeProcess, node_process, tiny_checkpoint

SLOW_STEPS = 300
"""Steps of the tiny model that take a few seconds: time enough to interfere."""


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def start(clean_amqp_url: str, checkpoint: Path, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Start nodes that serve the tiny checkpoint."""
    contexts = []

    def start_node(**settings: str) -> NodeProcess:
        given = {"model": str(checkpoint), "max_inference_steps": "1000", **settings}
        context = node_process(clean_amqp_url, tmp_path, **given)
        contexts.append(context)
        return context.__enter__()

    yield start_node
    for context in contexts:
        context.__exit__(None, None, None)


class PlainCaller:
    """A caller with nothing but pika."""

    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self._channel = self._connection.channel()
        self._reply_to = self._channel.queue_declare("", exclusive=True).method.queue

    def publish(self, body: dict[str, Any], **properties: Any) -> None:
        properties = {"reply_to": self._reply_to, **properties}
        self._channel.basic_publish(
            "", "text2image", json.dumps(body), pika.BasicProperties(**properties)
        )

    def result(self, patience_seconds: float = 300) -> dict[str, Any] | None:
        for _, _, body in self._channel.consume(
            self._reply_to, auto_ack=True, inactivity_timeout=patience_seconds
        ):
            return json.loads(body) if body is not None else None
        return None

    def depth(self, queue: str) -> int:
        return self._channel.queue_declare(queue, passive=True).method.message_count

    def close(self) -> None:
        self._connection.close()


@pytest.fixture
def caller(clean_amqp_url: str) -> Iterator[PlainCaller]:
    caller = PlainCaller(clean_amqp_url)
    yield caller
    caller.close()


def picture(result: dict[str, Any] | None) -> Image.Image:
    assert result is not None
    assert result["status"] == "succeeded", result["error"]
    image = Image.open(io.BytesIO(base64.b64decode(result["images"][0]["b64_json"])))
    image.load()
    return image


def test_ten_lines_of_plain_pika_get_a_picture(
    start: Callable[..., NodeProcess], clean_amqp_url: str, tmp_path: Path
) -> None:
    start().wait_for("node.ready")
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    (script,) = re.findall(r"```python\n(import base64, json, pika.*?)```", readme, re.DOTALL)
    assert len(script.strip().splitlines()) <= 10
    environment = {**os.environ, "NODE_AMQP_URL": clean_amqp_url}
    subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, check=True)
    with Image.open(tmp_path / "astronaut.png") as image:
        assert image.size == (128, 128)


def test_the_same_seed_gives_the_same_bytes_and_the_body_may_carry_the_id(
    start: Callable[..., NodeProcess], caller: PlainCaller
) -> None:
    start().wait_for("node.ready")
    caller.publish({"id": "from-the-body", "prompt": "a cat", "seed": 7, "steps": 5})
    caller.publish({"prompt": "a cat", "seed": 7, "steps": 5})
    caller.publish({"prompt": "a cat", "seed": 8, "steps": 5})
    first, second, third = (caller.result() for _ in range(3))
    assert first is not None
    assert first["job_id"] == "from-the-body"
    assert picture(first).tobytes() == picture(second).tobytes()
    assert picture(first).tobytes() != picture(third).tobytes()


def test_killed_in_the_middle_of_a_picture_another_node_gives_exactly_one_result(
    start: Callable[..., NodeProcess], caller: PlainCaller
) -> None:
    node = start()
    node.wait_for("node.ready")
    caller.publish({"prompt": "a cat", "steps": SLOW_STEPS}, message_id="survivor")
    node.wait_for("job.started", job_id="survivor")
    node.signal(signal.SIGKILL)
    node.wait()
    start().wait_for("node.ready")
    result = caller.result()
    assert picture(result).size == (128, 128)
    assert result is not None
    assert result["job_id"] == "survivor"
    assert caller.result(patience_seconds=1.0) is None


def test_sigterm_finishes_the_picture_and_takes_no_other(
    start: Callable[..., NodeProcess], caller: PlainCaller
) -> None:
    node = start()
    node.wait_for("node.ready")
    caller.publish({"prompt": "a cat", "steps": SLOW_STEPS}, message_id="running")
    caller.publish({"prompt": "a cat", "steps": 2}, message_id="waiting")
    node.wait_for("job.started", job_id="running")
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    events = [line["event"] for line in node.log()]
    assert events.index("worker.draining") < events.index("request.settled")
    assert [line["job_id"] for line in node.log() if line["event"] == "job.started"] == ["running"]
    assert picture(caller.result()).size == (128, 128)
    assert caller.depth("text2image") == 1


def test_health_answers_while_a_picture_is_being_made(
    start: Callable[..., NodeProcess], caller: PlainCaller
) -> None:
    node = start()
    node.wait_for("node.ready")
    caller.publish({"prompt": "a cat", "steps": SLOW_STEPS})
    node.wait_for("job.started")
    answers = [node.get(path)[0] for path in ("/health/live", "/health/ready", "/metrics")]
    assert answers == [200, 200, 200]
    assert "text2image_node_jobs_running 1.0" in node.get("/metrics")[1]
    assert not [line for line in node.log() if line["event"] == "request.settled"]


def test_a_taken_port_gives_way_to_a_free_one(start: Callable[..., NodeProcess]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        node = start(http_port=str(port))
        node.wait_for("node.ready")
        assert node.wait_for("health.port_taken", port=port)
        assert node.get("/health/live")[0] == 200


def test_it_is_not_ready_before_the_warm_up(start: Callable[..., NodeProcess]) -> None:
    node = start()
    assert node.get("/health/live")[0] == 200
    status, body, _ = node.get("/health/ready")
    ready = [line for line in node.log() if line["event"] == "node.ready"]
    assert ready or (status == 503 and "starting" in body)
    node.wait_for("node.ready")
    assert node.get("/health/ready")[0] == 200
    stages = [line["event"] for line in node.log() if line["event"].startswith("model.")]
    assert "model.warming_up" in stages


def test_a_missing_model_is_one_clear_line(clean_amqp_url: str, tmp_path: Path) -> None:
    with node_process(clean_amqp_url, tmp_path, model=str(tmp_path / "nowhere")) as node:
        assert node.wait() == 1
        log = (tmp_path / "node-0.log").read_text()
    assert "Traceback" not in log
    assert "nowhere" in log.splitlines()[-1]


def test_the_command_line_submits_watches_and_cancels(
    start: Callable[..., NodeProcess], clean_amqp_url: str, tmp_path: Path
) -> None:
    node = start()
    node.wait_for("node.ready")
    environment = {**os.environ, "NODE_AMQP_URL": clean_amqp_url}

    def command(*words: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "node", *words],
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )

    made = command("submit", "a cat", "--seed", "3", "--steps", "5", "--out", f"{tmp_path}/cat.png")
    assert (made.returncode, made.stdout.strip()) == (0, f"{tmp_path}/cat.png"), made.stderr
    with Image.open(tmp_path / "cat.png") as image:
        assert image.format == "PNG"
    slow = subprocess.Popen(
        [sys.executable, "-m", "node", "submit", "a dog", "--steps", "900", "--job-id", "slow"],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )
    node.wait_for("job.started", job_id="slow")
    assert command("cancel", "slow").returncode == 0
    _, said = slow.communicate(timeout=90)
    assert (slow.returncode, "cancelled" in said) == (1, True)
    table = command("services")
    assert "text2image" in table.stdout
    assert "ready" in table.stdout
    assert command("topology", "check").returncode == 0
    checked = command("doctor")
    assert "broker" in checked.stdout
