"""The messages of every service that comes with the package."""

from typing import Final

from contracts.events import StageEvent
from contracts.megaservice import MegaServiceRequest, MegaServiceResult
from contracts.message import Message
from contracts.service import ServiceContract

KNOWN_MESSAGES: Final[tuple[type[Message], ...]] = (
    *ServiceContract().messages,
    MegaServiceRequest,
    MegaServiceResult,
    StageEvent,
)
