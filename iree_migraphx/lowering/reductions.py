"""Reductions over axes, and what is made of them: softmax and logsoftmax.

Meanings follow src/include/migraphx/op/reduce_op.hpp and its siblings, and ref_softmax (src/targets/ref/lowering.cpp),
of release rocm-7.1.1: sums are wider than half, those of integers wrap, and a NaN is passed over by maxima and minima.
"""

from __future__ import annotations

import math as pymath
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import ml_dtypes

from iree_migraphx.ir.model import DTYPES, Instruction, Shape
from iree_migraphx.lowering import doubles
from iree_migraphx.lowering.bindings import arith, ir, math
from iree_migraphx.lowering.builder import apart, elementwise, filled, generic, index_expressions, materialise
from iree_migraphx.lowering.conversion import brought
from iree_migraphx.lowering.element import Element, constant
from iree_migraphx.lowering.family import Emit, TensorOperator, axes_of, axis_of, over_floats, over_one
from iree_migraphx.lowering.pointwise_arithmetic import truth
from iree_migraphx.lowering.products import plus
from iree_migraphx.lowering.types import accumulator, is_float, is_unsigned, limits
from iree_migraphx.lowering.view import View

Combine: TypeAlias = "Callable[[ir.Value, ir.Value], ir.Value]"


def lowest(type_: str) -> float:
    """The least number of a type, and no infinity, at which MIGraphX's maxima over windows start."""
    if not is_float(type_):
        return limits(type_)[0]
    known: Any = ml_dtypes.finfo
    return float(known(DTYPES[type_]).min)


def reduced(view: View, axes: Sequence[int], start: float, combine: Combine, type_: str | None = None) -> View:
    """Combine the elements along axes, which then have length 1, in `type_`: the accumulator's unless it is given.

    The axes that are left keep their order in memory. `combine` builds the value from the one so far, which is `start`
    at first, and an element.
    """
    type_ = type_ or accumulator(view.type)
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
        lambda scalars: combine(scalars[1], brought(Element(scalars[0], view.type), type_)),
    )
    return View(result, lens, tuple(kept), type_)


def mapped(views: Sequence[View], type_: str, body: Callable[[list[ir.Value]], ir.Value]) -> View:
    """Elementwise over views of equal lengths, computed in `type_`, in the order of the first."""

    def wide(scalars: list[ir.Value]) -> ir.Value:
        return body([brought(Element(s, view.type), type_) for s, view in zip(scalars, views, strict=False)])

    first = views[0]
    order = [axis for axis in first.axes if axis is not None]
    order += [axis for axis in range(len(first.lens)) if axis not in order]
    return elementwise(views, first.lens, order, type_, wide)


def _axes(instruction: Instruction, view: View) -> tuple[int, ...]:
    return axes_of(instruction, len(view.lens))


def _sum(instruction: Instruction, operands: Sequence[View]) -> View:
    x = operands[0]
    return _sum_in(instruction, x, accumulator(x.type))


def _sum_in(instruction: Instruction, x: View, type_: str) -> View:
    return reduced(x, _axes(instruction, x), 0.0, lambda a, b: plus(a, b, type_), type_)


def _mean(instruction: Instruction, operands: Sequence[View]) -> View:
    """The sum over the count; of integers the quotient of 64 bits, truncated."""
    x = operands[0]
    count = pymath.prod(x.lens[axis] for axis in _axes(instruction, x))
    if is_float(x.type):
        total = _sum(instruction, operands)
        return mapped([total], total.type, lambda v: arith.divf(v[0], constant(total.type, float(count))))
    word = "uint64_type" if is_unsigned(x.type) else "int64_type"
    divide = arith.divui if is_unsigned(x.type) else arith.divsi
    return mapped([_sum_in(instruction, x, word)], word, lambda v: divide(v[0], constant(word, count)))


def _product(instruction: Instruction, operands: Sequence[View]) -> View:
    x = operands[0]
    multiply = arith.mulf if is_float(x.type) else arith.muli
    return reduced(x, _axes(instruction, x), 1.0, lambda a, b: multiply(a, b))


def maximum(view: View, axes: Sequence[int]) -> View:
    """The largest elements, NaN passed over."""
    return reduced(view, axes, lowest(view.type), larger(view.type))


