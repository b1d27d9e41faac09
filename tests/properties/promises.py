"""What must hold of every fleet, whatever happened to it. Each function checks one promise."""

from collections import defaultdict
from typing import Final

from contracts.failure import FailureCode
from contracts.topology import DELIVERY_LIMIT, RETRY_DELAYS_SECONDS
from tests.fakes import Fault
from tests.properties.components import STEP_SECONDS, prompt_of
from tests.properties.verdicts import (
    all_heard_at,
    answers_to_jobs,
    confirmed,
    ends_of,
    failures_told,
    forgets,
    letters_of_nodes,
    possible_ends,
    shares,
)
from tests.properties.world import REQUEST_QUEUES, World

SECOND_COPIES: Final = (Fault.PUBLISHED_TWICE, Fault.CONFIRM_LOST)


def check_all(world: World) -> None:
    """Check every promise."""
    nothing_crashed(world)
    everything_came_to_rest(world)
    every_node_ended(world)
    every_confirmed_request_is_answered(world)
    every_answer_fits_its_request(world)
    copies_of_a_result_are_identical(world)
    one_id_is_one_body(world)
    another_body_disturbs_nobody(world)
    work_is_repeated_only_with_a_reason(world)
    nothing_loops(world)
    nothing_stale_is_answered(world)
    dead_letters_are_the_permanent_failures(world)
    nothing_is_given_up_early(world)
    what_was_cancelled_stops(world)
    nothing_starts_past_its_deadline(world)


def nothing_crashed(world: World) -> None:
    """No task, callback or node ends with an error that nobody expected."""
    crashed = [each for each in world.logged if each["event"] == "task.crashed"]
    assert not crashed, crashed
    assert not world.unhandled, world.unhandled
    for node in world.nodes:
        assert node.crash is None, (node.name, node.crash)


def everything_came_to_rest(world: World) -> None:
    """No request waits in a queue, no delivery for an answer, no node holds anything of a job."""
    assert not world.remains, world.remains


def every_node_ended(world: World) -> None:
    """A node that is told to stop does so."""
    assert not world.never_ended, world.never_ended


def every_confirmed_request_is_answered(world: World) -> None:
    """A caller whose request was confirmed sees a result, unless it submits the job once more."""
    for asked in confirmed(world):
        assert ends_of(world, asked), asked


def every_answer_fits_its_request(world: World) -> None:
    """A result is one that its request can have, after what happened."""
    for asked in confirmed(world):
        possible = possible_ends(world, asked)
        for end in ends_of(world, asked):
            assert end in possible, (asked, end, possible)
        images = getattr(asked.outcome, "images", [])
        for image in images:
            assert asked.body is not None
            assert prompt_of(image) == asked.body.prompt, (asked, prompt_of(image))


def copies_of_a_result_are_identical(world: World) -> None:
    """All who ask for one job get the same bytes.

    Nodes that do not share results, or could not, promise it each for itself: as far as they
    remember.
    """
    if forgets(world):
        return
    by_job: dict[tuple[str, ...], set[bytes]] = defaultdict(set)
    for answer in answers_to_jobs(world):
        who = () if shares(world) else (answer.publisher,)
        by_job[answer.job_id, *who].add(answer.body)
    for job, bodies in by_job.items():
        assert len(bodies) <= 1 + world.server.replays(job[0]), (job, bodies)


def one_id_is_one_body(world: World) -> None:
    """Of several bodies under one id, one is worked on and the others are conflicts."""
    if not shares(world):
        return
    bodies: dict[str, set[str]] = defaultdict(set)
    for asked in confirmed(world):
        if asked.body is not None and FailureCode.CONFLICT not in ends_of(world, asked):
            bodies[asked.job_id].add(asked.body.prompt)
    for job_id, prompts in bodies.items():
        assert len(prompts) <= 1 + world.server.replays(job_id), (job_id, prompts)


