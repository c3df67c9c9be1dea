"""Growing a subgraph around an anchor: what follows it, then the reshapers in front of everything it reads.

The rules are those of MIGraphX's fuse_mlir pass (src/targets/gpu/fuse_mlir.cpp of release rocm-7.1.1), which sees the
program after its own rewrites; here the pointwise instructions are still single operators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iree_migraphx.ir.model import Instruction, Module
from iree_migraphx.partition.rules import Rules

#: Instructions behind the anchor that are looked at: longer chains than MIGraphX's own fusion makes.
HORIZON = 64


@dataclass(frozen=True)
class Surroundings:
    """A module with what growing needs to know about each of its values.

    Attributes:
        instructions: every instruction of the program; submodules may read their parents' values.
        index: position of each value of this module.
        users: instructions of this module that read a value.
        pinned: values that are read elsewhere (a return, a submodule), so that they must stay.
        taken: values that an earlier subgraph computes; they can't be computed by another one.
        read: values that earlier subgraphs read.
    """

    module: Module
    instructions: Mapping[str, Instruction]
    index: Mapping[str, int]
    users: Mapping[str, Sequence[Instruction]]
    pinned: frozenset[str]
    taken: set[str]
    read: set[str]


def grow(anchor: Instruction, around: Surroundings, rules: Rules, core: Sequence[str] = ()) -> list[str]:
    """The ids of the anchor and what is fused behind it, in execution order; the last is the one result.

    With `core`, of several instructions of which the anchor gives the one result.
    """
    candidates = _followers(anchor, around, rules)
    best = [*core] or [anchor.id]
    ancestors: dict[str, frozenset[str]] = {anchor.id: frozenset(best)}
    for candidate in candidates:
        inside = frozenset([candidate.id]).union(*(ancestors[i] for i in candidate.inputs if i in ancestors))
        ancestors[candidate.id] = inside
        if len(inside) > len(best) and rules.pointwise(candidate) and one_result(candidate.id, inside, around):
            best = sorted(inside, key=lambda value: around.index[value])
    return best


def before(members: Sequence[str], around: Surroundings, rules: Rules) -> list[str]:
    """Ids of the reshapers and cheap producers that stand, in unbroken chains, between outside values and the members.

    Reshapers are computed again inside the kernel, so it doesn't matter who else reads them; one that is a literal's
    mere broadcast costs nothing and saves the copy that the operand would be. A producer (MIGraphX: input-side fusion
    of dequantizelinear, unpack_int4 and unpack_fp4) comes along where all its readers do.
    """
    inside = set(members)
    found: set[str] = set()
    pending = [value for member in reversed(members) for value in reversed(around.instructions[member].inputs)]
    while pending:
        value = pending.pop()
        if value in inside or value in found or value not in around.index:
            continue
        instruction = around.instructions[value]
        if instruction.shape.dynamic:
            continue
        if rules.reshaper(instruction) or (
            rules.producer(instruction)
            and value not in around.pinned | around.taken
            and all(user.id in inside | found for user in around.users[value])
        ):
            found.add(value)
            pending.extend(reversed(instruction.inputs))
    return sorted(found, key=lambda value: around.index[value])


def _followers(anchor: Instruction, around: Surroundings, rules: Rules) -> list[Instruction]:
    """Instructions after the anchor that depend on it through nothing but each other."""
    inside, foreign = {anchor.id}, set[str]()
    found: list[Instruction] = []
    position = around.index[anchor.id]
    last = _last_user(anchor.id, around)
    while position < last and len(found) < HORIZON:
        position += 1
        instruction = around.module.instructions[position]
        if not (inside | foreign).intersection(instruction.inputs):
            continue
        fusable = (
            (rules.pointwise(instruction) or rules.reshaper_behind(instruction))
            and instruction.id not in around.taken
            and not instruction.shape.dynamic
            and not foreign.intersection(instruction.inputs)
        )
        if fusable:
            inside.add(instruction.id)
            found.append(instruction)
            last = max(last, _last_user(instruction.id, around))
        else:
            foreign.add(instruction.id)
    return found


def _last_user(value: str, around: Surroundings) -> int:
    """Only a direct reader of a value inside can join, so nothing behind the last one needs to be looked at."""
    return max((around.index[user.id] for user in around.users[value]), default=-1)


def one_result(result: str, inside: frozenset[str], around: Surroundings) -> bool:
    """Nobody outside reads any value of the set but the result."""
    return all(
        value == result or (value not in around.pinned and all(user.id in inside for user in around.users[value]))
        for value in inside
    )
