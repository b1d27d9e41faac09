"""An unmodified opea-comps drives its graphs through the gateway: `make test-opea`."""

import base64
import io
import json
import re
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageStat

from tests.opea.processes import GatewayProcess, Opea
from tests.processes import PATIENCE_SECONDS

LONG_STEPS = 800
"""A generation of so many inference steps takes several seconds."""
CANONICAL_CURL = (
    "curl http://localhost:9379/v1/text2image -XPOST "
    """-d '{"prompt":"An astronaut riding a green horse", "num_images_per_prompt":1}' """
    "-H 'Content-Type: application/json'"
)
"""As the README of OPEA's text2image service has it."""


def picture(file: str) -> Image.Image:
    """Open a picture that shows something."""
    image = Image.open(io.BytesIO(base64.b64decode(file, validate=True)))
    image.load()
    assert image.format == "PNG"
    assert image.size == (128, 128)
    assert max(ImageStat.Stat(image.convert("RGB")).stddev) > 5, "one colour is no picture"
    return image


def ask(gateway: GatewayProcess, path: str) -> Any:
    with urllib.request.urlopen(gateway.url + path, timeout=10) as answer:
        return json.load(answer)


@pytest.fixture
def writer(opea: Opea, free_port: int) -> Iterator[int]:
    """A microservice of OPEA's own; yields its port."""
    process = opea.start("writer", str(free_port))
    give_up_at = time.monotonic() + PATIENCE_SECONDS
    try:
        while not is_healthy(free_port):
            assert process.poll() is None, "OPEA's microservice ended"
            assert time.monotonic() < give_up_at, "OPEA's microservice does not answer"
            time.sleep(0.1)
        yield free_port
    finally:
        process.kill()
        process.communicate()


def is_healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/v1/health_check", timeout=1):
            return True
    except OSError:
        return False


def test_opea_s_document_comes_back_as_opea_s_outputs(opea: Opea) -> None:
    told = opea.run("document")
    assert told["leaves"] == ["text2image/MicroService"]
    (answer,) = told["answers"].values()
    assert list(answer) == ["id", "images"]
    assert re.fullmatch(r"[0-9a-f]{32}", told["id"])
    (file,) = told["images"]
    picture(file)


def test_the_program_of_our_documentation_works(opea: Opea, gateway: GatewayProcess) -> None:
    document = Path(__file__).parents[2] / "docs" / "opea.md"
    (code,) = re.findall(
        r"```python\n(painter = .*?use_remote_service.*?)```", document.read_text(), re.DOTALL
    )
    host, port = gateway.address.split(":")
    address = 'host="localhost", port=9379'
    assert address in code
    code = code.replace(address, f'host="{host}", port={port}')
    picture(opea.run_code(f"import asyncio\nfrom comps import *\n{code}\nprint(outputs.images[0])"))


def test_a_graph_paints_and_paints_over(opea: Opea) -> None:
    told = opea.run("chain")
    assert told["leaves"] == ["image2image/MicroService"]
    first, second = (answer["images"][0] for answer in told["answers"].values())
    assert picture(first).tobytes() != picture(second).tobytes()


def test_a_service_of_opea_writes_what_ours_paints(opea: Opea, writer: int) -> None:
    told = opea.run("after_a_service_of_opea", str(writer))
    assert told["answers"]["writer/MicroService"]["text"] == "a red cat"
    picture(told["answers"]["text2image/MicroService"]["images"][0])


def test_a_mega_service_of_ours_is_one_service_of_theirs(opea: Opea) -> None:
    (answer,) = opea.run("mega")["answers"].values()
    picture(answer["images"][0])
    assert [stage["status"] for stage in answer["stages"].values()] == ["succeeded"] * 2


def test_a_refusal_is_an_answer_that_their_graph_can_hand_on(opea: Opea) -> None:
    (answer,) = opea.run("refused")["answers"].values()
    assert [fault["loc"] for fault in answer["detail"]] == [["body", "prompt"], ["body", "width"]]


def test_with_an_api_key_their_graph_is_let_in(
    guarded: GatewayProcess, key_and_entry: tuple[str, str]
) -> None:
    (answer,) = Opea(guarded).run("with_key", key_and_entry[0])["answers"].values()
    picture(answer["images"][0])
    (answer,) = Opea(guarded).run("with_key", "another")["answers"].values()
    assert answer["code"] == "unauthorized"


def test_the_gateway_is_ready_for_opea_while_it_generates(
    opea: Opea, gateway: GatewayProcess
) -> None:
    body = json.dumps({"prompt": "a red cat", "num_inference_steps": LONG_STEPS})
    headers = ["-H", "Content-Type: application/json"]
    curl = subprocess.Popen(
        ["curl", "-sS", f"{gateway.url}/v1/text2image", "-d", body, *headers],
        stdout=subprocess.PIPE,
    )
    try:
        give_up_at = time.monotonic() + PATIENCE_SECONDS
        while not any(job["status"] == "running" for job in ask(gateway, "/v1/jobs")["jobs"]):
            assert time.monotonic() < give_up_at, "the job does not begin"
            time.sleep(0.02)
        told = opea.run("readiness")
        assert curl.poll() is None, "the generation was over before the checks were"
        answer, _ = curl.communicate(timeout=PATIENCE_SECONDS)
    finally:
        curl.kill()
    assert all(told["ready"])
    picture(json.loads(answer)["images"][0])
    print(f"readiness while generating: p50 {told['p50']:.4f} s, longest {told['longest']:.4f} s")


def test_the_curl_of_opea_s_readme_gets_a_picture(gateway: GatewayProcess) -> None:
    command = CANONICAL_CURL.replace("localhost:9379", gateway.address) + " --silent --show-error"
    answer = subprocess.run(
        command, shell=True, check=True, capture_output=True, timeout=PATIENCE_SECONDS
    )
    (file,) = json.loads(answer.stdout)["images"]
    picture(file)


def test_what_was_answered_is_in_the_statistics(gateway: GatewayProcess, opea: Opea) -> None:
    before = ask(gateway, "/v1/statistics")["opea_service@text2image"]
    opea.run("document")
    after = ask(gateway, "/v1/statistics")["opea_service@text2image"]
    assert after["requests"] == before["requests"] + 1
    assert after["failures"] == before["failures"]
    assert 0 < after["p50_latency"] <= after["p99_latency"]
