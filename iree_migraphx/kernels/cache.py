"""Kernels and refusals on disk, each under a key of everything that decides what the compiler makes.

An entry is a folder that a person can read: `input.mlir`, `command.txt`, `meta.json` and the kernel as `kernel.hsaco`
or `kernel.vmfb`. It appears complete or not at all, so that any number of processes can share one cache.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import logging
import shlex
import shutil
import stat
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.model import GpuKernel, HostKernel, Request
from iree_migraphx.report import KernelResources

#: Grows whenever an entry written before could be misread, or a kernel be accepted that no longer would be.
ABI = 2

_KERNEL_FILES = {"gpu": "kernel.hsaco", "host": "kernel.vmfb"}
_META = "meta.json"
_UNFINISHED = ".unfinished-"
_UNFINISHED_SECONDS = 24 * 3600.0

_log = logging.getLogger(__name__)


class CorruptEntryError(Exception):
    """An entry that is not what was written; the message says how it shows."""


def cache_key(entries: Mapping[str, str]) -> str:
    """Digest of named texts in their order. No two different mappings feed the hash the same bytes."""
    digest = hashlib.blake2b(digest_size=20)
    for part in [text for entry in entries.items() for text in entry]:
        data = part.encode()
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.hexdigest()


class KernelCache:
    """The cache in one folder. Trouble with the disk is one warning; everything then goes on without it.

    Args:
        folder: where; created for its owner alone, because what is in it will be executed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._readable = self._writable = True
        self._warning = threading.Lock()
        try:
            self._open()
        except OSError as error:
            self._readable = False
            self._stop_writing(error)

    @property
    def writable(self) -> bool:
        """False once the disk has refused something."""
        return self._writable

    def load(self, key: str) -> GpuKernel | HostKernel | Refusal | None:
        """What was stored under the key; None where nothing was, or where it can't be read (a warning says so)."""
        if not self._readable:
            return None
        entry = self._entry(key)
        with contextlib.suppress(CorruptEntryError):
            return _read(entry, key)
        # Another process may have been replacing it just then.
        try:
            return _read(entry, key)
        except CorruptEntryError as error:
            self.discard(key, str(error))
            return None

    def discard(self, key: str, why: str) -> None:
        """Remove an entry that can't be used, with a warning."""
        _log.warning("the cached kernel %s can't be used and is compiled again: %s", self._entry(key), why)
        with contextlib.suppress(OSError), self._unfinished() as folder:
            # Other processes may be removing or rebuilding it too: a rename takes exactly one entry away.
            self._entry(key).rename(Path(folder, key))

    def store(
        self,
        key: str,
        entries: Mapping[str, str],
        request: Request,
        command: Sequence[str],
        result: GpuKernel | HostKernel | Refusal,
    ) -> None:
        """Keep a result. `entries` is what the key was made of; the command line is there for people."""
        if not self._writable:
            return
        # The MLIR is in a file beside it.
        meta: dict[str, Any] = {"key": key, "made_of": {name: text for name, text in entries.items() if name != "mlir"}}
        kernel = _describe(result, meta)
        meta["checksum"] = _checksum(meta, kernel)
        try:
            with self._unfinished() as folder:
                new = Path(folder, key)
                new.mkdir(mode=0o700)
                (new / "input.mlir").write_text(request.mlir, encoding="utf-8")
                (new / "command.txt").write_text(shlex.join(command) + "\n", encoding="utf-8")
                (new / _META).write_text(json.dumps(meta, indent=1) + "\n", encoding="utf-8")
                if kernel:
                    (new / _KERNEL_FILES[meta["kind"]]).write_bytes(kernel)
                entry = self._entry(key)
                entry.parent.mkdir(mode=0o700, exist_ok=True)
                new.rename(entry)
        except OSError as error:
            # Another process was faster, and its entry is as good.
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                self._stop_writing(error)

    def _open(self) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._folder.stat().st_mode & stat.S_IWOTH:
            raise PermissionError(errno.EPERM, "everybody may write to it, and it holds code", str(self._folder))
        # Left by processes that were killed while they wrote.
        for path in self._folder.glob(f"{_UNFINISHED}*"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > _UNFINISHED_SECONDS:
                    shutil.rmtree(path, ignore_errors=True)

    def _stop_writing(self, error: OSError) -> None:
        with self._warning:
            if not self._writable:
                return
            self._writable = False
        _log.warning(
            "the kernel cache %s can't be used, so kernels are not kept: %s "
            "(IREE_MIGRAPHX_CACHE_DIR names another folder, IREE_MIGRAPHX_CACHE=0 does without)",
            self._folder,
            error,
        )

    def _unfinished(self) -> tempfile.TemporaryDirectory[str]:
        return tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=self._folder, ignore_cleanup_errors=True)

    def _entry(self, key: str) -> Path:
        return self._folder / key[:2] / key


def _describe(result: GpuKernel | HostKernel | Refusal, meta: dict[str, Any]) -> bytes:
    """Write everything of a result but the kernel's bytes into `meta`; returns those."""
    if isinstance(result, Refusal):
        meta.update(kind="refusal", reason=result.reason.value, detail=result.detail)
        return b""
    if isinstance(result, HostKernel):
        meta.update(kind="host", symbol=result.symbol)
        return result.vmfb
    meta.update(kind="gpu", symbol=result.symbol, workgroups=result.workgroups, workgroup_size=result.workgroup_size)
    meta.update(operands=list(result.operands), resources=asdict(result.resources))
    return result.code_object


def _read(entry: Path, key: str) -> GpuKernel | HostKernel | Refusal | None:
    if not entry.exists():
        return None
    try:
        meta = json.loads((entry / _META).read_bytes())
        checksum, kind = meta.pop("checksum"), meta["kind"]
        kernel = b"" if kind == "refusal" else (entry / _KERNEL_FILES[kind]).read_bytes()
        if checksum != _checksum(meta, kernel) or meta["key"] != key:
            raise CorruptEntryError("its checksum is wrong")
        if kind == "refusal":
            return Refusal(Reason(meta["reason"]), meta["detail"])
        if kind == "host":
            return HostKernel(meta["symbol"], kernel)
        return GpuKernel(
            meta["symbol"],
            kernel,
            meta["workgroups"],
            meta["workgroup_size"],
            KernelResources(**meta["resources"]),
            tuple(meta["operands"]),
        )
    except OSError as error:
        raise CorruptEntryError(str(error)) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptEntryError(f"its {_META} is damaged ({error})") from error


def _checksum(meta: Mapping[str, Any], kernel: bytes) -> str:
    text = json.dumps(meta, sort_keys=True).encode()
    return hashlib.blake2b(text + b"\0" + kernel, digest_size=20).hexdigest()
