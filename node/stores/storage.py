"""Files and folders below one fsspec URL, blocking: all that differs between kinds of storage.

    object stores (s3, gs …)   a put replaces whole objects; "create" is a conditional put
    memory                     the same, on a dict
    local files, and others    written aside, then moved; "create" is a hard link, local only

fsspec's own "create" of files looks first and writes then, so that two nodes can both win.
"""

import errno
import re
from contextlib import suppress
from datetime import datetime
from typing import Any, Final
from uuid import uuid4

import fsspec
from fsspec.implementations.local import LocalFileSystem
from fsspec.implementations.memory import MemoryFile, MemoryFileSystem

from node.errors import StoreUnavailable

_MODIFIED: Final = ("mtime", "LastModified", "last_modified", "updated", "modified", "created")
_NO_LINKS: Final = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK)
_NEEDS_CREATE: Final = "results need local files with hard links, S3, or another object store"


class Storage:
    """One place that several processes read and write; raises whatever its kind raises."""

    def __init__(self, url: str) -> None:
        self._url = url if url.endswith("://") else url.rstrip("/")
        self.label = re.sub(r"//[^/@]*@", "//", self._url)  # errors travel: no passwords in them
        self._opened: tuple[Any, str] | None = None
        self._creates_once = False

    def uri(self, name: str) -> str:
        """Name the place of an object, for any process that reads the same store."""
        filesystem, path = self._at(name)
        return str(filesystem.unstrip_protocol(path))

    def read(self, name: str) -> bytes | None:
        """Read an object; None when it is not there."""
        filesystem, path = self._at(name)
        try:
            return bytes(filesystem.cat_file(path))
        except FileNotFoundError:
            return None

    def write(self, name: str, data: bytes) -> None:
        """Write or replace an object as a whole."""
        filesystem, path = self._at(name)
        if filesystem.async_impl or isinstance(filesystem, MemoryFileSystem):
            filesystem.pipe_file(path, data)
            return
        part = _written_aside(filesystem, path, data)
        filesystem.mv(part, path)

    def create(self, name: str, data: bytes) -> bool:
        """Write an object that is not there yet; False when it is."""
        filesystem, path = self._at(name)
        if isinstance(filesystem, MemoryFileSystem):
            file = MemoryFile(filesystem, path, data)
            return filesystem.store.setdefault(path, file) is file
        if isinstance(filesystem, LocalFileSystem):
            return self._linked(filesystem, path, data)
        if not filesystem.async_impl:
            raise StoreUnavailable(f"the store {self.label} cannot be shared: {_NEEDS_CREATE}")
        if not self._creates_once:
            self._prove_created_once()
        return _put_new(filesystem, path, data)

    def names(self, folder: str) -> list[str]:
        """List what a folder holds."""
        filesystem, path = self._at(folder)
        try:
            # An object store answers `ls` of what is not there by listing all of its neighbours.
            found = filesystem.find(path) if filesystem.async_impl else filesystem.ls(path, False)
        except FileNotFoundError:
            return []
        return [each.rstrip("/").rsplit("/", 1)[-1] for each in found]

    def folders(self, folder: str) -> list[str]:
        """List the folders in a folder."""
        filesystem, path = self._at(folder)
        try:
            found = filesystem.ls(path, detail=True)
        except FileNotFoundError:
            return []
        names = (info["name"].rstrip("/") for info in found if info["type"] == "directory")
        return [name.rsplit("/", 1)[-1] for name in names]

    def modified(self, folder: str, with_folders: bool) -> dict[str, float]:
        """Say for all objects below a folder when they were written, in Unix seconds."""
        filesystem, root = self._at("")
        _, path = self._at(folder)
        found = filesystem.find(path, detail=True, withdirs=with_folders)
        times = {name[len(root) + 1 :]: _time_of(info) for name, info in found.items()}
        return {name: time for name, time in times.items() if time is not None}

    def now(self) -> float:
        """Read the clock of the store: write something, and ask when that was."""
        name = f".clock-{uuid4().hex}"
        self.write(name, b"")
        filesystem, path = self._at(name)
        try:
            return float(filesystem.modified(path).timestamp())
        finally:
            filesystem.rm_file(path)

    def remove_older(self, name: str, than: float) -> bool:
        """Delete an object unless it was written since."""
        filesystem, path = self._at(name)
        try:
            if filesystem.modified(path).timestamp() >= than:
                return False
            filesystem.rm_file(path)
        except FileNotFoundError:
            return False
        return True

    def remove_folder(self, name: str) -> bool:
        """Delete a folder with all that it holds."""
        filesystem, path = self._at(name)
        try:
            filesystem.rm(path, recursive=True)
        except FileNotFoundError:
            return False
        return True

    def _at(self, name: str) -> tuple[Any, str]:
        if self._opened is None:
            # Other nodes write, too: a listing from a cache would be wrong.
            filesystem, root = fsspec.core.url_to_fs(self._url, use_listings_cache=False)
            self._opened = filesystem, root.rstrip("/")
        filesystem, root = self._opened
        return filesystem, f"{root}/{name}" if name else root

    def _linked(self, filesystem: LocalFileSystem, path: str, data: bytes) -> bool:
        """Create a file whole and once: of many hard links to one name, the first is made."""
        part = _written_aside(filesystem, path, data)
        try:
            filesystem.link(part, path)
        except FileExistsError:
            return False
        except OSError as error:
            if error.errno not in _NO_LINKS:
                raise
            why = f"it has no hard links; {_NEEDS_CREATE}"
            raise StoreUnavailable(f"the store {self.label} cannot be shared: {why}") from error
        finally:
            filesystem.rm_file(part)
        return True

    def _prove_created_once(self) -> None:
        filesystem, path = self._at(f".probe-{uuid4().hex}")
        _put_new(filesystem, path, b"first")
        second = _put_new(filesystem, path, b"second")
        filesystem.rm_file(path)
        if second:
            raise StoreUnavailable(
                f"the store {self.label} cannot be shared: it ignores If-None-Match and overwrites "
                f"what was to be created once; {_NEEDS_CREATE}"
            )
        self._creates_once = True


def _written_aside(filesystem: Any, path: str, data: bytes) -> str:
    part = f"{path}.{uuid4().hex}.part"
    filesystem.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
    try:
        filesystem.pipe_file(part, data)
    except OSError:
        with suppress(OSError):
            filesystem.rm_file(part)
        raise
    return part


def _put_new(filesystem: Any, path: str, data: bytes) -> bool:
    try:
        filesystem.pipe_file(path, data, mode="create")
    except FileExistsError:
        return False
    except OSError:
        # Stores other than AWS say "precondition failed" in words that fsspec does not know.
        if filesystem.exists(path):
            return False
        raise
    return True


def _time_of(info: dict[str, Any]) -> float | None:
    for key in _MODIFIED:
        time = info.get(key)
        if isinstance(time, datetime):
            return time.timestamp()
        if isinstance(time, int | float):
            return float(time)
    return None
