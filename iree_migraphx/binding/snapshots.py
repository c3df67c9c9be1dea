"""The serialized form of a program of any size, without MIGraphX's copies of it in this process.

MIGraphX's save (src/program.cpp, src/msgpack.cpp) holds the program three times over while it writes. A large one is
therefore saved by a fork of this process, which shares the program's memory and takes the copies away with it.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
import mmap
import os
import select
import signal
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from iree_migraphx.binding import library

#: Bytes of the process's C++ memory from which a program may be large; how large it is, nothing tells beforehand.
LARGE = 128 << 20

#: A fork that has used no processor time for so long waits for a lock that nobody will open any more.
STALLED_SECONDS = 10.0

_PAUSE = 0.5
_PR_SET_PDEATHSIG = 1
_FORKING = threading.Lock()

_log = logging.getLogger(__name__)


class _Mallinfo(ctypes.Structure):
    """struct mallinfo2 of glibc's malloc.h: the fourth and the seventh field are bytes in use."""

    _fields_ = tuple((f"_{n}", ctypes.c_size_t) for n in range(10))


def snapshot(write: Callable[[str], None], write_in_fork: Callable[[str], bool]) -> memoryview:
    """What a program's save writes, as a view of a file in memory, of which only what is read becomes resident.

    Args:
        write: saves the program to the file of a name, and raises what there is to say.
        write_in_fork: does the same and tells whether it could, without a lock or a word of Python's.
    """
    descriptor = os.memfd_create("iree_migraphx-program")
    try:
        path = f"/proc/self/fd/{descriptor}"
        if not (_worth_a_fork() and _saved_by_fork(functools.partial(write_in_fork, path))):
            os.ftruncate(descriptor, 0)  # of what a fork may have left
            write(path)
        return memoryview(mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ))
    finally:
        os.close(descriptor)


def let_go(data: bytes | memoryview) -> None:
    """Have what was read of a snapshot resident no more; it is there again when it is read again."""
    owner = data.obj if isinstance(data, memoryview) else None
    if isinstance(owner, mmap.mmap):
        owner.madvise(mmap.MADV_DONTNEED)


def _worth_a_fork() -> bool:
    """Whether the program may be large, and nothing is known to suffer from a fork: HIP is."""
    used = _libc().mallinfo2()
    return used._4 + used._7 >= LARGE and not any(map(library.mapped_files, ("libamdhip64", "libhsa-runtime64")))


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None)
    libc.mallinfo2.restype = _Mallinfo
    return libc


def _saved_by_fork(save: Callable[[], bool]) -> bool:
    """Run `save` in a fork of this process; false where it failed, was killed, or stalled."""
    libc, parent = _libc(), os.getpid()
    done, finish = os.pipe()
    # From Python 3.12 on a fork beside other threads warns, and so do some packages; it runs only MIGraphX's code.
    try:
        with _FORKING, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            child = os.fork()
            if child == 0:
                _be_the_fork(save, finish, libc, parent)
    except OSError as error:
        _log.info("no fork to save the program in: %s", error)
        os.close(done)
        os.close(finish)
        return False
    try:
        os.close(finish)
        saved = _wait(child, done)
    finally:
        # Where it is through this changes nothing. Until it is waited for, its number is nobody else's.
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):  # the application ignores SIGCHLD
            os.waitpid(child, 0)
        os.close(done)
    _log.info("a fork %s", "saved the program" if saved else "could not save the program")
    return saved


def _be_the_fork(save: Callable[[], bool], finish: int, libc: ctypes.CDLL, parent: int) -> NoReturn:
    """What the child does until it ends. No other thread lives here, so nothing may wait for one."""
    try:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        # What MIGraphX has to say it says once more to the parent.
        null = os.open(os.devnull, os.O_RDWR)
        for stream in range(3):
            os.dup2(null, stream)
        if os.getppid() == parent and save():
            os.write(finish, b"saved")
    finally:
        os._exit(0)


def _wait(child: int, done: int) -> bool:
    """Whether the child said that it was done, which it says last; false also once it does not get on."""
    spent, since = -1, time.monotonic()
    while True:
        if select.select([done], [], [], _PAUSE)[0]:
            return bool(os.read(done, 1))
        now = _processor_ticks(child)
        if now != spent:
            spent, since = now, time.monotonic()
        elif time.monotonic() - since > STALLED_SECONDS:
            return False


def _processor_ticks(process: int) -> int:
    """Time that a process has spent, in the unit of proc_pid_stat(5); 0 where it is gone."""
    with contextlib.suppress(OSError):
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
        return int(fields[11]) + int(fields[12])
    return 0
