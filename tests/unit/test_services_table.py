"""The table of live services, for people."""

import io
from typing import Any

import pytest
from rich.console import Console

from contracts.discovery import LoadState, ModelInfo, ModelLimits, NodeState, ServiceMetadata
from node.discovery.directory import ServiceEntry
from node.services_table import services_table

LIMITS = ModelLimits(min_pixels=64, max_pixels=1024, max_images=4, max_inference_steps=100)


def drawn(*abouts: ServiceMetadata) -> str:
    console = Console(file=io.StringIO(), width=200)
    entries = [
        ServiceEntry("text2image", f"node-{n}", "1", about, (1, 1), 0.0)
        for n, about in enumerate(abouts)
    ]
    console.print(services_table(entries))
    return console.file.getvalue()


def about(**given: Any) -> ServiceMetadata:
    return ServiceMetadata(**{"service_type": "TEXT2IMAGE", "state": NodeState.READY} | given)


def test_an_empty_table_says_so() -> None:
    assert "no service is announced" in drawn()


def test_a_service_is_a_line_with_what_people_ask_for() -> None:
    text = drawn(
        about(
            models=[ModelInfo(id="org/model", warm=True, limits=LIMITS)],
            device="cuda:0",
            dtype="bfloat16",
            slots_total=2,
            slots_busy=1,
            local_queue_depth=3,
            p50_seconds_per_image=1.234,
            http_port=8081,
        )
    )
    line = next(line for line in text.splitlines() if "node-0" in line)
    for cell in ("ready", "org/model", "cuda:0 bfloat16", "1/2", "3", "1.23", ":8081"):
        assert cell in line


def test_loading_shows_how_far_it_is() -> None:
    loading = LoadState(stage="downloading", model="m", bytes_done=25, bytes_total=100)
    assert "downloading 25%" in drawn(about(state=NodeState.STARTING, loading=loading))


@pytest.mark.parametrize("device", ["[/red]", "[bold]", "[link=x]"])
def test_what_others_announce_is_text_and_not_markup(device: str) -> None:
    assert device in drawn(about(device=device, dtype="x"))
