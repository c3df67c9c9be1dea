"""Products with weights that lie in memory as strips of columns (ir/tiles.py), and convolutions as such products.

Measured with IREE 3.13.0 on an AVX-512 CPU, one thread: 60 to 140 GFLOP/s where row-major weights of 1 MB and more gave
18 to 60.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from iree_migraphx.lowering.bindings import ir, tensor
from iree_migraphx.lowering.builder import generic, index_expressions, materialise, pad, reshape, slice_
from iree_migraphx.lowering.channels_last import skip_unread
from iree_migraphx.lowering.products import contract
from iree_migraphx.lowering.types import mlir_type
from iree_migraphx.lowering.view import View
from iree_migraphx.lowering.window import Window, without_unread_ends

#: Rows of a tile: with sixteen columns, eight vectors of sums.
ROWS = 8


def dot(a: View, strips: View, lens: Sequence[int], sum_type: str) -> View:
    """The product of a [..., m, k] with strips [n / 16, k, 16]: sums of lengths `lens`."""
    rows = reshape(a, [math.prod(a.lens[:-1]), a.lens[-1]])
    return reshape(_product(rows, strips, sum_type), lens)


def convolution(x: View, strips: View, window: Window, out: Sequence[int], sum_type: str) -> View:
    """The convolution of x [N, C, H, W] with strips [F / 16, H', W', C, 16]: a view [N, F, ...] of an NHWC tensor."""
    x, window = without_unread_ends(x, window, out)
    x, window = skip_unread(x, window, out)
    images = pad(materialise(x.transpose((0, 2, 3, 1))), [0, *window.low, 0], [0, *window.high, 0])
    n, f, h, w = out
    if math.prod(window.kernel) == 1 and window.stride == (1, 1):
        rows = reshape(images, [n * h * w, images.lens[3]])
    else:
        rows = _taps(images, window, (n, h, w))
    depth = math.prod(strips.lens[1:4])
    sums = _product(rows, reshape(strips, [strips.lens[0], depth, strips.lens[4]]), sum_type)
    return reshape(sums, [n, h, w, f]).transpose((0, 3, 1, 2))


def _taps(images: View, window: Window, out: tuple[int, int, int]) -> View:
    """What each output reads, one row each."""
    dims = [ir.AffineDimExpr.get(loop) for loop in range(6)]
    n, y, x, dy, dx, c = dims
    reads = [n, y * window.stride[0] + dy * window.dilation[0], x * window.stride[1] + dx * window.dilation[1], c]
    lens = [*out, *window.kernel, images.lens[3]]
    empty = tensor.empty(lens, mlir_type(images.type))
    taken = generic(
        [(images.tensor, index_expressions(images, reads))], (empty, dims), ["parallel"] * 6, lambda scalars: scalars[0]
    )
    view = View(taken, tuple(lens), tuple(range(6)), images.type)
    return reshape(view, [math.prod(out), math.prod(lens[3:])])


def _product(rows: View, strips: View, sum_type: str) -> View:
    """Sums [m, n] of rows [m, k] with strips [n / 16, k, 16]; strips outermost, so that each is read once.

    Rows are computed by eights, with zeros behind the last ones: of a number of rows that eight does not divide IREE
    makes tiles of a divisor, which for 197 is one row (65 ms in place of 9).
    """
    count, missing = rows.lens[0], -rows.lens[0] % ROWS
    if count > ROWS and missing:
        sums = _product(pad(rows, [0, 0], [missing, 0]), strips, sum_type)
        return slice_(sums, [0, 0], [count, sums.lens[1]], [1, 1])
    strip, m, column, k = (ir.AffineDimExpr.get(loop) for loop in range(4))
    lens = [rows.lens[0], strips.lens[0], strips.lens[2]]
    sums = contract(
        (rows, index_expressions(rows, [m, k])),
        (strips, index_expressions(strips, [strip, k, column])),
        [1, 0, 2],
        ["parallel", "parallel", "parallel", "reduction"],
        lens,
        sum_type,
    )
    return reshape(sums, [lens[0], lens[1] * lens[2]])
