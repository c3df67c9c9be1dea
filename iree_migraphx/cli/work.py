"""How much a subgraph has to compute and to move, whatever kernel does it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from iree_migraphx.ir.model import Instruction, Program, Shape
from iree_migraphx.partition.subgraph import Subgraph

#: Operators that only change how a value is seen or where it lies.
_MOVING = frozenset(
    {"broadcast", "concat", "contiguous", "convert", "flatten", "multibroadcast", "pad", "reshape", "reshape_lazy"}
    | {"scalar", "slice", "squeeze", "step", "transpose", "unsqueeze"}
)


@dataclass(frozen=True, slots=True)
class Work:
    """What is to be done at the least.

    Attributes:
        flops: additions and multiplications, of one an element for each pointwise operator.
        matrix_flops: those of convolutions and dots alone.
        bytes: operands read once and the result written once.
        type: MIGraphX's element type of the operands of the convolution or dot.
    """

    flops: int
    matrix_flops: int
    bytes: int
    type: str

    @property
    def intensity(self) -> float:
        """Operations a byte."""
        return self.flops / max(1, self.bytes)


def work_of(subgraph: Subgraph) -> Work:
    """What a subgraph has to do."""
    shapes = {instruction.id: instruction.shape for instruction in subgraph.body.instructions}
    flops = matrix = 0
    kind = ""
    for instruction in subgraph.body.instructions:
        if instruction.name.startswith("@") or instruction.name in _MOVING:
            continue
        operands = [shapes[value] for value in instruction.inputs]
        own = matrix_flops(instruction, operands)
        if own:
            matrix += own
            kind = kind or operands[0].type
        elif instruction.name.startswith("reduce_"):
            own = operands[0].elements
        flops += own or instruction.shape.elements
    moved = sum(parameter.shape.nbytes for parameter in subgraph.parameters) + sum(
        shape.nbytes for shape in subgraph.result_shapes
    )
    return Work(flops, matrix, moved, kind or subgraph.result_shapes[0].type)


def program_flops(program: Program) -> int:
    """Multiplications and additions of all convolutions and dots of a program; bodies of loops are counted once."""
    shapes = {instruction.id: instruction.shape for instruction in program.instructions()}
    return sum(matrix_flops(each, [shapes[value] for value in each.inputs]) for each in program.instructions())


def matrix_flops(instruction: Instruction, operands: Sequence[Shape]) -> int:
    """Multiplications and additions of a convolution or dot; 0 for every other operator."""
    match instruction.name.removeprefix("quant_"):
        case "dot":
            return 2 * instruction.shape.elements * operands[0].lens[-1]
        case "convolution":
            return 2 * instruction.shape.elements * math.prod(operands[1].lens[1:])
        case "convolution_backwards":
            # Each element of the input is multiplied with its group's filters.
            return 2 * operands[0].elements * math.prod(operands[1].lens[1:])
    return 0
