"""What tests of the captioner share."""

import base64
import io
from typing import Any

from PIL import Image

from contracts.captioner import CaptionerRequest, CaptionerResult
from contracts.result import Status
from node.settings import Settings
from orchestrator_example.services.captioner import Captioner
from tests.served import Recording


def file_of(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


BLANK = file_of(Image.new("RGB", (128, 128), "white"))


async def loaded(**given: Any) -> Captioner:
    captioner = Captioner(Settings(device="cpu", dtype="float32", **given))
    await captioner.load(lambda state: None)
    return captioner


async def captioned(
    captioner: Captioner, invocation: Recording | None = None, **given: Any
) -> CaptionerResult:
    result = await captioner.invoke(CaptionerRequest(**given), invocation or Recording())
    assert isinstance(result, CaptionerResult)
    assert result.status is Status.SUCCEEDED
    return result
