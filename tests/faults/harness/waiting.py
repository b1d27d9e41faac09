"""Wait for a state, with a bound."""

import asyncio
from collections.abc import Callable
from typing import Any

PATIENCE_SECONDS = 40.0
PAUSE_SECONDS = 0.02


async def until(
    condition: Callable[[], Any], what: str, *, patience_seconds: float = PATIENCE_SECONDS
) -> Any:
    """Return what the condition gives once that is true."""
    try:
        async with asyncio.timeout(patience_seconds):
            while not (found := condition()):  # noqa: ASYNC110 - any condition, not an event
                await asyncio.sleep(PAUSE_SECONDS)
            return found
    except TimeoutError:
        raise AssertionError(f"{what}: not so within {patience_seconds} s") from None
