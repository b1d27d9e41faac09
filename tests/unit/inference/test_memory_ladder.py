"""Plans are tried in turn, and what ran out of memory is remembered."""

from collections.abc import Collection, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from contracts.result import Status
from node.errors import JobStopped, OutOfMemory
from node.inference.memory_ladder import REMEMBERED_SECONDS, MemoryLadder, Shape
from node.inference.memory_plan import PLAIN, Measure, MemoryPlan, Phase

TILING = frozenset({Measure.VAE_TILING})
OFFLOAD = frozenset({Measure.MODEL_OFFLOAD})
ALL = TILING | OFFLOAD
SQUARE = Shape("sd", 512, 512)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Device:
    """Has memory for the plans that it is told of, and writes down what was attempted."""

    def __init__(self, *fitting: frozenset[Measure], phase: Phase = Phase.DECODE) -> None:
        self.fitting = fitting
        self.phase = phase
        self.attempts: list[frozenset[Measure]] = []

    def attempt(self, plan: MemoryPlan) -> None:
        self.attempts.append(plan.measures)
        if plan.measures not in self.fitting:
            raise OutOfMemory(f"no memory with {plan}")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def ladder(clock: Clock) -> MemoryLadder:
    return MemoryLadder(clock)


@pytest.fixture
def logs() -> Iterator[list[Any]]:
    with capture_logs() as logs:
        yield logs


def climb(
    ladder: MemoryLadder,
    device: Device,
    shape: Shape = SQUARE,
    usable: Collection[Measure] = ALL,
) -> MemoryPlan:
    return ladder.climb(shape, usable, device.attempt, lambda: device.phase)


def test_a_picture_that_fits_is_made_in_the_plain_way(ladder: MemoryLadder, logs: Any) -> None:
    device = Device(PLAIN.measures)
    assert climb(ladder, device) == PLAIN
    assert len(device.attempts) == 1
    assert logs == []


def test_plans_are_tried_in_turn_until_one_fits(ladder: MemoryLadder) -> None:
    device = Device(ALL)
    assert climb(ladder, device).measures == ALL
    assert device.attempts == [PLAIN.measures, TILING, ALL]


def test_each_change_of_plan_is_one_line_of_the_log(ladder: MemoryLadder, logs: Any) -> None:
    climb(ladder, Device(ALL))
    assert [(line["event"], line["from_plan"], line["to_plan"]) for line in logs] == [
        ("memory.plan_changed", "the plain way", "VAE tiling"),
        ("memory.plan_changed", "VAE tiling", "VAE tiling and model offload"),
    ]
    assert {(line["model"], line["width"], line["height"], line["phase"]) for line in logs} == {
        ("sd", 512, 512, "decode")
    }


def test_where_no_plan_fits_the_last_error_is_raised(ladder: MemoryLadder, logs: Any) -> None:
    with pytest.raises(OutOfMemory, match="with VAE tiling and model offload"):
        climb(ladder, Device())
    assert logs[-1]["event"] == "memory.plans_exhausted"


def test_any_other_error_ends_the_climb(ladder: MemoryLadder) -> None:
    def stopped(plan: MemoryPlan) -> None:
        attempts.append(plan)
        raise JobStopped(Status.CANCELLED)

    attempts: list[MemoryPlan] = []
    with pytest.raises(JobStopped):
        ladder.climb(SQUARE, ALL, stopped, lambda: Phase.DECODE)
    assert attempts == [PLAIN]


def test_the_next_request_of_the_shape_starts_with_what_worked(ladder: MemoryLadder) -> None:
    climb(ladder, Device(TILING))
    again = Device(TILING)
    assert climb(ladder, again).measures == TILING
    assert again.attempts == [TILING]


@pytest.mark.parametrize(
    ("shape", "first"),
    [
        (Shape("sd", 1024, 1024), TILING),
        (Shape("sd", 256, 1024), TILING),
        (Shape("sd", 512, 504), PLAIN.measures),
        (Shape("sdxl", 1024, 1024), PLAIN.measures),
    ],
)
def test_a_failure_speaks_for_images_of_as_many_pixels_or_more_of_the_same_model(
    ladder: MemoryLadder, shape: Shape, first: frozenset[Measure]
) -> None:
    climb(ladder, Device(TILING))
    assert ladder.first_plan(shape, ALL).measures == first


def test_the_smallest_image_that_failed_counts(ladder: MemoryLadder) -> None:
    climb(ladder, Device(TILING), Shape("sd", 1024, 1024))
    climb(ladder, Device(TILING), Shape("sd", 512, 512))
    assert ladder.first_plan(Shape("sd", 640, 640), ALL).measures == TILING


def test_a_strict_request_starts_with_what_it_may_use(ladder: MemoryLadder) -> None:
    climb(ladder, Device(TILING))
    assert ladder.first_plan(SQUARE, OFFLOAD).measures == OFFLOAD
    assert ladder.first_plan(SQUARE, frozenset()) == PLAIN


def test_where_everything_failed_the_last_plan_is_tried_at_once(ladder: MemoryLadder) -> None:
    with pytest.raises(OutOfMemory):
        climb(ladder, Device())
    again = Device()
    with pytest.raises(OutOfMemory):
        climb(ladder, again)
    assert again.attempts == [ALL]


def test_a_denoising_without_memory_does_not_start_with_tiles_later(ladder: MemoryLadder) -> None:
    climb(ladder, Device(OFFLOAD, phase=Phase.DENOISE))
    assert ladder.first_plan(SQUARE, ALL).measures == OFFLOAD


def test_after_an_hour_the_plain_way_is_tried_again(ladder: MemoryLadder, clock: Clock) -> None:
    climb(ladder, Device(TILING))
    clock.now += REMEMBERED_SECONDS - 1
    assert ladder.first_plan(SQUARE, ALL).measures == TILING
    clock.now += 1
    assert climb(ladder, Device(PLAIN.measures)) == PLAIN


def test_a_failure_after_the_hour_is_remembered_anew(ladder: MemoryLadder, clock: Clock) -> None:
    climb(ladder, Device(TILING))
    clock.now += REMEMBERED_SECONDS
    climb(ladder, Device(TILING), Shape("sd", 1024, 1024))
    assert ladder.first_plan(SQUARE, ALL) == PLAIN
    assert ladder.first_plan(Shape("sd", 1024, 1024), ALL).measures == TILING
