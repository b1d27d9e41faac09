"""One of several nodes that want the same jobs and results at the same time.

As a process: `python -m tests.race URL OWNER JOBS`; it begins when it reads a line, and prints
what it got as JSON.
"""

import asyncio
import hashlib
import json
import sys
from typing import Any

from contracts.result import Status
from contracts.text2image import Text2ImageResult
from node.job import Outcome
from node.ports import KeptResult
from node.stores.artifacts import FsspecArtifactStore
from node.stores.results import FsspecResultStore
from tests.unit.stores.builders import kept_by

PICTURE = b"the same picture" * 10_000
SHA256 = hashlib.sha256(PICTURE).hexdigest()


async def race(url: str, owner: str, jobs: int) -> dict[str, Any]:
    """Claim every job, keep a result of every job, and put the same picture again and again."""
    results = FsspecResultStore(url, owner, Text2ImageResult, timeout_seconds=60.0)
    artifacts = FsspecArtifactStore(url, timeout_seconds=60.0)
    claimed, standing, uris = [], {}, set()
    for n in range(jobs):
        job_id = f"job-{n}"
        if await results.claim(job_id):
            claimed.append(job_id)
        result = Text2ImageResult(
            job_id=job_id, status=Status.SUCCEEDED, metadata={"by": owner}, warnings=["x" * 50_000]
        )
        kept = await results.keep(KeptResult(job_id, "same", Outcome(result)))
        standing[job_id] = kept_by(kept)
        uris.add(await artifacts.put(PICTURE, SHA256, "image/png"))
    return {"claimed": claimed, "standing": standing, "uris": sorted(uris)}


def main() -> None:
    url, owner, jobs = sys.argv[1:]
    print("ready", flush=True)
    sys.stdin.readline()
    print(json.dumps(asyncio.run(race(url, owner, int(jobs)))), flush=True)


if __name__ == "__main__":
    main()
