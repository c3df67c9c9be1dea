"""The anchors: one entry says how an operator's sums are computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering import channels_last as last
from iree_migraphx.lowering import tiled
from iree_migraphx.lowering.bindings import ir
from iree_migraphx.lowering.builder import index_expressions
from iree_migraphx.lowering.convolution import convolve, holding
from iree_migraphx.lowering.convolution_backwards import convolve_backwards
from iree_migraphx.lowering.form import Form as Form
from iree_migraphx.lowering.products import contract, few_rows, widened
from iree_migraphx.lowering.types import accumulator
from iree_migraphx.lowering.view import View
from iree_migraphx.lowering.window import Spread, Window

_CONVOLUTIONS = frozenset({"convolution", "quant_convolution"})

Anchor = Callable[[Instruction, Sequence[View], Form], View]


def apply(instruction: Instruction, operands: Sequence[View], form: Form) -> View:
    """The anchor's sum as a view of a tensor of accumulators (not yet rounded to the instruction's type).

    Raises:
        Refusal: UNSUPPORTED_OPERATOR or UNSUPPORTED_TYPE.
    """
    if instruction.name not in ANCHORS or len(operands) != 2:
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} with {len(operands)} operands as an anchor")
    return ANCHORS[instruction.name](instruction, operands, form)


def apply_tiled(instruction: Instruction, operand: View, strips: View) -> View:
    """The same for a `dot` or `convolution` whose constant operand is there as strips of columns (ir/tiles.py)."""
    lens, sum_type = instruction.shape.lens, accumulator(instruction.shape.type)
    if instruction.name == "dot":
        return tiled.dot(operand, strips, lens, sum_type)
    filters = (lens[1], strips.lens[3], *strips.lens[1:3])
    return tiled.convolution(operand, strips, Window.of(instruction, operand.lens, filters), lens, sum_type)


def constant_order(anchor: Instruction, index: int, shape: Shape, form: Form) -> tuple[int, ...] | None:
    """The axes of a constant operand in the order in which the form wants them in memory; None for their own order."""
    if form is not Form.CHANNELS_LAST or index != 1:
        return None
    grouped = int(anchor.operator.get("group", 1)) > 1
    if anchor.name == "convolution_backwards":
        return None if grouped else last.backwards_order(shape.lens)
    if anchor.name not in _CONVOLUTIONS or len(shape.lens) not in (3, 4) or (grouped and shape.lens[1] != 1):
        return None
    return last.filter_order(shape.lens)


def channels_last(instruction: Instruction) -> bool:
    """Whether the form CHANNELS_LAST computes this anchor so: one or two spatial axes, no groups or single channels."""
    group, rank = int(instruction.operator.get("group", 1)), len(instruction.shape.lens)
    if instruction.name in _CONVOLUTIONS:
        return rank in (3, 4) and group in (1, instruction.shape.lens[1])
    return instruction.name == "convolution_backwards" and group == 1


def _dot(instruction: Instruction, operands: Sequence[View], form: Form) -> View:
    """Batched matrix product of [..., m, k] and [..., k, n]; batch dimensions are equal (op/dot.hpp).

    One along which both operands are broadcast is left out of the sums; IREE's GPU code dies of loops that no operand
    has (GPUPadOperands divides by zero, 3.13.0).
    """
    a, b = operands
    _require_quantized(instruction, a)
    rank = len(instruction.shape.lens)
    batch, (m, n, k) = list(range(rank - 2)), (rank - 2, rank - 1, rank)
    if rank - 1 not in a.axes:
        b = holding(b, [rank - 2])
    sum_type = accumulator(instruction.shape.type)
    held = {*a.axes, *b.axes, m, n}
    lens = [length if axis in held else 1 for axis, length in enumerate(instruction.shape.lens)]
    rows = lens[m] * math.prod(lens[axis] for axis in batch if axis not in b.axes)
    columns = lens[n] * math.prod(lens[axis] for axis in batch if axis not in a.axes)
    swapped = form.dense and few_rows(a.type, rows, a.lens[-1])
    if swapped and few_rows(b.type, columns, a.lens[-1]):
        b = widened(b, sum_type)
    first, second = (
        (a, index_expressions(a, [*map(ir.AffineDimExpr.get, (*batch, m, k))])),
        (b, index_expressions(b, [*map(ir.AffineDimExpr.get, (*batch, k, n))])),
    )
    # To IREE rows are what the first factor has.
    result = contract(
        *((second, first) if swapped else (first, second)),
        list(range(rank)),
        [*["parallel"] * rank, "reduction"],
        lens,
        sum_type,
    )
    return result.broadcast_to(instruction.shape.lens, 0)


def _convolution(instruction: Instruction, operands: Sequence[View], form: Form) -> View:
    """Cross-correlation of x [N, C, ...] with w [F, C/group, ...], zero padded (op/convolution.hpp)."""
    x, w = operands
    _require_quantized(instruction, x)
    window = Window.of(instruction, x.lens, w.lens)
    return convolve(x, w, window, instruction.shape.lens, accumulator(instruction.shape.type), form)


def _convolution_backwards(instruction: Instruction, operands: Sequence[View], form: Form) -> View:
    """Transposed convolution of x [N, C, ...] with w [C, K/group, ...] (op/convolution_backwards.hpp)."""
    x, w = operands
    spread = Spread.of(instruction, w.lens)
    return convolve_backwards(x, w, spread, instruction.shape.lens, accumulator(instruction.shape.type), form)


def _require_quantized(instruction: Instruction, operand: View) -> None:
    """Refuse a quantised anchor over float, whose sums MIGraphX takes in double, for an integer result even."""
    if instruction.name.startswith("quant_") and operand.type == "float_type":
        raise Refusal(Reason.UNSUPPORTED_TYPE, f"{instruction.name} over {operand.type}")


#: Operator -> its sum. Adding an anchor is one entry here and one row in tests/lowering.
ANCHORS: Mapping[str, Anchor] = {
    "convolution": _convolution,
    "convolution_backwards": _convolution_backwards,
    "dot": _dot,
    "quant_convolution": _convolution,
    "quant_dot": _dot,
}
