"""What the table of an operator family holds: how an operator over whole tensors is computed, and which it can take."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering.types import TYPES
from iree_migraphx.lowering.view import View

Emit: TypeAlias = "Callable[[Instruction, Sequence[View]], View]"
Supports: TypeAlias = "Callable[[Instruction, Sequence[Shape]], bool]"


@dataclass(frozen=True)
class TensorOperator:
    """An operator whose result's elements follow from several elements of its operands, or from others' places.

    Attributes:
        emit: builds the result; its elements may be wider than the instruction's type, and are rounded when read.
        supports: whether `emit` can, said without building anything, given the operands' shapes.
        on_gpus: in place of `emit` for GPUs, where IREE makes something of that which MIGraphX can't launch.
    """

    emit: Emit
    supports: Supports
    on_gpus: Emit | None = None


#: Types of the operands of functions that MIGraphX's operators for them are used with.
FLOATS = frozenset({"bf16_type", "double_type", "float_type", "half_type"})


def over_floats(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    """One floating-point operand with elements."""
    return over_one(instruction, operands) and operands[0].type in FLOATS


def over_one(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    """One operand of a known type, with elements."""
    return len(operands) == 1 and has_elements(instruction, operands)


def over_anything(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    """Operands of one known type, with elements."""
    return len({shape.type for shape in operands}) == 1 and has_elements(instruction, operands)


def has_elements(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    """Every value has a type that kernels know, at least one axis and at least one element."""
    return all(shape.type in TYPES and shape.elements > 0 for shape in (instruction.shape, *operands))


def axis_of(instruction: Instruction, rank: int) -> int:
    """The field `axis`, counted from the front."""
    axis = int(instruction.operator.get("axis", 0))
    return axis + rank if axis < 0 else axis


def axes_of(instruction: Instruction, rank: int) -> tuple[int, ...]:
    """The field `axes`, counted from the front, in order and none twice."""
    given: Sequence[Any] = instruction.operator.get("axes") or ()
    return tuple(sorted({int(axis) + rank if int(axis) < 0 else int(axis) for axis in given}))
