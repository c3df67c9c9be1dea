"""Attention: two dots with a softmax over the first one's result between them, to be one kernel.

The pattern is that of MIGraphX's fuse_attention pass (src/fuse_attention.cpp of release rocm-7.1.1), which sees softmax
in single steps; in a parsed program it is one instruction.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping

from iree_migraphx.ir.model import Instruction
from iree_migraphx.partition.grow import Surroundings, one_result
from iree_migraphx.partition.rules import Attention, Predicate, Rules

#: Views that stand between softmax's reductions and what reads them.
_SPREADING = frozenset({"contiguous", "multibroadcast"})
_SOFTMAX_STEPS = frozenset({"convert", "exp", "reduce_max", "reduce_sum", "sub"}) | _SPREADING


def attention_of(output: Instruction, known: Mapping[str, Instruction], pointwise: Predicate) -> Attention | None:
    """The attention whose last instruction is this dot, if it is one.

    Args:
        output: any instruction.
        known: all instructions that it may depend on, by id; a chain ends at what is not here.
        pointwise: instructions that may be between the scores and softmax.
    """
    if output.name != "dot":
        return None
    members = {output.id}
    weights = known.get(output.inputs[0])
    while weights is not None and weights.name == "convert":
        members.add(weights.id)
        weights = known.get(weights.inputs[0])
    if weights is None:
        return None
    if weights.name == "softmax":
        rank = len(weights.shape.lens)
        if int(weights.operator.get("axis", 1)) % rank != rank - 1:
            return None
        members.add(weights.id)
        start = weights.inputs[0]
    else:
        steps = _steps(weights, known)
        if steps is None:
            return None
        start, inside = steps
        members |= inside
    chain: list[Instruction] = []
    found = known.get(start)
    while found is not None and found.name != "dot":
        if not pointwise(found):
            return None
        chain.insert(0, found)
        found = next((known[v] for v in found.inputs if v in known and _leads_to_dot(known[v], known, pointwise)), None)
    if found is None:
        return None
    members |= {found.id, *(step.id for step in chain)}
    return Attention(found, tuple(chain), output, frozenset(members))


def core_of(output: Instruction, around: Surroundings, rules: Rules) -> tuple[list[str], frozenset[str]] | None:
    """An attention that nothing else in the program reads from.

    Returns:
        The ids of its instructions, in execution order, and of those in front of them that may be computed in its
        kernel again.
    """
    if rules.attention is None or output.name != "dot":
        return None
    known = {value: around.instructions[value] for value in around.index}
    found = attention_of(output, known, rules.pointwise)
    if found is None or around.taken.intersection(found.members):
        return None
    if any(around.instructions[value].shape.dynamic for value in found.members):
        return None
    if not one_result(output.id, found.members, around):
        return None
    if not rules.attention(found, around.instructions):
        return None
    return sorted(found.members, key=lambda value: around.index[value]), _masks(found, around, rules)


def _masks(found: Attention, around: Surroundings, rules: Rules) -> frozenset[str]:
    """Pointwise instructions in front of the chain that make many elements of few: masks of lengths and positions.

    MIGraphX's fusions hold them as well (src/targets/gpu/prefuse_ops.cpp, group_query_attention), and as operands they
    would be as large as the scores.
    """
    within: set[str] = set()

    @functools.cache
    def elements(value: str) -> int:
        """How many are to be read for a value, if what makes it is computed again."""
        instruction = around.instructions[value]
        if value not in around.index or instruction.shape.dynamic or value in found.members:
            return instruction.shape.elements
        if rules.reshaper(instruction):
            return min(elements(instruction.inputs[0]), instruction.shape.elements)
        if not rules.pointwise(instruction):
            return instruction.shape.elements
        read = sum(elements(each) for each in instruction.inputs)
        if read < instruction.shape.elements:
            within.add(value)
        return min(read, instruction.shape.elements)

    for step, place in found.steps():
        for at, value in enumerate(step.inputs):
            if at != place:
                elements(value)
    return frozenset(within)


def _leads_to_dot(instruction: Instruction, known: Mapping[str, Instruction], pointwise: Predicate) -> bool:
    pending, seen = [instruction], set[str]()
    while pending:
        each = pending.pop()
        if each.name == "dot":
            return True
        if each.id not in seen and pointwise(each):
            seen.add(each.id)
            pending.extend(known[value] for value in each.inputs if value in known)
    return False


def _steps(division: Instruction, known: Mapping[str, Instruction]) -> tuple[str, set[str]] | None:
    """Softmax over the last axis in single steps: what goes into it, and the ids of the steps."""
    inside: set[str] = {division.id}
    if division.name != "div":
        return None
    powers = _through(division.inputs[0], known, {"convert"}, inside)
    total = _through(division.inputs[1], known, _SPREADING | {"convert"}, inside)
    if powers is None or powers.name != "exp" or not _reduces(total, "reduce_sum"):
        return None
    assert total is not None
    inside |= {powers.id, total.id}
    summed = _through(total.inputs[0], known, {"convert"}, inside)
    difference = _through(powers.inputs[0], known, {"convert"}, inside)
    if summed is None or difference is None or difference.name != "sub" or not _same(summed, powers, known):
        return None
    largest = _through(difference.inputs[1], known, _SPREADING | {"convert"}, inside)
    if not _reduces(largest, "reduce_max"):
        return None
    assert largest is not None
    inside |= {difference.id, largest.id}
    start = difference.inputs[0]
    if not _same_value(largest.inputs[0], start, known, {"convert"}):
        return None
    # The sum may be over powers that are computed once more.
    pending = [summed.id, largest.inputs[0]]
    while pending:
        value = pending.pop()
        if value in known and value not in inside and value != start and known[value].name in _SOFTMAX_STEPS:
            inside.add(value)
            pending.extend(known[value].inputs)
    return start, inside


def _reduces(instruction: Instruction | None, name: str) -> bool:
    if instruction is None or instruction.name != name or len(instruction.inputs) != 1:
        return False
    rank = len(instruction.shape.lens)
    return [int(axis) % rank for axis in instruction.operator.get("axes") or ()] == [rank - 1]


def _through(
    value: str, known: Mapping[str, Instruction], skipped: Collection[str], inside: set[str]
) -> Instruction | None:
    """What is in front of a value once these operators are left out; they are noted as inside."""
    found = known.get(value)
    while found is not None and found.name in skipped and len(found.inputs) == 1:
        inside.add(found.id)
        found = known.get(found.inputs[0])
    return found


def _same(a: Instruction, b: Instruction, known: Mapping[str, Instruction]) -> bool:
    """Whether two instructions compute the same, looking through steps of softmax only."""
    if a.id == b.id:
        return True
    if a.name != b.name or a.name not in _SOFTMAX_STEPS or a.operator != b.operator or len(a.inputs) != len(b.inputs):
        return False
    return all(
        x == y or (x in known and y in known and _same(known[x], known[y], known))
        for x, y in zip(a.inputs, b.inputs, strict=True)
    )


def _same_value(a: str, b: str, known: Mapping[str, Instruction], skipped: Collection[str]) -> bool:
    first, second = (_through(value, known, skipped, set()) for value in (a, b))
    return a == b or (first is not None and second is not None and first.id == second.id)
