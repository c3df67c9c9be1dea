"""The anchors: convolution and dot as one linalg.generic each, whatever the rank, groups and operand layouts.

IREE recognises a generic contraction or convolution by its indexing maps and treats it as the named operation; measured
with IREE 3.13.0, kernels and run times were the same for both, on gfx942 and on the CPU.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from iree.compiler import ir
from iree.compiler.dialects import arith

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering.builder import filled, generic, index_expressions, materialise, pad, reshape, slice_
from iree_migraphx.lowering.pointwise import Element, widen
from iree_migraphx.lowering.types import accumulator
from iree_migraphx.lowering.view import View


class Form(enum.Enum):
    """How a convolution's loops and buffers are laid out.

    Attributes:
        OPERANDS: as the operands come (NCHW): one dispatch, what GPUs want.
        CHANNELS_LAST: transposed to NHWC inside the kernel: several dispatches, but 1.4 to 10 times faster on CPUs.
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
    """The axes of a constant operand in the order in which the form wants them in memory; None for their own order.

    Channels-last convolutions read the filters innermost (HWCF): 2 to 4 times faster than FCHW, and free for constants.
    """
    if form is not Form.CHANNELS_LAST or anchor.name != "convolution" or index != 1:
        return None
    depth = shape.lens[1]
    if int(anchor.operator.get("group", 1)) > 1 and depth > 1:
        return None
    held = [*range(2, len(shape.lens)), 1, 0]
    return tuple(axis for axis in held if shape.lens[axis] != 1)


def _dot(instruction: Instruction, operands: Sequence[View], form: Form) -> View:
    """Batched matrix product of [..., m, k] and [..., k, n]; batch dimensions are equal (op/dot.hpp)."""
    a, b = operands
    rank = len(instruction.shape.lens)
    batch, (m, n, k) = list(range(rank - 2)), (rank - 2, rank - 1, rank)
    out = list(range(rank))
    return _contract(
        instruction,
        (a.tensor, index_expressions(a, [*batch, m, k])),
        (b.tensor, index_expressions(b, [*batch, k, n])),
        out,
        [*["parallel"] * rank, "reduction"],
        instruction.shape.lens,
    )


def _convolution(instruction: Instruction, operands: Sequence[View], form: Form) -> View:
    """Cross-correlation of x [N, C, ...] with w [F, C/group, ...], zero padded (op/convolution.hpp)."""
    x, w = operands
    window = Window.of(instruction, len(x.lens) - 2)
    x = pad(x, [0, 0, *window.low], [0, 0, *window.high])
    kernel = w.lens[2:]
    for axis, (size, length) in enumerate(zip(kernel, instruction.shape.lens[2:], strict=True)):
        if x.lens[2 + axis] < (length - 1) * window.stride[axis] + (size - 1) * window.dilation[axis] + 1:
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"a window larger than the padded input {list(x.lens[2:])}")
    if form is Form.CHANNELS_LAST:
        x, window = _skip_unread(x, kernel, window, instruction.shape.lens)
    spatial = range(len(kernel))
    groups, per_group, depth = window.group, w.lens[0] // window.group, w.lens[1]
    roles = _Loops(
        batch=x.lens[0],
        group=groups if groups > 1 else None,
        filters=per_group if per_group > 1 or groups == 1 else None,
        depth=depth if depth > 1 or groups == 1 else None,
        spatial=instruction.shape.lens[2:],
        # A loop over one tap is none, so that IREE sees a matrix product; with a stride it wants the window's form.
        kernel=tuple(None if kernel[i] == 1 and window.stride[i] == 1 else kernel[i] for i in spatial),
    )
    if roles.group and roles.depth:
        x = reshape(x, [x.lens[0], groups, depth, *x.lens[2:]])
    if form is Form.CHANNELS_LAST:
        x = materialise(x, roles.channels_last(roles.x_axes))
    w = reshape(w, [size for size in (roles.group, roles.filters, roles.depth) if size] + list(kernel))
    if any(
        loop and w.lens[i - len(kernel)] == 1 and len(w.lens) + i - len(kernel) not in w.axes
        for i, loop in enumerate(roles.kernel)
    ):
        w = materialise(w)
    numbers = roles.numbers(form)
    dim = {role: ir.AffineDimExpr.get(number) for role, number in numbers.items()}
    zero = ir.AffineConstantExpr.get(0)
    taps = [
        _scaled(dim[f"o{i}"], window.stride[i]) + _scaled(dim.get(f"k{i}", zero), window.dilation[i]) for i in spatial
    ]
    x_loops = [*[dim[role] for role in roles.x_axes if role[0] != "o"], *taps]
    out_roles = roles.out_axes
    order = sorted(range(len(out_roles)), key=lambda axis: numbers[out_roles[axis]])
    result = _contract(
        instruction,
        (x.tensor, _substitute(x, x_loops)),
        (w.tensor, _substitute(w, [dim.get(role, zero) for role in roles.w_axes])),
        [numbers[out_roles[axis]] for axis in order],
        ["reduction" if role[0] in "ck" else "parallel" for role in sorted(numbers, key=lambda r: numbers[r])],
        [roles.extent(out_roles[axis]) for axis in order],
    )
    view = View(result.tensor, tuple(roles.extent(role) for role in out_roles), tuple(order), result.type)
    if roles.group and roles.filters:
        return _merge_groups(view, instruction.shape.lens)
    return view


