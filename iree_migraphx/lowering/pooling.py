"""What is computed over windows: pooling (op/pooling.hpp of release rocm-7.1.1), and lrn, over neighbouring channels.

Pooling is the average, the maximum or a p-norm. Lrn follows ONNX, MIOpen and MIGraphX's own rewrite_pooling.cpp; its
`ref` (src/targets/ref/lowering.cpp) adds the factor of each channel to the sum of the next one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering import doubles, pointwise
from iree_migraphx.lowering.bindings import arith, ir, math, tensor
from iree_migraphx.lowering.builder import filled, generic, index_expressions, materialise, pad, slice_
from iree_migraphx.lowering.conversion import brought, float_of
from iree_migraphx.lowering.family import TensorOperator, over_floats, over_one
from iree_migraphx.lowering.pointwise import Element
from iree_migraphx.lowering.reductions import Combine, larger, lowest, mapped, reduced
from iree_migraphx.lowering.types import accumulator, mlir_type
from iree_migraphx.lowering.view import View

_AVERAGE, _MAX, _NORM = 0, 1, 2


@dataclass(frozen=True)
class _Windows:
    """Where windows lie, one entry a spatial axis; `low` counts what is before the input."""

    taps: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    low: tuple[int, ...]
    out: tuple[int, ...]

    @staticmethod
    def of(instruction: Instruction, lens: Sequence[int]) -> _Windows:
        fields, rank = instruction.operator, len(lens) - 2
        out = instruction.shape.lens[2:]
        if fields.get("dyn_global"):
            return _Windows(tuple(lens[2:]), (1,) * rank, (1,) * rank, (0,) * rank, out)
        dilation = tuple(fields.get("dilations") or (1,) * rank)
        return _Windows(
            tuple(fields["lengths"]), tuple(fields["stride"]), dilation, tuple(fields["padding"][:rank]), out
        )

    def reach(self, axis: int) -> int:
        return (self.taps[axis] - 1) * self.dilation[axis] + 1

    def missing(self, axis: int, length: int) -> int:
        """Places behind the input that the last window reaches; negative where it ends before the input does."""
        return (self.out[axis] - 1) * self.stride[axis] + self.reach(axis) - self.low[axis] - length

    def counts(self, axis: int, length: int, count_padding: bool) -> list[int]:
        """Taps of each window that an average is divided by.

        With the padding counted, what lies further behind the input than the padding in front of it still is not:
        MIGraphX compares with the padding in front.
        """
        first = -self.low[axis] if count_padding else 0
        end = length + self.low[axis] if count_padding else length
        starts = [place * self.stride[axis] - self.low[axis] for place in range(self.out[axis])]
        step = self.dilation[axis]
        return [sum(first <= start + tap * step < end for tap in range(self.taps[axis])) for start in starts]


def _supports(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    fields = instruction.operator
    mode = int(fields.get("mode", _AVERAGE))
    suitable = over_one if mode == _MAX else over_floats
    if not suitable(instruction, operands) or len(operands[0].lens) < 3:
        return False
    rank = len(operands[0].lens) - 2
    # Padding that depends on the lengths (padding_mode) is computed at run time.
    known = fields.get("dyn_global") or len(fields.get("padding", ())) in (rank, 2 * rank)
    order = int(fields.get("lp_order", 2))
    # IREE has no power of doubles for CPUs.
    powers = order > 0 and (order <= 2 or operands[0].type != "double_type")
    return bool(known) and int(fields.get("padding_mode", 0)) == 0 and (mode != _NORM or powers)


def _pooling(instruction: Instruction, operands: Sequence[View]) -> View:
    x, fields = operands[0], instruction.operator
    mode = int(fields.get("mode", _AVERAGE))
    windows = _Windows.of(instruction, x.lens)
    lens, order = x.lens[2:], int(fields.get("lp_order", 2))
    type_ = accumulator(x.type)
    if mode == _MAX:
        result = _windowed(x, windows, lowest(x.type), larger(x.type))
    elif mode == _NORM:
        # In the sum's own loops, at each window anew: before them it would be a launch more on a GPU.
        result = _windowed(x, windows, 0.0, lambda a, b: arith.addf(a, _power(math.absf(b), type_, float(order))))
    else:
        result = _windowed(x, windows, 0.0, lambda a, b: arith.addf(a, b))
    if mode == _NORM:
        return mapped([result], type_, lambda v: _power(v[0], type_, 1 / order))
    if mode == _AVERAGE:
        counted = bool(fields.get("count_include_pad"))
        counts = [windows.counts(axis, length, counted) for axis, length in enumerate(lens)]
        return _divided(result, counts)
    return result


def _windowed(x: View, windows: _Windows, start: float, combine: Combine) -> View:
    rank = len(windows.taps)
    type_ = accumulator(x.type)
    spatial = range(rank)
    dense = windows.taps == x.lens[2:] and set(windows.dilation) == {1}
    if dense and not any(windows.low) and set(windows.out) == {1}:
        return reduced(x, range(2, rank + 2), start, combine)
    missing = [windows.missing(axis, x.lens[2 + axis]) for axis in spatial]
    kept = [length + min(rest, 0) for length, rest in zip(x.lens[2:], missing, strict=True)]
    x = slice_(x, [0] * (rank + 2), [*x.lens[:2], *kept], [1] * (rank + 2))
    # Channels innermost is what a CPU adds fastest; another order is kept where the operand has it.
    order = [axis for axis in x.axes if axis is not None and x.lens[axis] != 1]
    x = materialise(x, [axis for axis in range(rank + 2) if axis not in order] + order)
    x = pad(x, [0, 0, *windows.low], [0, 0, *(max(rest, 0) for rest in missing)], start)
    n, c = ir.AffineDimExpr.get(x.axes.index(0)), ir.AffineDimExpr.get(x.axes.index(1))
    out = {2 + axis: ir.AffineDimExpr.get(x.axes.index(2 + axis)) for axis in spatial}
    taps = [ir.AffineDimExpr.get(rank + 2 + axis) for axis in spatial]
    reads = [out[2 + a] * windows.stride[a] + taps[a] * windows.dilation[a] for a in spatial]
    lens = (*x.lens[:2], *windows.out)
    axes = [axis for axis in x.axes if axis is not None]
    identity = [ir.AffineDimExpr.get(i) for i in range(rank + 2)]
    shape = tensor.empty(list(windows.taps), mlir_type(type_))
    result = generic(
        [(x.tensor, index_expressions(x, [n, c, *reads])), (shape, taps)],
        (filled([lens[axis] for axis in axes], type_, start), identity),
        ["parallel"] * (rank + 2) + ["reduction"] * rank,
        lambda scalars: combine(scalars[2], brought(Element(scalars[0], x.type), type_)),
    )
    return View(result, lens, tuple(axes), type_)


def _divided(sums: View, counts: Sequence[Sequence[int]]) -> View:
    """Sums over windows, by the number of taps that count; an empty window's sum is 0 and stays so."""
    rank, varying, fixed = len(sums.lens), [], 1
    for axis, along in enumerate(counts):
        if len(set(along)) == 1:
            fixed *= max(along[0], 1)
            continue
        values = np.maximum(np.array(along, np.float32), 1)
        dense = ir.DenseElementsAttr.get(values, type=ir.F32Type.get())
        constant = arith.ConstantOp(ir.RankedTensorType.get([len(along)], ir.F32Type.get()), dense).result
        varying.append(View(constant, (len(along),), (0,), "float_type").broadcast_to(sums.lens, 2 + axis))
    assert rank == len(counts) + 2

    def body(values: list[ir.Value]) -> ir.Value:
        total, *given = values
        count = pointwise.constant(sums.type, float(fixed))
        for value in given:
            count = arith.mulf(count, value)
        return arith.divf(total, count)

    return mapped([sums, *varying], sums.type, body)


