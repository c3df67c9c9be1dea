"""A convolution's sliding window, read from the operator's fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction
from iree_migraphx.lowering.builder import slice_
from iree_migraphx.lowering.view import View


@dataclass(frozen=True)
class Window:
    """How a kernel moves over the input, one entry a spatial dimension.

    Attributes:
        kernel: taps.
        low: zeros before the input; `high` after it.
        stride: distance between two outputs.
        dilation: distance between two taps.
        group: groups of channels that are convolved separately.
    """

    kernel: tuple[int, ...]
    low: tuple[int, ...]
    high: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    group: int

    @staticmethod
    def of(instruction: Instruction, x: Sequence[int], w: Sequence[int]) -> Window:
        """Read the window of a convolution of x [N, C, ...] with w [F, C/group, ...].

        Padding has n entries (symmetric) or 2n (all befores, then all afters), see op/convolution.hpp.

        Raises:
            Refusal: UNSUPPORTED_OPERATOR for padding that MIGraphX computes at run time, fields of another rank, or a
                window that is larger than the padded input.
        """
        fields, rank = instruction.operator, len(w) - 2
        if int(fields.get("padding_mode", 0)) != 0:
            # It is for dynamic shapes: with fixed ones MIGraphX's own ref target fails to compile it.
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} with padding computed at run time")
        padding = tuple(fields.get("padding") or (0,) * rank)
        stride = tuple(fields.get("stride") or (1,) * rank)
        dilation = tuple(fields.get("dilation") or (1,) * rank)
        if len(padding) not in (rank, 2 * rank) or len(stride) != rank or len(dilation) != rank:
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} with fields {dict(fields)} of rank {rank}")
        window = Window(tuple(w[2:]), padding[:rank], padding[-rank:], stride, dilation, int(fields.get("group", 1)))
        for axis in range(rank):
            padded = x[2 + axis] + window.low[axis] + window.high[axis]
            last = (instruction.shape.lens[2 + axis] - 1) * stride[axis]
            if padded < last + window.reach(axis):
                raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"a window larger than the padded input {list(x[2:])}")
        return window

    def reach(self, axis: int) -> int:
        """Elements from the first to the last tap."""
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1


@dataclass(frozen=True)
class Spread:
    """How a transposed convolution spreads each input over the output, one entry a spatial dimension.

    Input i times tap t is added to output `i * stride + t * dilation - padding`, where there is one.

    Attributes:
        kernel: taps.
        padding: outputs that are cut off at either end.
        stride: distance in the output between two inputs.
        dilation: distance in the output between two taps.
        group: groups of channels that are convolved separately.
    """

    kernel: tuple[int, ...]
    padding: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    group: int

    @staticmethod
    def of(instruction: Instruction, w: Sequence[int]) -> Spread:
        """Read the fields of a transposed convolution with w [C, F/group, ...] (op/convolution_backwards.hpp).

        The padding is what the field says whatever the padding_mode, which MIGraphX's kernel does not look at.

        Raises:
            Refusal: UNSUPPORTED_OPERATOR for fields of another rank.
        """
        fields, rank = instruction.operator, len(w) - 2
        padding = tuple(fields.get("padding") or (0,) * rank)
        stride = tuple(fields.get("stride") or (1,) * rank)
        dilation = tuple(fields.get("dilation") or (1,) * rank)
        if any(len(value) != rank for value in (padding, stride, dilation)):
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} with fields {dict(fields)} of rank {rank}")
        # One tap is nowhere apart from another.
        dilation = tuple(1 if size == 1 else step for step, size in zip(dilation, w[2:], strict=True))
        return Spread(tuple(w[2:]), padding, stride, dilation, int(fields.get("group", 1)))


def without_unread_ends(x: View, window: Window, out: Sequence[int]) -> tuple[View, Window]:
    """Leave out what lies behind the last tap along axes with one output.

    IREE 3.13.0 drops loops that run once, and then can't compile a window that does not fill such an axis.

    Raises:
        Refusal: UNSUPPORTED_OPERATOR where nothing of the input is read.
    """
    high, lens = list(window.high), list(x.lens)
    for axis, length in enumerate(out[2:]):
        unread = lens[2 + axis] + window.low[axis] + high[axis] - window.reach(axis)
        if length == 1 and unread:
            padding = min(unread, high[axis])
            high[axis] -= padding
            lens[2 + axis] -= unread - padding
            if lens[2 + axis] < 1:
                raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"a window over nothing but padding of {list(x.lens[2:])}")
    if tuple(lens) != x.lens:
        x = slice_(x, [0] * len(lens), lens, [1] * len(lens))
    return x, replace(window, high=tuple(high))
