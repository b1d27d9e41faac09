"""The compose demo does what its documentation says, and keeps its promises when nodes die."""

import base64
import hashlib
import io
import json
import os
from typing import Any

import pytest
from PIL import Image

from deploy.definitions import ADMIN, known_to_compose, passwords
from tests.compose.stack import NODES, ROOT, Stack, documented_curl, until

ASTRONAUT = "An astronaut riding a green horse"
LONG = {"prompt": ASTRONAUT, "num_inference_steps": 100, "num_images_per_prompt": 4}
"""Seconds of work: time enough to interfere."""
FORGED = """
import asyncio, aio_pika, os
async def forge():
    connection = await aio_pika.connect(os.environ["NODE_AMQP_URL"])
    async with connection, connection.channel() as channel:
        exchange = await channel.get_exchange("{exchange}", ensure=False)
        await exchange.publish(aio_pika.Message(b"{{}}"), "{key}")
asyncio.run(forge())
"""


def picture(data: bytes) -> Image.Image:
    """Read a PNG to its end."""
    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        image.load()
        return image


def digest(result: Any) -> list[str]:
    """Hash the pictures of a result."""
    files = [base64.b64decode(image["b64_json"]) for image in result["images"]]
    assert files
    return [hashlib.sha256(file).hexdigest() for file in files]


def begun_on(stack: Stack, nodes: list[str], job_id: str) -> list[str]:
    """Name the node of each time that a job was begun."""
    return [node for node in nodes for _ in range(stack.logged(node, "job.started", job_id=job_id))]


def services_seen_by_admin(stack: Stack) -> dict[str, list[str]]:
    """List the instances of each service, as the command line shows them to a person."""
    secret = passwords(known_to_compose(ROOT / ".env", os.environ))[ADMIN]
    url = {"NODE_AMQP_URL": f"amqp://{ADMIN}:{secret}@broker:5672/"}
    gateway = stack.container("gateway")
    command = ("text2image-node", "services", "--json", "--wait", "3")
    seen: dict[str, list[str]] = {}
    for each in json.loads(stack.inside(gateway, *command, environment=url).stdout)["services"]:
        seen.setdefault(each["name"], []).append(each["id"])
    return seen


def test_the_curl_of_the_readme_gets_a_picture(stack: Stack) -> None:
    answer = stack.curl(documented_curl())
    assert answer.status == 200, answer.body
    body = answer.json()
    assert set(body) == {"id", "images"}
    (encoded,) = body["images"]
    assert picture(base64.b64decode(encoded)).size == (128, 128)


def test_every_service_is_there(stack: Stack) -> None:
    wanted = {
        "text2image": 2,
        "image2image": 1,
        "painter": 1,
        "checked-painter": 1,
        "best-of": 1,
        "repainter": 1,
    }
    until(lambda: stack.instances() == wanted, f"{wanted}")
    seen = {name: len(ids) for name, ids in services_seen_by_admin(stack).items()}
    assert seen == {**wanted, "prompt-writer": 1, "guardrail": 1, "captioner": 1}


@pytest.mark.parametrize(
    ("service", "request_body"),
    [
        ("checked-painter", {"prompt": ASTRONAUT}),
        ("best-of", {"prompt": ASTRONAUT}),
        ("repainter", {"prompt": ASTRONAUT, "repaint": "an astronaut riding a blue horse"}),
    ],
)
def test_a_mega_service_answers_with_a_picture(
    stack: Stack, service: str, request_body: dict[str, str]
) -> None:
    answer = stack.ask(f"/v1/{service}", request_body)
    assert answer.status == 200, answer.body
    assert picture(base64.b64decode(answer.json()["images"][0])).size == (128, 128)


def test_words_that_the_policies_forbid_are_refused(stack: Stack) -> None:
    answer = stack.ask("/v1/checked-painter", {"prompt": "how to make a pipe bomb"})
    assert answer.status >= 400
    assert answer.json()["code"] == "safety_refused"


def test_a_picture_in_the_artifact_store_is_fetched_by_the_gateway(stack: Stack) -> None:
    job_id = stack.submit("text2image", {"prompt": "a red cat", "response": "reference"})
    (image,) = stack.succeeded(job_id)["images"]
    assert image["uri"].startswith("file:///artifacts/")
    assert picture(stack.ask(f"/v1/jobs/{job_id}/images/0").body).size == (128, 128)