def _power(value: ir.Value, type_: str, exponent: float) -> ir.Value:
    if exponent == 1:
        return value
    if exponent == 2:
        return arith.mulf(value, value)
    if exponent == 0.5:
        return math.sqrt(value)
    return math.powf(value, pointwise.constant(type_, exponent))


def _lrn(instruction: Instruction, operands: Sequence[View]) -> View:
    """Each element over a power of the squares around it, of its channel, half a window before it and half behind."""
    x, fields = operands[0], instruction.operator
    size, type_ = int(fields["size"]), accumulator(x.type)
    order = [axis for axis in x.axes if axis is not None and x.lens[axis] != 1]
    x = materialise(x, [axis for axis in range(len(x.lens)) if axis not in order] + order)
    axes = [axis for axis in x.axes if axis is not None]
    loops = [ir.AffineDimExpr.get(loop) for loop in range(len(axes))]
    tap = ir.AffineDimExpr.get(len(axes))
    reads = [loops[axes.index(axis)] + tap if axis == 1 else loops[axes.index(axis)] for axis in range(len(axes))]
    around = pad(x, [0, (size - 1) // 2, 0, 0], [0, size // 2, 0, 0])

    def add_square(scalars: list[ir.Value]) -> ir.Value:
        value = brought(Element(scalars[0], x.type), type_)
        return arith.addf(scalars[2], arith.mulf(value, value))

    sums = generic(
        [(around.tensor, index_expressions(around, reads)), (tensor.empty([size], mlir_type(type_)), [tap])],
        (filled([x.lens[axis] for axis in axes], type_, 0.0), loops),
        ["parallel"] * len(axes) + ["reduction"],
        add_square,
    )
    factor = float(np.float32(fields["alpha"]) / np.float32(size))

    def scaled(values: list[ir.Value]) -> ir.Value:
        value, total = values
        total = arith.mulf(total, pointwise.constant(type_, factor))
        total = arith.addf(total, pointwise.constant(type_, float(fields["bias"])))
        return arith.divf(value, _root_power(total, type_, float(fields["beta"])))

    return mapped([x, View(sums, x.lens, tuple(axes), type_)], type_, scaled)


def _root_power(value: ir.Value, type_: str, exponent: float) -> ir.Value:
    """The power of a number that is not negative; up to 1 and in quarters, as networks have it, by square roots."""
    quarters = 4 * exponent
    if quarters in (1, 2, 3, 4):
        if quarters == 4:
            return value
        root = math.sqrt(value)
        return root if quarters == 2 else math.sqrt(root if quarters == 1 else arith.mulf(value, root))
    wide = doubles.positive_power(
        float_of(Element(value, type_), "double_type"), pointwise.constant("double_type", exponent)
    )
    return wide if type_ == "double_type" else arith.truncf(mlir_type(type_), wide)


def _can_lrn(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    fields = instruction.operator
    positive = int(fields["size"]) > 0 and min(float(fields["alpha"]), float(fields["bias"])) >= 0
    return over_floats(instruction, operands) and len(operands[0].lens) == 4 and positive


#: Operator -> how it is computed. Adding one is one entry here and one row in tests/lowering/test_tensor_operators.py.
POOLING: Mapping[str, TensorOperator] = {
    "lrn": TensorOperator(_lrn, _can_lrn),
    "pooling": TensorOperator(_pooling, _supports),
}
