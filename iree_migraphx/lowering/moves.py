"""Operators that put elements elsewhere: one entry says from where each element of the result comes.

Meanings follow src/include/migraphx/op/*.hpp of release rocm-7.1.1; the axes are those of the row-major values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering.bindings import arith, ir, tensor
from iree_migraphx.lowering.builder import apart, elementwise, loop_index, materialise, pad, slice_
from iree_migraphx.lowering.family import (
    TensorOperator,
    axes_of,
    axis_of,
    has_elements,
    over_anything,
)
from iree_migraphx.lowering.types import mlir_type
from iree_migraphx.lowering.view import View

INDICES = ("int32_type", "int64_type")


def _order(view: View) -> tuple[int, ...]:
    """The axes as the view's tensor holds them, with those that it lacks in front."""
    held = [axis for axis in view.axes if axis is not None]
    return (*(axis for axis in range(len(view.lens)) if axis not in held), *held)


def _concat(instruction: Instruction, operands: Sequence[View]) -> View:
    lens, axis = instruction.shape.lens, axis_of(instruction, len(instruction.shape.lens))
    order = _order(operands[0])
    result = tensor.empty([lens[a] for a in order], mlir_type(instruction.shape.type))
    start = 0
    for view in operands:
        part = materialise(view, order)
        offsets = [start if a == axis else 0 for a in order]
        sizes = [view.lens[a] for a in order]
        result = tensor.InsertSliceOp(part.tensor, result, [], [], [], offsets, sizes, [1] * len(order)).result
        start += view.lens[axis]
    return View(result, lens, order, instruction.shape.type)


def _pad(instruction: Instruction, operands: Sequence[View]) -> View:
    pads, rank = [int(each) for each in instruction.operator["pads"]], len(operands[0].lens)
    return pad(operands[0], pads[:rank], pads[rank:], float(instruction.operator.get("value", 0.0)))


def _can_pad(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    # `ref` fills with the value whatever the mode says; parsers write reflection and edges out.
    fields = instruction.operator
    return over_anything(instruction, operands) and int(fields.get("mode", 0)) == 0 and min(fields["pads"]) >= 0


def _step(instruction: Instruction, operands: Sequence[View]) -> View:
    (x,), fields = operands, instruction.operator
    steps = [1] * len(x.lens)
    for axis, step in zip(fields["axes"], fields["steps"], strict=True):
        steps[axis] = int(step)
    return slice_(x, [0] * len(steps), instruction.shape.lens, steps)


def _reverse(instruction: Instruction, operands: Sequence[View]) -> View:
    return flipped(materialise(operands[0]), axes_of(instruction, len(operands[0].lens)))


def flipped(x: View, axes: Sequence[int]) -> View:
    """The elements of a row-major view in the opposite order along axes."""

    def element(_: list[ir.Value]) -> ir.Value:
        places = [loop_index(axis) for axis in range(len(x.lens))]
        for axis in axes:
            places[axis] = arith.subi(index_of(x.lens[axis] - 1), places[axis])
        return tensor.extract(x.tensor, places)

    return elementwise([], x.lens, range(len(x.lens)), x.type, element)


def _gather(instruction: Instruction, operands: Sequence[View]) -> View:
    """Negative indices count from the end. Others outside are not MIGraphX's to define: here they are clamped."""
    x, indices = operands
    lens, axis = instruction.shape.lens, axis_of(instruction, len(x.lens))
    along = len(indices.lens) if len(lens) == len(x.lens) - 1 + len(indices.lens) else 0
    if not along:
        # A scalar index leaves no axis behind, but for a result that would have none at all.
        indices = slice_(indices, [0] * len(indices.lens), [1] * len(indices.lens), [1] * len(indices.lens))
        indices = View(indices.tensor, lens, (None,) * len(indices.axes), indices.type)
    else:
        indices = indices.broadcast_to(lens, axis)

    def element(scalars: list[ir.Value]) -> ir.Value:
        dims = [loop_index(dim) for dim in range(len(lens))]
        place = within(arith.index_cast(ir.IndexType.get(), scalars[0]), x.lens[axis])
        before, after = dims[:axis], dims[axis + along :]
        places = [*before, place, *after]
        return tensor.extract(x.tensor, [index_of(0) if a is None else places[a] for a in x.axes])

    return apart(elementwise([indices], lens, range(len(lens)), x.type, element))


def _can_gather(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    if len(operands) != 2 or operands[1].type not in INDICES or not has_elements(instruction, operands):
        return False
    data, indices = operands
    axis, rank = axis_of(instruction, len(data.lens)), len(instruction.shape.lens)
    spread = (*data.lens[:axis], *indices.lens, *data.lens[axis + 1 :])
    return instruction.shape.lens == spread or (indices.elements == 1 and rank == max(len(data.lens) - 1, 1))


def _gathernd(instruction: Instruction, operands: Sequence[View]) -> View:
    x, indices = operands
    lens, batch = instruction.shape.lens, int(instruction.operator.get("batch_dims", 0))
    given, count = len(indices.lens) - 1, indices.lens[-1]
    table = materialise(indices)

    def element(_: list[ir.Value]) -> ir.Value:
        dims = [loop_index(dim) for dim in range(len(lens))]
        found = []
        for number in range(count):
            index = tensor.extract(table.tensor, [*dims[:given], index_of(number)])
            found.append(within(arith.index_cast(ir.IndexType.get(), index), x.lens[batch + number]))
        places = [*dims[:batch], *found, *dims[given:]]
        return tensor.extract(x.tensor, [index_of(0) if a is None else places[a] for a in x.axes])

    return apart(elementwise([], lens, range(len(lens)), x.type, element))


def _can_gathernd(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    if len(operands) != 2 or operands[1].type not in INDICES or not has_elements(instruction, operands):
        return False
    data, indices = operands
    batch = int(instruction.operator.get("batch_dims", 0))
    return instruction.shape.lens == (*indices.lens[:-1], *data.lens[batch + indices.lens[-1] :])


def within(place: ir.Value, length: int | ir.Value) -> ir.Value:
    """An index counted from the end where it is negative, and never outside of what is there."""
    zero, count = index_of(0), index_of(length) if isinstance(length, int) else length
    last = index_of(length - 1) if isinstance(length, int) else arith.subi(length, index_of(1))
    negative = arith.cmpi(arith.CmpIPredicate.slt, place, zero)
    place = arith.select(negative, arith.addi(place, count), place)
    return arith.minsi(arith.maxsi(place, zero), last)


def index_of(value: int) -> ir.Value:
    """A constant place."""
    return arith.constant(ir.IndexType.get(), value)


#: Operator -> how it is computed. Adding one is one entry here and one row in tests/lowering/test_moves.py.
MOVES: Mapping[str, TensorOperator] = {
    "concat": TensorOperator(_concat, over_anything),
    "gather": TensorOperator(_gather, _can_gather),
    "gathernd": TensorOperator(_gathernd, _can_gathernd),
    "pad": TensorOperator(_pad, _can_pad),
    "reverse": TensorOperator(_reverse, over_anything),
    "step": TensorOperator(_step, over_anything),
}
