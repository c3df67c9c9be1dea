"""The anchors: convolution and dot as one linalg.generic each, whatever the rank, groups and operand layouts.

IREE recognises a generic contraction or convolution by its indexing maps and treats it as the named operation; measured
with IREE 3.13.0, kernels and run times were the same for both, on gfx942 and on the CPU.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering import channels_last
from iree_migraphx.lowering.bindings import arith, ir
from iree_migraphx.lowering.builder import filled, generic, index_expressions, materialise, pad, reshape
from iree_migraphx.lowering.pointwise import Element, widen
from iree_migraphx.lowering.types import accumulator
from iree_migraphx.lowering.view import View
from iree_migraphx.lowering.window import Window, without_unread_ends


class Form(enum.Enum):
    """How a convolution's loops and buffers are laid out.

    Attributes:
        OPERANDS: as the operands come (NCHW): one dispatch, what GPUs want.
        CHANNELS_LAST: transposed to NHWC inside the kernel: several dispatches, but what CPUs want.
    """

    OPERANDS = "operands"
    CHANNELS_LAST = "channels-last"


Anchor = Callable[[Instruction, Sequence[View], Form], View]


def apply(instruction: Instruction, operands: Sequence[View], form: Form) -> View:
    """The anchor's sum as a view of a tensor of accumulators (not yet rounded to the instruction's type).

    Raises:
        Refusal: UNSUPPORTED_OPERATOR or UNSUPPORTED_TYPE.
    """
    if instruction.name not in ANCHORS or len(operands) != 2:
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} with {len(operands)} operands as an anchor")
    return ANCHORS[instruction.name](instruction, operands, form)


def constant_order(anchor: Instruction, index: int, shape: Shape, form: Form) -> tuple[int, ...] | None:
    """The axes of a constant operand in the order in which the form wants them in memory; None for their own order."""
    if form is not Form.CHANNELS_LAST or anchor.name != "convolution" or index != 1:
        return None
    grouped = int(anchor.operator.get("group", 1)) > 1
    if len(shape.lens) not in (3, 4) or (grouped and shape.lens[1] != 1):
        return None
    return channels_last.filter_order(shape.lens)


def _dot(instruction: Instruction, operands: Sequence[View], form: Form) -> View:
    """Batched matrix product of [..., m, k] and [..., k, n]; batch dimensions are equal (op/dot.hpp)."""
    a, b = operands
    rank = len(instruction.shape.lens)
    batch, (m, n, k) = list(range(rank - 2)), (rank - 2, rank - 1, rank)
    out = list(range(rank))
    if rank - 1 not in a.axes:
        b = _holding(b, [rank - 2])
    return _contract(
        instruction,
        (a.tensor, index_expressions(a, [*map(ir.AffineDimExpr.get, (*batch, m, k))])),
        (b.tensor, index_expressions(b, [*map(ir.AffineDimExpr.get, (*batch, k, n))])),
        out,
        [*["parallel"] * rank, "reduction"],
        instruction.shape.lens,
    )


def _convolution(instruction: Instruction, operands: Sequence[View], form: Form) -> View:
    """Cross-correlation of x [N, C, ...] with w [F, C/group, ...], zero padded (op/convolution.hpp)."""
    x, w = operands
    out, type_ = instruction.shape.lens, instruction.shape.type
    x, window = without_unread_ends(x, Window.of(instruction, x.lens, w.lens), out)
    if form is Form.CHANNELS_LAST and channels_last.supports(window, x.lens, w.lens):
        return channels_last.convolution(x, w, window, out, accumulator(type_))
    x = pad(x, [0, 0, *window.low], [0, 0, *window.high])
    loops = _convolution_loops(window, x.lens, w.lens, out)
    if "g" in loops and "c" in loops:
        x = reshape(x, [x.lens[0], loops["g"], loops["c"], *x.lens[2:]])
    if "g" in loops and "f" in loops:
        w = reshape(w, [loops["g"], loops["f"], *w.lens[1:]])
    reduced = ["c", *(f"k{i}" for i in range(len(window.kernel)))]
    w = _holding(w, [len(w.lens) + i for i, role in enumerate(reduced, -len(reduced)) if role in loops])
    numbers = {role: number for number, role in enumerate(loops)}
    dim = {role: ir.AffineDimExpr.get(number) for role, number in numbers.items()}
    zero = ir.AffineConstantExpr.get(0)
    spatial = range(len(window.kernel))
    taps = [
        _scaled(dim[f"o{i}"], window.stride[i]) + _scaled(dim.get(f"k{i}", zero), window.dilation[i]) for i in spatial
    ]
    x_axes = [*(dim[role] for role in "ngc" if role in dim), *taps]
    # Without a loop over the depth, the filters' axis of length 1 is left.
    depth = [dim.get("c", zero)]
    w_axes = [*(dim[role] for role in "gf" if role in dim), *depth, *(dim.get(f"k{i}", zero) for i in spatial)]
    sums = [role for role in loops if role[0] in "ngfo"]
    result = _contract(
        instruction,
        (x.tensor, index_expressions(x, x_axes)),
        (w.tensor, index_expressions(w, w_axes)),
        [numbers[role] for role in sums],
        ["reduction" if role[0] in "ck" else "parallel" for role in loops],
        [loops[role] for role in sums],
    )
    return reshape(result, out)


def _convolution_loops(window: Window, x: Sequence[int], w: Sequence[int], out: Sequence[int]) -> dict[str, int]:
    """How far each loop runs: n, g (group), f (filters of a group), o0, o1, … (outputs), c (depth), k0, k1, … (taps).

    Loops that would run once are left out, where IREE still knows the pattern without them.
    """
    grouped = window.group > 1
    filters, depth = w[0] // window.group, w[1]
    sizes: list[tuple[str, int | None]] = [
        ("n", x[0]),
        ("g", window.group if grouped else None),
        ("f", filters if filters > 1 or not grouped else None),
        *((f"o{i}", length) for i, length in enumerate(out[2:])),
        ("c", depth if depth > 1 or not grouped else None),
        # One tap makes a matrix product; but with a stride, IREE wants the window's form.
        *((f"k{i}", size if size > 1 or window.stride[i] > 1 else None) for i, size in enumerate(window.kernel)),
    ]
    return {role: size for role, size in sizes if size is not None}


def _convolution_backwards(instruction: Instruction, operands: Sequence[View], form: Form) -> View:
    """Transposed convolution of x [N, C, ...] with w [C, K, ...] (op/convolution_backwards.hpp).

    Where the windows of the output neither overlap nor leave gaps, each output is one product: no sum over taps.
    """
    x, w = operands
    fields, kernel = instruction.operator, w.lens[2:]
    rank = len(kernel)
    tiles = tuple(fields.get("stride") or (1,) * rank) == kernel and not any(fields.get("padding") or ())
    dense = all(
        step == 1 or size == 1 for step, size in zip(fields.get("dilation") or (1,) * rank, kernel, strict=True)
    )
    if not tiles or not dense or int(fields.get("group", 1)) != 1:
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} with windows that overlap: {dict(fields)}")
    n, spatial = x.lens[0], x.lens[2:]
    places = [f"i{axis}" for axis in range(rank)]
    taps = [f"t{axis}" for axis in range(rank)]
    wanted = ["n", "k", *(role for pair in zip(places, taps, strict=True) for role in pair)]
    sums = wanted
    if form is Form.CHANNELS_LAST:
        x = materialise(x, [0, *range(2, rank + 2), 1])
        sums = ["n", *places, *taps, "k"]
    extents = {
        "n": n,
        "k": w.lens[1],
        **dict(zip(places, spatial, strict=True)),
        **dict(zip(taps, kernel, strict=True)),
    }
    numbers = {role: number for number, role in enumerate([*sums, "c"])}
    dim = {role: ir.AffineDimExpr.get(number) for role, number in numbers.items()}
    result = _contract(
        instruction,
        (x.tensor, index_expressions(x, [dim["n"], dim["c"], *(dim[role] for role in places)])),
        (w.tensor, index_expressions(w, [dim["c"], dim["k"], *(dim[role] for role in taps)])),
        [numbers[role] for role in sums],
        [*["parallel"] * len(sums), "reduction"],
        [extents[role] for role in sums],
    )
    return reshape(result.transpose(tuple(sums.index(role) for role in wanted)), instruction.shape.lens)


def _contract(
    instruction: Instruction,
    a: tuple[ir.Value, list[ir.AffineExpr]],
    b: tuple[ir.Value, list[ir.AffineExpr]],
    out_loops: Sequence[int],
    loops: Sequence[str],
    lens: Sequence[int],
) -> View:
    """Sum the products of two tensors, each product and the sum in the accumulator's type."""
    type_ = instruction.shape.type
    sum_type = accumulator(type_)

    def multiply_add(scalars: list[ir.Value]) -> ir.Value:
        x, y, total = scalars
        product = arith.mulf(widen(Element(x, type_)).value, widen(Element(y, type_)).value)
        return arith.addf(total, product)

    zeros = filled(lens, sum_type, 0.0)
    out = [ir.AffineDimExpr.get(loop) for loop in out_loops]
    result = generic([a, b], (zeros, out), loops, multiply_add)
    return View(result, tuple(lens), tuple(range(len(lens))), sum_type)


def _holding(view: View, axes: Sequence[int]) -> View:
    """The view, copied where its tensor lacks one of these axes, as only operands say how far a reduction runs."""
    return view if set(axes) <= set(view.axes) else materialise(view)


def _scaled(expression: ir.AffineExpr, factor: int) -> ir.AffineExpr:
    return expression if factor == 1 else expression * factor


#: Operator -> its sum. Adding an anchor is one entry here and one row in tests/lowering.
ANCHORS: Mapping[str, Anchor] = {
    "convolution": _convolution,
    "convolution_backwards": _convolution_backwards,
    "dot": _dot,
}
