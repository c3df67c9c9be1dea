"""Tensor operations in the current MLIR insertion point: thin steps over the linalg and tensor dialects."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TypeAlias

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.lowering.bindings import ir, linalg, tensor, util
from iree_migraphx.lowering.element import constant
from iree_migraphx.lowering.types import mlir_type
from iree_migraphx.lowering.view import View

Scalars: TypeAlias = "Callable[[list[ir.Value]], ir.Value]"


def tensor_type(lens: Sequence[int], type_: str) -> ir.RankedTensorType:
    """The type of a dense tensor of MIGraphX's element type `type_`."""
    return ir.RankedTensorType.get(list(lens), mlir_type(type_))


def filled(lens: Sequence[int], type_: str, value: float) -> ir.Value:
    """A tensor with the same value everywhere."""
    empty = tensor.empty(list(lens), mlir_type(type_))
    fill = linalg.FillOp([empty.type], [constant(type_, value)], [empty])
    # The Python bindings leave the region of a named operation to the caller.
    scalar = mlir_type(type_)
    block = fill.regions[0].blocks.append(scalar, scalar)
    with ir.InsertionPoint(block):
        linalg.YieldOp([block.arguments[0]])
    result: ir.Value = fill.results[0]
    return result


def generic(
    inputs: Sequence[tuple[ir.Value, Sequence[ir.AffineExpr]]],
    output: tuple[ir.Value, Sequence[ir.AffineExpr]],
    loops: Sequence[str],
    body: Scalars,
) -> ir.Value:
    """One linalg.generic.

    Args:
        inputs: tensors with the index expression of each of their dimensions.
        output: the tensor that is written (its value is the start of a reduction) with its index expressions.
        loops: "parallel" or "reduction", one a loop.
        body: builds the element from one scalar an input, then the output's.
    """
    operands = [*inputs, output]
    maps = [ir.AffineMapAttr.get(ir.AffineMap.get(len(loops), 0, list(exprs))) for _, exprs in operands]
    op = linalg.GenericOp(
        [output[0].type],
        [value for value, _ in inputs],
        [output[0]],
        ir.ArrayAttr.get(maps),
        ir.ArrayAttr.get([ir.Attribute.parse(f"#linalg.iterator_type<{loop}>") for loop in loops]),
    )
    block = op.regions[0].blocks.append(*[value.type.element_type for value, _ in operands])
    with ir.InsertionPoint(block):
        linalg.YieldOp([body(list(block.arguments))])
    result: ir.Value = op.results[0]
    return result


def loop_index(loop: int) -> ir.Value:
    """In the body of a linalg.generic: how far one of its loops is."""
    value: ir.Value = linalg.IndexOp(ir.IntegerAttr.get(ir.IntegerType.get_signless(64), loop)).result
    return value


def index_expressions(view: View, logical: Sequence[ir.AffineExpr]) -> list[ir.AffineExpr]:
    """How a view's tensor is indexed where its logical axis i is indexed by logical[i]."""
    return [ir.AffineConstantExpr.get(0) if axis is None else logical[axis] for axis in view.axes]


def elementwise(views: Sequence[View], lens: Sequence[int], order: Sequence[int], type_: str, body: Scalars) -> View:
    """Compute each element from the same element of every view.

    Args:
        views: the inputs, all of logical lengths `lens`.
        lens: lengths of the result.
        order: the logical axes as the result's tensor holds them, slowest first; axes left out have length 1.
        type_: the result's element type.
        body: builds the element from one scalar a view (and, last, the unused one of the result).
    """
    out = tensor.empty([lens[axis] for axis in order], mlir_type(type_))
    identity = [ir.AffineDimExpr.get(loop) for loop in range(len(order))]
    logical = [ir.AffineConstantExpr.get(0)] * len(lens)
    for axis, loop in zip(order, identity, strict=True):
        logical[axis] = loop
    inputs = [(view.tensor, index_expressions(view, logical)) for view in views]
    result = generic(inputs, (out, identity), ["parallel"] * len(order), body)
    return View(result, tuple(lens), tuple(order), type_)


