"""Subgraphs without an anchor: what is left of a module, taken together as far as one value leaves it.

MIGraphX's own rules know nothing like it. On the host, where everything that IREE does not compute is done by
MIGraphX's `ref` operators, a kernel of anything is worth it, and it may have several dispatches.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterator, Sequence

from iree_migraphx.ir.model import Instruction
from iree_migraphx.partition.grow import Surroundings
from iree_migraphx.partition.rules import Extra

#: Instructions of one subgraph at most: IREE's time to compile grows faster than they do.
MOST = 64


def regions(around: Surroundings, rules: Extra) -> Iterator[list[str]]:
    """The subgraphs of a module that earlier ones left something of, each in execution order; the last is the result.

    From the end of the module on, each instruction takes along what feeds it and nothing else: its fanout-free cone.
    The next one is looked for when the one before is a subgraph, whose operands are then in `around.read`.
    """
    alive = _alive(around)
    for instruction in reversed(around.module.instructions):
        if instruction.id in alive and _fits(instruction, around, rules) and rules.works(instruction):
            cone = _cone(instruction, around, rules, alive)
            members = [around.instructions[value] for value in cone]
            work = sum(rules.price(member) * _elements(member, around) for member in members if rules.works(member))
            if work >= rules.least_work:
                around.taken.update(cone)
                yield cone


def telling(members: Sequence[str], around: Surroundings, rules: Extra) -> Instruction:
    """The instruction to name a subgraph after: the last one that is more than elementwise, or the last that works."""
    working = [i for i in (around.instructions[value] for value in members) if rules.works(i)]
    return next((i for i in reversed(working) if not rules.elementwise(i)), working[-1])


def _alive(around: Surroundings) -> set[str]:
    """Values that somebody reads, now that subgraphs compute some and have taken others' reshapers along."""
    alive: set[str] = {*around.pinned, *around.read}
    for instruction in reversed(around.module.instructions):
        users = around.users[instruction.id]
        if any(user.id in alive and user.id not in around.taken for user in users):
            alive.add(instruction.id)
    return alive


def _cone(root: Instruction, around: Surroundings, rules: Extra, alive: Collection[str]) -> list[str]:
    """The root, and every instruction before it whose value is read by these alone."""
    inside = {root.id}
    pending: list[int] = []

    def look_at(values: Sequence[str]) -> None:
        for value in dict.fromkeys(values):
            if value in around.index:
                heapq.heappush(pending, -around.index[value])

    look_at(root.inputs)
    while pending and len(inside) < MOST:
        # Latest first: all readers of an instruction have been decided on before it.
        candidate = around.module.instructions[-heapq.heappop(pending)]
        if candidate.id in inside or not _fits(candidate, around, rules):
            continue
        if candidate.id in around.pinned or candidate.id in around.read:
            continue
        users = around.users[candidate.id]
        if all(user.id in inside or user.id in around.taken or user.id not in alive for user in users):
            inside.add(candidate.id)
            look_at(candidate.inputs)
    return sorted(inside, key=lambda value: around.index[value])


def _fits(instruction: Instruction, around: Surroundings, rules: Extra) -> bool:
    if instruction.name.startswith("@") or instruction.id in around.taken:
        return False
    if instruction.modules or instruction.shape.dynamic or instruction.shape.sub_shapes:
        return False
    return rules.supports(instruction, [around.instructions[value] for value in instruction.inputs])


def _elements(instruction: Instruction, around: Surroundings) -> int:
    """Elements that an instruction touches: what MIGraphX's `ref` needs time for."""
    read = (around.instructions[value].shape.elements for value in instruction.inputs)
    return max(instruction.shape.elements, *read, 0)
