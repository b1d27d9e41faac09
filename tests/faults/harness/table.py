"""Tables of what the scenarios of a run came to: `python -m tests.faults.harness.table FOLDER`."""

import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tests.faults.harness.report import FILE_NAME

COUNTS = (
    "attempted",
    "confirmed",
    "succeeded",
    "failed_as_asked",
    "cancelled",
    "expired",
    "lost",
    "visible_twice",
    "second_copies",
    "recovered",
    "unexpected",
)


def read(folder: Path) -> list[dict[str, Any]]:
    """Read the reports of a folder, if there are any."""
    if not (folder / FILE_NAME).exists():
        return []
    return [json.loads(line) for line in (folder / FILE_NAME).read_text().splitlines()]


def scenarios(reports: Iterable[dict[str, Any]]) -> Iterable[Sequence[object]]:
    """Draw a row for each scenario, and one for all."""
    yield ("scenario", *COUNTS, "generations", "seconds")
    total: dict[str, int] = defaultdict(int)
    for report in reports:
        generations = report["generations_per_job"]
        begun = sum(int(times) * jobs for times, jobs in generations.items())
        yield (
            _sentence(report["scenario"]),
            *(report[c] for c in COUNTS),
            begun,
            report["seconds"],
        )
        for count in COUNTS:
            total[count] += report[count]
    yield ("all", *(total[count] for count in COUNTS), "", "")


def recoveries(reports: Iterable[dict[str, Any]]) -> Iterable[Sequence[object]]:
    """Draw a row for each kind of fault: how often, median and maximum of its recovery."""
    found: dict[str, list[float]] = defaultdict(list)
    for report in reports:
        for fault, seconds in report["recovery_seconds"].items():
            found[fault] += seconds
    yield ("fault", "times", "median s", "max s")
    for fault, seconds in sorted(found.items()):
        yield (fault, len(seconds), round(statistics.median(seconds), 2), max(seconds))


def markdown(rows: Iterable[Sequence[object]]) -> str:
    """Write rows as a table; the first one is the head."""
    head, *body = ([str(cell) for cell in row] for row in rows)
    lines = [head, ["---"] * len(head), *body]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _sentence(name: str) -> str:
    return name.removeprefix("test_").replace("_", " ")


if __name__ == "__main__":
    found = read(Path(sys.argv[1]))
    print(markdown(scenarios(found)), markdown(recoveries(found)), sep="\n\n")
