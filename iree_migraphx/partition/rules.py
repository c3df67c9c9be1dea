"""What may be in a subgraph, as the later stages see it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from iree_migraphx.ir.model import Instruction, Shape

Predicate = Callable[[Instruction], bool]


def _nothing(instruction: Instruction) -> bool:
    return False


@dataclass(frozen=True, slots=True)
class Extra:
    """What subgraphs without an anchor are made of.

    Attributes:
        supports: an instruction over these operands may be in one.
        works: it takes MIGraphX time by itself; others are mere views there, and no reason for a kernel.
        elementwise: each element follows from the operands' elements at the same place.
        price: time that MIGraphX's `ref` needs for an element that an instruction touches, over an elementwise one's.
        least_work: elements that a subgraph's instructions touch together at least, each at its price. A kernel takes
            about a second to compile, and MIGraphX's `ref` some fifty nanoseconds for an element.
    """

    supports: Callable[[Instruction, Sequence[Instruction]], bool]
    works: Predicate
    elementwise: Predicate
    price: Callable[[Instruction], int]
    least_work: int


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention pattern of a module.

    Attributes:
        scores: the dot of queries and keys.
        chain: the pointwise instructions from there to softmax, in order, each reading the one before.
        output: the dot of softmax's result and the values.
        members: ids of all of these and of softmax, in no order.
    """

    scores: Instruction
    chain: tuple[Instruction, ...]
    output: Instruction
    members: frozenset[str]

    def steps(self) -> Iterator[tuple[Instruction, int]]:
        """The chain with the place of the scores among each one's operands."""
        before = self.scores.id
        for step in self.chain:
            yield step, step.inputs.index(before)
            before = step.id


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
        producer: may stand before the anchor or another operand where nobody else reads its value; it computes little,
            and its result is larger than what it reads.
        extra: for subgraphs without an anchor; None where there are to be none.
        attention: such a pattern, among instructions by their ids, is one subgraph; None where there is to be none.
    """

    anchor: Predicate
    pointwise: Predicate
    reshaper: Predicate
    reshaper_behind: Predicate
    standard_operands: bool
    constant_order: Callable[[Instruction, int, Shape], tuple[int, ...] | None]
    channels_last: Predicate
    keeps_order: Predicate
    producer: Predicate = _nothing
    extra: Extra | None = None
    attention: Callable[[Attention, Mapping[str, Instruction]], bool] | None = None
