"""Operators that put elements elsewhere: one entry says from where each element of the result comes.

Meanings follow src/include/migraphx/op/*.hpp of release rocm-7.1.1; the axes are those of the row-major values.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering.bindings import arith, ir, tensor
from iree_migraphx.lowering.builder import apart, elementwise, loop_index, materialise, pad, slice_
from iree_migraphx.lowering.conversion import convert, resize
from iree_migraphx.lowering.element import Element, constant, narrow, widen
from iree_migraphx.lowering.family import (
    TensorOperator,
    axes_of,
    axis_of,
    has_elements,
    over_anything,
)
from iree_migraphx.lowering.gather import Place, element_at, exists, gathered
from iree_migraphx.lowering.types import TYPES, is_float, is_unsigned, mlir_type
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


def _concat_in_one(instruction: Instruction, operands: Sequence[View]) -> View:
    """One loop nest: IREE copies operands one by one, or by two-dimensional workgroups that MIGraphX can't launch."""
    lens, axis = instruction.shape.lens, axis_of(instruction, len(instruction.shape.lens))
    order = _order(operands[0])
    dims = [ir.AffineDimExpr.get(order.index(each)) for each in range(len(lens))]

    def element(_: list[ir.Value]) -> ir.Value:
        value: ir.Value | None = None
        start = 0
        for view in operands:
            along = dims[axis] - start
            place = Place([*dims[:axis], along, *dims[axis + 1 :]], [(along, view.lens[axis])])
            there = exists(place, len(order))
            found = element_at(view, place, len(order), there)
            value = found if value is None else arith.select(there, found, value)
            start += view.lens[axis]
        assert value is not None
        return value

    return elementwise([], lens, order, instruction.shape.type, element)


def _pad(instruction: Instruction, operands: Sequence[View]) -> View:
    pads, rank = [int(each) for each in instruction.operator["pads"]], len(operands[0].lens)
    return pad(operands[0], pads[:rank], pads[rank:], float(instruction.operator.get("value", 0.0)))


def _pad_in_one(instruction: Instruction, operands: Sequence[View]) -> View:
    """One loop nest: a padded tensor by itself IREE fills and then copies, and MIGraphX fills with zeros only."""
    (x,), pads = operands, [int(each) for each in instruction.operator["pads"]]
    low, rank = pads[: len(x.lens)], len(x.lens)

    def place(dims: Sequence[ir.AffineExpr]) -> Place:
        indices = [dim - before for dim, before in zip(dims, low, strict=True)]
        padded = [axis for axis in range(rank) if pads[axis] or pads[rank + axis]]
        return Place(indices, [(indices[axis], x.lens[axis]) for axis in padded])

    return gathered(x, instruction.shape.lens, _order(x), place, float(instruction.operator.get("value", 0.0)))


