"""Tensors whose elements are read from computed places of another."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iree_migraphx.lowering.bindings import affine, arith, ir, linalg, tensor
from iree_migraphx.lowering.builder import elementwise, index_expressions
from iree_migraphx.lowering.pointwise import constant
from iree_migraphx.lowering.view import View


@dataclass(frozen=True)
class Place:
    """Where an element is read, as functions of the loops.

    Attributes:
        indices: one a logical axis of the view that is read.
        inside: an element is there if each of these is at least 0 and less than its bound.
    """

    indices: Sequence[ir.AffineExpr]
    inside: Sequence[tuple[ir.AffineExpr, int]] = ()


def gathered(
    view: View,
    lens: Sequence[int],
    order: Sequence[int],
    place: Callable[[Sequence[ir.AffineExpr]], Place],
    around: float = 0.0,
) -> View:
    """A tensor of elements of another, and one value where there is none.

    Args:
        view: what is read.
        lens: lengths of the result.
        order: the logical axes as the result's tensor holds them, slowest first.
        place: where the element at these indices of the result is.
        around: what is where there is none.
    """
    loops = {axis: ir.AffineDimExpr.get(loop) for loop, axis in enumerate(order)}
    zero = ir.AffineConstantExpr.get(0)
    found = place([loops.get(axis, zero) for axis in range(len(lens))])

    def body(scalars: list[ir.Value]) -> ir.Value:
        there = exists(found, len(order))
        value = element_at(view, found, len(order), there)
        return value if there is None else arith.select(there, value, constant(view.type, around))

    return elementwise([], lens, order, view.type, body)


def exists(place: Place, loops: int) -> ir.Value | None:
    """Inside a loop nest: whether there is an element; None where there always is."""
    truth: ir.Value | None = None
    for expression, bound in place.inside:
        value = _computed(expression, loops)
        # As unsigned numbers, negative ones are too large.
        holds = arith.cmpi(arith.CmpIPredicate.ult, value, arith.constant(ir.IndexType.get(), bound))
        truth = holds if truth is None else arith.andi(truth, holds)
    return truth


def element_at(view: View, place: Place, loops: int, there: ir.Value | None) -> ir.Value:
    """Inside a loop nest: the element at a place, or any element where there is none."""
    indices = [_computed(expression, loops) for expression in index_expressions(view, place.indices)]
    if there is not None:
        zero = arith.constant(ir.IndexType.get(), 0)
        indices = [arith.select(there, index, zero) for index in indices]
    value: ir.Value = tensor.extract(view.tensor, indices)
    return value


def _computed(expression: ir.AffineExpr, loops: int) -> ir.Value:
    index = ir.IndexType.get()
    dims = [linalg.IndexOp(ir.IntegerAttr.get(ir.IntegerType.get_signless(64), loop)).result for loop in range(loops)]
    value: ir.Value = affine.AffineApplyOp(
        ir.AffineMapAttr.get(ir.AffineMap.get(loops, 0, [expression])), dims, results=[index]
    ).result
    return value