def larger(type_: str) -> Combine:
    """The larger of two elements in the type that they are combined in; a number rather than NaN."""
    if is_float(type_):
        return lambda a, b: arith.maxnumf(a, b)
    return (lambda a, b: arith.maxui(a, b)) if is_unsigned(type_) else (lambda a, b: arith.maxsi(a, b))


def _smaller(type_: str) -> Combine:
    if is_float(type_):
        return lambda a, b: arith.minnumf(a, b)
    return (lambda a, b: arith.minui(a, b)) if is_unsigned(type_) else (lambda a, b: arith.minsi(a, b))


def _max(instruction: Instruction, operands: Sequence[View]) -> View:
    x = operands[0]
    start = -pymath.inf if _below_double(x.type) else lowest(x.type)
    return reduced(x, _axes(instruction, x), start, larger(x.type))


def _min(instruction: Instruction, operands: Sequence[View]) -> View:
    x = operands[0]
    start = pymath.inf if _below_double(x.type) else -lowest(x.type) if is_float(x.type) else limits(x.type)[1]
    return reduced(x, _axes(instruction, x), start, _smaller(x.type))


def _below_double(type_: str) -> bool:
    """MIGraphX starts at double's last finite number, which is infinite once it is rounded to one of these types."""
    return is_float(type_) and type_ != "double_type"


def _every(instruction: Instruction, operands: Sequence[View]) -> View:
    x = _truths(operands[0])
    return reduced(x, _axes(instruction, x), 1.0, _smaller(x.type))


def _any(instruction: Instruction, operands: Sequence[View]) -> View:
    x = _truths(operands[0])
    return reduced(x, _axes(instruction, x), 0.0, larger(x.type))


def _truths(x: View) -> View:
    """1 where an element is not 0, NaN included, and 0 elsewhere, in the accumulator's type."""
    type_ = accumulator(x.type)

    def number(scalars: list[ir.Value]) -> ir.Value:
        return arith.select(truth(Element(scalars[0], x.type)), constant(type_, 1), constant(type_, 0))

    order = [axis for axis in x.axes if axis is not None]
    return elementwise([x], x.lens, order, type_, number)


def _softmax(instruction: Instruction, operands: Sequence[View]) -> View:
    x = operands[0]
    axis = axis_of(instruction, len(x.lens))
    # Fused with what follows, IREE 3.13.0 finds the largest once a tile: 60 times the time for rows of 1500.
    largest = apart(maximum(x, [axis]))
    type_ = largest.type
    powers = mapped([x, largest.broadcast_to(x.lens, 0)], type_, lambda v: _power(arith.subf(v[0], v[1]), type_))
    total = reduced(powers, [axis], 0.0, lambda a, b: arith.addf(a, b))
    return mapped([powers, total.broadcast_to(x.lens, 0)], type_, lambda v: arith.divf(v[0], v[1]))


def _power(exponent: ir.Value, type_: str) -> ir.Value:
    # IREE has no exponential of double for CPUs.
    return doubles.exp(doubles.Double(exponent)).value if type_ == "double_type" else math.exp(exponent)


def _logsoftmax(instruction: Instruction, operands: Sequence[View]) -> View:
    quotients = _softmax(instruction, operands)
    if quotients.type == "double_type":
        return mapped([quotients], quotients.type, lambda v: doubles.log(doubles.Double(v[0])).value)
    return mapped([quotients], quotients.type, lambda v: math.log(v[0]))


def _over_axes(emit: Emit) -> TensorOperator:
    def supports(instruction: Instruction, operands: Sequence[Shape]) -> bool:
        # Without axes a second operand says them, and the result's lengths are not known.
        return over_one(instruction, operands) and bool(instruction.operator.get("axes"))

    return TensorOperator(emit, supports)


#: Operator -> how it is computed. Adding one is one entry here and one row in tests/lowering/test_tensor_operators.py.
REDUCTIONS: Mapping[str, TensorOperator] = {
    "logsoftmax": TensorOperator(_logsoftmax, over_floats),
    "reduce_all": _over_axes(_every),
    "reduce_any": _over_axes(_any),
    "reduce_max": _over_axes(_max),
    "reduce_mean": _over_axes(_mean),
    "reduce_min": _over_axes(_min),
    "reduce_prod": _over_axes(_product),
    "reduce_sum": _over_axes(_sum),
    "softmax": TensorOperator(_softmax, over_floats),
}
