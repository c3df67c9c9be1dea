"""One request through iree-compile: MLIR into a folder, one run, and what came of it."""

from __future__ import annotations

import logging
import shlex
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.accept import accept_gpu, accept_host
from iree_migraphx.kernels.compiler import Compiler, compile_command, staged_commands
from iree_migraphx.kernels.flags import FileFlag, sets, write_flags
from iree_migraphx.kernels.invoke import Run, run
from iree_migraphx.kernels.model import Kernel, Request
from iree_migraphx.kernels.scratch import scratch_folder
from iree_migraphx.kernels.targets import Target
from iree_migraphx.logs import FROM_IREE

_LONGEST_DETAIL = 300

# What strerror says where the disk is full or not ours; the compiler passes it on.
_DISK_ERRORS = ("No space left on device", "Disk quota exceeded", "Read-only file system", "Permission denied")

# What the compiler says where its surroundings failed it, and not the input: it could not write a temporary file, or
# its linker did not do its work, which is a program that it runs (IREE 3.13.0 on full disks, without a linker, with
# limits on files and memory). What comes of that is tried again.
_SURROUNDINGS = (
    *_DISK_ERRORS,
    "temporary file",
    "failed to link executable",
    "iree-lld execute fail",
    "IO failure on output stream",
    "Too many open files",
    "Resource temporarily unavailable",
    "Cannot allocate memory",
    "out of memory",
)
# The linker's word on the input.
_LINKERS_VERDICT = "undefined symbol"

# What came of the input would come of it again, unlike a crash, a full disk or garbled output. The cache forgets a
# time limit after a while.
_LASTING = frozenset(
    {
        Reason.COMPILE_ERROR,
        Reason.TIMEOUT,
        Reason.MULTI_DISPATCH,
        Reason.FILL_OR_COPY,
        Reason.PUSH_CONSTANTS,
        Reason.PARTIAL_BINDING,
        Reason.DYNAMIC_GRID,
        Reason.GRID_NOT_1D,
        Reason.BLOCK_NOT_1D,
        Reason.LDS_LIMIT,
        Reason.SCALAR_ARGUMENTS,
        Reason.WRONG_TARGET,
    }
)

# Of launches that compute the same in different parts of a buffer IREE makes one kernel that is told the part, as a
# constant. Without this the launch gets the part itself (FuseDispatchBindings.cpp). It is no flag for every kernel: a
# part may begin anywhere, and a pointer may not.
_PARTS_AS_POINTERS = "--iree-scheduling-optimize-bindings=false"

