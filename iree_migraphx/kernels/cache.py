"""Kernels and refusals on disk, each under a key of everything that decides what the compiler makes.

An entry appears complete or not at all, so that any number of processes can share one cache; docs/cache.md says how a
cache is laid out, and whom it has to trust.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import logging
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.entry import CorruptEntryError, Entry, cache_key, read_entry, write_entry
from iree_migraphx.kernels.model import Kernel, Request
from iree_migraphx.kernels.scratch import scratch_folder

#: Grows whenever an entry written before could be misread, or its kernel be accepted or refused where a new one is not.
ABI = 7

MAKERS = "compilers"
_UNFINISHED = ".unfinished-"
_CLAIM = ".claim-"
_ABANDONED_SECONDS = 24 * 3600.0
# A machine that was busy yesterday may have time today.
_TIMEOUT_SECONDS = 24 * 3600.0
# When an entry was used last decides what goes first; an hour more or less does not, and spares writes.
_TOUCH_SECONDS = 3600.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Maker:
    """The compiler that a cache has kernels of; its part of their keys, where it is not installed.

    Attributes:
        version: what iree-compile says of itself.
        identity: differs between builds, even of one version.
    """

    version: str
    identity: str


class KernelCache:
    """The cache in one folder. Trouble with the disk is one warning; everything then goes on without it.

    Args:
        folder: where; created for its owner alone, because what is in it will be executed.
        readonly: it is somebody else's, and never written to.
        trouble: the level at which trouble is logged.
    """

    def __init__(self, folder: Path, readonly: bool = False, trouble: int = logging.WARNING) -> None:
        self.folder = folder
        self._readonly = readonly
        self._trouble = trouble
        self._readable = True
        self._writable = not readonly
        self._lock = threading.Lock()
        self._known: set[Maker] = set()
        try:
            self._open()
        except OSError as error:
            self._readable = False
            self._stop(error)

    @property
    def writable(self) -> bool:
        """False of somebody else's, and once the disk has refused something."""
        return self._writable

    @property
    def readable(self) -> bool:
        """False of a folder that is not there, or is not to be trusted."""
        return self._readable

    def load(self, key: str, timeout: float = 0.0) -> Kernel | Refusal | None:
        """What was stored under the key; None where nothing was, or where it can't be read (a warning says so).

        Args:
            key: from `cache_key`.
            timeout: seconds that a compile may take now: that it took longer is remembered for a day, and forgotten
                when there is more time.
        """
        path = self.entry(key)
        if not self._readable or not _there(path):
            return None
        try:
            entry = self._read(path)
        except CorruptEntryError as error:
            self.discard(key, str(error))
            return None
        if entry is None:
            return None
        if isinstance(entry.result, Refusal) and entry.result.reason is Reason.TIMEOUT:
            age = time.time() - entry.made
            # A time in the future was told by a clock that was wrong, then or now.
            if timeout > entry.limit or not 0 <= age < _TIMEOUT_SECONDS:
                self._remove(key)
                return None
        self.touch(path)
        return entry.result

    def discard(self, key: str, why: str) -> None:
        """Remove an entry that can't be used, with a warning."""
        _log.warning("the cached kernel %s can't be used and is compiled again: %s", self.entry(key), why)
        self._remove(key)

    def store(
        self,
        key: str,
        entries: Mapping[str, str],
        request: Request,
        command: Sequence[str],
        result: Kernel | Refusal,
        timeout: float = 0.0,
    ) -> None:
        """Keep a result.

        Args:
            key: from `cache_key(entries)`.
            entries: what the key is made of.
            request: what was compiled.
            command: the command line, for people.
            result: what came of it.
            timeout: seconds that it could take.
        """
        if not self._writable:
            return
        # The MLIR is in a file beside it.
        made_of = {name: text for name, text in entries.items() if name != "mlir"}
        entry = Entry(key, result, made_of, time.time(), timeout)
        try:
            with scratch_folder(self.folder, _UNFINISHED) as folder:
                new = folder / key
                new.mkdir(mode=0o700)
                write_entry(new, entry, request.mlir, command)
                place = self.entry(key)
                place.parent.mkdir(mode=0o700, exist_ok=True)
                self._rename(new, place)
            self._note(Maker(entries.get("compiler", ""), entries.get("build", "")))
        except OSError as error:
            # Another process was faster, and its entry is as good.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                self._stop(error)

    @contextlib.contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Try to be the only one, of all processes that share the cache, that makes an entry.

        Yields:
            False where another process is at it. The system gives a claim back when its process ends, however it ends.
            Where there are no locks to be had, everybody is told True: twice the work, but no harm.
        """
        if not self._writable:
            yield True
            return
        path = self.folder / f"{_CLAIM}{key}"
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError:
            yield True
            return
        mine = None
        try:
            mine = _lock(descriptor)
            yield mine is not False
        finally:
            if mine:
                with contextlib.suppress(OSError):
                    path.unlink()
            os.close(descriptor)

    def makers(self) -> list[Maker]:
        """The compilers whose kernels it has, the latest first."""
        found: list[tuple[float, Maker]] = []
        with contextlib.suppress(OSError):
            for path in (self.folder / MAKERS).glob("*.json"):
                with contextlib.suppress(OSError, ValueError, TypeError):
                    found.append((path.stat().st_mtime, Maker(**json.loads(path.read_bytes()))))
        return [maker for _, maker in sorted(found, key=lambda pair: pair[0], reverse=True)] if self._readable else []

    def entry(self, key: str) -> Path:
        """Where the entry of a key is, or would be."""
        return self.folder / key[:2] / key

    def write(self, path: Path, data: bytes) -> None:
        """Put a file in place as a whole, for what is kept beside the kernels."""
        if not self._writable:
            return
        try:
            with scratch_folder(self.folder, _UNFINISHED) as folder:
                new = folder / path.name
                new.write_bytes(data)
                path.parent.mkdir(mode=0o700, exist_ok=True)
                self._rename(new, path)
        except OSError as error:
            self._stop(error)

    def _rename(self, new: Path, place: Path) -> None:
        try:
            new.replace(place)
        except FileNotFoundError:
            # A server whose answer was lost is asked again, and then has nothing left to rename.
            if not place.exists():
                raise

    def remove(self, path: Path) -> bool:
        """Take an entry or a file away, from all processes at once; whether it was there, and it was us."""
        # Other processes may be removing or rebuilding it too: a rename takes exactly one away.
        with contextlib.suppress(OSError), scratch_folder(self.folder, _UNFINISHED) as folder:
            path.rename(folder / path.name)
            return True
        return False

    def _remove(self, key: str) -> None:
        if not self._readonly:
            self.remove(self.entry(key))

    def _read(self, path: Path) -> Entry | None:
        with contextlib.suppress(CorruptEntryError):
            return read_entry(path)
        # Another process may have been replacing it just then, or removed it.
        return read_entry(path) if _there(path) else None

    def _note(self, maker: Maker) -> None:
        if maker not in self._known:
            self._known.add(maker)
            path = self.folder / MAKERS / f"{cache_key(asdict(maker))[:16]}.json"
            if not path.exists():
                self.write(path, json.dumps(asdict(maker), indent=1).encode() + b"\n")

    def touch(self, path: Path) -> None:
        """Note that something has been used."""
        if self._writable:
            with contextlib.suppress(OSError):
                if abs(time.time() - path.stat().st_mtime) > _TOUCH_SECONDS:
                    os.utime(path)

    def _open(self) -> None:
        if not self._readonly:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self.folder.stat().st_mode & stat.S_IWOTH:
            raise PermissionError(errno.EPERM, "everybody may write to it, and it holds code", str(self.folder))
        if not self._readonly:
            self._sweep()

    def _sweep(self) -> None:
        """Remove what processes left that were killed while they wrote."""
        for path in [*self.folder.glob(f"{_UNFINISHED}*"), *self.folder.glob(f"{_CLAIM}*")]:
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                    if path.is_dir():
                        shutil.rmtree(path, ignore_errors=True)
                    else:
                        path.unlink()

    def _stop(self, error: OSError) -> None:
        with self._lock:
            if not self._writable and not self._readonly:
                return
            self._writable = False
        if self._readonly:
            _log.log(self._trouble, "the read-only kernel cache %s can't be used: %s", self.folder, error)
            return
        _log.log(
            self._trouble,
            "the kernel cache %s can't be used, so kernels are not kept: %s "
            "(IREE_MIGRAPHX_CACHE_DIR names another folder, IREE_MIGRAPHX_CACHE=0 does without)",
            self.folder,
            error,
        )


def _there(path: Path) -> bool:
    """Whether something is at a path; not so where the system can't tell, as a network's may not for a stale folder."""
    try:
        return path.exists()
    except OSError:
        return False


def _lock(descriptor: int) -> bool | None:
    """Whether we have the lock of an open file now; None where the file system has no locks."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its last owner may have removed it between our open and our lock: then the next one will not see that we
        # have it. Where that was on another machine, a network's file system may not know the file any more.
        return os.fstat(descriptor).st_nlink > 0
    except BlockingIOError:
        return False
    except OSError:
        return None
