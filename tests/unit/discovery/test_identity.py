"""What a node says about itself."""

import pytest

from contracts.discovery import NodeState, ServiceMetadata
from node import __version__
from node.discovery.identity import Figures, Identity

STARTED_MS = 1_785_000_000_123


@pytest.fixture
def figures() -> list[Figures]:
    """What the node has done; a test replaces it."""
    return [Figures(0, 0, None, 0.0)]


@pytest.fixture
def identity(figures: list[Figures]) -> Identity:
    about = ServiceMetadata(service_type="TEXT2IMAGE", state=NodeState.READY)
    return Identity("text2image", "Images", "one", STARTED_MS, lambda: about, lambda: figures[-1])


def test_announcements_are_numbered_and_the_goodbye_comes_after_all(identity: Identity) -> None:
    numbers = [identity.announcement().seq, identity.announcement().seq, identity.goodbye("x").seq]
    assert numbers == [1, 2, 3]


def test_an_answer_to_ping_has_the_number_of_the_latest_announcement(identity: Identity) -> None:
    identity.announcement()
    assert identity.ping_reply().seq == 1
    assert identity.announcement().seq == 2


def test_every_message_says_who_and_since_when(identity: Identity) -> None:
    for message in (identity.announcement(), identity.ping_reply(), identity.goodbye("draining")):
        assert (message.name, message.id) == ("text2image", "one")
        assert message.incarnation == STARTED_MS
    assert identity.announcement().version == __version__


def test_an_endpoint_is_the_queue_that_the_instances_share(identity: Identity) -> None:
    (endpoint,) = identity.info_reply().endpoints
    assert (endpoint.name, endpoint.subject, endpoint.queue_group) == ("text2image",) * 3


def test_stats_tell_what_was_done(identity: Identity, figures: list[Figures]) -> None:
    figures.append(Figures(4, 1, "the last one", 6.0))
    reply = identity.stats_reply()
    (stats,) = reply.endpoints
    assert (stats.num_requests, stats.num_errors, stats.last_error) == (4, 1, "the last one")
    assert (stats.processing_time, stats.average_processing_time) == (6.0, 1.5)
    assert reply.started == "2026-07-25T17:20:00.123Z"


def test_the_average_of_nothing_is_nothing(identity: Identity) -> None:
    assert identity.stats_reply().endpoints[0].average_processing_time == 0.0