def materialise(view: View, order: Sequence[int] | None = None) -> View:
    """The same values in a tensor that holds the logical axes in `order` (their own order by default)."""
    wanted = tuple(range(len(view.lens))) if order is None else tuple(order)
    if view.axes == wanted:
        return view
    moving = [axis for axis in wanted if view.lens[axis] != 1]
    if moving == [axis for axis in view.axes if axis is not None and view.lens[axis] != 1]:
        # Only axes of length 1 differ: the elements are in the right order already.
        sizes = tuple(view.tensor.type.shape)
        flat = View(view.tensor, sizes, tuple(range(len(sizes))), view.type)
        return View(reshape(flat, [view.lens[axis] for axis in wanted]).tensor, view.lens, wanted, view.type)
    return elementwise([view], view.lens, wanted, view.type, lambda scalars: scalars[0])


def apart(view: View) -> View:
    """The same tensor, computed before whatever reads it: IREE's fusion stops here."""
    op = util.OptimizationBarrierOp([view.tensor.type], [view.tensor])
    return View(op.results[0], view.lens, view.axes, view.type)


def unfused(view: View) -> View:
    """The same tensor; where a loop nest makes it, in a dispatch of its own, but submitted with what reads it.

    Others are parts of memory: by themselves they might begin anywhere, and the pointer of a GPU's kernel may not.
    """
    owner = view.tensor.owner
    if isinstance(owner, ir.Block) or owner.name != "linalg.generic":
        return view
    op = ir.Operation.create("iree_tensor_ext.compute_barrier.start", [view.tensor.type], [view.tensor])
    return View(op.results[0], view.lens, view.axes, view.type)


def reshape(view: View, lens: Sequence[int]) -> View:
    """The same elements in row-major order with other lengths; a copy only where the view's axes are permuted."""
    lens = tuple(lens)
    if view.lens == lens:
        return view
    if not view.lens:
        value = tensor.ExpandShapeOp(tensor_type(lens, view.type), view.tensor, ir.ArrayAttr.get([]), [], lens).result
        return View(value, lens, tuple(range(len(lens))), view.type)
    view = materialise(view)
    if not lens:
        value = tensor.CollapseShapeOp(tensor_type((), view.type), view.tensor, ir.ArrayAttr.get([])).result
        return View(value, (), (), view.type)
    source, target = _common_groups(view.lens, lens)
    merged = [math.prod(view.lens[axis] for axis in group) for group in source]
    value = view.tensor
    if len(merged) != len(view.lens):
        value = tensor.CollapseShapeOp(tensor_type(merged, view.type), value, _reassociation(source)).result
    if len(merged) != len(lens):
        value = tensor.ExpandShapeOp(tensor_type(lens, view.type), value, _reassociation(target), [], lens).result
    return View(value, lens, tuple(range(len(lens))), view.type)


def split_axis(view: View, axis: int, lens: Sequence[int]) -> View:
    """The same values with one logical axis as several of these lengths, slowest first; nothing is copied."""
    more = len(lens) - 1
    axes: list[int | None] = []
    groups: list[list[int]] = []
    sizes: list[int] = []
    for held, size in zip(view.axes, view.tensor.type.shape, strict=True):
        if held == axis:
            own: list[int | None] = [*range(axis, axis + more + 1)]
        else:
            own = [held + more if held is not None and held > axis else held]
        groups.append([*range(len(axes), len(axes) + len(own))])
        sizes += lens if held == axis else [size]
        axes += own
    value = view.tensor
    if len(axes) != len(view.axes):
        value = tensor.ExpandShapeOp(tensor_type(sizes, view.type), value, _reassociation(groups), [], sizes).result
    return View(value, (*view.lens[:axis], *lens, *view.lens[axis + 1 :]), tuple(axes), view.type)


