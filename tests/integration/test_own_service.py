"""What the documentation says about a service of one's own is true, word for word."""

import base64
import io
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from PIL import Image, ImageChops

from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.topology import service_topology
from node.amqp.broker import AmqpBroker
from node.client import Client

NAME = "marked-painter"
ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/mega-service.md").read_text()
SOURCES = re.findall(r"^```python\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
START_SECONDS = 180.0


def test_a_service_of_ones_own_takes_less_than_40_lines() -> None:
    assert len(SOURCES[0].splitlines()) < 40


@pytest.fixture
def written(tmp_path: Path) -> Path:
    """The files as the documentation shows and names them."""
    (tmp_path / "watermark.py").write_text(SOURCES[0])
    (tmp_path / "marked_painter.py").write_text(SOURCES[1])
    return tmp_path


@contextmanager
def served(component: str, folder: Path, url: str) -> Iterator[None]:
    """Run the command of the documentation in the folder of the files, and drain at the end."""
    command = Path(sys.executable).with_name("text2image-node")
    environment = os.environ | {
        "NODE_AMQP_URL": url,
        "NODE_HTTP_PORT": "0",
        "OMP_NUM_THREADS": "1",
        "NODE_RESULT_STORE": f"file://{folder}/results",
    }
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(
            [command, "serve", "--component", component],
            cwd=folder,
            env=environment,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(START_SECONDS)


async def test_the_service_of_the_documentation_marks_a_picture_in_a_chain(
    written: Path, clean_amqp_url: str
) -> None:
    with ExitStack() as stack:
        components = re.findall(r"serve --component (\w+:\w+)", TEXT)
        assert components == ["watermark:Watermark", "marked_painter:MarkedPainter"]
        for component in ("text2image", *components):
            stack.enter_context(served(component, written, clean_amqp_url))
        broker = AmqpBroker([clean_amqp_url])
        async with broker.running(), Client(broker, NAME, MegaServiceResult).running() as client:
            await broker.apply(service_topology(NAME))
            job_id = await client.submit(MegaServiceRequest(prompt="a red cat"))
            result = await client.result(job_id, START_SECONDS)
    painted, marked = (
        Image.open(io.BytesIO(base64.b64decode(each.b64_json)))
        for each in (result.drafts[0], result.images[0])
    )
    changed = ImageChops.difference(painted.convert("RGB"), marked.convert("RGB")).getbbox()
    assert changed is not None
    assert changed[1] > painted.height / 2, "the mark is at the bottom"
