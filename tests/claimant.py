"""A node that claims one job and works on it: `python -m tests.claimant URL OWNER LEASE_SECONDS`.

It logs to its stderr, one JSON object a line, and ends when its stdin does.
"""

import asyncio
import sys

import structlog

from contracts.text2image import Text2ImageResult
from node.log import configure_logging
from node.stores.results import FsspecResultStore
from node.tasks import running

log = structlog.get_logger(__name__)


async def work(url: str, owner: str, lease_seconds: float) -> None:
    """Claim the job and keep the claim alive."""
    store = FsspecResultStore(url, owner, Text2ImageResult, lease_seconds=lease_seconds)
    async with running(store=store.run()):
        log.info("job.claimed", claimed=await store.claim("job"))
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    configure_logging("json", "INFO")
    asyncio.run(work(sys.argv[1], sys.argv[2], float(sys.argv[3])))
