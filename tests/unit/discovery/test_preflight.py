"""Whether a request could be done, and what a caller is told when it could not."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.discovery import ModelInfo, ModelLimits, NodeState, ServiceMetadata
from contracts.message import Message
from contracts.text2image import Text2ImageRequest
from node.discovery.preflight import MAX_NAMED, Verdict, can_serve
from node.discovery.table import ServiceEntry
from node.errors import InvalidRequest
from node.inference.parameters import check_limits

LIMITS = {"min_pixels": 64, "max_pixels": 1024, "max_images": 4, "max_inference_steps": 100}


def model(id: str = "org/one", **given: Any) -> ModelInfo:
    limits = {name: given.pop(name) for name in list(given) if name in ModelLimits.model_fields}
    about = {"warm": True, "default": True, "schedulers": ["Euler", "DDIM"], "loras": ["pixel"]}
    return ModelInfo(**{"id": id, **about, "limits": ModelLimits(**LIMITS | limits)} | given)


def instance(
    name: str = "n1", *models: ModelInfo, service: str = "text2image", **about: Any
) -> ServiceEntry:
    metadata = ServiceMetadata(
        **{"service_type": "X", "state": NodeState.READY, "models": list(models)} | about
    )
    return ServiceEntry(service, name, "1", metadata, (1, 1), live_until=1.0)


def asked(*entries: ServiceEntry, service: str = "text2image", **request: Any) -> Verdict:
    return can_serve(entries, service, Text2ImageRequest(prompt="x", **request))


def only_reason(verdict: Verdict) -> str:
    assert not verdict.possible
    (reason,) = verdict.reasons
    return reason


def test_a_ready_instance_that_offers_everything_can_do_it() -> None:
    verdict = asked(
        instance("n1", model()),
        model="org/one",
        width=512,
        height=1024,
        num_images_per_prompt=4,
        num_inference_steps=100,
        scheduler="DDIM",
        loras=[{"name": "pixel"}],
    )
    assert verdict == Verdict(True)


def test_it_says_that_nobody_is_there() -> None:
    assert only_reason(asked()) == "no instance of text2image is there; nor is any other service"


def test_it_says_who_is_there_instead() -> None:
    others = [instance("a", service="captioner"), instance("b", service="prompt-writer")]
    reason = only_reason(asked(*others))
    assert reason == "no instance of text2image is there; there are: captioner, prompt-writer"


def test_it_says_why_those_who_are_there_take_no_work() -> None:
    reason = only_reason(
        asked(
            instance("n1", model(), state=NodeState.DRAINING),
            instance("n2", model(), state=NodeState.UNHEALTHY, state_reason="the device broke"),
        )
    )
    assert "n1 is draining, n2 is unhealthy (the device broke)" in reason


def test_one_that_starts_will_do_it_and_the_verdict_says_that_it_waits() -> None:
    verdict = asked(instance("n1", model(warm=False), state=NodeState.STARTING))
    assert verdict == Verdict(True, ("it waits until one is ready: n1 is starting",))


def test_a_ready_one_does_not_wait_for_another_that_starts() -> None:
    starting = instance("n1", model(), state=NodeState.STARTING)
    assert asked(starting, instance("n2", model())) == Verdict(True)


def test_it_waits_where_only_the_one_that_starts_can_do_it() -> None:
    starting = instance("n1", model(max_pixels=4096), state=NodeState.STARTING)
    verdict = asked(starting, instance("n2", model()), width=2048)
    assert (verdict.possible, len(verdict.reasons)) == (True, 1)


def test_a_model_that_nobody_offers_is_told_with_those_that_are() -> None:
    entries = [instance("n1", model("a"), model("b", default=False)), instance("n2", model("b"))]
    reason = only_reason(asked(*entries, model="c"))
    assert reason == "model: no instance of text2image offers 'c'; offered are: a, b"


def test_a_model_of_one_that_drains_is_not_offered() -> None:
    draining = instance("n1", model("a"), state=NodeState.DRAINING)
    assert "offered are: b" in only_reason(asked(draining, instance("n2", model("b")), model="a"))


@pytest.mark.parametrize(
    ("request_", "parts"),
    [
        ({"width": 2048}, ["width", "2048", "64..1024"]),
        ({"height": 8}, ["height", "8", "64..1024"]),
        ({"width": 520}, ["width", "520", "multiple of 64"]),
        ({"num_images_per_prompt": 5}, ["num_images_per_prompt", "5", "4"]),
        ({"num_inference_steps": 101}, ["num_inference_steps", "101", "100"]),
        ({"prompt": "x" * 51}, ["prompt", "51", "50"]),
        ({"negative_prompt": "x" * 51}, ["negative_prompt", "51", "50"]),
        ({"scheduler": "Karras"}, ["scheduler", "Karras", "Euler, DDIM"]),
        ({"loras": [{"name": "oil"}]}, ["loras", "oil", "pixel"]),
    ],
)
def test_what_is_beyond_every_instance_is_told_with_its_bounds(
    request_: dict[str, Any], parts: list[str]
) -> None:
    offered = model(size_granularity=64, max_prompt_chars=50)
    request = Text2ImageRequest(**{"prompt": "x"} | request_)
    reason = only_reason(can_serve([instance("n1", offered)], "text2image", request))
    assert reason.startswith(f"{parts[0]}: ")
    for part in parts[1:]:
        assert part in reason


def test_bounds_that_differ_are_all_told() -> None:
    entries = [instance("n1", model()), instance("n2", model(max_pixels=2048))]
    reason = only_reason(asked(*entries, width=4096))
    assert reason == "width: 4096 is outside of 64..1024, 4096 is outside of 64..2048"


def test_every_field_that_nobody_can_do_is_told() -> None:
    verdict = asked(instance("n1", model()), width=2048, num_images_per_prompt=9)
    assert [reason.split(":")[0] for reason in verdict.reasons] == [
        "width",
        "num_images_per_prompt",
    ]


def test_instances_of_which_each_can_do_a_part_are_told_one_by_one() -> None:
    large, many = model(max_pixels=4096), model(max_images=16)
    verdict = asked(
        instance("large", large), instance("many", many), width=2048, num_images_per_prompt=9
    )
    assert not verdict.possible
    assert verdict.reasons == (
        "no single instance can do all of it",
        "large: num_images_per_prompt: 9 is more than 4",
        "many: width: 2048 is outside of 64..1024",
    )


def test_one_of_several_is_enough() -> None:
    entries = [instance("n1", model()), instance("n2", model(max_pixels=4096))]
    assert asked(*entries, width=2048).possible


def test_a_request_without_a_model_gets_the_default_one() -> None:
    small, large = model("small"), model("large", default=False, max_pixels=4096)
    assert not asked(instance("n1", small, large), width=2048).possible
    assert asked(instance("n1", small, large), width=2048, model="large").possible


def test_schedulers_that_nobody_knows_yet_are_not_held_against_it() -> None:
    unloaded = model(warm=False, schedulers=[])
    assert asked(instance("n1", unloaded), scheduler="Karras").possible


def test_a_model_without_loras_says_so() -> None:
    reason = only_reason(asked(instance("n1", model(loras=[])), loras=[{"name": "oil"}]))
    assert "none at all" in reason


class Caption(Message):
    """A request to another service."""

    image: str
    model: str | None = None


def test_of_other_services_only_what_they_announce_is_judged() -> None:
    captioner = instance("c1", service="captioner")
    assert can_serve([captioner], "captioner", Caption(image="…", model="any")) == Verdict(True)
    offering = instance("c1", model("blip"), service="captioner")
    assert can_serve([offering], "captioner", Caption(image="…")).possible
    assert not can_serve([offering], "captioner", Caption(image="…", model="any")).possible


def test_a_large_fleet_makes_no_long_sentence() -> None:
    entries = [instance(f"n{i}", model(), state=NodeState.DRAINING) for i in range(500)]
    reason = only_reason(asked(*entries))
    assert reason.count("is draining") == MAX_NAMED
    assert reason.endswith(f"{500 - MAX_NAMED} more")


@given(
    width=st.integers(1, 40).map(lambda n: n * 8),
    images=st.integers(1, 6),
    steps=st.integers(1, 20),
    granularity=st.sampled_from([8, 16, 64]),
)
def test_it_judges_as_the_node_does(width: int, images: int, steps: int, granularity: int) -> None:
    offered = model(
        max_pixels=256, max_images=4, max_inference_steps=10, size_granularity=granularity
    )
    request = Text2ImageRequest(
        prompt="x", width=width, num_images_per_prompt=images, num_inference_steps=steps
    )
    try:
        check_limits(request, offered.limits)
        admitted = True
    except InvalidRequest:
        admitted = False
    assert can_serve([instance("n1", offered)], "text2image", request).possible is admitted
