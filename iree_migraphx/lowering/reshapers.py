"""The operators that only move or repeat elements: one entry says what the result is, as a view where one will do."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction
from iree_migraphx.lowering.builder import reshape, slice_, split_axis
from iree_migraphx.lowering.view import View

Reshape = Callable[[Instruction, View], View]


def apply(instruction: Instruction, view: View) -> View:
    """The result of a reshaper over a view.

    Raises:
        Refusal: UNSUPPORTED_OPERATOR.
    """
    if instruction.name not in RESHAPERS or len(instruction.inputs) != 1:
        raise Refusal(
            Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} with {len(instruction.inputs)} operands as a reshaper"
        )
    result = RESHAPERS[instruction.name](instruction, view)
    if result.lens != instruction.shape.lens:
        raise Refusal(
            Reason.UNSUPPORTED_OPERATOR,
            f"{instruction.name} of {list(view.lens)} to {list(instruction.shape.lens)}",
        )
    return result


def split_slice(instruction: Instruction, source: View, lens: tuple[int, ...]) -> View | None:
    """A slice along one axis, which a reshape to these lengths splits, as a slice of the split source.

    IREE fuses the slices of a kernel's operands, but copies one whose result is split by itself.

    Args:
        instruction: the slice.
        source: what it is of.
        lens: lengths behind the reshape.

    Returns:
        None where the slice does not begin and end between the parts, or the reshape does more.
    """
    fields, rank = instruction.operator, len(source.lens)
    if len(fields["axes"]) != 1 or len(lens) <= rank:
        return None
    (axis,), (start,) = fields["axes"], fields["starts"]
    length, more = source.lens[axis], len(lens) - rank + 1
    parts, inner = lens[axis : axis + more], math.prod(lens[axis + 1 : axis + more])
    start = start + length if start < 0 else start
    before = instruction.shape.lens
    if (*lens[:axis], math.prod(parts), *lens[axis + more :]) != before:
        return None
    if inner == 0 or start % inner or length % inner or start + before[axis] > length:
        return None
    starts = [start // inner if each == axis else 0 for each in range(len(lens))]
    return slice_(split_axis(source, axis, (length // inner, *parts[1:])), starts, lens, [1] * len(lens))


def _transpose(instruction: Instruction, view: View) -> View:
    return view.transpose(tuple(instruction.operator["permutation"]))


def _multibroadcast(instruction: Instruction, view: View) -> View:
    lens = instruction.shape.lens
    return view.broadcast_to(lens, len(lens) - len(view.lens))


def _broadcast(instruction: Instruction, view: View) -> View:
    return view.broadcast_to(instruction.shape.lens, int(instruction.operator["axis"]))


def _reshape(instruction: Instruction, view: View) -> View:
    lens = instruction.shape.lens
    inserted = _unit_axes_between(view.lens, lens)
    if inserted is not None:
        return view.insert_unit_axes(lens, inserted)
    dropped = _unit_axes_between(lens, view.lens)
    if dropped is not None:
        return view.drop_unit_axes(dropped)
    return reshape(view, lens)


def _same(instruction: Instruction, view: View) -> View:
    return view


def _slice(instruction: Instruction, view: View) -> View:
    fields = instruction.operator
    starts, steps = [0] * len(view.lens), [1] * len(view.lens)
    for axis, start in zip(fields["axes"], fields["starts"], strict=True):
        length = view.lens[axis]
        starts[axis] = min(max(start + length if start < 0 else start, 0), length)
    lens = instruction.shape.lens
    if any(length == 0 or start + length > limit for start, length, limit in zip(starts, lens, view.lens, strict=True)):
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"slice {dict(fields)} of {list(view.lens)}")
    return slice_(view, starts, lens, steps)


def _unit_axes_between(shorter: tuple[int, ...], longer: tuple[int, ...]) -> set[int] | None:
    """Positions in `longer` of the axes of length 1 that `shorter` lacks; None where they differ in more."""
    if len(shorter) >= len(longer):
        return None
    inserted, i = set(), 0
    for axis, length in enumerate(longer):
        rest = len(longer) - axis
        if i < len(shorter) and length == shorter[i] and not (length == 1 and rest > len(shorter) - i):
            i += 1
        elif length == 1:
            inserted.add(axis)
        else:
            return None
    return inserted if i == len(shorter) else None


#: Operator -> its result as a view. Adding an operator is one entry here and one row in tests/lowering.
RESHAPERS: Mapping[str, Reshape] = {
    "broadcast": _broadcast,
    "contiguous": _same,
    "flatten": _reshape,
    "identity": _same,
    "multibroadcast": _multibroadcast,
    "reshape": _reshape,
    "reshape_lazy": _reshape,
    "scalar": _multibroadcast,
    "slice": _slice,
    "squeeze": _reshape,
    "transpose": _transpose,
    "unsqueeze": _reshape,
}
