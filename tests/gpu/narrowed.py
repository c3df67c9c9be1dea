"""A part of a convolution's output channels: MIGraphX's ref target takes 0.2 microseconds for each multiplication."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering.pointwise import POINTWISE, RETYPING
from iree_migraphx.partition.subgraph import Subgraph

#: The axis of channels, of a convolution's result and of everything behind it.
CHANNELS = 1


@dataclass(frozen=True)
class Narrowed:
    """The same computation of fewer channels.

    Attributes:
        subgraph: it; what it reads is row-major.
        axes: name of a parameter -> the axis of it that the channels are along; others are read whole.
        channels: which ones they are.
    """

    subgraph: Subgraph
    axes: Mapping[str, int]
    channels: np.ndarray

    def operands(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What of the operands it reads."""
        return {
            name: np.take(value, self.channels, self.axes[name]) if name in self.axes else value
            for name, value in values.items()
        }

    def result(self, value: np.ndarray) -> np.ndarray:
        """What of the result it computes."""
        return np.take(value, self.channels, CHANNELS)


def narrowed(subgraph: Subgraph, most: int) -> Narrowed | None:
    """A subgraph of at most so many multiplications, or one channel; None where it has no more, or can't be cut.

    It can where one convolution over all channels of its input has pointwise operators behind it, and nothing else.
    """
    body = subgraph.body.instructions
    by_id = {instruction.id: instruction for instruction in body}
    anchors = [i for i in body if i.name == "convolution"]
    if len(anchors) != 1 or anchors[0].operator["group"] != 1 or len(subgraph.results) != 1:
        return None
    (anchor,) = anchors
    image, weights = (by_id[value] for value in anchor.inputs)
    count = anchor.shape.lens[CHANNELS]
    each = math.prod(weights.shape.lens[1:]) * anchor.shape.elements // count
    kept = max(1, most // each)
    if kept >= count or weights.name != "@param":
        return None
    axes: dict[str, int] = {weights.id: 0}
    pending = [by_id[value] for value in body[-1].inputs]
    while pending:
        instruction = pending.pop()
        if instruction.id == anchor.id:
            continue
        axis = _axis(instruction, anchor)
        if axes.setdefault(instruction.id, axis) != axis or axis < 0:
            return None
        operands = [by_id[value] for value in instruction.inputs]
        if instruction.name == "broadcast":
            if operands[0].name != "@param":
                return None
            axes[operands[0].id] = 0
        elif instruction.name == "multibroadcast":
            if not _same_for_all(operands[0], instruction):
                return None
        else:
            pending += operands
    axes[anchor.id] = CHANNELS
    if image.id in axes:
        return None
    channels = np.unique(np.linspace(0, count - 1, kept).astype(int))
    new = tuple(_cut(i, axes[i.id], len(channels)) if i.id in axes else _row_major(i) for i in body)
    shape = subgraph.result_shape
    lens = (*shape.lens[:CHANNELS], len(channels), *shape.lens[CHANNELS + 1 :])
    result = Shape.standard_of(shape.type, lens)
    cut = replace(subgraph, body=replace(subgraph.body, instructions=new), result_shapes=(result,))
    return Narrowed(cut, {i.id: axes[i.id] for i in subgraph.parameters if i.id in axes}, channels)


def _axis(instruction: Instruction, anchor: Instruction) -> int:
    """The axis of an instruction's channels; -1 where it is not known."""
    spread = instruction.name in ("@param", "broadcast", "multibroadcast")
    known = spread or instruction.name in POINTWISE or instruction.name in RETYPING
    if not known or instruction.shape.lens != anchor.shape.lens:
        return -1
    if instruction.name == "broadcast" and instruction.operator["axis"] != CHANNELS:
        return -1
    return CHANNELS


def _same_for_all(source: Instruction, spread: Instruction) -> bool:
    """Whether what is spread has no channels of its own."""
    lens = (1,) * (len(spread.shape.lens) - len(source.shape.lens)) + source.shape.lens
    return lens[CHANNELS] == 1


def _cut(instruction: Instruction, axis: int, count: int) -> Instruction:
    lens = (*instruction.shape.lens[:axis], count, *instruction.shape.lens[axis + 1 :])
    fields = dict(instruction.operator)
    if "out_lens" in fields:
        fields["out_lens"] = list(lens)
    return replace(instruction, shape=Shape.standard_of(instruction.shape.type, lens), operator=fields)


def _row_major(instruction: Instruction) -> Instruction:
    if instruction.name != "@param":
        return instruction
    return replace(instruction, shape=Shape.standard_of(instruction.shape.type, instruction.shape.lens))
