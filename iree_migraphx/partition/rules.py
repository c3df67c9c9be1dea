"""What may be in a subgraph, as the later stages see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iree_migraphx.ir.model import Instruction, Shape

Predicate = Callable[[Instruction], bool]


@dataclass(frozen=True, slots=True)
class Extra:
    """What subgraphs without an anchor are made of.

    Attributes:
        supports: an instruction over these operands may be in one.
        works: it takes MIGraphX time by itself; others are mere views there, and no reason for a kernel.
        elementwise: each element follows from the operands' elements at the same place.
        least_work: elements that a subgraph's instructions touch together at least. A kernel takes about a second to
            compile, and MIGraphX's `ref` some ten nanoseconds for an element.
    """

    supports: Callable[[Instruction, Sequence[Instruction]], bool]
    works: Predicate
    elementwise: Predicate
    least_work: int


@dataclass(frozen=True, slots=True)
class Rules:
    """The choices that a partition is made by.

    Attributes:
        anchor: a subgraph forms around such an instruction.
        pointwise: may follow the anchor in its kernel.
        reshaper: may stand before the anchor, or before another operand, as a mere change of view of its one input.
        reshaper_behind: may stand between the anchor and what follows it.
        constant_order: the order of the axes in memory in which an anchor wants a constant operand, given the anchor
            and the operand's index, or None for the order it has.
        standard_operands: operands are taken as row-major whatever their strides (whoever puts the kernel into the
            program sees to it), instead of with the strides they have.
        channels_last: an anchor whose result comes channels-last.
        keeps_order: an operator whose result's axes lie in memory in the order of its operands' axes.
        extra: for subgraphs without an anchor; None where there are to be none.
    """

    anchor: Predicate
    pointwise: Predicate
    reshaper: Predicate
    reshaper_behind: Predicate
    standard_operands: bool
    constant_order: Callable[[Instruction, int, Shape], tuple[int, ...] | None]
    channels_last: Predicate
    keeps_order: Predicate
    extra: Extra | None = None
