"""Operators that put elements of one tensor at computed places of another, and running sums.

Meanings follow src/include/migraphx/op/{scatter_op,scatternd_op,prefix_scan_op}.hpp and their siblings of release
rocm-7.1.1. Where one place is written several times, IREE's `iree_linalg_ext.scatter` does it in MIGraphX's order if it
is told that indices may be equal.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering.bindings import arith, ir, tensor
from iree_migraphx.lowering.builder import elementwise, filled, loop_index, materialise, reshape, slice_, unfused
from iree_migraphx.lowering.element import Element, constant, narrow, widen
from iree_migraphx.lowering.family import Emit, TensorOperator, axis_of, has_elements, over_one
from iree_migraphx.lowering.gather import Place, gathered
from iree_migraphx.lowering.moves import INDICES, flipped, index_of, within
from iree_migraphx.lowering.pointwise_arithmetic import maximum, minimum
from iree_migraphx.lowering.types import TYPES, is_float, mlir_type
from iree_migraphx.lowering.view import View

_Combine: TypeAlias = "Callable[[Element, Element], Element]"


def _replace(there: Element, new: Element) -> Element:
    return new


def _add(there: Element, new: Element) -> Element:
    add = arith.addf if is_float(there.type) else arith.addi
    return Element(add(there.value, new.value), there.type)


def _multiply(there: Element, new: Element) -> Element:
    multiply = arith.mulf if is_float(there.type) else arith.muli
    return Element(multiply(there.value, new.value), there.type)


def _scatter(combine: _Combine) -> Emit:
    """Each index replaces the place along one axis, where the element of `updates` at its own place goes."""

    def scatter(instruction: Instruction, operands: Sequence[View]) -> View:
        x, indices, updates = (materialise(operand) for operand in operands)
        axis, rank, count = axis_of(instruction, len(x.lens)), len(x.lens), math.prod(indices.lens)
        updates = slice_(updates, [0] * rank, indices.lens, [1] * rank)

        def place(_: list[ir.Value]) -> ir.Value:
            *dims, column = (loop_index(loop) for loop in range(rank + 1))
            index = tensor.extract(indices.tensor, dims)
            found = within(arith.index_cast(ir.IndexType.get(), index), x.lens[axis])
            for other, dim in enumerate(dims):
                here = arith.cmpi(arith.CmpIPredicate.eq, column, index_of(other))
                found = found if other == axis else arith.select(here, dim, found)
            return arith.index_cast(mlir_type("int64_type"), found)

        places = elementwise([], (*indices.lens, rank), range(rank + 1), "int64_type", place)
        return _scattered(x, reshape(places, [count, rank]), reshape(updates, [count]), combine)

    return scatter


def _scatter_slices(combine: _Combine) -> Emit:
    """Each row of `indices` is the place of a slice of `updates`."""

    def scatter(instruction: Instruction, operands: Sequence[View]) -> View:
        x, indices, updates = (materialise(operand) for operand in operands)
        depth, count = indices.lens[-1], math.prod(indices.lens[:-1])
        rows = reshape(indices, [count, depth])

        def place(_: list[ir.Value]) -> ir.Value:
            row, column = loop_index(0), loop_index(1)
            length = index_of(x.lens[0])
            for axis in range(1, depth):
                here = arith.cmpi(arith.CmpIPredicate.eq, column, index_of(axis))
                length = arith.select(here, index_of(x.lens[axis]), length)
            index = arith.index_cast(ir.IndexType.get(), tensor.extract(rows.tensor, [row, column]))
            return arith.index_cast(mlir_type("int64_type"), within(index, length))

        places = elementwise([], (count, depth), range(2), "int64_type", place)
        return _scattered(x, places, reshape(updates, [count, *x.lens[depth:]]), combine)

    return scatter


def _updates_apart(emit: Emit) -> Emit:
    """For GPUs: fused with what computes its updates, a permutation of them even, IREE 3.13.0 fails at a scatter."""

    def apart(instruction: Instruction, operands: Sequence[View]) -> View:
        x, indices, updates = operands
        return emit(instruction, (x, indices, unfused(materialise(updates))))

    return apart


def _scattered(x: View, places: View, updates: View, combine: _Combine) -> View:
    x, element = _fresh(x), mlir_type(x.type)
    op = ir.Operation.create(
        "iree_linalg_ext.scatter",
        results=[x.tensor.type],
        operands=[updates.tensor, places.tensor, x.tensor],
        attributes={
            "dimension_map": ir.DenseI64ArrayAttr.get(list(range(places.lens[1]))),
            "unique_indices": ir.BoolAttr.get(False),
        },
        regions=1,
    )
    block = op.regions[0].blocks.append(element, element)
    with ir.InsertionPoint(block):
        new, there = (widen(Element(argument, x.type)) for argument in block.arguments)
        value = narrow(combine(there, new).value, x.type)
        ir.Operation.create("iree_linalg_ext.yield", operands=[value])
    return View(op.results[0], x.lens, tuple(range(len(x.lens))), x.type)


def _fresh(x: View) -> View:
    """A copy: IREE 3.13.0 scatters into the memory of the function's own operand, which is not the kernel's to change.

    It leaves out whatever it knows to be a mere copy. This one has a condition that always holds, on the elements' own
    bits: the square of no integer leaves 2 when it is divided by 4.
    """

    def element(scalars: list[ir.Value]) -> ir.Value:
        value, word = scalars[0], ir.IntegerType.get_signless(TYPES[x.type].bits)
        bits = value if value.type == word else arith.bitcast(word, value)
        rest = arith.andi(arith.muli(bits, bits), arith.constant(word, 3))
        holds = arith.cmpi(arith.CmpIPredicate.ne, rest, arith.constant(word, 2))
        return arith.select(holds, value, constant(x.type, 0))

    return elementwise([x], x.lens, range(len(x.lens)), x.type, element)


def _can_scatter(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    if not _has_indices(instruction, operands) or instruction.operator.get("skip_out_of_bounds"):
        return False
    x, indices, updates = (shape.lens for shape in operands)
    # MIGraphX does not look at updates for which there is no index.
    enough = len(indices) == len(updates) and all(map(operator.le, indices, updates))
    return enough and len(x) == len(indices)


def _can_scatter_slices(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    if not _has_indices(instruction, operands):
        return False
    x, indices, updates = (shape.lens for shape in operands)
    return 0 < indices[-1] <= len(x) and updates == (*indices[:-1], *x[indices[-1] :])


def _has_indices(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    if len(operands) != 3 or not has_elements(instruction, operands):
        return False
    return operands[0].type == operands[2].type and operands[1].type in INDICES


def _running_sum(instruction: Instruction, operands: Sequence[View]) -> View:
    """Sums of all elements up to each one, or before it, rounded to the element's type at every step."""
    x, fields = materialise(operands[0]), instruction.operator
    lens, axis = x.lens, axis_of(instruction, len(x.lens))

    def before(dims: Sequence[ir.AffineExpr]) -> Place:
        indices = [dim - int(each == axis) for each, dim in enumerate(dims)]
        return Place(indices, [(indices[axis], lens[axis])])

    if fields.get("reverse"):
        x = flipped(x, [axis])
    if fields.get("exclusive"):
        x = gathered(x, lens, range(len(lens)), before)
    element = mlir_type(x.type)
    rest = [length for each, length in enumerate(lens) if each != axis]
    empty = tensor.empty(list(lens), element)
    op = ir.Operation.create(
        "iree_linalg_ext.scan",
        results=[x.tensor.type, ir.RankedTensorType.get(rest, element)],
        operands=[x.tensor, empty, filled(rest, x.type, 0)],
        attributes={
            "dimension": ir.IntegerAttr.get(ir.IntegerType.get_signless(64), axis),
            "inclusive": ir.BoolAttr.get(True),
        },
        regions=1,
    )
    block = op.regions[0].blocks.append(element, element)
    with ir.InsertionPoint(block):
        first_, second = (widen(Element(argument, x.type)) for argument in block.arguments)
        ir.Operation.create("iree_linalg_ext.yield", operands=[narrow(_add(first_, second).value, x.type)])
    sums = View(op.results[0], lens, tuple(range(len(lens))), x.type)
    return flipped(sums, [axis]) if fields.get("reverse") else sums


_COMBINE: Mapping[str, _Combine] = {
    "add": _add,
    "max": maximum,
    "min": minimum,
    "mul": _multiply,
    "none": _replace,
}

#: Operator -> how it is computed. Adding one is one entry here and one row in tests/lowering/test_tensor_operators.py.
SCATTER: Mapping[str, TensorOperator] = {
    "prefix_scan_sum": TensorOperator(_running_sum, over_one),
    **{
        f"{operator_}_{name}": TensorOperator(emit(combine), supports, _updates_apart(emit(combine)))
        for operator_, emit, supports in (
            ("scatter", _scatter, _can_scatter),
            ("scatternd", _scatter_slices, _can_scatter_slices),
        )
        for name, combine in _COMBINE.items()
    },
}
