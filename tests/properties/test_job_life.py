"""Whatever happens to a fleet, each job has one life and one end.

    JOB_LIFE_EXAMPLES=4000 JOB_LIFE_LENGTH=5 pytest tests/properties

A failure prints a scenario: a value that can be given to `live` as it is. What scenarios are made
of, `--hypothesis-show-statistics` tells.
"""

import os
from typing import Final

from hypothesis import HealthCheck, event, given, note, settings

from tests.properties.promises import check_all
from tests.properties.scenarios import Scenario, scenarios
from tests.properties.verdicts import what_happened
from tests.properties.world import live

EXAMPLES: Final = int(os.environ.get("JOB_LIFE_EXAMPLES", "400"))
LENGTH: Final = int(os.environ.get("JOB_LIFE_LENGTH", "3"))


@settings(
    max_examples=EXAMPLES,
    deadline=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(scenarios(LENGTH))
def test_every_job_has_one_end_whatever_happens(scenario: Scenario) -> None:
    note(f"live({scenario!r})")
    world = live(scenario)
    for happened in sorted(what_happened(world)):
        event(happened)
    check_all(world)
