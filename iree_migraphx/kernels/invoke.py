"""One run of a program that may hang, crash, fork or print without end; nothing of it outlives the run."""

from __future__ import annotations

import contextlib
import os
import selectors
import shlex
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from iree_migraphx.kernels.memory import is_short
from iree_migraphx.options import inherited_environment

# A failing iree-compile prints its whole IR after the errors: the beginning is what matters.
_KEPT_BYTES = 256 * 1024
# Linux gives a pipe this much room, so one read empties it.
_PIPE_BYTES = 64 * 1024
_LONGEST_PAUSE = 0.05

#: Bytes beyond which a program is ended where memory gets short: it is the one that takes it.
_LARGE = 1 << 30

# Its standard input closes when our process ends, however it ends, and nobody else is left to clean up: it removes the
# run's folder and kills the process group that it leads, which the program and its children are in.
_GUARD = 'read -r _; rm -rf -- "$1"; kill -KILL 0'

# posix_spawn can't change the folder. exec, so that the program keeps the number that we know.
_ELSEWHERE = 'cd -- "$1" && shift && exec "$@"'


class StoppedError(Exception):
    """The run was ended by the event given to `run`."""


@dataclass(frozen=True, slots=True)
class Run:
    """How a run ended.

    Attributes:
        status: exit status; -N where signal N ended it; None where the time limit did.
        output: the beginning of its standard output.
        errors: the beginning of its standard error.
        seconds: wall time.
        peak: bytes of memory that it had at most, as far as that was seen; 0 where the system does not tell.
    """

    status: int | None
    output: str
    errors: str
    seconds: float
    peak: int = 0

    @property
    def diagnosis(self) -> str:
        """What the compiler says is wrong: its first error, without place; empty where it names none.

        MLIR writes `file:1:2: error: …`, LLVM's option parser `iree-compile: …`, its fatal errors `LLVM ERROR: …`.
        """
        for line in self._lines():
            _, found, message = line.partition("error: ")
            if found:
                return message
            if line.startswith(("LLVM ERROR: ", "iree-compile: ", "error ")) or "Assertion `" in line:
                return line
        return ""

    @property
    def explanation(self) -> str:
        """The diagnosis, or else the last line of standard error, or else the exit status."""
        lines = self._lines()
        return self.diagnosis or (lines[-1] if lines else f"it ended with status {self.status} and said nothing")

    def _lines(self) -> list[str]:
        return [line.strip() for line in self.errors.splitlines() if line.strip()]


def run(command: list[str], folder: Path, timeout: float, stop: threading.Event) -> Run:
    """Run a program to its end, with its temporary files in `folder`.

    The program is in a process group of its own, so that Ctrl-C in a terminal reaches only us. Everything in the group
    is killed when the program ends, when `timeout` seconds have passed, when `stop` is set (after a twentieth of a
    second at most), and when our own process is killed. A program that takes the machine's last memory is killed by
    SIGKILL, before the system chooses one to kill, and its errors say so.

    Safe to call from several threads: posix_spawn runs nothing of ours between fork and exec, which a preexec_fn of
    subprocess would, and other than Popen before Python 3.11 it can put a process into the group of another one.

    Raises:
        OSError: the program can't be started.
        StoppedError: `stop` was set.
    """
    started = time.monotonic()
    place = str(folder)
    if shlex.quote(place) != place:
        # IREE runs its linker for CPUs through a shell and quotes no name of a temporary file: let those be relative.
        command, place = ["/bin/sh", "-c", _ELSEWHERE, "sh", place, *command], "."
    environment = inherited_environment(TMPDIR=place, LLVM_DISABLE_SYMBOLIZATION="1")
    with _guarded_group(folder, environment) as group, contextlib.closing(_Capture()) as capture:
        program = _spawn(command, environment, group, None, capture.output_writer, capture.errors_writer)
        status, peak, word = None, 0, ""
        try:
            capture.close_writers()
            status, peak, word = _wait(program, capture, started + timeout, stop)
        finally:
            if status is None:
                _kill_group(group)
                _exit_status(program, 0)
        capture.read(0)
        return Run(status, capture.output, capture.errors + word, time.monotonic() - started, peak)


