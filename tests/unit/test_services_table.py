"""What a person or a program sees of the services that are there."""

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from contracts.discovery import (
    EndpointStats,
    LoadState,
    ModelInfo,
    ModelLimits,
    NodeState,
    ServiceMetadata,
    StatsReply,
)
from node.discovery.table import ServiceEntry
from node.services_table import View, services_json, services_table, told

LIMITS = ModelLimits(min_pixels=64, max_pixels=1024, max_images=4, max_inference_steps=100)


def about(**given: Any) -> ServiceMetadata:
    return ServiceMetadata(**{"service_type": "TEXT2IMAGE", "state": NodeState.READY} | given)


def entry(name: str = "node-0", metadata: ServiceMetadata | None = None) -> ServiceEntry:
    return ServiceEntry("text2image", name, "1", metadata or about(), (1, 1), 15.0)


def drawn(view: View) -> str:
    console = Console(file=io.StringIO(), width=200)
    console.print(services_table(view))
    return console.file.getvalue()


def drawn_as(**given: Any) -> str:
    return drawn(View([entry(metadata=about(**given))], now=0.0))


def test_an_empty_table_says_so() -> None:
    assert "no service is announced" in drawn(View([], now=0.0))


def test_a_service_is_a_line_with_what_people_ask_for() -> None:
    text = drawn_as(
        models=[ModelInfo(id="org/model", warm=True, limits=LIMITS)],
        device="cuda:0",
        dtype="bfloat16",
        slots_total=2,
        slots_busy=1,
        local_queue_depth=3,
        p50_seconds_per_image=1.234,
        http_port=8081,
    )
    line = next(line for line in text.splitlines() if "node-0" in line)
    for cell in ("ready", "org/model", "cuda:0 bfloat16", "1/2 +3", "1.23", ":8081"):
        assert cell in line


def test_loading_shows_how_far_it_is() -> None:
    loading = LoadState(stage="downloading", model="m", bytes_done=25, bytes_total=100)
    assert "downloading 25%" in drawn_as(state=NodeState.STARTING, loading=loading)


def test_on_a_narrow_terminal_what_matters_most_stays_whole() -> None:
    model = ModelInfo(id="stabilityai/stable-diffusion-xl-base-1.0", warm=True, limits=LIMITS)
    metadata = about(models=[model], device="cuda:0", dtype="bfloat16", http_port=8081)
    console = Console(file=io.StringIO(), width=80)
    view = View([entry("6f1c2a9d01b2", metadata)], now=0.0)
    console.print(services_table(view, console.width))
    text = console.file.getvalue()
    line = next(line for line in text.splitlines() if "text2image" in line)
    for cell in ("6f1c2a9d01b2", "ready", "0/1"):
        assert cell in line
    assert "…" not in text


def test_it_shows_how_long_ago_an_instance_was_heard() -> None:
    heard = replace(entry(), heard_at=100.0)
    assert "4 s " in drawn(View([heard], now=104.2))


def test_what_only_grew_older_is_nothing_new() -> None:
    assert told(View([entry()], now=1.0)) == told(View([entry()], now=4.0))
    assert told(View([entry()], now=1.0)) != told(View([entry("node-1")], now=1.0))
    assert told(View([entry()], now=1.0)) != told(View([entry()], now=1.0, cut_off="gone"))


def test_a_duplicate_is_marked_and_the_remedy_told() -> None:
    text = drawn(View([replace(entry(), duplicate=True), entry("node-1")], now=0.0))
    assert "ready, TWICE" in text
    assert "two processes use the id node-0:" in text
    assert "NODE_INSTANCE_ID" in text


def test_a_broker_that_is_away_is_told_beside_what_was_known() -> None:
    text = drawn(View([entry()], now=0.0, cut_off="connection lost: reset by peer"))
    assert "broker away: connection lost: reset by peer" in text
    assert "node-0" in text


def test_a_broker_that_is_away_is_not_taken_for_an_empty_one() -> None:
    text = drawn(View([], now=0.0, cut_off="connection lost"))
    assert "broker away" in text
    assert "no service is announced" not in text


@pytest.mark.parametrize("device", ["[/red]", "[bold]", "[link=x]"])
def test_what_others_announce_is_text_and_not_markup(device: str) -> None:
    assert device in drawn_as(device=device, dtype="x")


@pytest.mark.parametrize("device", ["\x1b[2J", "a\rb", "a\nb", "\x9b1m", "\u202egnp"])
def test_what_others_announce_never_commands_the_terminal(device: str) -> None:
    lines = drawn_as(device=device, dtype="x").splitlines()
    assert all(line.isprintable() for line in lines)
    assert len(lines) == len(drawn_as(device="a", dtype="x").splitlines())


class TestStats:
    """What each instance has done."""

    @pytest.fixture
    def reply(self) -> StatsReply:
        done = EndpointStats(
            name="text2image",
            subject="text2image",
            queue_group="text2image",
            num_requests=12,
            num_errors=1,
            last_error="out of\nmemory",
            processing_time=27.0,
            average_processing_time=2.25,
        )
        return StatsReply(
            name="text2image",
            id="node-0",
            version="1",
            metadata=about(),
            started="2026-01-31T12:00:00.000Z",
            endpoints=[done],
        )

    def test_they_are_shown(self, reply: StatsReply) -> None:
        text = drawn(View([entry()], now=0.0, stats={("text2image", "node-0"): reply}))
        line = next(line for line in text.splitlines() if "node-0" in line)
        for cell in ("2026-01-31T12:00:00.000Z", "12", "1", "2.25", "out of\ufffdmemory"):
            assert cell in line

    def test_who_did_not_answer_is_shown_as_such(self) -> None:
        assert "not answered" in drawn(View([entry()], now=0.0, stats={}))

    def test_programs_get_them_as_well(self, reply: StatsReply) -> None:
        view = View([entry()], now=0.0, stats={("text2image", "node-0"): reply})
        (service,) = services_json(view)["services"]
        assert service["stats"][0]["num_requests"] == 12


def test_programs_get_everything() -> None:
    twice = replace(entry(), duplicate=True, heard_at=1.0)
    document = json.loads(json.dumps(services_json(View([twice], now=4.0))))
    assert (document["listening"], document["problem"]) == (True, "")
    (service,) = document["services"]
    assert (service["name"], service["id"], service["state"]) == ("text2image", "node-0", "ready")
    assert (service["duplicate"], service["heard_seconds_ago"]) == (True, 3)
    assert service["metadata"]["service_type"] == "TEXT2IMAGE"
    assert service["stats"] is None


def test_programs_get_to_know_that_the_broker_is_away() -> None:
    document = services_json(View([], now=0.0, cut_off="connection lost"))
    assert (document["listening"], document["problem"]) == (False, "connection lost")
