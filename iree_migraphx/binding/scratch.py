"""Memory of values that nobody reads once a run is over: each thread keeps what its last run needed for the next one.

MIGraphX's own arguments are fresh zeroed memory, which costs a page fault every 4 KiB and is not aligned as kernels
want it. On large activations both cost more than some kernels.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import numpy.typing as npt

#: What IREE's CPU code loads and stores with (IREE_HAL_HEAP_BUFFER_ALIGNMENT, runtime/src/iree/hal/allocator.h).
ALIGNMENT = 64


class _Pool(threading.local):
    """One thread's memory.

    Attributes:
        runs: runs of this thread that are under way, one inside the other.
        free: from the runs before, by size.
        used: by the runs under way.
    """

    def __init__(self) -> None:
        self.runs = 0
        self.free: dict[int, list[npt.NDArray[np.uint8]]] = {}
        self.used: list[npt.NDArray[np.uint8]] = []


_pool = _Pool()


def aligned_bytes(size: int) -> npt.NDArray[np.uint8]:
    """Uninitialised memory of `size` bytes at an aligned address."""
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size]


@contextmanager
def run() -> Iterator[None]:
    """Around one run of a program in this thread; what `take` gave in it is free afterwards."""
    _pool.runs += 1
    try:
        yield
    finally:
        _pool.runs -= 1
        if not _pool.runs:
            # What this run did not need is given back: another program's run may have left it.
            _pool.free = {}
            for memory in _pool.used:
                _pool.free.setdefault(memory.size, []).append(memory)
            _pool.used = []


def take(size: int) -> int | None:
    """Address of `size` bytes until the end of this thread's run, of any content; None where no run is known of."""
    if not _pool.runs:
        return None
    known = _pool.free.get(size)
    memory = known.pop() if known else aligned_bytes(size)
    _pool.used.append(memory)
    return int(memory.ctypes.data)