@dataclass(frozen=True)
class Window:
    """A convolution's sliding window, one entry a spatial dimension."""

    low: tuple[int, ...]
    high: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    group: int

    @staticmethod
    def of(instruction: Instruction, rank: int) -> Window:
        """Read the fields of a convolution with `rank` spatial dimensions; padding is n (symmetric) or 2n entries."""
        fields = instruction.operator
        if int(fields.get("padding_mode", 0)) != 0:
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} with padding computed at run time")
        padding = tuple(fields.get("padding") or (0,) * rank)
        stride = tuple(fields.get("stride") or (1,) * rank)
        dilation = tuple(fields.get("dilation") or (1,) * rank)
        if len(padding) not in (rank, 2 * rank) or len(stride) != rank or len(dilation) != rank:
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} with fields {dict(fields)} of rank {rank}")
        return Window(padding[:rank], padding[-rank:], stride, dilation, int(fields.get("group", 1)))


@dataclass(frozen=True)
class _Loops:
    """The loops of a convolution and how far each runs; a loop of None does not exist."""

    batch: int
    group: int | None
    filters: int | None
    depth: int | None
    spatial: tuple[int, ...]
    kernel: tuple[int | None, ...]

    @property
    def x_axes(self) -> list[str]:
        channels = [role for role, size in (("g", self.group), ("c", self.depth)) if size]
        return ["n", *channels, *self._spatial]

    @property
    def w_axes(self) -> list[str]:
        channels = [role for role, size in (("g", self.group), ("f", self.filters), ("c", self.depth)) if size]
        return [*channels, *self._kernel]

    @property
    def out_axes(self) -> list[str]:
        channels = [role for role, size in (("g", self.group), ("f", self.filters)) if size]
        return ["n", *channels, *self._spatial]

    @property
    def _spatial(self) -> list[str]:
        return [f"o{i}" for i in range(len(self.spatial))]

    @property
    def _kernel(self) -> list[str]:
        return [f"k{i}" for i in range(len(self.kernel))]

    def extent(self, role: str) -> int:
        """Iterations of a loop."""
        if role[0] in "ok":
            return (self.spatial if role[0] == "o" else self.kernel)[int(role[1:])] or 1
        return {"n": self.batch, "g": self.group, "f": self.filters, "c": self.depth}[role] or 1

    def channels_last(self, axes: Sequence[str]) -> list[int]:
        """Positions of the axes with the channels moved behind the spatial ones."""
        return sorted(range(len(axes)), key=lambda position: axes[position][0] in "gfc")

    def numbers(self, form: Form) -> Mapping[str, int]:
        """The number of each loop, outermost 0."""
        taps = [f"k{i}" for i, size in enumerate(self.kernel) if size]
        out, inner = self.out_axes, [*(["c"] if self.depth else []), *taps]
        if form is Form.CHANNELS_LAST:
            out = [out[position] for position in self.channels_last(out)]
            inner = [inner[position] for position in self.channels_last(inner)]
        return {role: number for number, role in enumerate([*out, *inner])}


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


def _skip_unread(x: View, kernel: Sequence[int], window: Window, out: Sequence[int]) -> tuple[View, Window]:
    """Leave out what the stride of a window with one tap jumps over, before anything is copied."""
    jumps = [stride if size == 1 else 1 for size, stride in zip(kernel, window.stride, strict=True)]
    if all(jump == 1 for jump in jumps):
        return x, window
    kept = [length if jump == 1 else wanted for length, wanted, jump in zip(x.lens[2:], out[2:], jumps, strict=True)]
    x = slice_(x, [0] * len(x.lens), [*x.lens[:2], *kept], [1, 1, *jumps])
    return x, replace(window, stride=tuple(s // jump for s, jump in zip(window.stride, jumps, strict=True)))


def _substitute(view: View, expressions: Sequence[ir.AffineExpr]) -> list[ir.AffineExpr]:
    return [ir.AffineConstantExpr.get(0) if axis is None else expressions[axis] for axis in view.axes]


def _scaled(expression: ir.AffineExpr, factor: int) -> ir.AffineExpr:
    return expression if factor == 1 else expression * factor


def _merge_groups(view: View, lens: tuple[int, ...]) -> View:
    """[N, G, F/G, ...] as [N, F, ...] without a copy: the two axes are neighbours in the tensor in either form."""
    position = view.axes.index(1)
    if view.axes[position + 1] != 2:
        return reshape(view, lens)
    physical = [view.lens[axis] for axis in view.axes if axis is not None]
    physical[position : position + 2] = [physical[position] * physical[position + 1]]
    flat = View(view.tensor, tuple(view.tensor.type.shape), tuple(range(len(view.axes))), view.type)
    merged = reshape(flat, physical)
    axes = tuple(axis if axis < 2 else axis - 1 for axis in view.axes if axis is not None and axis != 2)
    return View(merged.tensor, lens, axes, view.type)


#: Operator -> its sum. Adding an anchor is one entry here and one row in tests/lowering.
ANCHORS: Mapping[str, Anchor] = {
    "convolution": _convolution,
    "dot": _dot,
}
