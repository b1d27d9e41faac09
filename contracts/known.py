"""The messages of every service that comes with the package."""

from typing import Final

from contracts.captioner import CaptionerRequest, CaptionerResult
from contracts.events import StageEvent
from contracts.guardrail import GuardrailRequest, GuardrailResult
from contracts.http_bridge import BridgeRequest, BridgeResult
from contracts.image2image import Image2ImageRequest, Image2ImageResult
from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.message import Message
from contracts.prompt_writer import PromptWriterRequest, PromptWriterResult
from contracts.service import ServiceContract

KNOWN_MESSAGES: Final[tuple[type[Message], ...]] = (
    *ServiceContract().messages,
    MegaServiceRequest,
    MegaServiceResult,
    StageEvent,
    PromptWriterRequest,
    PromptWriterResult,
    CaptionerRequest,
    CaptionerResult,
    Image2ImageRequest,
    Image2ImageResult,
    GuardrailRequest,
    GuardrailResult,
    BridgeRequest,
    BridgeResult,
)
