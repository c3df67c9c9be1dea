"""Recurrent operators (rnn, lstm, gru) written out step by step, as MIGraphX itself does it when it compiles.

Its pass rewrite_rnn runs for every target (src/targets/ref/target.cpp of release rocm-7.1.1), but only within a
compile: so the program is compiled for `ref` in a process of ours, without the passes that make `ref` operators of it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from iree_migraphx.capture.helper import run_helper
from iree_migraphx.errors import CaptureError, FormatError, HelperError
from iree_migraphx.ir.model import Program
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program
from iree_migraphx.options import capture_environment

#: Passes of the ref target that are left out: the next compile runs them.
LEFT_OUT = ("auto_contiguous", "eliminate_pad", "insert_pad", "ref::lowering")

_RECURRENT = frozenset({"gru", "lstm", "rnn"})
_CHILD = "iree_migraphx.capture.recurrence_child"


def has_recurrence(program: Program) -> bool:
    """Whether any instruction is a whole recurrent layer."""
    return any(instruction.name in _RECURRENT for instruction in program.instructions())


def unrolled(program: Program, timeout: float) -> Program:
    """The program with each step of its recurrent layers as ordinary instructions, not compiled.

    Args:
        program: a program that is not compiled.
        timeout: seconds that it may take.

    Raises:
        CaptureError: the process failed, crashed, took too long, or left something that is no program.
    """
    try:
        with TemporaryDirectory(prefix="iree_migraphx-", ignore_cleanup_errors=True) as folder:
            source, result = Path(folder, "program.mxr"), Path(folder, "unrolled.mxr")
            source.write_bytes(write_program(program))
            run_helper(_CHILD, [str(source), str(result)], capture_environment(LEFT_OUT), timeout)
            found = replace(read_program(result.read_bytes()), targets=(), contexts=())
    except OSError as error:
        raise CaptureError(f"the files of the process that unrolls can't be written or read: {error}") from error
    except (FormatError, HelperError) as error:
        raise CaptureError(str(error)) from error
    lowered = next((i.name for i in found.instructions() if i.name.startswith("ref::")), None)
    if lowered is not None or has_recurrence(found):
        raise CaptureError(f"this MIGraphX has other passes: {lowered or 'recurrent layers'} came out")
    return found
