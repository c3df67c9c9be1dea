"""Reductions over axes, and what is made of them: softmax, logsoftmax, the place of the largest element.

Meanings follow src/include/migraphx/op/reduce_op.hpp and its siblings, and ref_softmax (src/targets/ref/lowering.cpp),
of release rocm-7.1.1: sums are wider than half, and a NaN is passed over by maxima and minima.
"""

from __future__ import annotations

import math as pymath
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import ml_dtypes

from iree_migraphx.ir.model import DTYPES, Instruction, Shape
from iree_migraphx.lowering import pointwise
from iree_migraphx.lowering.bindings import arith, ir, linalg, math
from iree_migraphx.lowering.builder import (
    elementwise,
    filled,
    generic,
    index_expressions,
    loop_index,
    materialise,
    slice_,
)
from iree_migraphx.lowering.family import Emit, TensorOperator, axes_of, axis_of, over_floats
from iree_migraphx.lowering.pointwise import Element
from iree_migraphx.lowering.types import accumulator, mlir_type
from iree_migraphx.lowering.view import View

Combine: TypeAlias = "Callable[[ir.Value, ir.Value], ir.Value]"


def lowest(type_: str) -> float:
    """The most negative finite number of a floating-point type, at which MIGraphX's maxima over windows start."""
    limits: Any = ml_dtypes.finfo
    return float(limits(DTYPES[type_]).min)


def reduced(view: View, axes: Sequence[int], start: float, combine: Combine) -> View:
    """Combine the elements along axes, which then have length 1, in the accumulator's type.

    The axes that are left keep their order in memory. `combine` builds the value from the one so far, which is `start`
    at first, and an element.
    """
    type_ = accumulator(view.type)
    axes = [axis for axis in axes if view.lens[axis] != 1]
    if any(length != 1 and axis not in view.axes for axis, length in enumerate(view.lens)):
        # Only operands say how far a loop runs.
        view = materialise(view)
    held = [axis for axis in view.axes if axis is not None and (view.lens[axis] != 1 or not axes)]
    kept = [axis for axis in held if axis not in axes]
    lens = tuple(1 if axis in axes else length for axis, length in enumerate(view.lens))
    numbers = {axis: ir.AffineDimExpr.get(loop) for loop, axis in enumerate(held)}
    logical = [numbers.get(axis, ir.AffineConstantExpr.get(0)) for axis in range(len(view.lens))]
    result = generic(
        [(view.tensor, index_expressions(view, logical))],
        (filled([lens[axis] for axis in kept], type_, start), [numbers[axis] for axis in kept]),
        ["reduction" if axis in axes else "parallel" for axis in held],
        lambda scalars: combine(scalars[1], pointwise.widen(Element(scalars[0], view.type)).value),
    )
    return View(result, lens, tuple(kept), type_)


def mapped(views: Sequence[View], type_: str, body: Callable[[list[ir.Value]], ir.Value]) -> View:
    """Elementwise over floating-point views of equal lengths, computed in `type_`, in the order of the first."""

    def wide(scalars: list[ir.Value]) -> ir.Value:
        return body([_as(Element(s, view.type), type_) for s, view in zip(scalars, views, strict=False)])

    first = views[0]
    order = [axis for axis in first.axes if axis is not None]
    order += [axis for axis in range(len(first.lens)) if axis not in order]
    return elementwise(views, first.lens, order, type_, wide)


def _as(element: Element, type_: str) -> ir.Value:
    return element.value if element.type == type_ else pointwise.widen(element).value


def _axes(instruction: Instruction, view: View) -> tuple[int, ...]:
    return axes_of(instruction, len(view.lens))


def _sum(instruction: Instruction, operands: Sequence[View]) -> View:
    return reduced(operands[0], _axes(instruction, operands[0]), 0.0, lambda a, b: arith.addf(a, b))


def _mean(instruction: Instruction, operands: Sequence[View]) -> View:
    total = _sum(instruction, operands)
    count = pymath.prod(operands[0].lens[axis] for axis in _axes(instruction, operands[0]))
    return mapped([total], total.type, lambda x: arith.divf(x[0], pointwise.constant(total.type, float(count))))


def _product(instruction: Instruction, operands: Sequence[View]) -> View:
    return reduced(operands[0], _axes(instruction, operands[0]), 1.0, lambda a, b: arith.mulf(a, b))


def maximum(view: View, axes: Sequence[int]) -> View:
    """The largest elements, NaN passed over."""
    return reduced(view, axes, lowest(view.type), lambda a, b: arith.maxnumf(a, b))