_log = logging.getLogger(__name__)
_from_iree = logging.getLogger(FROM_IREE)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one run gave.

    Attributes:
        seconds: wall time of iree-compile.
        lasting: another run would give the same.
        command: the command line, with the names that its files had.
        errors: the beginning of what iree-compile wrote to standard error.
        peak: bytes of memory that it had at most, as far as that was seen.
        killed: somebody else ended it by SIGKILL, which is what a system short of memory does.
    """

    result: Kernel | Refusal
    seconds: float
    lasting: bool
    command: tuple[str, ...]
    errors: str = ""
    peak: int = 0
    killed: bool = False


@dataclass(frozen=True, slots=True)
class Order:
    """One compile with all that it needs but the compiler; it can be sent to another machine.

    Attributes:
        flags: from `compile_flags`.
        timeout: seconds that it may take.
    """

    request: Request
    target: Target
    flags: tuple[str | FileFlag, ...]
    timeout: float


def compile_order(order: Order, compiler: Compiler, stop: threading.Event) -> Compiled:
    """Compile and check one request; whatever goes wrong with it is its Refusal.

    Raises:
        StoppedError: `stop` was set.
    """
    run = _Runs(order, stop)
    request, target = order.request, order.target
    result: Kernel | Refusal
    try:
        with scratch_folder() as folder:
            source, output = folder / "input.mlir", folder / "output"
            source.write_text(request.mlir, encoding="utf-8")
            command = compile_command(compiler, target, write_flags(order.flags, folder), source, output)
            result = _accept(run(command, folder, output), request, target)
            if _is(result, Reason.PUSH_CONSTANTS) and not sets(order.flags, _PARTS_AS_POINTERS):
                command = [*command, _PARTS_AS_POINTERS]
                result = _accept(run(command, folder, output), request, target)
            if _is(result, Reason.BLOCK_NOT_1D):
                # It needs iree.compiler, whose import takes a tenth of a second.
                from iree_migraphx.kernels.flatten import flatten_workgroups

                middle, flattened = folder / "configurations.mlir", folder / "flattened.mlir"
                first, second = staged_commands(command, middle, flattened, output)
                flattened.write_text(flatten_workgroups(_text(run(first, folder, middle))), encoding="utf-8")
                result = _accept(run(second, folder, output), request, target)
    except Refusal as refusal:
        result = refusal
    except OSError as error:
        result = Refusal(Reason.DISK, f"the compiler's files can't be written: {error}")
    last = run.last
    lasting = not isinstance(result, Refusal) or (
        result.reason in _LASTING and (result.reason is not Reason.COMPILE_ERROR or _is_about_the_input(last))
    )
    return Compiled(
        result,
        run.seconds,
        lasting,
        tuple(run.command),
        last.errors if last else "",
        run.peak,
        last is not None and last.status == -signal.SIGKILL,
    )


class _Runs:
    """The runs of iree-compile that one order takes, within its time limit together."""

    def __init__(self, order: Order, stop: threading.Event) -> None:
        self._order = order
        self._stop = stop
        self.command: list[str] = []
        self.last: Run | None = None
        self.seconds = 0.0
        self.peak = 0

    def __call__(self, command: list[str], folder: Path, output: Path) -> bytes:
        """Run a command to its end; returns what it wrote to `output`."""
        self.command = command
        try:
            ended = run(command, folder, self._order.timeout - self.seconds, self._stop)
        except OSError as error:
            raise Refusal(Reason.COMPILER_CRASH, f"iree-compile can't be started: {error}") from error
        self.last = ended
        self.seconds += ended.seconds
        self.peak = max(self.peak, ended.peak)
        symbol = self._order.request.symbol
        _log.info("%s: %.2f s, status %s: %s", symbol, ended.seconds, ended.status, shlex.join(command))
        if ended.errors:
            _from_iree.debug("%s: %s", symbol, ended.errors)
        return _output(ended, output, self._order.timeout)


def _is_about_the_input(ended: Run | None) -> bool:
    """Whether an error would come again anywhere; not so an exit status without a word, or trouble of the machine's."""
    if ended is None or not ended.diagnosis:
        return False
    return _LINKERS_VERDICT in ended.errors or not any(text in ended.errors for text in _SURROUNDINGS)


def _is(result: Kernel | Refusal, reason: Reason) -> bool:
    return isinstance(result, Refusal) and result.reason is reason


def _accept(data: bytes, request: Request, target: Target) -> Kernel | Refusal:
    try:
        return accept_host(data, request) if target.is_host else accept_gpu(_text(data), request, target)
    except Refusal as refusal:
        return refusal


def _output(ended: Run, output: Path, timeout: float) -> bytes:
    if ended.status is None:
        raise Refusal(Reason.TIMEOUT, f"more than {timeout:g} s (IREE_MIGRAPHX_TIMEOUT sets the limit)")
    if ended.status:
        said = ended.explanation[:_LONGEST_DETAIL]
        if any(text in ended.errors for text in _DISK_ERRORS):
            raise Refusal(Reason.DISK, said)
        if ended.status < 0:
            ending = f"ended by {_signal_name(-ended.status)}"
            raise Refusal(Reason.COMPILER_CRASH, f"{ending}: {said}" if ended.diagnosis else ending)
        raise Refusal(Reason.COMPILE_ERROR, said)
    try:
        return output.read_bytes()
    except FileNotFoundError as error:
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, "iree-compile reported success and wrote nothing") from error


def _text(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, "what should be MLIR is not text") from error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
