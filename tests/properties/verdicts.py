"""What a world tells about what happened, and what may have come of it."""

from collections import Counter
from collections.abc import Iterator
from typing import Final

from contracts.failure import FailureCode
from contracts.message import HEADER_DEAD_CODE
from contracts.result import Status
from contracts.topology import DELIVERY_LIMIT
from tests.fakes import Fault
from tests.properties.callers import Asked
from tests.properties.records import Answer
from tests.properties.scenarios import Behaviour
from tests.properties.world import World

STORE_FAULTS: Final = (Fault.STORE_AWAY, Fault.STORE_ANSWER_LOST)
SUCCEEDED: Final = "succeeded"

ENDS: Final[dict[Behaviour, set[str]]] = {
    Behaviour.WELL: {SUCCEEDED},
    Behaviour.SLOW: {SUCCEEDED},
    Behaviour.OF_MODEL: {SUCCEEDED},
    Behaviour.CRASHES_ONCE: {SUCCEEDED},
    Behaviour.OUT_OF_MEMORY_TWICE: {SUCCEEDED},
    Behaviour.HANGS_ONCE: {SUCCEEDED},
    Behaviour.CRASHES_FIVE_TIMES: {FailureCode.ATTEMPTS_EXHAUSTED, SUCCEEDED},
    Behaviour.CRASHES_ALWAYS: {FailureCode.ATTEMPTS_EXHAUSTED},
    Behaviour.KILLS: {FailureCode.ATTEMPTS_EXHAUSTED},
    Behaviour.IMPOSSIBLE: {FailureCode.GENERATION_FAILED},
    Behaviour.TOO_MUCH: {FailureCode.INVALID_REQUEST},
    Behaviour.ELSEWHERE: {FailureCode.MODEL_NOT_AVAILABLE},
}
"""How a request ends to which nothing else happens."""

FAILS_FIRST: Final = {
    Behaviour.CRASHES_ONCE: FailureCode.INTERNAL,
    Behaviour.CRASHES_FIVE_TIMES: FailureCode.INTERNAL,
    Behaviour.CRASHES_ALWAYS: FailureCode.INTERNAL,
    Behaviour.HANGS_ONCE: FailureCode.INTERNAL,
    Behaviour.OUT_OF_MEMORY_TWICE: FailureCode.OUT_OF_MEMORY,
}


def possible_ends(world: World, asked: Asked) -> set[str]:
    """Say how a request may end: of itself, and by what happened to its job."""
    if asked.body is None:
        return {FailureCode.INVALID_REQUEST}
    behaviour = asked.body.behaviour
    ends = set(ENDS[behaviour])
    same = [each for each in world.asked if each.job_id == asked.job_id and each.body is not None]
    if any(each.body != asked.body for each in same):
        ends.add(FailureCode.CONFLICT)
    if asked.job_id in world.cancelled_at:
        ends.add(Status.CANCELLED)
    has_deadline = any(each.deadline is not None for each in same)
    if has_deadline:
        ends.add(Status.EXPIRED)
    if world.server.touched[asked.job_id] > DELIVERY_LIMIT:
        ends.add(FailureCode.ATTEMPTS_EXHAUSTED)
    if behaviour in FAILS_FIRST and (has_deadline or retries_were_refused(world)):
        ends |= {FAILS_FIRST[behaviour], FailureCode.ATTEMPTS_EXHAUSTED}
    return ends


def retries_were_refused(world: World) -> bool:
    """Say whether a node found no queue that took a retry."""
    return any(each["event"] == "request.not_sent_on" for each in world.logged)


def all_heard_at(world: World, job_id: str) -> float | None:
    """Say when the last of all nodes heard a cancel; None when one did not, and may still work."""
    heard = [node.heard_cancels[job_id] for node in world.nodes if job_id in node.heard_cancels]
    if not heard:
        return None
    last = max(heard)
    deaf = [node for node in world.nodes if job_id not in node.heard_cancels]
    gone = all(node.died_at is not None and node.died_at <= last for node in deaf)
    return last if gone else None


def shares(world: World) -> bool:
    """Say whether nodes knew of each other's results all the time."""
    return world.scenario.shared and not any(world.weather.happened[f] for f in STORE_FAULTS)


def failures_told(world: World) -> Counter[tuple[str, str]]:
    """Count the failures on the wire by job and code."""
    return Counter(
        (answer.job_id, str(answer.code))
        for answer in world.server.answers()
        if answer.document["status"] == Status.FAILED
    )


def letters_of_nodes(world: World) -> Counter[tuple[str, str]]:
    """Count the dead letters that nodes wrote by job and code."""
    return Counter(
        (str(letter.properties.message_id), letter.properties.headers[HEADER_DEAD_CODE])
        for letter in world.server.dead_letters()
        if HEADER_DEAD_CODE in letter.properties.headers
    )


def forgets(world: World) -> bool:
    """Say whether results may be gone: the store was away, and the nodes remember but one."""
    return world.scenario.shared and not shares(world) and world.scenario.memory == 1


def confirmed(world: World) -> Iterator[Asked]:
    return (each for each in world.asked if each.confirmed)


def ends_of(world: World, asked: Asked) -> set[str]:
    """Collect how a request ended, as its caller sees it: a status, or the code of a failure."""
    if asked.outcome is not None:
        error = asked.outcome.error
        failed = asked.outcome.status is Status.FAILED and error is not None
        return {error.code if failed and error else asked.outcome.status}
    return {
        str(answer.code)
        if answer.document["status"] == Status.FAILED
        else answer.document["status"]
        for answer in world.server.answers()
        if asked.correlation_id is not None and answer.correlation_id == asked.correlation_id
    }


def answers_to_jobs(world: World) -> Iterator[Answer]:
    """List the answers to jobs: not to bad copies, nor to other bodies under their ids."""
    bad = {each.correlation_id for each in world.asked if each.body is None}
    for answer in world.server.answers():
        if answer.correlation_id not in bad and answer.code != FailureCode.CONFLICT:
            yield answer


def what_happened(world: World) -> set[str]:
    """Name the faults that struck, and the ways in which requests ended."""
    faults = {f"fault: {fault}" for fault, count in world.weather.happened.items() if count}
    ends = {f"end: {end}" for asked in confirmed(world) for end in ends_of(world, asked)}
    return faults | ends
