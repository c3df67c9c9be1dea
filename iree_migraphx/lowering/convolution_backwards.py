"""Transposed convolutions, as MIGraphX's convolution_backwards: each output gathers what the inputs spread over it.

Output o gets input i times tap t wherever i * stride + t * dilation = o + padding. There are four ways to find these:
windows that tile the output have one product an output; a GPU gets one loop nest that computes where the input is, as
all else would take several dispatches; CPUs get a convolution with one set of filters for each remainder of o by the
stride, or, with dilation or groups, a convolution of the input with zeros between its elements.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.lowering.bindings import arith, ir
from iree_migraphx.lowering.builder import apart, filled, generic, index_expressions, materialise, reshape, slice_
from iree_migraphx.lowering.convolution import convolve, holding
from iree_migraphx.lowering.form import Form
from iree_migraphx.lowering.gather import Place, element_at, exists, gathered
from iree_migraphx.lowering.pointwise import Element, constant
from iree_migraphx.lowering.products import contract, plus, product
from iree_migraphx.lowering.view import View
from iree_migraphx.lowering.window import Spread, Window


def convolve_backwards(x: View, w: View, spread: Spread, out: Sequence[int], sum_type: str, form: Form) -> View:
    """The sums [N, F, ...] of x [N, C, ...] with w [C, F/group, ...].

    Raises:
        Refusal: UNSUPPORTED_OPERATOR where no input reaches the output.
    """
    rank = len(spread.kernel)
    if (
        form is not Form.CHANNELS_LAST
        and spread.kernel == spread.stride
        and spread.group == 1
        and not any(spread.padding)
        and max(spread.dilation) == 1
    ):
        return _tiles(x, w, out, sum_type, form)
    if form is not Form.CHANNELS_LAST:
        return _one_nest(x, w, spread, out, sum_type)
    if spread.group == 1 and spread.dilation == (1,) * rank:
        return _by_remainder(x, w, spread, out, sum_type, form)
    return _with_zeros_between(x, w, spread, out, sum_type, form)


def _tiles(x: View, w: View, out: Sequence[int], sum_type: str, form: Form) -> View:
    """Each output is one product over the channels."""
    rank = len(w.lens) - 2
    places = [f"i{axis}" for axis in range(rank)]
    taps = [f"t{axis}" for axis in range(rank)]
    wanted = ["n", "k", *(role for pair in zip(places, taps, strict=True) for role in pair)]
    sums = wanted
    if 1 not in x.axes:
        w = holding(w, [0])
    if form is Form.CHANNELS_LAST:
        x = materialise(x, [0, *range(2, rank + 2), 1])
        sums = ["n", *places, *taps, "k"]
    extents = {
        "n": x.lens[0],
        "k": w.lens[1],
        **dict(zip(places, x.lens[2:], strict=True)),
        **dict(zip(taps, w.lens[2:], strict=True)),
    }
    numbers = {role: number for number, role in enumerate([*sums, "c"])}
    dim = {role: ir.AffineDimExpr.get(number) for role, number in numbers.items()}
    result = contract(
        (x, index_expressions(x, [dim["n"], dim["c"], *(dim[role] for role in places)])),
        (w, index_expressions(w, [dim["c"], dim["k"], *(dim[role] for role in taps)])),
        [numbers[role] for role in sums],
        [*["parallel"] * len(sums), "reduction"],
        [extents[role] for role in sums],
        sum_type,
    )
    return reshape(result.transpose(tuple(sums.index(role) for role in wanted)), out)


def _one_nest(x: View, w: View, spread: Spread, out: Sequence[int], sum_type: str) -> View:
    """One loop nest over outputs, channels and taps, in which the input's place is computed."""
    rank, group = len(spread.kernel), spread.group
    w = holding(w, range(len(w.lens)))
    depth = x.lens[1] // group
    w = reshape(w, [group, depth, *w.lens[1:]])
    # n, group, filter, outputs; channel of the group, taps
    lens = [out[0], group, out[1] // group, *out[2:]]
    outer = len(lens)
    n, g, f, *places = [ir.AffineDimExpr.get(loop) for loop in range(outer)]
    c, *taps = [ir.AffineDimExpr.get(outer + loop) for loop in range(1 + rank)]
    loops = outer + 1 + rank
    from_ = [
        o + padding - t * dilation
        for o, t, padding, dilation in zip(places, taps, spread.padding, spread.dilation, strict=True)
    ]
    place = _source(from_, spread, x.lens, [n, g * depth + c if group > 1 else c])

    def body(scalars: list[ir.Value]) -> ir.Value:
        tap, total = scalars
        there = exists(place, loops)
        value = product(Element(element_at(x, place, loops, there), x.type), Element(tap, w.type), sum_type)
        # Not an input of 0, as 0 times an infinite filter is not a number.
        if there is not None:
            value = arith.select(there, value, constant(sum_type, 0.0))
        return plus(total, value, sum_type)

    outputs = [ir.AffineDimExpr.get(loop) for loop in range(outer)]
    result = generic(
        [(w.tensor, index_expressions(w, [g, c, f, *taps]))],
        (filled(lens, sum_type, 0.0), outputs),
        [*["parallel"] * outer, *["reduction"] * (1 + rank)],
        body,
    )
    return reshape(View(result, tuple(lens), tuple(range(outer)), sum_type), out)


def _source(from_: Sequence[ir.AffineExpr], spread: Spread, x: Sequence[int], others: Sequence[ir.AffineExpr]) -> Place:
    """The input that spreads its first tap to a place, if one does."""
    inside: list[tuple[ir.AffineExpr, int]] = []
    indices = []
    for at, stride, length in zip(from_, spread.stride, x[2:], strict=True):
        if stride > 1:
            inside.append((ir.AffineExpr.get_mod(at, stride), 1))
        inside.append((at, (length - 1) * stride + 1))
        indices.append(ir.AffineExpr.get_floor_div(at, stride) if stride > 1 else at)
    return Place([*others, *indices], inside)


def _by_remainder(x: View, w: View, spread: Spread, out: Sequence[int], sum_type: str, form: Form) -> View:
    """A convolution whose filters are, for each remainder of an output's place by the stride, the taps that reach it.

    With o + padding = q * stride + r the taps are r, r + stride, …, for the inputs q, q - 1, … Where the stride does
    not divide the kernel's size, some remainders have a tap of zeros more.
    """
    if len(spread.kernel) == 1:
        x, w = (reshape(view, [*view.lens[:2], 1, view.lens[2]]) for view in (x, w))
        flat = Spread((1, *spread.kernel), (0, *spread.padding), (1, *spread.stride), (1, *spread.dilation), 1)
        result = _by_remainder(x, w, flat, [*out[:2], 1, out[2]], sum_type, form)
        return reshape(result, out)
    rank, kernel, strides = len(spread.kernel), spread.kernel, spread.stride
    taps = [-(-size // stride) for size, stride in zip(kernel, strides, strict=True)]
    first = [padding // stride for padding, stride in zip(spread.padding, strides, strict=True)]
    end = [-(-(p + o) // s) for p, o, s in zip(spread.padding, out[2:], strides, strict=True)]
    blocks = [b - a for a, b in zip(first, end, strict=True)]
    x, low, high = _cut(x, [t - 1 - a for t, a in zip(taps, first, strict=True)], list(end))
    filters = apart(_filters_by_remainder(w, spread, taps))
    window = Window(tuple(taps), low, high, (1,) * rank, (1,) * rank, 1)
    # Fused with what stands before and behind, the convolution took up to four times as long.
    x = apart(materialise(x, [0, 2, 3, 1])) if rank == 2 else x
    sums = convolve(x, filters, window, [out[0], filters.lens[0], *blocks], sum_type, form)
    # [N, (remainders, F), blocks] to [N, F, (block, remainder), …]
    split = reshape(apart(sums).transpose((0, *range(2, rank + 2), 1)), [out[0], *blocks, *strides, out[1]])
    pairs = [axis for i in range(rank) for axis in (1 + i, 1 + rank + i)]
    joined = reshape(
        split.transpose((0, 1 + 2 * rank, *pairs)),
        [out[0], out[1], *(b * s for b, s in zip(blocks, strides, strict=True))],
    )
    starts = [padding - a * stride for padding, a, stride in zip(spread.padding, first, strides, strict=True)]
    if joined.lens == tuple(out):
        return joined
    return slice_(joined, [0, 0, *starts], out, [1] * len(out))


def _filters_by_remainder(w: View, spread: Spread, taps: Sequence[int]) -> View:
    """Filters [(remainders, F), C, taps] from w [C, F, kernel], in a tensor [taps, C, remainders, F]."""
    rank, strides = len(spread.kernel), spread.stride
    c, f = w.lens[:2]
    lens = [*taps, c, *strides, f]

    def place(at: Sequence[ir.AffineExpr]) -> Place:
        step, remainder = at[:rank], at[rank + 1 : -1]
        tap = [(count - 1 - j) * stride + r for j, r, count, stride in zip(step, remainder, taps, strides, strict=True)]
        inside = [
            (expression, size)
            for expression, size, count, stride in zip(tap, spread.kernel, taps, strides, strict=True)
            if count * stride != size
        ]
        return Place([at[rank], at[-1], *tap], inside)

    tensor = gathered(w, lens, range(len(lens)), place)
    filters = reshape(tensor, [*taps, c, *[math.prod(strides) * f]])
    return filters.transpose((rank + 1, rank, *range(rank)))


def _with_zeros_between(x: View, w: View, spread: Spread, out: Sequence[int], sum_type: str, form: Form) -> View:
    """A convolution over the input with stride - 1 zeros between its elements, the filters' taps in reverse."""
    rank, group = len(spread.kernel), spread.group
    reach = [(size - 1) * step for size, step in zip(spread.kernel, spread.dilation, strict=True)]
    lens = [*x.lens[:2], *(o + r for o, r in zip(out[2:], reach, strict=True))]

    def place(at: Sequence[ir.AffineExpr]) -> Place:
        from_ = [o + padding - r for o, padding, r in zip(at[2:], spread.padding, reach, strict=True)]
        return _source(from_, spread, x.lens, at[:2])

    order = [0, *range(2, rank + 2), 1] if form is Form.CHANNELS_LAST else range(rank + 2)
    images = gathered(x, lens, order, place)
    depth, f = x.lens[1] // group, w.lens[1]

    def tap(at: Sequence[ir.AffineExpr]) -> Place:
        # [group * F, C/group, taps]
        last = [size - 1 for size in spread.kernel]
        g, inner = (ir.AffineExpr.get_floor_div(at[0], f), ir.AffineExpr.get_mod(at[0], f))
        return Place([g * depth + at[1], inner, *(size - t for size, t in zip(last, at[2:], strict=True))])

    wanted = [*range(2, rank + 2), 1, 0] if form is Form.CHANNELS_LAST else range(rank + 2)
    filters = gathered(w, [group * f, depth, *spread.kernel], wanted, tap)
    window = Window(spread.kernel, (0,) * rank, (0,) * rank, (1,) * rank, spread.dilation, group)
    return convolve(images, filters, window, out, sum_type, form)


def _cut(x: View, low: Sequence[int], end: Sequence[int]) -> tuple[View, tuple[int, ...], tuple[int, ...]]:
    """The part of the input from `-low` to `end`, and the padding where it has nothing there.

    Raises:
        Refusal: UNSUPPORTED_OPERATOR where that is nothing but padding.
    """
    lens = x.lens[2:]
    starts = [max(0, -before) for before in low]
    stops = [min(length, stop) for length, stop in zip(lens, end, strict=True)]
    if any(start >= stop for start, stop in zip(starts, stops, strict=True)):
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"a transposed convolution of {list(x.lens)} that leaves nothing")
    sizes = [stop - start for start, stop in zip(starts, stops, strict=True)]
    if tuple(sizes) != lens:
        x = slice_(x, [0, 0, *starts], [*x.lens[:2], *sizes], [1] * len(x.lens))
    before = tuple(max(0, each) for each in low)
    return x, before, tuple(stop - length for stop, length in zip(end, stops, strict=True))