def test_a_job_whose_node_is_killed_midway_succeeds_exactly_once(two_nodes: Stack) -> None:
    stack = two_nodes
    key = {"Idempotency-Key": "killed-midway"}
    job_id = stack.submit("text2image", LONG, **key)
    until(lambda: (stack.job(job_id)["progress"] or {}).get("step", 0) > 1, "progress")
    nodes = stack.containers("text2image")
    until(lambda: begun_on(stack, nodes, job_id), "the log of the node that has it")
    (busy,) = begun_on(stack, nodes, job_id)
    stack.kill(busy)
    digests = digest(stack.succeeded(job_id))
    assert len(digests) == LONG["num_images_per_prompt"]
    assert not stack.inspect(busy)["State"]["Running"]

    done = {"job_id": job_id, "status": "succeeded"}
    assert sum(stack.logged(node, "request.settled", **done) for node in nodes) == 1
    assert stack.events(job_id).count("succeeded") == 1
    assert stack.submit("text2image", LONG, **key) == job_id
    assert digest(stack.succeeded(job_id)) == digests
    assert sorted(begun_on(stack, nodes, job_id)) == sorted(nodes)


def test_three_nodes_share_the_work(two_nodes: Stack) -> None:
    stack = two_nodes
    stack.up("--no-recreate", "--scale", "text2image=3")
    until(lambda: stack.instances()["text2image"] == 3, "three instances")
    instances = services_seen_by_admin(stack)["text2image"]
    jobs = [stack.submit("text2image", {"prompt": ASTRONAUT}) for _ in range(24)]
    workers = [stack.succeeded(job_id)["node"]["instance_id"] for job_id in jobs]
    assert set(workers) == set(instances)
    assert len(instances) == 3


def test_a_node_that_crashes_is_started_anew(stack: Stack) -> None:
    captioner = stack.container("captioner")
    started_at = stack.inspect(captioner)["State"]["StartedAt"]
    stack.inside(captioner, "sh", "-c", "kill -KILL -1")
    until(lambda: stack.inspect(captioner)["State"]["StartedAt"] != started_at, "the restart")
    until(
        lambda: stack.inspect(captioner)["State"].get("Health", {}).get("Status") == "healthy",
        "health",
    )
    assert stack.inspect(captioner)["RestartCount"] == 1


@pytest.mark.parametrize("service", ["broker", *NODES])
def test_containers_have_no_more_rights_than_they_need(stack: Stack, service: str) -> None:
    for container in stack.containers(service):
        host = stack.inspect(container)["HostConfig"]
        assert host["CapDrop"] == ["ALL"]
        assert not host["Privileged"]
        assert host["ReadonlyRootfs"]
        assert any(option.startswith("no-new-privileges") for option in host["SecurityOpt"])
        assert int(stack.inside(container, "id", "-u").stdout) != 0
        written = stack.inside(container, "sh", "-c", "echo x > /usr/probe")
        assert written.returncode != 0
        assert "Read-only file system" in written.stderr


def test_nothing_is_reached_from_other_machines(stack: Stack) -> None:
    bound = [
        (service, binding["HostIp"])
        for service in ("broker", *NODES)
        for container in stack.containers(service)
        for bindings in stack.inspect(container)["NetworkSettings"]["Ports"].values()
        for binding in bindings or []
    ]
    assert sorted(bound) == [("broker", "127.0.0.1"), ("gateway", "127.0.0.1")]


@pytest.mark.parametrize(
    ("service", "exchange", "key"),
    [
        ("captioner", "megaservice.events", "text2image.job.succeeded"),
        ("captioner", "megaservice.discovery", "announce.text2image.one"),
        ("captioner", "megaservice.control", ""),
        ("gateway", "megaservice.results", "text2image.job"),
    ],
)
def test_a_service_cannot_speak_for_another(
    stack: Stack, service: str, exchange: str, key: str
) -> None:
    forged = FORGED.format(exchange=exchange, key=key)
    ran = stack.inside(stack.container(service), "python", "-c", forged)
    assert ran.returncode != 0
    assert "ACCESS_REFUSED" in ran.stderr


@pytest.mark.parametrize(
    "command", ["topology apply", "dead list --service text2image", "submit a-red-cat"]
)
def test_a_service_can_do_nothing_that_is_not_its_work(stack: Stack, command: str) -> None:
    ran = stack.inside(
        stack.container("captioner"), "timeout", "30", "text2image-node", *command.split()
    )
    assert ran.returncode == 1
    assert "ACCESS_REFUSED" in ran.stderr


def test_there_is_no_guest(stack: Stack) -> None:
    guest = {"NODE_AMQP_URL": "amqp://guest:guest@broker:5672/"}
    command = ("text2image-node", "services")
    ran = stack.inside(stack.container("gateway"), *command, environment=guest)
    assert ran.returncode == 1
    assert "ACCESS_REFUSED" in ran.stderr
