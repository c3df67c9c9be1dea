"""Regions of interest cut out of pictures: roialign, as op/roialign.hpp of release rocm-7.1.1 computes it.

Each bin of a region is the average of samples in it, each made of the four pixels around it, or the largest of these
pixels by their weights. Places are in float whatever the type of the picture; sums are in the accumulator's type.
"""

from __future__ import annotations

import math as pymath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering.bindings import arith, ir, tensor
from iree_migraphx.lowering.builder import filled, generic, loop_index, materialise
from iree_migraphx.lowering.conversion import brought
from iree_migraphx.lowering.element import Element, constant
from iree_migraphx.lowering.family import FLOATS, TensorOperator, has_elements
from iree_migraphx.lowering.moves import INDICES, index_of, within
from iree_migraphx.lowering.reductions import lowest, mapped
from iree_migraphx.lowering.types import accumulator, mlir_type
from iree_migraphx.lowering.view import View

_AVERAGE, _MAX = 0, 1
_FLOAT = "float_type"


@dataclass(frozen=True)
class _Between:
    """Where a sample lies along one axis: between two pixels, with the weight of each, or outside of the picture."""

    inside: ir.Value
    pixels: tuple[ir.Value, ir.Value]
    weights: tuple[ir.Value, ir.Value]


def _roialign(instruction: Instruction, operands: Sequence[View]) -> View:
    x, regions, batches = (materialise(operand) for operand in operands)
    fields, lens, type_ = instruction.operator, instruction.shape.lens, accumulator(x.type)
    grid, largest = int(fields["sampling_ratio"]), int(fields["mode"]) == _MAX
    loops = [ir.AffineDimExpr.get(loop) for loop in range(6)]

    def add_sample(scalars: list[ir.Value]) -> ir.Value:
        region, channel = loop_index(0), loop_index(1)
        batch = arith.index_cast(ir.IndexType.get(), tensor.extract(batches.tensor, [region]))
        y, x_ = (_place(regions, instruction, axis, x.lens[2 + axis]) for axis in range(2))
        inside = arith.andi(y.inside, x_.inside)
        total = scalars[1]
        for value in _weighted(x, [within(batch, x.lens[0]), channel], y, x_, inside):
            if largest:
                # A NaN is passed over.
                total = arith.select(arith.cmpf(arith.CmpFPredicate.OLT, total, value), value, total)
            else:
                total = arith.addf(total, value)
        return total

    start = 0.0 if not largest else lowest(type_) if type_ == "double_type" else -pymath.inf
    result = generic(
        [(tensor.empty([grid, grid], mlir_type(type_)), loops[4:])],
        (filled(lens, type_, start), loops[:4]),
        ["parallel"] * 4 + ["reduction"] * 2,
        add_sample,
    )
    bins = View(result, lens, tuple(range(4)), type_)
    if largest:
        return bins
    return mapped([bins], type_, lambda v: arith.divf(v[0], constant(type_, float(grid * grid))))


def _place(regions: View, instruction: Instruction, axis: int, length: int) -> _Between:
    """In the loops over regions, channels, bins and samples: the sample along an axis of the picture."""
    fields, bins = instruction.operator, instruction.shape.lens[2 + axis]

    def number(value: float) -> ir.Value:
        return constant(_FLOAT, value)

    def whole(loop: int) -> ir.Value:
        return arith.uitofp(mlir_type(_FLOAT), arith.index_cast(mlir_type("int32_type"), loop_index(loop)))

    # A region is x, y, x, y.
    start, end = (_scaled(regions, column, float(fields["spatial_scale"])) for column in (1 - axis, 3 - axis))
    size = arith.subf(end, start)
    size = arith.select(arith.cmpf(arith.CmpFPredicate.OLT, size, number(1.0)), number(1.0), size)
    bin_ = arith.divf(size, number(float(bins)))
    step = arith.mulf(arith.addf(whole(4 + axis), number(0.5)), bin_)
    step = arith.divf(step, number(float(fields["sampling_ratio"])))
    place = arith.addf(arith.addf(start, arith.mulf(whole(2 + axis), bin_)), step)
    if fields["coordinate_transformation_mode"] == "half_pixel":
        place = arith.subf(place, number(0.5))
    inside = arith.andi(
        arith.cmpf(arith.CmpFPredicate.OGE, place, number(-1.0)),
        arith.cmpf(arith.CmpFPredicate.OLE, place, number(float(length))),
    )
    # No place that is converted to an integer may be without bounds.
    place = arith.select(inside, arith.maximumf(place, number(0.0)), number(0.0))
    before = arith.fptosi(mlir_type("int32_type"), place)
    last = constant("int32_type", length - 1)
    at_end = arith.cmpi(arith.CmpIPredicate.sge, before, last)
    before = arith.minsi(before, last)
    behind = arith.minsi(arith.addi(before, constant("int32_type", 1)), last)
    second = arith.subf(place, arith.sitofp(mlir_type(_FLOAT), before))
    second = arith.select(at_end, number(0.0), second)
    first = arith.subf(number(1.0), second)
    pixels = (arith.index_cast(ir.IndexType.get(), before), arith.index_cast(ir.IndexType.get(), behind))
    return _Between(inside, pixels, (first, second))


def _scaled(regions: View, column: int, scale: float) -> ir.Value:
    """A coordinate of the region of this loop in pixels of the picture, in float."""
    type_ = accumulator(regions.type)
    value = brought(Element(tensor.extract(regions.tensor, [loop_index(0), index_of(column)]), regions.type), type_)
    value = arith.mulf(value, constant(type_, scale))
    return value if type_ == _FLOAT else arith.truncf(mlir_type(_FLOAT), value)


def _weighted(x: View, plane: Sequence[ir.Value], y: _Between, x_: _Between, inside: ir.Value) -> list[ir.Value]:
    """The four pixels around a sample by their weights; outside, the first pixel of the plane by 0."""
    type_, found = accumulator(x.type), []
    for row, height in zip(y.pixels, y.weights, strict=True):
        for column, width in zip(x_.pixels, x_.weights, strict=True):
            places = [arith.select(inside, place, index_of(0)) for place in (row, column)]
            pixel = brought(Element(tensor.extract(x.tensor, [*plane, *places]), x.type), type_)
            weight = arith.select(inside, arith.mulf(height, width), constant(_FLOAT, 0.0))
            found.append(arith.mulf(pixel, brought(Element(weight, _FLOAT), type_)))
    return found


def _supports(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    fields = instruction.operator
    if len(operands) != 3 or not has_elements(instruction, operands) or len(operands[0].lens) != 4:
        return False
    x, regions, batches = operands
    known = int(fields["mode"]) in (_AVERAGE, _MAX)
    # Without a ratio the number of samples follows from each region.
    return known and fields["sampling_ratio"] > 0 and x.type == regions.type in FLOATS and batches.type in INDICES


#: Operator -> how it is computed. Adding one is one entry here and one row in tests/lowering/test_tensor_operators.py.
REGIONS: Mapping[str, TensorOperator] = {"roialign": TensorOperator(_roialign, _supports)}