def _can_pad(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    # `ref` fills with the value whatever the mode says; parsers write reflection and edges out.
    fields = instruction.operator
    return over_anything(instruction, operands) and int(fields.get("mode", 0)) == 0 and min(fields["pads"]) >= 0


def _step(instruction: Instruction, operands: Sequence[View]) -> View:
    (x,), steps = operands, _steps(instruction)
    return slice_(x, [0] * len(steps), instruction.shape.lens, steps)


def _step_in_loops(instruction: Instruction, operands: Sequence[View]) -> View:
    """Each element from its place: of a slice with steps IREE makes two-dimensional workgroups, or fails at gathers."""
    (x,), steps = operands, _steps(instruction)

    def place(dims: Sequence[ir.AffineExpr]) -> Place:
        return Place([dim * step for dim, step in zip(dims, steps, strict=True)])

    return gathered(x, instruction.shape.lens, _order(x), place)


def _steps(instruction: Instruction) -> list[int]:
    steps = [1] * len(instruction.shape.lens)
    for axis, step in zip(instruction.operator["axes"], instruction.operator["steps"], strict=True):
        steps[axis] = int(step)
    return steps


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
            index = Element(tensor.extract(table.tensor, [*dims[:given], index_of(number)]), table.type)
            place = arith.index_cast(ir.IndexType.get(), convert(index, "int64_type"))
            found.append(within(place, x.lens[batch + number]))
        places = [*dims[:batch], *found, *dims[given:]]
        return tensor.extract(x.tensor, [index_of(0) if a is None else places[a] for a in x.axes])

    return apart(elementwise([], lens, range(len(lens)), x.type, element))


def _can_gathernd(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    # MIGraphX converts indices of every type to int64; those of its GridSample are floats.
    if len(operands) != 2 or not has_elements(instruction, operands):
        return False
    data, indices = operands
    batch = int(instruction.operator.get("batch_dims", 0))
    return instruction.shape.lens == (*indices.lens[:-1], *data.lens[batch + indices.lens[-1] :])


def _onehot(instruction: Instruction, operands: Sequence[View]) -> View:
    """The second of `values` where the place along the axis is the index, and the first elsewhere."""
    indices, values = operands
    lens, depth = instruction.shape.lens, int(instruction.operator["depth"])
    axis = axis_of(instruction, len(lens))
    spread = tuple(None if each is None else each + int(each >= axis) for each in indices.axes)
    chosen = (slice_(values, [number], [1], [1]) for number in range(2))
    off, on = (View(value.tensor, lens, (None,) * len(value.axes), value.type) for value in chosen)

    def element(scalars: list[ir.Value]) -> ir.Value:
        place = _counted(Element(scalars[0], indices.type), depth)
        here = arith.index_cast(place.type, loop_index(axis))
        return arith.select(arith.cmpi(arith.CmpIPredicate.eq, place, here), scalars[2], scalars[1])

    return elementwise(
        [View(indices.tensor, lens, spread, indices.type), off, on], lens, range(len(lens)), on.type, element
    )


def _counted(index: Element, depth: int) -> ir.Value:
    """An index of any type as an int64, a negative one counted from the end; what is outside stays outside.

    The count is done in the index's own type (op/onehot.hpp), of which integers wrap.
    """
    type_, word = index.type, "int64_type"
    if not is_float(type_):
        wide = resize(index, word)
        if is_unsigned(type_):
            return wide
        counted = Element(narrow(arith.addi(wide, constant(word, depth)), type_), type_)
        negative = arith.cmpi(arith.CmpIPredicate.slt, wide, constant(word, 0))
        return arith.select(negative, resize(counted, word), wide)
    x = widen(index)
    zero, end = constant(x.type, 0.0), constant(x.type, float(depth))
    total = _toward_zero(arith.addf(x.value, end), type_)
    place = arith.select(arith.cmpf(arith.CmpFPredicate.OLT, x.value, zero), total, x.value)
    inside = arith.andi(
        arith.cmpf(arith.CmpFPredicate.OGE, place, zero), arith.cmpf(arith.CmpFPredicate.OLT, place, end)
    )
    return arith.fptosi(mlir_type(word), arith.select(inside, place, constant(x.type, -1.0)))


def _toward_zero(value: ir.Value, type_: str) -> ir.Value:
    """A float in the precision of a narrow type: MIGraphX drops the bits that half and bf16 lack."""
    dropped = {"half_type": 13, "bf16_type": 16}.get(type_)
    if dropped is not None:
        bits = arith.bitcast(mlir_type("int32_type"), value)
        return arith.bitcast(value.type, arith.andi(bits, constant("int32_type", -(1 << dropped))))
    return widen(Element(narrow(value, type_), type_)).value if TYPES[type_].bits == 8 else value


def _can_onehot(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    depth = instruction.operator.get("depth")
    if depth is None or len(operands) != 2 or not has_elements(instruction, operands):
        return False
    (indices, values), axis = operands, axis_of(instruction, len(instruction.shape.lens))
    spread = (*indices.lens[:axis], int(depth), *indices.lens[axis:])
    return instruction.shape.lens == spread and len(values.lens) == 1 and values.lens[0] >= 2


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


#: Operator -> how it is computed. Adding one is one entry here and one row in tests/lowering/test_tensor_operators.py.
MOVES: Mapping[str, TensorOperator] = {
    "concat": TensorOperator(_concat, over_anything, _concat_in_one),
    "gather": TensorOperator(_gather, _can_gather),
    "gathernd": TensorOperator(_gathernd, _can_gathernd),
    "onehot": TensorOperator(_onehot, _can_onehot),
    "pad": TensorOperator(_pad, _can_pad, _pad_in_one),
    "reverse": TensorOperator(_reverse, over_anything),
    "step": TensorOperator(_step, over_anything, _step_in_loops),
}
