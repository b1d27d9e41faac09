"""The harness notices what it is there to notice: books that never show a loss prove nothing."""

import base64
from collections.abc import AsyncIterator

import aio_pika
import pytest

from contracts.result import Status
from contracts.text2image import Text2ImageResult
from contracts.topology import service_topology
from tests.faults.harness.account import Account
from tests.faults.harness.broker import FaultyBroker
from tests.faults.harness.paced import MODEL, expected_image, generated, paced
from tests.faults.harness.report import FOLDER_VARIABLE, assert_nothing_lost
from tests.harness import SERVICE


class Liar:
    """Stands in for a node, and answers what it is told to."""

    def __init__(self, channel: aio_pika.abc.AbstractChannel) -> None:
        self._channel = channel

    async def take(self) -> aio_pika.abc.AbstractIncomingMessage:
        """Take the next request."""
        queue = await self._channel.get_queue(SERVICE, ensure=False)
        message = await queue.get(no_ack=True)
        assert message is not None
        return message

    async def answer(
        self, request: aio_pika.abc.AbstractIncomingMessage, *pictures: bytes, status: Status
    ) -> None:
        """Send a result with these files."""
        result = Text2ImageResult(
            job_id=str(request.message_id),
            status=status,
            images=[generated(data, index) for index, data in enumerate(pictures)],
        )
        message = aio_pika.Message(result.to_json(), type=f"{SERVICE}.result")
        await self._channel.default_exchange.publish(message, str(request.reply_to))


@pytest.fixture(autouse=True)
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is lost here on purpose must not be counted."""
    monkeypatch.delenv(FOLDER_VARIABLE, raising=False)


@pytest.fixture
async def liar(broker: FaultyBroker, account: Account) -> AsyncIterator[Liar]:
    """Requests go to nobody else."""
    await account.broker.apply(service_topology(SERVICE, [MODEL]))
    connection = await aio_pika.connect(broker.url)
    async with connection, connection.channel() as channel:
        yield Liar(channel)


async def test_a_request_that_nobody_answers_is_lost(liar: Liar, account: Account) -> None:
    await account.submit()
    await liar.take()
    report = await account.settled(patience_seconds=1.0)
    assert report.lost == 1
    with pytest.raises(AssertionError, match="lost"):
        assert_nothing_lost(report)


async def test_a_picture_that_was_not_asked_for_is_unexpected(liar: Liar, account: Account) -> None:
    await account.submit()
    request = await liar.take()
    await liar.answer(request, base64.b64decode("iVBORw0KGgo="), status=Status.SUCCEEDED)
    report = await account.settled()
    assert (report.succeeded, report.unexpected) == (1, 1)
    with pytest.raises(AssertionError, match="another answer"):
        assert_nothing_lost(report)


async def test_an_end_that_was_not_asked_for_is_unexpected(liar: Liar, account: Account) -> None:
    await account.submit(ends=["succeeded"])
    await liar.answer(await liar.take(), status=Status.CANCELLED)
    report = await account.settled()
    assert (report.cancelled, report.unexpected) == (1, 1)


async def test_a_second_copy_that_differs_is_unexpected(liar: Liar, account: Account) -> None:
    request = paced()
    await account.submit(request, ends=["succeeded", "cancelled"])
    taken = await liar.take()
    await liar.answer(taken, expected_image(request, 0), status=Status.SUCCEEDED)
    await liar.answer(taken, status=Status.CANCELLED)
    report = await account.settled()
    assert (report.succeeded, report.second_copies, report.unexpected) == (1, 1, 1)


async def test_an_equal_second_copy_is_counted_and_not_seen(liar: Liar, account: Account) -> None:
    request = paced()
    job = await account.submit(request)
    taken = await liar.take()
    for _ in range(2):
        await liar.answer(taken, expected_image(request, 0), status=Status.SUCCEEDED)
    await account.copies(job, 2)
    report = await account.settled()
    assert (report.second_copies, report.visible_twice) == (1, 0)
    assert_nothing_lost(report)
