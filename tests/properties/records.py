"""What a broker saw: everything that was published, and every delivery that went back."""

import json
from collections import Counter
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

from contracts.message import HEADER_ATTEMPT
from contracts.topology import DEAD_LETTER, REQUESTS, RETRY
from node.ports import OutgoingMessage
from tests.fakes import InMemoryServer

PUBLISHER: ContextVar[str] = ContextVar("publisher", default="nobody")
BROKER = "broker"
OPERATOR = "caller-3"


@dataclass(frozen=True, slots=True)
class Published:
    """A message that reached at least one queue."""

    publisher: str
    message: OutgoingMessage


@dataclass(frozen=True, slots=True)
class Answer:
    """A result on the wire."""

    publisher: str
    job_id: str
    correlation_id: str | None
    body: bytes

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body))

    @property
    def code(self) -> str | None:
        error = self.document["error"]
        return error["code"] if error else None


class RecordingServer(InMemoryServer):
    """An in-memory broker that writes down what it does."""

    def __init__(self) -> None:
        super().__init__()
        self.routed: list[Published] = []
        self.touched: Counter[str] = Counter()
        """How often a delivery of a job went back, by job id."""
        self.deliveries: Counter[str] = Counter()
        """The most deliveries that a message had from a queue, by the name of the queue."""

    def publish(self, message: OutgoingMessage) -> int:
        count = super().publish(message)
        if count:
            self.routed.append(Published(PUBLISHER.get(), message))
        return count

    def dead_letter(self, queue: Any, item: Any, reason: str) -> None:
        token = PUBLISHER.set(BROKER)
        try:
            super().dead_letter(queue, item, reason)
        finally:
            PUBLISHER.reset(token)

    def give_back(self, queue: Any, item: Any) -> None:
        self.touched[item.message.properties.message_id] += 1
        self.deliveries[queue.name] = max(self.deliveries[queue.name], item.deliveries)
        super().give_back(queue, item)

    def answers(self) -> list[Answer]:
        """List the results on the wire, in order."""
        return [
            Answer(
                each.publisher,
                json.loads(each.message.body)["job_id"],
                each.message.properties.correlation_id,
                each.message.body,
            )
            for each in self.routed
            if each.message.properties.type == "text2image.result"
        ]

    def requests(self, job_id: str) -> int:
        """Count how often a job was put into a queue of requests."""
        return sum(
            each.message.exchange == REQUESTS and each.message.properties.message_id == job_id
            for each in self.routed
        )

    def replays(self, job_id: str) -> int:
        """Count how often a person let a job run again."""
        return sum(
            each.message.exchange == REQUESTS
            and each.publisher == OPERATOR
            and each.message.properties.message_id == job_id
            for each in self.routed
        )

    def attempts(self) -> list[int]:
        """List the attempts that were asked for by retries."""
        retries = (each.message for each in self.routed if each.message.exchange == RETRY)
        return [message.properties.headers[HEADER_ATTEMPT] for message in retries]

    def given_up(self, job_id: str) -> set[str]:
        """Say for which reasons the broker dead-lettered requests of a job."""
        headers = (each.properties.headers for each in self._dead_letters_of(job_id))
        return {each["x-death"][0]["reason"] for each in headers if "x-death" in each}

    def _dead_letters_of(self, job_id: str) -> list[OutgoingMessage]:
        return [each for each in self.dead_letters() if each.properties.message_id == job_id]

    def dead_letters(self) -> list[OutgoingMessage]:
        """List what was put aside for people: by nodes, and by the broker."""
        return [each.message for each in self.routed if each.message.exchange == DEAD_LETTER]
