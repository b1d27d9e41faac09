"""Objects below one URL, read and written off the event loop and within bounds."""

import time
from collections.abc import Callable
from functools import partial
from typing import Any, Final, TypeVar

from node.errors import StoreUnavailable
from node.stores.storage import Storage
from node.stores.threads import StoreThreads

R = TypeVar("R")

SWEEP_SECONDS: Final = 120.0
"""Bound of one listing during a sweep, which nobody waits for."""


STOOD_STILL_SECONDS: Final = 0.5
"""A timeout that comes so late says more about this process than about the store."""


class Objects:
    """Reads and writes bytes by name, off the event loop, each call within a bound.

    Every method raises StoreUnavailable; a call that timed out may still have happened.
    """

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self._storage = Storage(url)
        self._timeout_seconds = timeout_seconds
        self._threads = StoreThreads()

    @property
    def label(self) -> str:
        """The URL, fit to be shown."""
        return self._storage.label

    async def uri(self, name: str) -> str:
        """Name the place of an object, for any process that reads the same store."""
        return await self._run(self._storage.uri, name)

    async def read(self, name: str) -> bytes | None:
        """Read an object; None when it is not there."""
        return await self._run(self._storage.read, name)

    async def write(self, name: str, data: bytes) -> None:
        """Write or replace an object; readers see all of the old one or all of the new one."""
        await self._run(self._storage.write, name, data)

    async def create(self, name: str, data: bytes) -> bool:
        """Write an object that is not there yet; False when it is: one of many writers wins.

        A winner whose call was repeated by a lower layer may be told that it lost: read back.
        """
        return await self._run(self._storage.create, name, data)

    async def names(self, folder: str) -> list[str]:
        """List what a folder holds, which should not be much."""
        return await self._run(self._storage.names, folder)

    async def folders(self, folder: str) -> list[str]:
        """List the folders in a folder."""
        return await self._run(self._storage.folders, folder, timeout_seconds=SWEEP_SECONDS)

    async def modified(self, folder: str, *, with_folders: bool = False) -> dict[str, float]:
        """Say for every object below a folder when it was written, by the clock of the store."""
        return await self._run(
            self._storage.modified, folder, with_folders, timeout_seconds=SWEEP_SECONDS
        )

    async def now(self) -> float:
        """Read the clock of the store, in Unix seconds: clocks of machines differ."""
        return await self._run(self._storage.now)

    async def remove_older(self, name: str, than: float) -> bool:
        """Delete an object unless it was written since; False when it is not there any more."""
        return await self._run(self._storage.remove_older, name, than)

    async def remove_folder(self, name: str) -> bool:
        """Delete a folder with all that it holds; False when somebody else just did."""
        return await self._run(self._storage.remove_folder, name)

    async def _run(
        self, call: Callable[..., R], *args: Any, timeout_seconds: float | None = None
    ) -> R:
        bound = timeout_seconds or self._timeout_seconds
        began = time.monotonic()
        try:
            return await self._threads.run(partial(call, *args), bound)
        except TimeoutError as error:
            if time.monotonic() - began > bound + STOOD_STILL_SECONDS:
                # This process stood still, and the store may have answered long ago.
                return await self._run(call, *args, timeout_seconds=timeout_seconds)
            why = f"no answer within {bound:g} s; is it reachable?"
            raise StoreUnavailable(f"the store {self.label}: {why}") from error
        except StoreUnavailable:
            raise
        except ImportError as error:
            why = f"{error}; for S3: pip install 'text2image-node[s3]'"
            raise StoreUnavailable(f"the store {self.label} cannot be opened: {why}") from error
        except Exception as error:
            # Each kind of store has errors of its own: OSError, botocore's, aiohttp's, plain ones.
            why = f"{type(error).__name__}: {error}"
            raise StoreUnavailable(f"the store {self.label} failed: {why}") from error
