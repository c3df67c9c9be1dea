"""A process of ours in which MIGraphX compiles: it may crash there, or hang, and has an environment of its own."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import iree_migraphx
from iree_migraphx import binding
from iree_migraphx.binding import device
from iree_migraphx.errors import CaptureError, FormatError, HelperError, IreeMigraphxError
from iree_migraphx.ir.model import Program
from iree_migraphx.ir.read import read_program
from iree_migraphx.logs import FROM_MIGRAPHX

#: Exit status where MIGraphX or the device said no, with the reason on standard error.
_REFUSED = 3

_LONGEST_DETAIL = 600

_log = logging.getLogger(__name__)
_from_migraphx = logging.getLogger(FROM_MIGRAPHX)


def run_helper(
    module: str, arguments: Sequence[str], environment: Mapping[str, str], timeout: float | None = None
) -> None:
    """Run a module of this package, whose main calls `serve`, to its end.

    Args:
        module: its full name.
        arguments: for its command line; names of files must be absolute.
        environment: all of it.
        timeout: seconds that it may take; None for as long as it does.

    Raises:
        HelperError: it did not end well.
        OSError: it can't be started.
    """
    # Wherever this package was imported from, the process must find the same one.
    package = Path(iree_migraphx.__file__).parent.parent
    command = [sys.executable, "-m", module, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdin=pipe, stdout=subprocess.DEVNULL, stderr=pipe, env=environment, cwd=package
    ) as process:
        # Its standard input stays open for as long as we live: that it closes tells the process to end.
        stdin, process.stdin = process.stdin, None
        try:
            _, errors = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise HelperError(f"MIGraphX needed more than {timeout:g} s (IREE_MIGRAPHX_CAPTURE_TIMEOUT)") from error
        finally:
            process.kill()
            if stdin is not None:
                stdin.close()
    lines = [line.strip() for line in errors.decode(errors="replace").splitlines() if line.strip()]
    _log.debug("%s ended with status %d", module, process.returncode)
    if lines:
        _from_migraphx.debug("%s", "\n".join(lines))
    if process.returncode:
        _raise(process.returncode, lines)


def program_of_helper(
    module: str, name: str, program: bytes, flags: Sequence[str], environment: Mapping[str, str], timeout: float
) -> Program:
    """The program that a helper makes of another one.

    Args:
        module: as in `run_helper`; its arguments are the files of both programs, and the flags.
        name: of the file that it is to make, which errors mention.
        program: a serialized program that is not compiled.
        flags: for its command line.
        environment: all of it.
        timeout: seconds that it may take.

    Raises:
        CaptureError: the process failed, crashed, took too long, or left something that is no program.
    """
    try:
        with TemporaryDirectory(prefix="iree_migraphx-", ignore_cleanup_errors=True) as folder:
            source, result = Path(folder, "program.mxr"), Path(folder, name)
            source.write_bytes(program)
            run_helper(module, [str(source), str(result), *flags], environment, timeout)
            return read_program(result.read_bytes())
    except OSError as error:
        raise CaptureError(f"the files of the process that makes {name} can't be written or read: {error}") from error
    except (FormatError, HelperError) as error:
        raise CaptureError(str(error)) from error


def serve(work: Callable[[], None]) -> int:
    """Do a helper's work, and give the status to end with."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    try:
        work()
    except IreeMigraphxError as error:
        print(error, file=sys.stderr)
        return _REFUSED
    return 0


def compile_file(source: str, result: str, number: str, *flags: str) -> None:
    """Compile a program for the gpu.

    Args:
        source: the file it is in.
        result: the file to save it to.
        number: HIP's number of the device; -1 for any.
        flags: offload_copy, fast_math and exhaustive_tune, each 0 or 1.

    Raises:
        MigraphxError: MIGraphX can't compile it.
        TargetError: there is no such device.
    """
    target = gpu_target(number)
    program = binding.load(source)
    program.compile(target, *(flag == "1" for flag in flags))
    binding.save(program, result)


def gpu_target(number: str) -> binding.target:
    """MIGraphX's target gpu with the device of HIP's number for current one; raises as `compile_file`."""
    target = binding.get_target("gpu")
    if int(number) >= 0:
        device.choose_device(int(number))
    return target


def device_and_flags(*flags: bool) -> list[str]:
    """What `compile_file` is told to compile for the current device."""
    number = device.current_device().number
    return [str(-1 if number is None else number), *(str(int(flag)) for flag in flags)]


def _raise(status: int, lines: list[str]) -> None:
    if status == _REFUSED:
        # MIGraphX's own words, and then ours.
        raise HelperError("; ".join(lines[-2:])[-_LONGEST_DETAIL:], refused=True)
    said = lines[-1][-_LONGEST_DETAIL:] if lines else "it said nothing"
    ended = f"was ended by {signal.Signals(-status).name}" if status < 0 else f"ended with status {status}"
    raise HelperError(f"the process in which MIGraphX compiles {ended}: {said}")


def _end_with_parent() -> None:
    # Not through sys.stdin, whose lock Python wants when it ends.
    while os.read(0, 1):
        pass
    os._exit(1)
