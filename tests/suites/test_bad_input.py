"""Bad input gets a clear answer, the original is kept, and the next request is served."""

import json
from typing import Any

import pytest

from contracts.result import Status
from tests.harness import World

PROMPT = {"prompt": "An astronaut riding a green horse"}
PIXELS = {"width": 512, "height": 512}

BAD: dict[str, tuple[Any, dict[str, Any], str, str]] = {
    "not JSON": (b"{prompt: hello", {}, "invalid_request", "not JSON"),
    "no bytes": (b"", {}, "invalid_request", "not JSON"),
    "binary": (bytes(range(256)), {}, "invalid_request", "not JSON"),
    "a list": ([PROMPT], {}, "invalid_request", "array"),
    "a string": ("hello", {}, "invalid_request", "string"),
    "15 MiB": (
        json.dumps({"prompt": "x" * (15 * 1024 * 1024)}).encode(),
        {},
        "invalid_request",
        "bytes",
    ),
    "100,000 deep": (
        b'{"prompt":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        {},
        "invalid_request",
        "not JSON",
    ),
    "content type": (PROMPT, {"content_type": "text/plain"}, "unsupported_content_type", "json"),
    "no prompt": ({"seed": 1}, {}, "invalid_request", "prompt"),
    "empty prompt": ({"prompt": ""}, {}, "invalid_request", "prompt"),
    "blank prompt": ({"prompt": " \n\t "}, {}, "invalid_request", "prompt"),
    "long prompt": ({"prompt": "x" * 4001}, {}, "invalid_request", "prompt"),
    "no images": ({**PROMPT, "num_images_per_prompt": 0}, {}, "invalid_request", "num_images"),
    "minus one image": ({**PROMPT, "n": -1}, {}, "invalid_request", "num_images"),
    "many images": ({**PROMPT, "n": 10**9}, {}, "invalid_request", "num_images"),
    "two images in words": ({**PROMPT, "n": "two"}, {}, "invalid_request", "num_images"),
    "more images than announced": ({**PROMPT, "n": 5}, {}, "invalid_request", "num_images"),
    "negative size": ({**PROMPT, "width": -8}, {}, "invalid_request", "width"),
    "odd size": ({**PROMPT, "height": 513}, {}, "invalid_request", "height"),
    "size in words": ({**PROMPT, "size": "big"}, {}, "invalid_request", "size"),
    "size twice": ({**PROMPT, **PIXELS, "size": "8x8"}, {}, "invalid_request", "size"),
    "NaN guidance": (
        b'{"prompt": "x", "guidance_scale": NaN}',
        {},
        "invalid_request",
        "guidance_scale",
    ),
    "huge guidance": (
        {**PROMPT, "guidance_scale": 1e308},
        {},
        "invalid_request",
        "guidance_scale",
    ),
    "unknown field": ({**PROMPT, "stpes": 5}, {}, "invalid_request", "stpes"),
    "unknown model": ({**PROMPT, "model": "nobody/has-it"}, {}, "model_not_available", "has-it"),
    "a path for a model": ({**PROMPT, "model": "../../etc"}, {}, "invalid_request", "model"),
    "a URL for a LoRA": (
        {**PROMPT, "loras": [{"name": "https://evil.example/x"}]},
        {},
        "invalid_request",
        "loras",
    ),
    "bad job id": (PROMPT, {"message_id": "no # wildcards"}, "invalid_request", "job id"),
    "bad deadline": (
        PROMPT,
        {"headers": {"cloudEvents_expirytime": "tomorrow"}},
        "invalid_request",
        "expirytime",
    ),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_input_fails_clearly_and_is_kept(world: World, name: str) -> None:
    body, properties, code, said = BAD[name]
    await world.node()
    caller = await world.caller()
    await caller.publish(body, correlation_id="bad", **properties)
    message = await caller.next_message()
    document = json.loads(message.body)
    assert message.properties.correlation_id == "bad"
    assert (document["status"], document["error"]["code"]) == ("failed", code)
    assert said in document["error"]["detail"]
    assert len(document["error"]["detail"]) < 1000
    (dead,) = await world.dead_letters(1)
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    assert dead.body == sent
    assert dead.properties.headers["x-dead-code"] == code
    await caller.publish(PROMPT)
    assert (await caller.next_result()).status is Status.SUCCEEDED


async def test_bad_input_without_reply_to_is_answered_in_the_kept_results(world: World) -> None:
    await world.node()
    caller = await world.caller()
    await caller.publish(b"nonsense", answered=False)
    (kept,) = await world.kept_results(1)
    assert json.loads(kept.body)["error"]["code"] == "invalid_request"