def another_body_disturbs_nobody(world: World) -> None:
    """Once a job was begun, its id is not used for another one.

    Not promised of a job that is in nobody's hands: between two attempts, or after a fault, its
    id is free for whoever comes first.
    """
    if not shares(world):
        return
    for job_id in {each.job_id for each in world.generations.all}:
        generations = world.generations.of(job_id)
        let_go = sum(each.failed for each in generations) + world.server.touched[job_id]
        prompts = {each.prompt for each in generations}
        allowed = 1 + let_go + world.server.replays(job_id)
        assert len(prompts) <= allowed, (job_id, prompts)


def work_is_repeated_only_with_a_reason(world: World) -> None:
    """Each generation but the first has a failure before it, or a delivery that went back.

    Or its claim lapsed while its node was stopped. Without sharing, each has a delivery of its own.
    """
    for job_id in {each.job_id for each in world.generations.all}:
        generations = world.generations.of(job_id)
        reasons = world.server.touched[job_id] + world.server.replays(job_id) + world.freezes
        if shares(world):
            reasons += 1 + sum(each.failed for each in generations)
        else:
            reasons += world.server.requests(job_id)
        assert len(generations) <= reasons, (job_id, len(generations), reasons)


def nothing_loops(world: World) -> None:
    """Attempts and deliveries have a bound."""
    assert max(world.server.attempts(), default=0) <= len(RETRY_DELAYS_SECONDS) + 1
    for queue in REQUEST_QUEUES:
        assert world.server.deliveries[queue] <= DELIVERY_LIMIT + 1, queue


def nothing_stale_is_answered(world: World) -> None:
    """A node says nothing about a job once the broker took all its deliveries back."""
    for node in world.nodes:
        assert not node.outbox.uncalled_for, (node.name, node.outbox.uncalled_for)


def dead_letters_are_the_permanent_failures(world: World) -> None:
    """Every failure is put aside for people, with its reason, and nothing else is.

    A node that does not share its results promises it as long as no other has to go on for it.
    """
    failures, letters = failures_told(world), letters_of_nodes(world)
    for (job_id, code), count in failures.items():
        aside = letters[job_id, code] or world.server.given_up(job_id)
        if shares(world) or not world.server.touched[job_id]:
            assert aside, ("no dead letter", job_id, code, count)
    for (job_id, code), count in letters.items():
        assert failures[job_id, code], ("a dead letter without a failure", job_id, code)
        if not any(world.weather.happened[each] for each in SECOND_COPIES):
            assert count <= failures[job_id, code], ("too many dead letters", job_id, code, count)


def nothing_is_given_up_early(world: World) -> None:
    """The broker gives a request up only after nodes had it as often as they may."""
    for job_id in {each.job_id for each in world.asked}:
        if "delivery_limit" in world.server.given_up(job_id):
            assert world.server.touched[job_id] > DELIVERY_LIMIT, job_id


def what_was_cancelled_stops(world: World) -> None:
    """Once every node has heard a cancel, no inference step of the job begins any more.

    A person who replays the job means it to run; and a node that forgot the result of a cancelled
    job does not know of the cancel.
    """
    for job_id in world.cancelled_at:
        heard_at = all_heard_at(world, job_id)
        if heard_at is None or world.server.replays(job_id) or forgets(world):
            continue
        for generation in world.generations.of(job_id):
            late = [at for at in generation.stepped_at if at > heard_at + STEP_SECONDS / 2]
            assert not late, (job_id, heard_at, generation)


def nothing_starts_past_its_deadline(world: World) -> None:
    """No generation begins after the last deadline of those who asked for it.

    A person who replays a dead letter may let it run without one.
    """
    for job_id in {each.job_id for each in world.asked}:
        deadlines = [a.deadline for a in world.asked if a.job_id == job_id and a.body is not None]
        known = [each for each in deadlines if each is not None]
        if world.server.replays(job_id):
            continue
        if known and len(known) == len(deadlines):
            for generation in world.generations.of(job_id):
                assert generation.started_at <= max(known) + 0.01, (job_id, generation, known)
