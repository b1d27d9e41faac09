"""Run the fault suite, several modules at a time, and draw its tables.

    python -m tests.faults.run                        # every module
    python -m tests.faults.run tests/faults/soak_links.py

Scenarios mostly wait: for heartbeats, for processes, for the next attempt. Each module has a broker
of its own, so that modules do not disturb each other. The exit code is 0 when all passed.
"""

import argparse
import asyncio
import os
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from tests.faults.harness.report import FOLDER_VARIABLE
from tests.faults.harness.table import markdown, read, recoveries, scenarios

HERE: Final = Path(__file__).parent
MODULE_SECONDS: Final = 900.0


async def run_module(module: Path, room: asyncio.Semaphore, folder: Path) -> bool:
    """Run one module when there is room; print what pytest said, and return whether it passed."""
    async with room:
        started_at = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "pytest", "-q", str(module)),
            env={**os.environ, FOLDER_VARIABLE: str(folder), "OMP_NUM_THREADS": "1"},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            async with asyncio.timeout(MODULE_SECONDS):
                said, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)  # so that pytest takes everything down
                await process.wait()
    seconds = time.monotonic() - started_at
    print(f"{module.name}: {seconds:.0f} s\n{said.decode(errors='replace')}", flush=True)
    return process.returncode == 0


async def run(modules: list[Path], at_once: int, folder: Path) -> bool:
    """Run modules, the longest files first; say whether all passed."""
    room = asyncio.Semaphore(at_once)
    ordered = sorted(modules, key=lambda module: -len(module.read_bytes()))
    passed = await asyncio.gather(*(run_module(module, room, folder) for module in ordered))
    return all(passed)


def main() -> int:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description="Run the fault suite.")
    parser.add_argument("modules", nargs="*", type=Path, help="default: every test_*.py here")
    parser.add_argument("--at-once", type=int, default=3, help="modules that run side by side")
    parser.add_argument("--reports", type=Path, help="folder to keep the reports in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = given.reports or Path(temporary)
        modules = given.modules or sorted(HERE.glob("test_*.py"))
        passed = asyncio.run(run(modules, given.at_once, folder))
        reports = read(folder)
        print(markdown(scenarios(reports)), markdown(recoveries(reports)), sep="\n\n")
    return 0 if passed else 1


if __name__ == "__main__":
    sys.exit(main())
