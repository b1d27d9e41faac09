"""Publish, wait for the confirm, then ack: in that order, whatever the broker does."""

import json
from collections import deque
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.failure import FailureCode
from contracts.text2image import Text2ImageRequest
from contracts.topology import service_topology
from node.egress import settlement as settlement_module
from node.egress.settlement import Settlement
from node.errors import (
    BrokerUnavailable,
    Disposition,
    MessageTooLarge,
    PublishRefused,
    TopologyMismatch,
    Unroutable,
)
from node.ports import Delivery, OutgoingMessage
from tests.fakes import InMemoryOutbox, InMemoryServer, ManualClock
from tests.unit.builders import delivery, envelope, failed, job, succeeded

MODEL = "org/model"
RETRYABLE = {"code": FailureCode.INTERNAL, "disposition": Disposition.RETRY}
ELSEWHERE = {"code": FailureCode.MODEL_NOT_AVAILABLE, "disposition": Disposition.FORWARD}


class Broker:
    """An in-memory broker that writes down what happened, in order; `faults` come first."""

    def __init__(self) -> None:
        self.server = InMemoryServer()
        self.server.declare(service_topology("text2image", [MODEL]))
        self.happened: list[str] = []
        self.live = True
        self.orphan = False
        self.lives_through: int | None = None
        self._inner = InMemoryOutbox(self.server)

    @property
    def faults(self) -> deque[Exception]:
        return self._inner.faults

    async def publish(self, message: OutgoingMessage) -> None:
        where = message.exchange.removeprefix("megaservice.") or message.routing_key
        try:
            await self._inner.publish(message)
        except Exception as error:
            self.happened.append(f"{type(error).__name__} {where}")
            if self.lives_through is not None:
                self.lives_through -= 1
                self.live = self.lives_through > 0
            raise
        self.happened.append(f"confirmed {where}")

    def is_live(self, _: Delivery) -> bool:
        return self.live

    def is_orphan(self, _: Delivery) -> bool:
        return self.orphan

    async def ack(self, _: Delivery) -> bool:
        self.happened.append("acked")
        return self.live

    def count(self, queue: str) -> int:
        return len(self.server.queues[queue].items)


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settlement_module, "BACKOFF_FIRST_SECONDS", 0.0)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
def settlement(broker: Broker) -> Settlement:
    return Settlement("text2image", broker, broker, ManualClock())


NOWHERE = envelope(reply_to=None)


async def test_the_result_is_confirmed_before_the_request_is_acked(
    settlement: Settlement, broker: Broker
) -> None:
    assert await settlement.answer(delivery(), NOWHERE, succeeded())
    assert broker.happened == ["confirmed results", "acked"]


@given(faults=st.lists(st.sampled_from([BrokerUnavailable, PublishRefused]), max_size=6))
async def test_whatever_fails_the_ack_is_last_and_follows_a_confirm(
    faults: list[type[Exception]],
) -> None:
    broker = Broker()
    broker.faults.extend(fault("scripted") for fault in faults)
    assert await Settlement("text2image", broker, broker, ManualClock()).answer(
        delivery(), NOWHERE, failed()
    )
    assert broker.happened[-1] == "acked"
    assert broker.happened.count("acked") == 1
    confirmed = [each for each in broker.happened if each.startswith("confirmed")]
    assert confirmed == ["confirmed results", "confirmed dead-letter"]


async def test_a_broker_that_is_away_is_asked_again(settlement: Settlement, broker: Broker) -> None:
    broker.faults.extend([BrokerUnavailable("away"), PublishRefused("full")])
    assert await settlement.answer(delivery(), NOWHERE, succeeded())
    assert broker.happened == [
        "BrokerUnavailable results",
        "PublishRefused results",
        "confirmed results",
        "acked",
    ]


async def test_a_stale_delivery_is_neither_answered_nor_acked(
    settlement: Settlement, broker: Broker
) -> None:
    broker.live = False
    assert not await settlement.answer(delivery(), NOWHERE, succeeded())
    assert broker.happened == []


async def test_a_delivery_whose_queue_was_deleted_is_answered_since_it_never_comes_again(
    settlement: Settlement, broker: Broker
) -> None:
    broker.live, broker.orphan = False, True
    broker.faults.append(BrokerUnavailable("away"))
    await settlement.answer(delivery(), NOWHERE, succeeded())
    assert broker.happened[:2] == ["BrokerUnavailable results", "confirmed results"]


async def test_a_result_that_the_broker_takes_no_message_of_is_a_failure_that_says_so(
    settlement: Settlement, broker: Broker
) -> None:
    broker.faults.append(MessageTooLarge("message size 9 larger than max size 8"))
    assert await settlement.answer(delivery(), NOWHERE, succeeded())
    assert broker.happened == [
        "MessageTooLarge results",
        "confirmed results",
        "confirmed dead-letter",
        "acked",
    ]
    result = json.loads(broker.server.queues["text2image.results"].items[0].message.body)
    assert (result["status"], result["error"]["code"]) == ("failed", "result_too_large")
    assert "NODE_MAX_INLINE_BYTES" in result["error"]["detail"]


