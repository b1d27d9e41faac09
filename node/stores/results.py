"""Results and claims that all nodes of a fleet share, at one fsspec URL.

    <url>/results/<ab>/<sha256 of the job id>/result-<replay>.<n>     created once
                                              claim-<epoch>           see `claims`

Of the results with the highest `replay`, the first (lowest n) that is whole stands; n counts up
only when an earlier one is damaged.
"""

import hashlib
import re
import time
from collections.abc import Callable
from typing import Final

import structlog

from contracts.result import JobResult
from node.errors import StoreUnavailable
from node.ports import KeptResult
from node.stores.claims import Claims
from node.stores.objects import Objects
from node.stores.records import decode_result, encode_result

TRIES: Final = 5
FOLDER: Final = "results"

_NAME: Final = re.compile(r"result-([0-9]+)\.([0-9]+)")

log = structlog.get_logger(__name__)


class FsspecResultStore:
    """What a fleet knows of its jobs; `owner` is this node, different from every other."""

    def __init__(
        self,
        url: str,
        owner: str,
        result_model: type[JobResult],
        *,
        lease_seconds: float = 10.0,
        timeout_seconds: float = 5.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._objects = Objects(url, timeout_seconds)
        self._result_model = result_model
        self._claims = Claims(self._objects, owner, lease_seconds, monotonic)

    async def run(self) -> None:
        """Keep the claims of this node alive until cancelled."""
        await self._claims.run()

    async def find(self, job_id: str) -> KeptResult | None:
        """Look up how a job ended. Raises StoreUnavailable."""
        folder = _folder(job_id)
        return await self._standing(job_id, await self._numbers(folder))

    async def keep(self, kept: KeptResult) -> KeptResult:
        """Keep a result unless one stands that is not older; return the one that stands.

        Raises StoreUnavailable.
        """
        folder, data = _folder(kept.job_id), encode_result(kept)
        for _ in range(TRIES):
            numbers = await self._numbers(folder)
            standing = await self._standing(kept.job_id, numbers)
            if standing is not None and standing.replay >= kept.replay:
                return standing
            # What has this number already is damaged: it was not found to stand.
            n = max((n for replay, n in numbers if replay == kept.replay), default=-1) + 1
            if await self._objects.create(_path(folder, kept.replay, n), data):
                return kept
        raise StoreUnavailable(
            f"the store {self._objects.label} damages what is written: job {kept.job_id}"
        )

    async def claim(self, job_id: str) -> bool:
        """Take the work on a job. Raises StoreUnavailable."""
        return await self._claims.claim(_folder(job_id))

    async def release(self, job_id: str) -> None:
        """Give the work up. Raises StoreUnavailable."""
        await self._claims.release(_folder(job_id))

    async def sweep(self, max_age_seconds: float) -> int:
        """Delete jobs of which nothing was written for so long; return how many.

        Raises StoreUnavailable.
        """
        before = await self._objects.now() - max_age_seconds
        deleted = 0
        for shard in await self._objects.folders(FOLDER):
            ages = await self._newest(f"{FOLDER}/{shard}")
            for folder in [folder for folder, newest in ages.items() if newest < before]:
                # Time has passed since the listing, in which the job may have come again.
                if (await self._newest(folder)).get(folder, before) < before:
                    deleted += await self._objects.remove_folder(folder)
        return deleted

    async def _newest(self, folder: str) -> dict[str, float]:
        """Say for every job below a folder when something of it was last written."""
        newest: dict[str, float] = {}
        for name, modified in (await self._objects.modified(folder, with_folders=True)).items():
            job = "/".join(name.split("/")[:3])
            if job.count("/") == 2:
                newest[job] = max(modified, newest.get(job, modified))
        return newest

    async def _numbers(self, folder: str) -> list[tuple[int, int]]:
        """List (replay, n) of all results: the highest replay first, then the lowest n."""
        names = (_NAME.fullmatch(name) for name in await self._objects.names(folder))
        numbers = [(int(match[1]), int(match[2])) for match in names if match]
        return sorted(numbers, key=lambda each: (-each[0], each[1]))

    async def _standing(self, job_id: str, numbers: list[tuple[int, int]]) -> KeptResult | None:
        for replay, n in numbers:
            path = _path(_folder(job_id), replay, n)
            data = await self._objects.read(path)
            if data is None:
                continue
            try:
                return decode_result(data, self._result_model)
            except ValueError as error:
                reason = str(error).splitlines()[0]
                log.warning("result.unreadable", job_id=job_id, path=path, reason=reason)
        return None


def _folder(job_id: str) -> str:
    digest = hashlib.sha256(job_id.encode()).hexdigest()
    return f"{FOLDER}/{digest[:2]}/{digest}"


def _path(folder: str, replay: int, n: int) -> str:
    return f"{folder}/result-{replay}.{n}"
