"""text2image and image2image in one node process: two queues, two services, one set of weights."""

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pika
import pytest
from PIL import Image

from contracts.discovery import LoadState, ModelInfo, ModelLimits
from contracts.result import JobResult, Status
from contracts.text2image import Text2ImageRequest, Text2ImageResult
from contracts.topology import service_topology
from node.component import Component, Invocation, ReportLoad
from node.restart import RESTARTS_VARIABLE
from node.settings import Settings
from tests.processes import NodeProcess, node_process, tiny_checkpoint

IMAGE2IMAGE = "orchestrator_example.services.image2image:Image2ImageComponent"
SLOW_STEPS = 300
"""Steps of the tiny model that take a few seconds: time enough to interfere."""


class HangsOnce(Component):
    """Hangs in the first life of its process, and works in the next."""

    name = "hangs-once"
    service_type = "TEST"
    description = "Hangs, as a thread in a driver does"
    request_model = Text2ImageRequest
    result_model = Text2ImageResult

    def __init__(self, settings: Settings) -> None:
        self._hangs = RESTARTS_VARIABLE not in os.environ
        limits = ModelLimits(min_pixels=1, max_pixels=1, max_images=1, max_inference_steps=1)
        self._model = ModelInfo(id="tiny", warm=True, limits=limits)

    async def load(self, report: ReportLoad) -> None:
        report(LoadState(stage="loading", model="tiny"))

    def models(self) -> list[ModelInfo]:
        return [self._model]

    async def invoke(self, request: Any, invocation: Invocation) -> JobResult:
        if self._hangs:
            await asyncio.Event().wait()
        return Text2ImageResult(job_id=invocation.job_id, status=Status.SUCCEEDED)


