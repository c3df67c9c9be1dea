"""The memory behind a shape as a dense tensor: the form in which kernels take operands and give results."""

from __future__ import annotations

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Shape


def physical_axes(shape: Shape) -> tuple[int, ...]:
    """The logical axes that a dense buffer of this shape holds, slowest first; broadcast axes are not in memory.

    A standard shape keeps every axis, so that its tensor looks like the operand; otherwise axes of length 1 are left
    out.

    Raises:
        Refusal: UNSUPPORTED_LAYOUT where elements are not next to each other in any axis order, or there are none.
    """
    if shape.elements == 0:
        raise Refusal(Reason.UNSUPPORTED_LAYOUT, f"an operand without elements, lengths {list(shape.lens)}")
    if shape.standard:
        return tuple(range(len(shape.lens)))
    held = [axis for axis, length in enumerate(shape.lens) if length != 1 and shape.strides[axis] != 0]
    order = sorted(held, key=lambda axis: -shape.strides[axis])
    step = 1
    for axis in reversed(order):
        if shape.strides[axis] != step:
            gaps = f"an operand with gaps: lengths {list(shape.lens)}, strides {list(shape.strides)}"
            raise Refusal(Reason.UNSUPPORTED_LAYOUT, gaps)
        step *= shape.lens[axis]
    return tuple(order)


def physical_lens(shape: Shape) -> tuple[int, ...]:
    """Lengths of the dense tensor that a kernel takes for an operand of this shape; raises as `physical_axes`."""
    return tuple(shape.lens[axis] for axis in physical_axes(shape))


def in_order(shape: Shape, axes: tuple[int, ...]) -> Shape:
    """The same type and lengths, dense, with the axes in memory in this order, slowest first."""
    strides, step = [0] * len(shape.lens), 1
    for axis in reversed(axes):
        strides[axis] = step
        step *= shape.lens[axis]
    return Shape(shape.type, shape.lens, tuple(strides))


def memory_order(shape: Shape) -> tuple[int, ...]:
    """All axes of a dense shape, slowest first."""
    return tuple(sorted(range(len(shape.lens)), key=lambda axis: -shape.strides[axis]))


def as_stored(shape: Shape) -> Shape:
    """The memory of a dense shape as a row-major shape: its axes in the order in which they lie there."""
    return Shape.standard_of(shape.type, tuple(shape.lens[axis] for axis in memory_order(shape)))


def same_layout(a: Shape, b: Shape) -> bool:
    """Equal types, lengths, and strides wherever there is more than one element along an axis."""
    if (a.type, a.lens) != (b.type, b.lens):
        return False
    return all(x == y or length == 1 for x, y, length in zip(a.strides, b.strides, a.lens, strict=True))
