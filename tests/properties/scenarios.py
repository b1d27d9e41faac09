"""What may happen to a fleet, as plain values: they print, shrink and replay."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from hypothesis import strategies as st

from tests.fakes import Fault


class Behaviour(StrEnum):
    """What a request does to the component that gets it; the prompt says it."""

    WELL = "well"
    SLOW = "slow"
    CRASHES_ONCE = "crashes-once"
    OUT_OF_MEMORY_TWICE = "out-of-memory-twice"
    CRASHES_FIVE_TIMES = "crashes-five-times"
    """Fails for good, and succeeds at the second attempt after a replay."""
    CRASHES_ALWAYS = "crashes-always"
    IMPOSSIBLE = "impossible"
    """Fails for good while it runs."""
    TOO_MUCH = "too-much"
    """Refused before it runs."""
    OF_MODEL = "of-model"
    """Names the model that every node has, and comes through its queue."""
    ELSEWHERE = "elsewhere"
    """Names a model that no node has."""
    HANGS_ONCE = "hangs-once"
    KILLS = "kills"
    """No process survives it."""

    def __repr__(self) -> str:
        return f"Behaviour.{self.name}"


@dataclass(frozen=True, slots=True)
class Body:
    """What is asked for; `variant` makes bodies differ that behave alike."""

    behaviour: Behaviour = Behaviour.WELL
    variant: int = 0

    @property
    def prompt(self) -> str:
        return f"{self.behaviour} {self.variant}"


@dataclass(frozen=True, slots=True)
class Submit:
    """A caller publishes a request: a client, or (`caller` None) one that waits for no reply."""

    job: int
    variant: int = 0
    """Another variant is another body."""
    caller: int | None = 0
    deadline_seconds: float | None = None
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class SubmitBroken:
    """A body that is no request, under the id of a job."""

    job: int


@dataclass(frozen=True, slots=True)
class Cancel:
    """A client asks for a job to be stopped."""

    job: int


@dataclass(frozen=True, slots=True)
class Replay:
    """A person lets all dead letters run again."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Something goes wrong at awaits where it can: after `skip` of them, `times` in a row."""

    fault: Fault
    skip: int = 0
    times: int = 1


@dataclass(frozen=True, slots=True)
class KillAtAwait:
    """The process of a node dies at one of its awaits, `skip` awaits from now."""

    skip: int = 0


@dataclass(frozen=True, slots=True)
class Kill:
    """The process of a node dies now."""

    node: int


@dataclass(frozen=True, slots=True)
class Drain:
    """A node gets SIGTERM."""

    node: int
    grace_seconds: float = 120.0


@dataclass(frozen=True, slots=True)
class Start:
    """One more node starts."""


@dataclass(frozen=True, slots=True)
class Interrupt:
    """A node loses its connections for a while."""

    node: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Freeze:
    """A node gets SIGSTOP, and SIGCONT after a while; the broker drops it if it takes too long."""

    node: int
    seconds: float


@dataclass(frozen=True, slots=True)
class InterruptCaller:
    """A client loses its connections, and its reply queue."""

    caller: int
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class BrokerAway:
    """The broker is away for everybody; what it holds is durable."""

    seconds: float


@dataclass(frozen=True, slots=True)
class QueuesFull:
    """Request or retry queues refuse what is published, for a while."""

    retries: bool
    seconds: float


@dataclass(frozen=True, slots=True)
class Pass:
    """Time passes."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Turns:
    """The event loop makes some turns, in no time."""

    count: int


Step = (
    Submit
    | SubmitBroken
    | Cancel
    | Replay
    | Trouble
    | KillAtAwait
    | Kill
    | Drain
    | Start
    | Interrupt
    | Freeze
    | InterruptCaller
    | BrokerAway
    | QueuesFull
    | Pass
    | Turns
)


@dataclass(frozen=True, slots=True)
class Scenario:
    """A fleet, and what happens to it.

    `shared`: the nodes share results. `rhythm`: how many turns of the loop each await takes, over
    and over; different rhythms are different orders of events. `jobs`: how the requests of each
    job behave. `memory`: how many results a node remembers by itself, where nodes share them.
    """

    steps: tuple[Step, ...]
    jobs: tuple[Behaviour, ...] = (Behaviour.WELL,) * 4
    nodes: int = 1
    shared: bool = False
    slots: int = 1
    look_ahead: int = 1
    rhythm: tuple[int, ...] = (0,)
    memory: int = 1_000

    def body(self, step: Submit) -> Body:
        """Say what a step asks for."""
        return Body(self.jobs[step.job], step.variant)


JOBS: Final = st.integers(0, 3)
NODES: Final = st.integers(0, 2)
CALLERS: Final = st.integers(0, 1)
SHORT: Final = st.sampled_from([0.0, 0.5, 2.0, 20.0])

# The first ones are the likelier ones, and those that others shrink to.
behaviours = st.sampled_from([Behaviour.WELL, Behaviour.SLOW, *Behaviour])
submissions = st.builds(
    Submit,
    JOBS,
    st.sampled_from([0, 0, 0, 0, 0, 1]),
    st.sampled_from([0, 0, 1, None]),
    st.sampled_from([*[None] * 7, 0.0, 1.5, 20.0]),
    st.booleans(),
)
troubles = st.builds(
    Trouble,
    st.sampled_from(Fault),
    st.sampled_from([0, 0, 1, 1, 2, 2, 3, 4, 5, 7, 10, 14, 20, 30]),
    st.sampled_from([1, 1, 1, 2, 6]),
)
passing = st.builds(Pass, st.sampled_from([0.5, 1.0, 2.5, 6.0, 20.0, 40.0, 130.0]))
turns = st.builds(Turns, st.integers(1, 40))
rare = st.one_of(
    st.builds(SubmitBroken, JOBS),
    st.builds(Replay),
    st.builds(Kill, NODES),
    st.builds(Drain, NODES, st.sampled_from([120.0, 0.0, 3.0])),
    st.builds(Start),
    st.builds(Interrupt, NODES, SHORT),
    st.builds(Freeze, NODES, st.sampled_from([5.0, 15.0, 40.0])),
    st.builds(InterruptCaller, CALLERS, SHORT),
    st.builds(BrokerAway, SHORT),
    st.builds(QueuesFull, st.booleans(), st.sampled_from([2.0, 20.0, 200.0])),
)
kinds = [
    *[submissions] * 5,
    *[passing] * 2,
    *[turns],
    *[troubles] * 3,
    st.builds(Cancel, JOBS),
    st.builds(KillAtAwait, st.integers(0, 60)),
    rare,
]
# Not `one_of`: it takes nested and repeated strategies for one each.
steps = st.sampled_from(kinds).flatmap(lambda kind: kind)


def scenarios(length: int) -> st.SearchStrategy[Scenario]:
    """Make up scenarios; a `length` of 1 is about five steps."""
    # One list is short on average, unless its least length is large, and then it does not shrink.
    parts = [st.lists(steps, max_size=20)] * length
    return st.builds(
        Scenario,
        st.tuples(*parts).map(lambda lists: tuple(step for each in lists for step in each)),
        st.tuples(*[behaviours] * 4),
        st.integers(1, 3),
        st.booleans(),
        st.sampled_from([1, 1, 2]),
        st.sampled_from([1, 0, 4]),
        st.lists(st.integers(0, 4), min_size=1, max_size=7).map(tuple),
        st.sampled_from([1_000, 1]),
    )
