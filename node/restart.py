"""A process that became unfit starts anew: under the same id, with nothing of its memory.

A thread that hangs in a driver cannot be ended, and the context of a GPU does not recover from a
fault in a kernel. Replacing the process image ends both, with or without a supervisor around it.
"""

import os
import sys
import time
from typing import Final, NoReturn

RESTARTS_VARIABLE: Final = "TEXT2IMAGE_NODE_RESTARTS"
"""How often the process started anew in a row; set by itself."""
LONGEST_DELAY_SECONDS: Final = 60.0
FIT_SECONDS: Final = 600.0
"""A process that was fit for so long counts as recovered."""

_BORN_AT: Final = time.monotonic()


def restart_delay() -> float:
    """Seconds to wait before starting anew: none the first time, then longer and longer."""
    restarts = _restarts()
    return min(2.0**restarts, LONGEST_DELAY_SECONDS) if restarts else 0.0


def start_anew() -> NoReturn:
    """Replace this process by a new one with the same command line."""
    os.environ[RESTARTS_VARIABLE] = str(_restarts() + 1)
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606


def _restarts() -> int:
    if time.monotonic() - _BORN_AT > FIT_SECONDS:
        return 0
    given = os.environ.get(RESTARTS_VARIABLE, "")
    return min(int(given), 100) if given.isdecimal() else 0
