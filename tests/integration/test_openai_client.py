"""The official `openai` client, unmodified, against gateway, broker, node and a real pipeline.

Every client checks what it gets against the types that it was generated with.
"""

import asyncio
import base64
import io
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import pika
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types import ImagesResponse
from PIL import Image

from contracts.service import ServiceContract
from contracts.text2image import Text2ImageRequest
from contracts.topology import service_topology
from node.amqp.broker import AmqpBroker
from node.app import SystemClock
from node.client import Client
from orchestrator_example.gateway.job import Job, JobState
from orchestrator_example.gateway.keys import ANONYMOUS
from orchestrator_example.gateway.keys_file import new_key
from orchestrator_example.gateway.server import Gateway
from orchestrator_example.gateway.settings import GatewaySettings
from tests.harness import PATIENCE_SECONDS, until
from tests.processes import node_process, tiny_checkpoint

PROMPT = "An astronaut riding a green horse"
SLOW_STEPS = 600
"""Steps of the tiny model that take seconds: time enough to interfere."""
FAST = {"seed": 7, "num_inference_steps": 4}
SLOW = {"seed": 7, "num_inference_steps": SLOW_STEPS}
VISIBLE = {"seed": 7, "num_inference_steps": 150}

Start = Callable[..., AbstractAsyncContextManager[Gateway]]


