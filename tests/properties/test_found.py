"""What the search in `test_job_life` found, and the node does no longer."""

from typing import Final

import pytest

from tests.fakes import Fault
from tests.properties.promises import check_all
from tests.properties.scenarios import (
    Behaviour,
    Cancel,
    Interrupt,
    Kill,
    Pass,
    Scenario,
    Start,
    Submit,
    Trouble,
    Turns,
)
from tests.properties.world import live

WELL: Final = Behaviour.WELL

FOUND: Final = {
    "a request that was given up does not wait for a copy of it that ends the process": Scenario(
        (Submit(job=0), Submit(job=0, caller=1)),
        jobs=(Behaviour.KILLS, WELL, WELL, WELL),
        look_ahead=0,
    ),
    "a connection that flaps does not lose a request that was given up": Scenario(
        (Submit(job=0), Turns(9), *(Interrupt(node=0), Turns(9)) * 20),
        jobs=(Behaviour.SLOW, WELL, WELL, WELL),
    ),
    "a claim is given up although the store is away": Scenario(
        (Submit(job=0), Pass(0.5), Trouble(Fault.STORE_AWAY)),
        shared=True,
    ),
    "a job that fails after its cancel is not tried again": Scenario(
        (Submit(job=0), Pass(1.0), Cancel(job=0)),
        jobs=(Behaviour.CRASHES_ALWAYS, WELL, WELL, WELL),
    ),
    "a request that could not be sent on is answered with the result that stands": Scenario(
        (
            Submit(job=0, caller=None, urgent=True),
            Turns(17),
            Cancel(job=0),
            Start(),
            Submit(job=0, caller=None, urgent=True),
            Start(),
            Submit(job=0, caller=None, urgent=True),
            Submit(job=0, caller=None, urgent=True),
        ),
        jobs=(Behaviour.ELSEWHERE, WELL, WELL, WELL),
        nodes=3,
        shared=True,
        rhythm=(4, 4, 1),
    ),
    "copies of a job at different attempts end together": Scenario(
        (Submit(job=0, caller=1), Pass(130.0), Kill(node=0), Submit(job=0)),
        jobs=(Behaviour.CRASHES_ALWAYS, WELL, WELL, WELL),
    ),
    "a late copy of a result is not shown as that of a later request": Scenario(
        (
            Trouble(Fault.CONFIRM_LOST, skip=1),
            Submit(job=0),
            Pass(2.5),
            Pass(0.5),
            Turns(20),
            Submit(job=0, variant=1),
        ),
        look_ahead=0,
    ),
    "a submission whose result overtakes its confirm comes to an end": Scenario(
        (
            Trouble(Fault.CONFIRM_LOST, skip=1),
            Submit(job=0),
            Submit(job=0),
            Cancel(job=0),
            Trouble(Fault.REFUSED),
        ),
        rhythm=(3, 1, 2, 3),
    ),
}


@pytest.mark.parametrize("scenario", FOUND.values(), ids=FOUND)
def test_what_was_found_once_stays_fixed(scenario: Scenario) -> None:
    check_all(live(scenario))
