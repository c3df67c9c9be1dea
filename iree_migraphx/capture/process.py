"""MIGraphX's own optimised and fused form of a program, made in a process of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import iree_migraphx
from iree_migraphx.capture.child import REFUSED
from iree_migraphx.errors import CaptureError, FormatError
from iree_migraphx.ir.model import Program
from iree_migraphx.ir.read import read_program
from iree_migraphx.options import capture_environment

#: The passes of the gpu target from its fusion on (src/targets/gpu/target.cpp of release rocm-7.1.1). Without them the
#: program that comes out holds ordinary operators and fusions, nothing of the device.
PASSES_AFTER_FUSION = (
    "fuse_concat",
    "auto_contiguous",
    "gpu::lowering",
    "eliminate_contiguous",
    "eliminate_concat",
    "gpu::compile_miopen",
    "gpu::fuse_ops",
    "gpu::compile_hipblaslt",
    "replace_allocate",
    "adjust_allocation",
    "gpu::compile_ops",
    "promote_literals",
    "gpu::write_literals",
    "schedule",
    "memory_coloring",
    "sync_device",
    "preallocate_param",
    "eliminate_allocation",
    "check_context",
)

_CHILD = "iree_migraphx.capture.child"
_LONGEST_DETAIL = 300


def capture(program: bytes, device: int | None, offload_copy: bool, fast_math: bool, timeout: float) -> Program:
    """MIGraphX's gpu compile up to and with its fusion.

    Args:
        program: a serialized program that is not compiled.
        device: number of the device that is compiled for; None for the first one.
        offload_copy: as MIGraphX's compile.
        fast_math: as MIGraphX's compile.
        timeout: seconds that it may take.

    Raises:
        CaptureError: the process failed, crashed, took too long, or left something that is no program.
    """
    try:
        with TemporaryDirectory(prefix="iree_migraphx-", ignore_cleanup_errors=True) as folder:
            source, result = Path(folder, "program.mxr"), Path(folder, "captured.mxr")
            source.write_bytes(program)
            numbers = [-1 if device is None else device, int(offload_copy), int(fast_math)]
            _run([sys.executable, "-m", _CHILD, str(source), str(result), *map(str, numbers)], timeout)
            return read_program(result.read_bytes())
    except OSError as error:
        raise CaptureError(f"the files of the process that captures can't be written or read: {error}") from error
    except FormatError as error:
        raise CaptureError(str(error)) from error


def _run(command: list[str], timeout: float) -> None:
    environment = capture_environment(PASSES_AFTER_FUSION)
    # Wherever this package was imported from, the process must find the same one.
    package = Path(iree_migraphx.__file__).parent.parent
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, env=environment, cwd=package
    ) as process:
        assert process.stdin is not None and process.stderr is not None
        try:
            errors = _errors_until_end(process, timeout)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        said = "; ".join(errors[-2:])[:_LONGEST_DETAIL] or "it said nothing"
        status = process.returncode
        if status == REFUSED:
            raise CaptureError(f"MIGraphX can't prepare the program for the gpu: {said}")
        ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
        raise CaptureError(f"the process that lets MIGraphX fuse the program {ended}: {said}")


def _errors_until_end(process: subprocess.Popen[bytes], timeout: float) -> list[str]:
    """The lines on its standard error. Its standard input stays open meanwhile: that it closes tells it to end."""
    assert process.stderr is not None
    stdin, process.stdin = process.stdin, None
    try:
        _, errors = process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired as error:
        raise CaptureError(
            f"MIGraphX needed more than {timeout:g} s to prepare the program (IREE_MIGRAPHX_CAPTURE_TIMEOUT)"
        ) from error
    finally:
        if stdin is not None:
            stdin.close()
    return [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