def _wait(program: int, capture: _Capture, deadline: float, stop: threading.Event) -> tuple[int | None, int, str]:
    pause, peak, word = 0.001, 0, ""
    while (status := _exit_status(program, os.WNOHANG)) is None:
        left = deadline - time.monotonic()
        if left <= 0:
            return None, peak, word
        if stop.is_set():
            raise StoppedError
        peak = max(peak, _high_water(program))
        if peak > _LARGE and not word and is_short():
            word = f"iree-compile: stopped at {peak / 1e9:.1f} GB, since the machine had hardly any memory left\n"
            os.kill(program, signal.SIGKILL)
        if capture.is_open:
            capture.read(min(_LONGEST_PAUSE, left))
        else:
            # Usually it has closed its streams because it is just ending.
            time.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE)
    return status, peak, word


def _high_water(process: int) -> int:
    """The most memory that a process has had so far.

    getrusage does not tell: before its exec, a child has the memory of our own process.
    """
    with contextlib.suppress(OSError, ValueError), open(f"/proc/{process}/status", encoding="ascii") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


@contextlib.contextmanager
def _guarded_group(folder: Path, environment: Mapping[str, str]) -> Iterator[int]:
    """A process group that dies with us, and at the end of the block."""
    life, ours = os.pipe()
    try:
        guard = _spawn(["/bin/sh", "-c", _GUARD, "sh", str(folder)], environment, 0, life, None, None)
        try:
            yield guard
        finally:
            # Until we have waited for the guard its id can't be reused, so this never hits anybody else's group.
            _kill_group(guard)
            _exit_status(guard, 0)
    finally:
        os.close(life)
        os.close(ours)


def _spawn(
    command: list[str],
    environment: Mapping[str, str],
    group: int,
    stdin: int | None,
    stdout: int | None,
    stderr: int | None,
) -> int:
    streams: list[tuple[int, ...] | tuple[int, int, str, int, int]] = []
    for number, descriptor in enumerate((stdin, stdout, stderr)):
        if descriptor is None:
            streams.append((os.POSIX_SPAWN_OPEN, number, os.devnull, os.O_RDWR, 0))
        else:
            streams.append((os.POSIX_SPAWN_DUP2, descriptor, number))
    # Python ignores these two, and a program would inherit that.
    defaults = (signal.SIGPIPE, signal.SIGXFSZ)
    return os.posix_spawn(command[0], command, environment, file_actions=streams, setpgroup=group, setsigdef=defaults)


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _exit_status(process: int, options: int) -> int | None:
    try:
        ended, status = os.waitpid(process, options)
    except ChildProcessError:
        # The application ignores SIGCHLD, and the system has thrown the status away: what was written must tell.
        return 0
    return os.waitstatus_to_exitcode(status) if ended else None


class _Capture:
    """The two output streams of a program, of which it keeps the beginning."""

    def __init__(self) -> None:
        self._output, self.output_writer = os.pipe()
        self._errors, self.errors_writer = os.pipe()
        self._kept = {self._output: bytearray(), self._errors: bytearray()}
        self._selector = selectors.DefaultSelector()
        for reader in self._kept:
            self._selector.register(reader, selectors.EVENT_READ)
        self._writers_open = True

    def close(self) -> None:
        """Close everything."""
        self.close_writers()
        self._selector.close()
        for reader in self._kept:
            os.close(reader)

    @property
    def is_open(self) -> bool:
        """Whether anybody may still write."""
        return bool(self._selector.get_map())

    @property
    def output(self) -> str:
        return self._kept[self._output].decode(errors="replace")

    @property
    def errors(self) -> str:
        return self._kept[self._errors].decode(errors="replace")

    def close_writers(self) -> None:
        """Leave the writing ends to the program, which has its own by now."""
        if self._writers_open:
            os.close(self.output_writer)
            os.close(self.errors_writer)
            self._writers_open = False

    def read(self, seconds: float) -> None:
        """Take what has been written, waiting at most this long for something."""
        for key, _ in self._selector.select(seconds):
            block = os.read(key.fd, _PIPE_BYTES)
            if not block:
                self._selector.unregister(key.fd)
            kept = self._kept[key.fd]
            kept += block[: _KEPT_BYTES - len(kept)]
