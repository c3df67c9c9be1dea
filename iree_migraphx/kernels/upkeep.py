"""Care for a cache as a whole: what is in it, how much it may hold, and whether it is sound."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from iree_migraphx.kernels.cache import KernelCache
from iree_migraphx.kernels.entry import CorruptEntryError, check_source, read_entry
from iree_migraphx.kernels.lowered import LOWERED, check_lowered

_MEGABYTE = 1 << 20
# What a file takes on disk at least.
_BLOCK = 4096
# Looking at everything takes a second or so for a hundred thousand entries: not after each compile.
_SECONDS_BETWEEN_LOOKS = 600.0
_LOOKED = ".looked"
# So that the next kernel does not bring it over the limit again.
_FILL = 0.9
# Times further in the future were told by a clock that was wrong.
_FUTURE_SECONDS = 24 * 3600.0

_KEY = re.compile(r"[0-9a-f]{40}")


@dataclass(frozen=True, slots=True)
class Item:
    """A kernel, a refusal or a lowered subgraph in a cache.

    Attributes:
        size: bytes on disk, about.
        used: when it was used last, give or take an hour, in seconds since 1970.
    """

    path: Path
    size: int
    used: float


def items(folder: Path) -> Iterator[Item]:
    """Everything that a cache has, in no order; what is not the cache's own is passed over."""
    for path in [*folder.glob("[0-9a-f][0-9a-f]/*"), *(folder / LOWERED).glob("*.json")]:
        # Another process may be removing it.
        with contextlib.suppress(OSError):
            if _KEY.fullmatch(path.stem):
                files = list(path.iterdir()) if path.is_dir() else [path]
                size = sum(-(-file.stat().st_size // _BLOCK) * _BLOCK for file in files)
                yield Item(path, size, path.stat().st_mtime)


def keep_within(cache: KernelCache, megabytes: int) -> None:
    """Prune a cache now and then."""
    if not megabytes or not cache.writable:
        return
    stamp = cache.folder / _LOOKED
    with contextlib.suppress(OSError):
        if 0 <= time.time() - stamp.stat().st_mtime < _SECONDS_BETWEEN_LOOKS:
            return
    cache.write(stamp, b"")
    prune(cache, megabytes * _MEGABYTE)


def prune(cache: KernelCache, limit: int, oldest: float = 0.0) -> list[Item]:
    """Remove what was used longest ago, until the cache is within a limit.

    Several processes may do this at once: they choose the same entries, and each goes once.

    Args:
        cache: what to prune.
        limit: bytes; a cache within it loses nothing by it, one above goes to nine tenths of it.
        oldest: remove also what was used before this time, in seconds since 1970.

    Returns:
        What was removed.
    """
    future = time.time() + _FUTURE_SECONDS
    # What claims to be used in the far future would otherwise stay for ever.
    found = sorted(items(cache.folder), key=lambda item: (item.used <= future, item.used))
    total = sum(item.size for item in found)
    goal = limit if total <= limit else int(limit * _FILL)
    removed = []
    for item in found:
        if total <= goal and item.used >= oldest:
            continue
        total -= item.size
        if cache.remove(item.path):
            removed.append(item)
    return removed


def clear(cache: KernelCache) -> list[Item]:
    """Remove everything that the cache has; returns what that was."""
    return [item for item in items(cache.folder) if cache.remove(item.path)]


def verify(cache: KernelCache) -> Iterator[tuple[Item, str]]:
    """What is not as it was written, and how that shows."""
    for item in items(cache.folder):
        fault = _fault(item.path)
        # Another process may have removed it meanwhile.
        if fault and item.path.exists():
            yield item, fault


def _fault(path: Path) -> str:
    try:
        if path.is_dir():
            check_source(path, read_entry(path))
        else:
            check_lowered(path)
    except CorruptEntryError as error:
        return str(error)
    return ""
