"""Recurrent operators (rnn, lstm, gru) written out step by step, as MIGraphX itself does it when it compiles.

Its pass rewrite_rnn runs for every target (src/targets/ref/target.cpp of release rocm-7.1.1), but only within a
compile: so the program is compiled for `ref` in a process of ours, without the passes that make `ref` operators of it.
"""

from __future__ import annotations

from dataclasses import replace

from iree_migraphx.capture.helper import program_of_helper
from iree_migraphx.errors import CaptureError
from iree_migraphx.ir.model import Program
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
    environment = capture_environment(LEFT_OUT)
    made = program_of_helper(_CHILD, "unrolled.mxr", write_program(program), (), environment, timeout)
    found = replace(made, targets=(), contexts=())
    lowered = next((i.name for i in found.instructions() if i.name.startswith("ref::")), None)
    if lowered is not None or has_recurrence(found):
        raise CaptureError(f"this MIGraphX has other passes: {lowered or 'recurrent layers'} came out")
    return found