class PlainCaller:
    """A caller with nothing but pika."""

    def __init__(self, url: str) -> None:
        self._connection = pika.BlockingConnection(pika.URLParameters(url))
        self.channel = self._connection.channel()
        self._reply_to = self.channel.queue_declare("", exclusive=True).method.queue

    def publish(self, queue: str, job_id: str, body: dict[str, Any]) -> None:
        properties = pika.BasicProperties(reply_to=self._reply_to, message_id=job_id)
        self.channel.basic_publish("", queue, json.dumps(body), properties)

    def cancel(self, job_id: str) -> None:
        command = json.dumps({"command": "cancel", "job_id": job_id})
        self.channel.basic_publish("megaservice.control", "", command)

    def results(self, count: int, patience_seconds: float = 300) -> dict[str, dict[str, Any]]:
        """Wait for so many results, by job id."""
        results: dict[str, dict[str, Any]] = {}
        for _, _, body in self.channel.consume(
            self._reply_to, auto_ack=True, inactivity_timeout=patience_seconds
        ):
            if body is None:
                break
            result = json.loads(body)
            assert result["job_id"] not in results, "a second result"
            results[result["job_id"]] = result
            if len(results) == count:
                break
        return results

    def depth(self, queue: str) -> int:
        return int(self.channel.queue_declare(queue, passive=True).method.message_count)

    def close(self) -> None:
        for service in ("image2image", HangsOnce.name):
            for queue in service_topology(service, ["tiny"]).queues:
                self.channel.queue_delete(queue.name)
        self._connection.close()


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_checkpoint(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def caller(clean_amqp_url: str) -> Iterator[PlainCaller]:
    caller = PlainCaller(clean_amqp_url)
    yield caller
    caller.close()


Start = Callable[..., NodeProcess]


@pytest.fixture
def start(
    clean_amqp_url: str, caller: PlainCaller, checkpoint: Path, tmp_path: Path
) -> Iterator[Start]:
    """Start a process that serves text2image and others, and wait until all are ready."""
    with ExitStack() as stack:

        def start_node(*others: str, **settings: str) -> NodeProcess:
            given = {"model": str(checkpoint), "max_inference_steps": "1000", **settings}
            given["component"] = ",".join(["text2image", *others])
            node = stack.enter_context(node_process(clean_amqp_url, tmp_path, **given))
            for queue in ("text2image", *map(service_of, others)):
                ready = {"queues": queues_of(queue)}
                node.wait_for("node.ready", **ready)
            return node

        yield start_node


def service_of(component: str) -> str:
    return "image2image" if component == IMAGE2IMAGE else HangsOnce.name


def queues_of(service: str) -> list[str]:
    return [f"{service}.high", service, f"{service}.model.tiny", f"{service}.unanswered"]


def picture(result: dict[str, Any]) -> Image.Image:
    assert result["status"] == "succeeded", result["error"]
    return Image.open(io.BytesIO(base64.b64decode(result["images"][0]["b64_json"])))


def count(node: NodeProcess, event: str) -> int:
    return sum(1 for line in node.log() if line["event"] == event)


def test_an_image_of_one_queue_is_the_picture_of_the_other(
    start: Start, caller: PlainCaller, clean_amqp_url: str
) -> None:
    node = start(IMAGE2IMAGE)
    caller.publish("text2image", "first", {"prompt": "a cat", "seed": 7, "steps": 5})
    made = caller.results(1)["first"]
    body = {"prompt": "a dog", "image": made["images"][0], "seed": 7, "steps": 8, "strength": 0.5}
    caller.publish("image2image", "second", body)
    changed = caller.results(1)["second"]
    assert picture(changed).size == picture(made).size
    assert (changed["identity"], changed["warnings"]) == ("exact", [])
    assert changed["parameters"]["denoising_steps"] == 4
    assert changed["parameters"]["image_sha256"] == made["images"][0]["sha256"]
    assert count(node, "device.chosen") == 1, "one engine"
    urls = [line["url"] for line in node.log() if line["event"] == "health.opened"]
    assert len(set(urls)) == 2, "a port for each"
    listed = subprocess.run(
        [sys.executable, "-m", "node", "services"],
        env={**os.environ, "NODE_AMQP_URL": clean_amqp_url, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=True,
        timeout=90,
    )
    assert "text2image" in listed.stdout
    assert "image2image" in listed.stdout


def test_a_cancel_stops_the_job_of_one_and_leaves_that_of_the_other(
    start: Start, caller: PlainCaller
) -> None:
    node = start(IMAGE2IMAGE)
    caller.publish("text2image", "goes-on", {"prompt": "a cat", "steps": SLOW_STEPS})
    node.wait_for("job.started", job_id="goes-on")
    blank = io.BytesIO()
    Image.new("RGB", (64, 64)).save(blank, "PNG")
    body = {"prompt": "a dog", "image": base64.b64encode(blank.getvalue()).decode()}
    caller.publish("image2image", "unwanted", {**body, "steps": SLOW_STEPS})
    node.wait_for("job.started", job_id="unwanted")
    caller.cancel("unwanted")
    results = caller.results(2)
    assert list(results) == ["unwanted", "goes-on"], "it did not wait for the other's device"
    assert results["unwanted"]["status"] == "cancelled"
    assert picture(results["goes-on"]).size == (128, 128)


def test_sigterm_finishes_the_pictures_of_both_and_takes_no_other(
    start: Start, caller: PlainCaller
) -> None:
    node = start(IMAGE2IMAGE)
    blank = io.BytesIO()
    Image.new("RGB", (64, 64)).save(blank, "PNG")
    image = {"image": base64.b64encode(blank.getvalue()).decode(), "strength": 1}
    for job, steps in (("running", SLOW_STEPS), ("waiting", 2)):
        caller.publish("text2image", f"text-{job}", {"prompt": "a cat", "steps": steps})
        caller.publish("image2image", f"image-{job}", {"prompt": "a", "steps": steps, **image})
    node.wait_for("job.started", job_id="text-running")
    node.wait_for("job.started", job_id="image-running")
    node.signal(signal.SIGTERM)
    assert node.wait() == 0
    results = caller.results(3, patience_seconds=1.0)
    assert set(results) == {"text-running", "image-running"}
    assert {result["status"] for result in results.values()} == {"succeeded"}
    assert (caller.depth("text2image"), caller.depth("image2image")) == (1, 1)


def test_one_that_hangs_starts_the_process_anew_and_every_job_gets_its_result(
    start: Start, caller: PlainCaller
) -> None:
    node = start("tests.integration.test_two_components:HangsOnce", stall_seconds="2")
    pid = node.process.pid
    caller.publish("text2image", "long", {"prompt": "a cat", "steps": 900, "seed": 3})
    node.wait_for("job.started", job_id="long")
    caller.publish(HangsOnce.name, "hangs", {"prompt": "a cat"})
    node.wait_for("node.unfit")
    results = caller.results(2)
    assert {result["status"] for result in results.values()} == {"succeeded"}, results
    assert set(results) == {"long", "hangs"}
    assert (node.process.pid, node.process.poll()) == (pid, None)
    assert count(node, "node.ready") == 4, "both, before and after"