def _max(instruction: Instruction, operands: Sequence[View]) -> View:
    # MIGraphX starts at double's lowest, which is -inf once it is rounded.
    view = operands[0]
    return reduced(view, _axes(instruction, view), -pymath.inf, lambda a, b: arith.maxnumf(a, b))


def _min(instruction: Instruction, operands: Sequence[View]) -> View:
    view = operands[0]
    return reduced(view, _axes(instruction, view), pymath.inf, lambda a, b: arith.minnumf(a, b))


def _softmax(instruction: Instruction, operands: Sequence[View]) -> View:
    x = operands[0]
    axis = axis_of(instruction, len(x.lens))
    largest = maximum(x, [axis])
    type_ = largest.type
    powers = mapped([x, largest.broadcast_to(x.lens, 0)], type_, lambda v: math.exp(arith.subf(v[0], v[1])))
    total = reduced(powers, [axis], 0.0, lambda a, b: arith.addf(a, b))
    return mapped([powers, total.broadcast_to(x.lens, 0)], type_, lambda v: arith.divf(v[0], v[1]))


def _logsoftmax(instruction: Instruction, operands: Sequence[View]) -> View:
    quotients = _softmax(instruction, operands)
    return mapped([quotients], quotients.type, lambda v: math.log(v[0]))


def _place(predicate: str) -> Callable[[Instruction, Sequence[View]], View]:
    """The index of the first element that no other one exceeds.

    The first element is where MIGraphX starts: a NaN there stays, others are passed over.
    """

    def place(instruction: Instruction, operands: Sequence[View]) -> View:
        x = materialise(operands[0])
        rank = len(x.lens)
        axis = axis_of(instruction, rank)
        lens = tuple(1 if i == axis else length for i, length in enumerate(x.lens))
        first = slice_(x, [0] * rank, lens, [1] * rank).drop_unit_axes({axis})
        kept = range(rank - 1)
        best = elementwise([first], first.lens, kept, x.type, lambda scalars: scalars[0])
        places = filled(first.lens, "int64_type", 0)
        dims = [ir.AffineDimExpr.get(i) for i in range(rank)]
        rest = [dims[i] for i in range(rank) if i != axis]
        loops = ["reduction" if i == axis else "parallel" for i in range(rank)]
        op = linalg.GenericOp(
            [best.tensor.type, places.type],
            [x.tensor],
            [best.tensor, places],
            ir.ArrayAttr.get([ir.AffineMapAttr.get(ir.AffineMap.get(rank, 0, each)) for each in (dims, rest, rest)]),
            ir.ArrayAttr.get([ir.Attribute.parse(f"#linalg.iterator_type<{loop}>") for loop in loops]),
        )
        element, index = mlir_type(x.type), mlir_type("int64_type")
        block = op.regions[0].blocks.append(element, element, index)
        with ir.InsertionPoint(block):
            value, so_far, where = block.arguments
            beyond = arith.cmpf(getattr(arith.CmpFPredicate, predicate), value, so_far)
            here = arith.index_cast(index, loop_index(axis))
            linalg.YieldOp([arith.select(beyond, value, so_far), arith.select(beyond, here, where)])
        return View(op.results[1], first.lens, tuple(kept), "int64_type").insert_unit_axes(lens, {axis})

    return place


def _first_place(predicate: str) -> TensorOperator:
    def supports(instruction: Instruction, operands: Sequence[Shape]) -> bool:
        # The last of equals would have to be found with MIGraphX's notion of equality, two neighbouring numbers.
        return over_floats(instruction, operands) and not instruction.operator.get("select_last_index")

    return TensorOperator(_place(predicate), supports)


def _over_axes(emit: Emit) -> TensorOperator:
    def supports(instruction: Instruction, operands: Sequence[Shape]) -> bool:
        return over_floats(instruction, operands) and bool(instruction.operator.get("axes"))

    return TensorOperator(emit, supports)


#: Operator -> how it is computed. Adding one is one entry here and one row in tests/lowering/test_reductions.py.
REDUCTIONS: Mapping[str, TensorOperator] = {
    "argmax": _first_place("OGT"),
    "argmin": _first_place("OLT"),
    "logsoftmax": TensorOperator(_logsoftmax, over_floats),
    "reduce_max": _over_axes(_max),
    "reduce_mean": _over_axes(_mean),
    "reduce_min": _over_axes(_min),
    "reduce_prod": _over_axes(_product),
    "reduce_sum": _over_axes(_sum),
    "softmax": TensorOperator(_softmax, over_floats),
}
