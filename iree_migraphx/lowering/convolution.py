"""Convolutions as one linalg.generic each, whatever the rank, groups and operand layouts, or as CPUs want them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iree_migraphx.lowering import channels_last
from iree_migraphx.lowering.bindings import ir
from iree_migraphx.lowering.builder import index_expressions, materialise, pad, reshape, unfused
from iree_migraphx.lowering.form import Form
from iree_migraphx.lowering.products import contract, few_rows, widened
from iree_migraphx.lowering.view import View
from iree_migraphx.lowering.window import Window, without_unread_ends


def convolve(x: View, w: View, window: Window, out: Sequence[int], sum_type: str, form: Form) -> View:
    """Cross-correlation of x [N, C, ...] with w [F, C/group, ...], zero padded: sums of lengths `out`.

    Raises:
        Refusal: UNSUPPORTED_OPERATOR where nothing of the input is read.
    """
    x, window = without_unread_ends(x, window, out)
    if form is Form.CHANNELS_LAST and channels_last.supports(window, x.lens, w.lens):
        x, w = (view if view.type in channels_last.TYPES else widened(view, sum_type) for view in (x, w))
        return channels_last.convolution(x, w, window, out, sum_type)
    loops = _loops(window, x.lens, w.lens, out)
    if "g" in loops and "c" in loops:
        x = reshape(x, [x.lens[0], loops["g"], loops["c"], *x.lens[2:]])
    # Padding comes last: IREE fuses it into the convolution, but not through a reshape.
    images = [0] * (len(x.lens) - len(window.kernel))
    x = pad(x, [*images, *window.low], [*images, *window.high])
    if "g" in loops and "f" in loops:
        w = reshape(w, [loops["g"], loops["f"], *w.lens[1:]])
    reduced = ["c", *(f"k{i}" for i in range(len(window.kernel)))]
    w = holding(w, [len(w.lens) + i for i, role in enumerate(reduced, -len(reduced)) if role in loops])
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
    added = math.prod(length for role, length in loops.items() if role[0] in "ck")
    few = form.dense and few_rows(x.type, loops.get("f", 1), added)
    if few and "g" in loops:
        w = widened(w, sum_type)
    elif few:
        # To IREE filters are the rows, unless they are the result's last axis.
        sums.append(sums.pop(sums.index("f")))
    result = contract(
        (x, index_expressions(x, x_axes)),
        (w, index_expressions(w, w_axes)),
        [numbers[role] for role in sums],
        ["reduction" if role[0] in "ck" else "parallel" for role in loops],
        [loops[role] for role in sums],
        sum_type,
    )
    if few and "g" not in loops:
        result = result.transpose((0, len(sums) - 1, *range(1, len(sums) - 1)))
    return reshape(result, out)


def holding(view: View, axes: Sequence[int]) -> View:
    """The view, copied where its tensor lacks one of these axes, as only operands say how far a reduction runs.

    Fused with the sums, the copy would be undone: IREE 3.13.0 divides by zero then, for GPUs.
    """
    return view if set(axes) <= set(view.axes) else unfused(materialise(view))


def _loops(window: Window, x: Sequence[int], w: Sequence[int], out: Sequence[int]) -> dict[str, int]:
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


def _scaled(expression: ir.AffineExpr, factor: int) -> ir.AffineExpr:
    return expression if factor == 1 else expression * factor
