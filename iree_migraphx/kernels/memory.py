"""Memory: a compiler that would take the last of it waits until others have ended, and one that does is stopped."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

# iree-compile 3.13.0 took between 130 and 300 MB for each kernel of ResNet-50 and PP-OCRv4.
_FIRST_GUESS = 512 << 20
_MARGIN = 1.25
_PAUSE = 0.2

#: Bytes that are left to everybody else.
_RESERVE = 256 << 20


class MemoryGate:
    """Lets compilers start while there is memory for one more, by the most that one has taken so far.

    One may always run: otherwise nothing would ever be compiled.

    Args:
        available: how many bytes there are to be had; None where nobody knows.
    """

    def __init__(self, available: Callable[[], int | None]) -> None:
        self._available = available
        self._need = _FIRST_GUESS
        self._running = 0
        self._alone = False
        self._change = threading.Condition()

    @contextlib.contextmanager
    def room(self, stop: threading.Event, alone: bool = False) -> Iterator[None]:
        """Wait for memory, and have it for the block.

        Args:
            stop: ends the wait.
            alone: wait until nobody else runs, and let nobody else start.
        """
        with self._change:
            while self._running and not stop.is_set() and (alone or self._alone or not self._fits()):
                self._change.wait(_PAUSE)
            self._running += 1
            self._alone = alone
        try:
            yield
        finally:
            with self._change:
                self._running -= 1
                self._alone = False
                self._change.notify_all()

    def learn(self, peak: int) -> None:
        """Take into account what a compiler has needed, in bytes."""
        with self._change:
            self._need = max(self._need, int(peak * _MARGIN))

    def _fits(self) -> bool:
        available = self._available()
        # Those that run may all have just started, and not have taken yet what they will.
        return available is None or available >= self._need * (self._running + 1)


def is_short() -> bool:
    """Whether there is so little memory that the system may soon kill somebody."""
    available = available_memory()
    return available is not None and available < _RESERVE


def available_memory(root: Path = Path("/")) -> int | None:
    """Bytes that can still be had on this machine and in this control group; None where the system does not tell."""
    amounts = [*_of_the_machine(root), *_of_the_groups(root)]
    return min(amounts) if amounts else None


def _of_the_machine(root: Path) -> Iterator[int]:
    with contextlib.suppress(OSError, ValueError):
        for line in (root / "proc/meminfo").read_text(encoding="ascii").splitlines():
            if line.startswith("MemAvailable:"):
                yield int(line.split()[1]) * 1024


def _of_the_groups(root: Path) -> Iterator[int]:
    """What the control group and those above it leave (Linux's cgroup-v2.rst, and memory.rst for version 1)."""
    with contextlib.suppress(OSError):
        for line in (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines():
            _, controllers, name = line.split(":", 2)
            if not controllers:
                base, limit, usage, cached = root / "sys/fs/cgroup", "memory.max", "memory.current", "inactive_file "
            elif "memory" in controllers.split(","):
                base, limit, usage = root / "sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
                cached = "total_inactive_file "
            else:
                continue
            group = base / name.lstrip("/")
            for folder in (group, *group.parents):
                # No limit is the word "max"; the root has no such file.
                with contextlib.suppress(OSError, ValueError):
                    left = int((folder / limit).read_text()) - int((folder / usage).read_text())
                    yield left + _statistic(folder / "memory.stat", cached)
                if folder == base:
                    break


def _statistic(path: Path, name: str) -> int:
    """What the page cache would give back."""
    with contextlib.suppress(OSError, ValueError):
        for line in path.read_text(encoding="ascii").splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    return 0
