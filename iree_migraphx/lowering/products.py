"""Sums of products of two tensors: what every anchor comes down to."""

from __future__ import annotations

from collections.abc import Sequence

from iree_migraphx.lowering.bindings import arith, ir
from iree_migraphx.lowering.builder import elementwise, filled, generic
from iree_migraphx.lowering.conversion import brought
from iree_migraphx.lowering.element import Element
from iree_migraphx.lowering.types import is_float
from iree_migraphx.lowering.view import View

#: What IREE 3.13.0 computes by sparse MFMA on every CDNA, a trick for products of few rows that only gfx942 can do
#: (getMmaScheduleFromProblemAndTarget in ConfigUtils.cpp): 8 rows or fewer, and a depth that is a multiple of this.
_SPARSE_ROWS, _SPARSE_DEPTH = 8, 128
_SPARSE_TYPES = frozenset({"half_type", "bf16_type"})


def few_rows(type_: str, rows: int, depth: int) -> bool:
    """Whether IREE would use sparse MFMA for a product, given the length of its sums."""
    return type_ in _SPARSE_TYPES and rows <= _SPARSE_ROWS and depth % _SPARSE_DEPTH == 0


def contract(
    a: tuple[View, Sequence[ir.AffineExpr]],
    b: tuple[View, Sequence[ir.AffineExpr]],
    out_loops: Sequence[int],
    loops: Sequence[str],
    lens: Sequence[int],
    sum_type: str,
) -> View:
    """Sum the products of two tensors, each product and the sum in `sum_type`.

    IREE recognises a generic contraction or convolution by its indexing maps and treats it as the named operation;
    measured with IREE 3.13.0, kernels and run times were the same for both, on gfx942 and on the CPU.

    Args:
        a: a factor, and what indexes each dimension of its tensor.
        b: the other one.
        out_loops: the loop that indexes each dimension of the result.
        loops: "parallel" or "reduction", one a loop.
        lens: lengths of the result.
        sum_type: MIGraphX's name of the accumulator's type.
    """
    (x, x_indices), (w, w_indices) = a, b

    def body(scalars: list[ir.Value]) -> ir.Value:
        left, right, total = scalars
        return plus(total, product(Element(left, x.type), Element(right, w.type), sum_type), sum_type)

    out = [ir.AffineDimExpr.get(loop) for loop in out_loops]
    factors = [(x.tensor, x_indices), (w.tensor, w_indices)]
    result = generic(factors, (filled(lens, sum_type, 0.0), out), loops, body)
    return View(result, tuple(lens), tuple(range(len(lens))), sum_type)


def product(a: Element, b: Element, sum_type: str) -> ir.Value:
    """A * b, both brought to the accumulator's type first."""
    multiply = arith.mulf if is_float(sum_type) else arith.muli
    value: ir.Value = multiply(*(brought(each, sum_type) for each in (a, b)))
    return value


def plus(total: ir.Value, value: ir.Value, sum_type: str) -> ir.Value:
    """The next total of an accumulator; an integer one wraps."""
    added: ir.Value = arith.addf(total, value) if is_float(sum_type) else arith.addi(total, value)
    return added


def widened(view: View, sum_type: str) -> View:
    """A view's elements in the accumulator's type, as a tensor whose axes are in the same order."""
    order = [axis for axis in view.axes if axis is not None]
    return elementwise([view], view.lens, order, sum_type, lambda x: brought(Element(x[0], view.type), sum_type))
