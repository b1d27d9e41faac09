"""Write the recovery times of fault reports as a table in Markdown.

FAULT_REPORT_FOLDER=reports make test-faults
python -m tests.faults.recovery reports/reports.jsonl
"""

import json
import statistics
import sys
from collections import defaultdict
from pathlib import Path


def recovery_table(lines: list[str]) -> str:
    """Summarise the seconds of each fault over all reports."""
    by_fault: dict[str, list[float]] = defaultdict(list)
    for line in lines:
        for fault, seconds in json.loads(line)["recovery_seconds"].items():
            by_fault[fault] += seconds
    rows = ["| fault | n | median s | max s |", "|---|---|---|---|"]
    for fault, seconds in sorted(by_fault.items()):
        middle, longest = statistics.median(seconds), max(seconds)
        rows.append(f"| {fault} | {len(seconds)} | {middle:.1f} | {longest:.1f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(recovery_table(Path(sys.argv[1]).read_text().splitlines()))