@pytest.fixture(scope="module")
def node_url(amqp_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A broker with a node that serves the model `tiny`; its queues go with it."""
    folder = tmp_path_factory.mktemp("node")
    model = tiny_checkpoint(folder / "tiny")
    given = {"model": str(model), "max_inference_steps": "1000"}
    with node_process(amqp_url, folder, **given) as node:
        node.wait_for("node.ready")
        yield amqp_url
    connection = pika.BlockingConnection(pika.URLParameters(amqp_url))
    for queue in service_topology("text2image", ["tiny"]).queues:
        connection.channel().queue_delete(queue.name)
    connection.close()


@asynccontextmanager
async def gateway_at(url: str, **given: Any) -> AsyncIterator[Gateway]:
    """Run a gateway inside the context that knows of the node."""
    settings = GatewaySettings(port=0, **given)
    broker = AmqpBroker([url])
    gateway = Gateway(settings, broker, [ServiceContract()], SystemClock())
    serving = asyncio.create_task(gateway.run())
    try:
        await until(lambda: serving.done() or gateway.desk.directory.services(), "a node")
        yield gateway
    finally:
        gateway.stop()
        await asyncio.wait_for(serving, PATIENCE_SECONDS)


@pytest.fixture
def start(node_url: str) -> Start:
    """Start gateways with settings of their own."""
    return lambda **given: gateway_at(node_url, **given)


@pytest.fixture
async def gateway(start: Start) -> AsyncIterator[Gateway]:
    async with start() as gateway:
        yield gateway


def options(gateway: Gateway, **given: Any) -> dict[str, Any]:
    return {
        "base_url": f"http://127.0.0.1:{gateway.port}/v1",
        "api_key": "None",
        "max_retries": 0,
        "timeout": PATIENCE_SECONDS,
        "_strict_response_validation": True,
    } | given


def client_of(gateway: Gateway, **given: Any) -> AsyncOpenAI:
    return AsyncOpenAI(**options(gateway, **given))


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[AsyncOpenAI]:
    async with client_of(gateway) as client:
        yield client


def files_of(answer: ImagesResponse) -> list[bytes]:
    assert answer.data is not None
    return [base64.b64decode(image.b64_json or "") for image in answer.data]


def picture(data: bytes) -> Image.Image:
    opened = Image.open(io.BytesIO(data))
    opened.load()
    return opened


def only_job(gateway: Gateway) -> Job:
    (job,) = gateway.desk.jobs(ANONYMOUS)
    return job


async def test_it_makes_the_image_that_a_node_makes(
    client: AsyncOpenAI, gateway: Gateway, node_url: str
) -> None:
    answer = await client.images.generate(prompt=PROMPT, extra_body=FAST)
    (made,) = files_of(answer)
    assert (picture(made).format, picture(made).size) == ("PNG", (128, 128))
    assert (answer.size, answer.output_format, answer.background) == ("128x128", "png", "opaque")
    assert answer.usage is None
    async with Client.connect(node_url) as direct:
        job_id = await direct.submit(Text2ImageRequest(prompt=PROMPT, **FAST))
        result = await direct.result(job_id, PATIENCE_SECONDS)
    assert made == base64.b64decode(result.images[0].b64_json)


async def test_several_images_of_the_asked_size_and_format(client: AsyncOpenAI) -> None:
    answer = await client.images.generate(
        prompt=PROMPT,
        model="tiny",
        n=2,
        size="64x96",
        output_format="jpeg",
        output_compression=60,
        user="someone",
        extra_body=FAST,
    )
    first, second = map(picture, files_of(answer))
    assert (first.format, first.size) == (second.format, second.size) == ("JPEG", (64, 96))
    assert first.tobytes() != second.tobytes()
    assert [image.model_extra for image in answer.data or []] == [{"seed": 7}, {"seed": 8}]
    assert answer.model_extra is not None
    assert (answer.model_extra["model"], answer.model_extra["warnings"]) == ("tiny", [])


async def test_the_synchronous_client_gets_links_that_need_no_key(
    start: Start, tmp_path: Path
) -> None:
    token, entry = new_key("someone")
    (tmp_path / "keys.yaml").write_text(f"keys:\n{entry}")

    def ask(gateway: Gateway) -> tuple[bytes, str, bytes]:
        with OpenAI(**options(gateway, api_key=token)) as client:
            linked = client.images.generate(prompt=PROMPT, response_format="url", extra_body=FAST)
            inline = client.images.generate(prompt=PROMPT, extra_body=FAST)
        assert linked.data is not None
        assert linked.data[0].b64_json is None
        fetched = httpx.get(linked.data[0].url or "")
        return fetched.content, fetched.headers["content-type"], files_of(inline)[0]

    async with start(keys_file=tmp_path / "keys.yaml") as gateway:
        fetched, media_type, inline = await asyncio.to_thread(ask, gateway)
    assert (fetched, media_type) == (inline, "image/png")


async def test_it_lists_models_and_shows_one(client: AsyncOpenAI) -> None:
    listed = [model async for model in client.models.list()]
    assert [(model.id, model.owned_by) for model in listed] == [("tiny", "local")]
    assert await client.models.retrieve("tiny") == listed[0]


async def test_a_stream_shows_unfinished_images_while_the_job_runs(
    client: AsyncOpenAI, gateway: Gateway
) -> None:
    alone = await client.images.generate(prompt=PROMPT, extra_body=VISIBLE)
    async with await client.images.generate(
        prompt=PROMPT, stream=True, partial_images=2, extra_body=VISIBLE
    ) as stream:
        first = await anext(stream)
        assert first.type == "image_generation.partial_image"
        job = gateway.desk.jobs(ANONYMOUS)[0]
        assert not job.ended.is_set()
        second, completed = [event async for event in stream]
    assert second.type == "image_generation.partial_image"
    assert completed.type == "image_generation.completed"
    assert (first.partial_image_index, second.partial_image_index) == (0, 1)
    assert (picture(base64.b64decode(first.b64_json)).format, first.output_format) == (
        "JPEG",
        "jpeg",
    )
    assert first.b64_json != second.b64_json
    assert [base64.b64decode(completed.b64_json)] == files_of(alone)
    assert (completed.size, completed.usage.total_tokens) == ("128x128", 0)
    assert job.state is JobState.SUCCEEDED


async def test_the_synchronous_client_streams_several_images(gateway: Gateway) -> None:
    def ask() -> list[Any]:
        with OpenAI(**options(gateway)) as client:
            return list(
                client.images.generate(
                    prompt=PROMPT, n=2, stream=True, partial_images=1, extra_body=FAST
                )
            )

    events = await asyncio.to_thread(ask)
    kinds = [event.type.removeprefix("image_generation.") for event in events]
    assert sorted(kinds) == ["completed", "completed", "partial_image", "partial_image"]
    assert kinds[-1] == "completed"
    finished = [event for event in events if event.type == "image_generation.completed"]
    assert [event.model_extra["seed"] for event in finished] == [7, 8]


@pytest.mark.parametrize(
    ("given", "param", "code"),
    [
        ({"size": "100x100"}, "size", "invalid_value"),
        ({"size": "8192x8192"}, "size", "invalid_value"),
        ({"n": 10}, "n", "invalid_value"),
        ({"background": "transparent"}, "background", "invalid_value"),
        ({"output_format": "gif"}, "output_format", "invalid_value"),
        ({"extra_body": {"scheduler": "Nobody"}}, "scheduler", "invalid_value"),
        ({"extra_body": {"temperature": 1}}, "temperature", "unknown_parameter"),
    ],
)
async def test_what_cannot_be_done_is_a_bad_request_that_names_the_parameter(
    client: AsyncOpenAI, given: dict[str, Any], param: str, code: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        await client.images.generate(prompt=PROMPT, **given)
    assert (caught.value.param, caught.value.code) == (param, code)
    assert param in caught.value.message or param in ("n", "size")


async def test_models_of_openai_are_not_found_and_others_are_named(client: AsyncOpenAI) -> None:
    with pytest.raises(openai.NotFoundError, match="offered are: tiny") as caught:
        await client.images.generate(prompt=PROMPT, model="dall-e-3")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.NotFoundError, match="offered are: tiny"):
        await client.models.retrieve("openai/gpt-image-1")


async def test_without_a_key_nobody_is_let_in(start: Start, tmp_path: Path) -> None:
    _, entry = new_key("someone")
    (tmp_path / "keys.yaml").write_text(f"keys:\n{entry}")
    async with (
        start(keys_file=tmp_path / "keys.yaml") as gateway,
        client_of(gateway, api_key="sk-wrong") as client,
    ):
        with pytest.raises(openai.AuthenticationError) as caught:
            await client.images.generate(prompt=PROMPT)
        assert caught.value.code == "invalid_api_key"
        with pytest.raises(openai.AuthenticationError):
            await client.models.list()


async def test_who_asks_too_often_is_told_when_to_come_back_and_the_client_does(
    start: Start, tmp_path: Path
) -> None:
    token, entry = new_key("someone")
    limits = "    requests_per_minute: 30\n    burst: 1\n"
    (tmp_path / "keys.yaml").write_text(f"keys:\n{entry}{limits}")
    async with (
        start(keys_file=tmp_path / "keys.yaml") as gateway,
        client_of(gateway, api_key=token) as client,
    ):
        await client.images.generate(prompt=PROMPT, extra_body=FAST)
        with pytest.raises(openai.RateLimitError) as caught:
            await client.images.generate(prompt=PROMPT, extra_body=FAST)
        assert 1 <= int(caught.value.response.headers["retry-after"]) <= 2
        assert caught.value.code == "rate_limit_exceeded"
        patient = client.with_options(max_retries=2)
        assert files_of(await patient.images.generate(prompt=PROMPT, extra_body=FAST))


async def test_a_caller_who_waits_no_longer_cancels_its_job(
    client: AsyncOpenAI, gateway: Gateway
) -> None:
    with pytest.raises(openai.APITimeoutError):
        await client.images.generate(prompt=PROMPT, timeout=0.5, extra_body=SLOW)
    job = only_job(gateway)
    await until(job.ended.is_set, "the end of the job")
    assert job.state is JobState.CANCELLED


async def test_a_caller_who_leaves_a_stream_cancels_its_job(
    client: AsyncOpenAI, gateway: Gateway
) -> None:
    async with await client.images.generate(
        prompt=PROMPT, stream=True, partial_images=3, extra_body=SLOW
    ) as stream:
        await anext(stream)
    job = only_job(gateway)
    await until(job.ended.is_set, "the end of the job")
    assert job.state is JobState.CANCELLED


async def test_a_job_that_takes_too_long_is_not_asked_for_again(start: Start) -> None:
    async with (
        start(timeout_seconds=0.5) as gateway,
        client_of(gateway, max_retries=2) as client,
    ):
        with pytest.raises(openai.InternalServerError) as caught:
            await client.images.generate(prompt=PROMPT, extra_body=SLOW)
        assert (caught.value.status_code, caught.value.code) == (504, "deadline_exceeded")
        assert only_job(gateway).state is JobState.EXPIRED


async def test_a_stream_whose_job_is_cancelled_raises_in_the_client(
    client: AsyncOpenAI, gateway: Gateway
) -> None:
    stream = await client.images.generate(
        prompt=PROMPT, stream=True, partial_images=3, extra_body=SLOW
    )
    await anext(stream)
    gateway.desk.cancel(only_job(gateway))
    with pytest.raises(openai.APIError, match="cancelled") as caught:
        async for _ in stream:
            pass
    assert caught.value.code == "cancelled"


async def test_a_key_for_idempotency_is_one_job_however_often_it_is_used(
    client: AsyncOpenAI, gateway: Gateway
) -> None:
    once = {"prompt": PROMPT, "extra_headers": {"Idempotency-Key": "once"}}
    answers = await asyncio.gather(*(client.images.generate(**once) for _ in range(3)))
    assert len({files_of(answer)[0] for answer in answers}) == 1
    assert len(gateway.desk.jobs(ANONYMOUS)) == 1
    with pytest.raises(openai.ConflictError):
        await client.images.generate(**once, n=2)


async def test_who_hangs_up_with_a_key_for_idempotency_may_come_back_for_the_image(
    client: AsyncOpenAI, gateway: Gateway
) -> None:
    once = {
        "prompt": PROMPT,
        "extra_headers": {"Idempotency-Key": "come back"},
        "extra_body": VISIBLE,
    }
    with pytest.raises(openai.APITimeoutError):
        await client.images.generate(**once, timeout=0.5)
    assert files_of(await client.images.generate(**once))
    assert [job.state for job in gateway.desk.jobs(ANONYMOUS)] == [JobState.SUCCEEDED]