def merge_axes(view: View, axis: int) -> View:
    """The same values with two logical axes, from `axis` on, as one; the tensor holds one right behind the other."""
    place = view.axes.index(axis)
    assert view.axes[place + 1] == axis + 1
    groups = [[each] for each in range(place)] + [[place, place + 1]]
    groups += [[each] for each in range(place + 2, len(view.axes))]
    lens = (*view.lens[:axis], view.lens[axis] * view.lens[axis + 1], *view.lens[axis + 2 :])
    axes = [each - (each > axis) if each is not None else None for each in view.axes]
    del axes[place + 1]
    sizes = [math.prod(view.tensor.type.shape[each] for each in group) for group in groups]
    value = tensor.CollapseShapeOp(tensor_type(sizes, view.type), view.tensor, _reassociation(groups)).result
    return View(value, lens, tuple(axes), view.type)


def slice_(view: View, starts: Sequence[int], lens: Sequence[int], steps: Sequence[int]) -> View:
    """Take lens[i] elements from starts[i] on, steps[i] apart, along every logical axis i."""
    rank = len(view.axes)
    offsets, sizes, strides = [0] * rank, list(view.tensor.type.shape), [1] * rank
    for dimension, axis in enumerate(view.axes):
        if axis is not None:
            offsets[dimension], sizes[dimension], strides[dimension] = starts[axis], lens[axis], steps[axis]
    value = tensor.ExtractSliceOp(
        tensor_type(sizes, view.type), view.tensor, [], [], [], offsets, sizes, strides
    ).result
    return View(value, tuple(lens), view.axes, view.type)


def pad(view: View, low: Sequence[int], high: Sequence[int], value: float = 0.0) -> View:
    """Put `value` around the logical axes; `low` and `high` count them for each axis, before and after."""
    if not any(low) and not any(high):
        return view
    held = set(view.axes)
    if any((low[axis] or high[axis]) and axis not in held for axis in range(len(view.lens))):
        view = materialise(view)
    before = [0 if axis is None else low[axis] for axis in view.axes]
    after = [0 if axis is None else high[axis] for axis in view.axes]
    sizes = [size + b + a for size, b, a in zip(view.tensor.type.shape, before, after, strict=True)]
    around = constant(view.type, value)
    op = tensor.PadOp(tensor_type(sizes, view.type), view.tensor, [], [], before, after)
    block = op.regions[0].blocks.append(*[ir.IndexType.get()] * len(sizes))
    with ir.InsertionPoint(block):
        tensor.YieldOp(around)
    lens = tuple(length + b + a for length, b, a in zip(view.lens, low, high, strict=True))
    return View(op.result, lens, view.axes, view.type)


def _common_groups(source: Sequence[int], target: Sequence[int]) -> tuple[list[list[int]], list[list[int]]]:
    """Split two shapes of equal size into the most groups of axes with equal products."""
    groups: tuple[list[list[int]], list[list[int]]] = ([], [])
    i = j = 0
    while i < len(source) or j < len(target):
        left, right = [], []
        a = b = 1
        if i < len(source):
            left.append(i)
            a, i = source[i], i + 1
        if j < len(target):
            right.append(j)
            b, j = target[j], j + 1
        while a != b:
            if a < b and i < len(source):
                left.append(i)
                a, i = a * source[i], i + 1
            elif b < a and j < len(target):
                right.append(j)
                b, j = b * target[j], j + 1
            else:
                raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"reshape of {list(source)} to {list(target)}")
        # Trailing axes of length 1 belong to the last group, since a group can't be empty on one side.
        if not left or not right:
            groups[0][-1].extend(left)
            groups[1][-1].extend(right)
        else:
            groups[0].append(left)
            groups[1].append(right)
    return groups


def _reassociation(groups: list[list[int]]) -> ir.ArrayAttr:
    i64 = ir.IntegerType.get_signless(64)
    return ir.ArrayAttr.get([ir.ArrayAttr.get([ir.IntegerAttr.get(i64, axis) for axis in group]) for group in groups])
