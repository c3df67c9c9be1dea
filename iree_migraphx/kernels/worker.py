"""One request through iree-compile: MLIR into a folder, one run, and what came of it."""

from __future__ import annotations

import logging
import shlex
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.accept import accept_gpu, accept_host
from iree_migraphx.kernels.compiler import Compiler, compile_command, staged_commands
from iree_migraphx.kernels.flatten import flatten_workgroups
from iree_migraphx.kernels.invoke import Run, run
from iree_migraphx.kernels.model import GpuKernel, HostKernel, Request
from iree_migraphx.kernels.targets import Target
from iree_migraphx.options import Options

_LONGEST_DETAIL = 300

# What strerror says where the disk is full or not ours; the compiler passes it on.
_DISK_ERRORS = ("No space left on device", "Disk quota exceeded", "Read-only file system", "Permission denied")

# What came of the input would come of it again, unlike a time limit, a crash, a full disk or garbled output.
_LASTING = frozenset(
    {
        Reason.COMPILE_ERROR,
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

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Compiled:
    """What one run gave.

    Attributes:
        seconds: wall time of iree-compile.
        lasting: another run would give the same.
        command: the command line, with the names that its files had.
    """

    result: GpuKernel | HostKernel | Refusal
    seconds: float
    lasting: bool
    command: tuple[str, ...]


def compile_request(
    request: Request, compiler: Compiler, target: Target, options: Options, stop: threading.Event
) -> Compiled:
    """Compile and check one request; whatever goes wrong with it is its Refusal.

    Raises:
        StoppedError: `stop` was set.
    """
    command: list[str] = []
    ended: Run | None = None
    seconds = 0.0
    result: GpuKernel | HostKernel | Refusal
    try:
        with TemporaryDirectory(prefix="iree_migraphx-", ignore_cleanup_errors=True) as folder:
            source, output = Path(folder, "input.mlir"), Path(folder, "output")
            source.write_text(request.mlir, encoding="utf-8")
            command = compile_command(compiler, target, options, source, output)
            ended = _run(command, Path(folder), options, stop, request.symbol)
            seconds += ended.seconds
            result = _accept(_output(ended, output, options), request, target)
            if isinstance(result, Refusal) and result.reason is Reason.BLOCK_NOT_1D:
                middle, flattened = Path(folder, "configurations.mlir"), Path(folder, "flattened.mlir")
                first, command = staged_commands(command, middle, flattened, output)
                ended = _run(first, Path(folder), options, stop, request.symbol)
                seconds += ended.seconds
                flattened.write_text(flatten_workgroups(_text(_output(ended, middle, options))), encoding="utf-8")
                ended = _run(command, Path(folder), options, stop, request.symbol)
                seconds += ended.seconds
                result = _accept(_output(ended, output, options), request, target)
    except Refusal as refusal:
        result = refusal
    except OSError as error:
        result = Refusal(Reason.DISK, f"the compiler's files can't be written: {error}")
    # An exit status without a word is no verdict on the input.
    named = ended is not None and bool(ended.diagnosis)
    lasting = not isinstance(result, Refusal) or (
        result.reason in _LASTING and (result.reason is not Reason.COMPILE_ERROR or named)
    )
    return Compiled(result, seconds, lasting, tuple(command))


def _accept(data: bytes, request: Request, target: Target) -> GpuKernel | HostKernel | Refusal:
    try:
        return accept_host(data, request) if target.is_host else accept_gpu(_text(data), request, target)
    except Refusal as refusal:
        return refusal


def _run(command: list[str], folder: Path, options: Options, stop: threading.Event, symbol: str) -> Run:
    try:
        ended = run(command, folder, options.timeout, stop)
    except OSError as error:
        raise Refusal(Reason.COMPILER_CRASH, f"iree-compile can't be started: {error}") from error
    _log.info("%s: %.2f s, status %s: %s", symbol, ended.seconds, ended.status, shlex.join(command))
    if ended.errors:
        _log.debug("%s: %s", symbol, ended.errors)
    return ended


def _output(ended: Run, output: Path, options: Options) -> bytes:
    if ended.status is None:
        raise Refusal(Reason.TIMEOUT, f"more than {options.timeout:g} s (IREE_MIGRAPHX_TIMEOUT sets the limit)")
    if ended.status:
        said = ended.explanation[:_LONGEST_DETAIL]
        if any(text in ended.diagnosis for text in _DISK_ERRORS):
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
