"""What a listener takes in: who may say what."""

import json
from typing import Any

import pytest

from contracts import examples
from contracts.discovery import Announcement, Goodbye, InfoReply, PingReply, StatsReply
from contracts.message import Message
from contracts.topology import DISCOVERY
from node.discovery.trust import MAX_MESSAGE_BYTES, Doubt, is_named_like, read_news
from node.ports import IncomingMessage, Properties
from tests.unit.discovery.messages import announcement, goodbye, ping_reply

ME = "listener-1"


def read(key: str, said: Message | bytes, *, user: str | None = None, verify: bool = False) -> Any:
    body = said if isinstance(said, bytes) else said.to_json()
    message = IncomingMessage(DISCOVERY, key, body, Properties(), user_id=user)
    return read_news(message, ME, verify=verify)


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("announce.text2image.one", announcement()),
        ("goodbye.text2image.one", goodbye()),
        (f"reply.{ME}", ping_reply()),
    ],
)
def test_what_comes_under_its_own_name_is_taken_in(key: str, said: Message) -> None:
    assert read(key, said) == said


@pytest.mark.parametrize("kind", [Announcement, PingReply, InfoReply, StatsReply, Goodbye])
def test_every_kind_of_news_is_told_from_the_others(kind: type[Message]) -> None:
    (example,) = kind.model_json_schema()["examples"]
    keys = {Announcement: "announce.text2image.6f1c2a", Goodbye: "goodbye.text2image.6f1c2a"}
    assert type(read(keys.get(kind, f"reply.{ME}"), json.dumps(example).encode())) is kind


@pytest.mark.parametrize(
    ("key", "said"),
    [
        ("announce.captioner.one", announcement()),
        ("announce.text2image.two", announcement()),
        ("announce.text2image", announcement()),
        ("announce.text2image.one.x", announcement()),
        ("goodbye.text2image.one", announcement()),
        (f"reply.{ME}", announcement()),
        ("goodbye.captioner.one", goodbye()),
        ("goodbye.text2image.two", goodbye()),
        ("announce.text2image.one", goodbye()),
        ("announce.text2image.one", ping_reply()),
        ("reply.listener-2", ping_reply()),
    ],
)
def test_nobody_is_believed_to_be_somebody_else(key: str, said: Message) -> None:
    doubt = read(key, said)
    assert (type(doubt), doubt.event) == (Doubt, "discovery.not_believed")
    assert key in doubt.reason


@pytest.mark.parametrize("name", ["a.b", "", "*", "#", "a b", "\x1b[2J", "a\n", "x" * 129])
def test_a_name_is_one_word_of_a_routing_key(name: str) -> None:
    for given in ({"name": name}, {"instance": name}):
        said = announcement(**given)
        doubt = read(f"announce.{said.name}.{said.id}", said)
        assert (type(doubt), doubt.event) == (Doubt, "discovery.not_believed")
        assert doubt.reason.isprintable()


@pytest.mark.parametrize(
    "body",
    [b"", b"\xff\x00", b"[]", b"null", b"{}", b'{"type": "x"}', b'{"type": []}', b"[" * 10_000],
)
def test_nonsense_is_left_aside_with_a_short_reason(body: bytes) -> None:
    doubt = read("announce.text2image.one", body)
    assert doubt.event == "discovery.not_understood"
    assert 0 < len(doubt.reason) < 400


def test_what_is_too_large_is_not_read() -> None:
    said = announcement(description="x" * MAX_MESSAGE_BYTES)
    assert "at most" in read("announce.text2image.one", said).reason


def test_a_node_with_fifty_models_is_not_too_large() -> None:
    model = {**examples.MODEL, "schedulers": [f"ASchedulerWithALongName{i}" for i in range(14)]}
    about = {**examples.METADATA, "models": [model] * 50}
    said = announcement(metadata=about)
    assert read("announce.text2image.one", said) == said


def test_a_later_version_that_says_more_is_seen() -> None:
    said = json.loads(announcement().to_json())
    said["mood"] = said["metadata"]["mood"] = {"x": 1}
    assert read("announce.text2image.one", json.dumps(said).encode()) == announcement()


@pytest.mark.parametrize("user", ["text2image", "text2image.gpu-1"])
def test_a_user_who_is_named_like_the_service_speaks_for_it(user: str) -> None:
    for key, said in (
        ("announce.text2image.one", announcement()),
        ("goodbye.text2image.one", goodbye()),
        (f"reply.{ME}", ping_reply()),
    ):
        assert read(key, said, user=user, verify=True) == said


@pytest.mark.parametrize("user", [None, "", "captioner", "text2image-x", "TEXT2IMAGE", "guest"])
def test_any_other_user_does_not(user: str | None) -> None:
    for key, said in (
        ("announce.text2image.one", announcement()),
        ("goodbye.text2image.one", goodbye()),
        (f"reply.{ME}", ping_reply()),
    ):
        doubt = read(key, said, user=user, verify=True)
        assert (type(doubt), doubt.event) == (Doubt, "discovery.not_believed")
        assert repr(user) in doubt.reason


def test_a_service_whose_name_begins_like_another_is_no_user_of_it() -> None:
    assert not is_named_like("prompt-writer", "prompt")
