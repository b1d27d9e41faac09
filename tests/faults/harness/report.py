"""What a scenario came to, in the manner of Jepsen's total-queue checker."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

FOLDER_VARIABLE: Final = "FAULT_REPORT_FOLDER"
FILE_NAME: Final = "reports.jsonl"


@dataclass(frozen=True, slots=True)
class Report:
    """Counts of jobs; `problems` names those that are lost, seen twice or not as asked."""

    scenario: str
    attempted: int
    """Requests that callers tried to submit."""
    confirmed: int
    """Of these, requests that the broker confirmed to their caller."""
    succeeded: int
    """Confirmed jobs with pictures that are byte for byte right."""
    failed_as_asked: int
    """Confirmed jobs that failed with the code that the scenario asked for."""
    cancelled: int
    expired: int
    lost: int
    """Confirmed jobs of which their caller never saw a result."""
    visible_twice: int
    """Jobs of which a caller was shown a second result."""
    second_copies: int
    """Results beyond the first of a job on the wire; a client drops them."""
    recovered: int
    """Jobs that were done although their caller got no confirm."""
    unexpected: int
    """Ends that the scenario does not allow, copies that differ, wrong bytes, crashes."""
    generations_per_job: Mapping[int, int] = field(default_factory=dict)
    """How many jobs were begun so many times."""
    recovery_seconds: Mapping[str, Sequence[float]] = field(default_factory=dict)
    """By fault, and whether counted from its injection or its end: time to the next result."""
    seconds: float = 0.0
    problems: Sequence[str] = ()

    def write(self, environ: Mapping[str, str] = os.environ) -> None:
        """Append a JSON line to the file in the folder that the environment names, if any."""
        if folder := environ.get(FOLDER_VARIABLE):
            Path(folder).mkdir(parents=True, exist_ok=True)
            with (Path(folder) / FILE_NAME).open("a") as file:
                file.write(json.dumps(asdict(self)) + "\n")


def assert_nothing_lost(report: Report) -> None:
    """Fail unless every confirmed job ended in exactly one visible result, the right one."""
    assert (report.lost, report.visible_twice, report.unexpected) == (0, 0, 0), "\n".join(
        [str(report), *report.problems]
    )
    ends = report.succeeded + report.failed_as_asked + report.cancelled + report.expired
    assert ends == report.confirmed, report