async def test_answering_stops_when_the_delivery_goes_stale_meanwhile(
    settlement: Settlement, broker: Broker
) -> None:
    broker.lives_through = 2
    broker.faults.extend([BrokerUnavailable("away")] * 9)
    assert not await settlement.answer(delivery(), NOWHERE, succeeded())
    assert broker.happened == ["BrokerUnavailable results"] * 2


async def test_a_result_that_nobody_waits_for_any_more_is_kept(
    settlement: Settlement, broker: Broker
) -> None:
    assert await settlement.answer(delivery(), envelope(reply_to="gone"), succeeded())
    assert broker.happened == ["Unroutable gone", "confirmed results", "acked"]
    assert broker.count("text2image.results") == 1


async def test_a_reply_queue_that_we_may_not_write_to_is_like_one_that_is_gone(
    settlement: Settlement, broker: Broker
) -> None:
    broker.faults.append(TopologyMismatch("access refused"))
    assert await settlement.answer(delivery(), envelope(reply_to="forbidden"), succeeded())
    assert broker.happened[1:] == ["confirmed results", "acked"]


async def test_what_can_never_succeed_is_put_aside_after_its_result(
    settlement: Settlement, broker: Broker
) -> None:
    assert await settlement.answer(delivery(), NOWHERE, failed())
    assert broker.happened == ["confirmed results", "confirmed dead-letter", "acked"]
    assert broker.server.queues["text2image.dead"].items[0].message.body == b"original"


async def test_what_the_broker_put_aside_already_is_not_put_aside_again(
    settlement: Settlement, broker: Broker
) -> None:
    assert await settlement.answer(delivery("text2image.unanswered"), NOWHERE, failed())
    assert broker.happened == ["confirmed results", "acked"]


async def test_success_leaves_nothing_in_the_dead_letter_queue(
    settlement: Settlement, broker: Broker
) -> None:
    await settlement.answer(delivery(), NOWHERE, succeeded())
    assert broker.count("text2image.dead") == 0


async def test_a_failure_that_may_pass_waits_for_its_next_attempt(
    settlement: Settlement, broker: Broker
) -> None:
    assert await settlement.send_on(delivery(), job(), failed(**RETRYABLE))
    assert broker.happened == ["confirmed retry", "acked"]
    assert broker.count("text2image.retry.5s") == 1


async def test_a_request_for_another_model_goes_to_the_queue_of_that_model(
    settlement: Settlement, broker: Broker
) -> None:
    request = Text2ImageRequest(prompt="x", model=MODEL)
    assert await settlement.send_on(delivery(), job(request=request), failed(**ELSEWHERE))
    assert broker.happened == ["confirmed requests", "acked"]
    assert broker.count("text2image.model.org-model") == 1


async def test_a_request_for_a_model_that_nobody_offers_must_be_answered_here(
    settlement: Settlement, broker: Broker
) -> None:
    request = Text2ImageRequest(prompt="x", model="nobody/has-it")
    assert not await settlement.send_on(delivery(), job(request=request), failed(**ELSEWHERE))
    assert broker.happened == ["Unroutable requests"]


async def test_a_request_that_came_from_its_models_queue_is_not_sent_there_again(
    settlement: Settlement, broker: Broker
) -> None:
    request = Text2ImageRequest(prompt="x", model=MODEL)
    came_from_there = delivery("text2image.model.org-model")
    assert not await settlement.send_on(came_from_there, job(request=request), failed(**ELSEWHERE))
    assert broker.happened == []


@pytest.mark.parametrize("disposition", [Disposition.ACK, Disposition.DEAD_LETTER])
async def test_what_is_final_is_not_sent_on(
    settlement: Settlement, broker: Broker, disposition: Disposition
) -> None:
    outcome = replace(failed(), disposition=disposition)
    assert not await settlement.send_on(delivery(), job(), outcome)
    assert broker.happened == []


async def test_sending_on_is_repeated_until_confirmed(
    settlement: Settlement, broker: Broker
) -> None:
    broker.faults.append(BrokerUnavailable("away"))
    assert await settlement.send_on(delivery(), job(), failed(**RETRYABLE))
    assert broker.happened == ["BrokerUnavailable retry", "confirmed retry", "acked"]


async def test_a_stale_request_is_not_sent_on_because_it_comes_again(
    settlement: Settlement, broker: Broker
) -> None:
    broker.live = False
    assert await settlement.send_on(delivery(), job(), failed(**RETRYABLE))
    assert broker.happened == []


async def test_missing_retry_queues_are_said_by_false(
    settlement: Settlement, broker: Broker
) -> None:
    broker.faults.append(Unroutable("no queue"))
    assert not await settlement.send_on(delivery(), job(), failed(**RETRYABLE))
