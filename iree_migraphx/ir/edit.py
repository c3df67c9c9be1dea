"""Edits of a module or program. Each returns a new one and takes one pass, however many edits it makes."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction, Module, Program


@dataclass(frozen=True, slots=True)
class Splice:
    """One edit: the instructions `new` instead of `members`, of which only the value `result` is read by others."""

    members: Collection[str]
    result: str
    new: Sequence[Instruction]


def splice(module: Module, members: Collection[str], result: str, new: Sequence[Instruction]) -> Module:
    """Put `new` where the last member stood; see `splice_all`."""
    return splice_all(module, [Splice(members, result, new)])


def splice_all(module: Module, splices: Iterable[Splice]) -> Module:
    """Replace each splice's members by its new instructions, all in one pass.

    The new instructions stand where the last member stood, where everything the members read is defined. The last of
    them takes the id of `result`, so every reader, in this module or in a submodule, reads it from then on.

    Raises:
        Refusal: SPLICE_ERROR, where that would leave a value undefined: a member is missing or belongs to two splices,
            a reader of the result stands before the last member, or another value of a member is still read.
    """
    owners: dict[str, Splice] = {}
    for edit in splices:
        if not edit.new or edit.result not in edit.members:
            raise _refusal(f"nothing would define {edit.result!r}")
        for member in edit.members:
            if owners.setdefault(member, edit) is not edit:
                raise _refusal(f"{member!r} belongs to two subgraphs")
    local = {instruction.id for instruction in module.instructions}
    if missing := owners.keys() - local:
        raise _refusal(f"not in module {module.name!r}: {', '.join(sorted(missing))}")
    left = {id(edit): len(set(edit.members)) for edit in owners.values()}
    instructions: list[Instruction] = []
    defined: set[str] = set()
    for instruction in module.instructions:
        owner = owners.get(instruction.id)
        if owner is None:
            batch: Sequence[Instruction] = (instruction,)
        else:
            left[id(owner)] -= 1
            batch = (*owner.new[:-1], replace(owner.new[-1], id=owner.result)) if not left[id(owner)] else ()
        for item in batch:
            lost = next((value for value in item.inputs if value in local and value not in defined), None)
            if lost is not None:
                raise _refusal(f"{item.id!r} ({item.name}) reads {lost!r}, which is not defined before it any more")
            if item.id in defined or (item is not instruction and item.id in local and item.id not in owners):
                raise _refusal(f"there are two values {item.id!r}")
            defined.add(item.id)
        instructions.extend(batch)
    return replace(module, instructions=tuple(instructions))


def together(program: Program, name: str, groups: Iterable[Collection[str]]) -> Module:
    """A module with what reads a value of a group behind the group's last member; else the order stays.

    For groups of which others read several values, which one instruction is to define where the last member stood.

    Raises:
        Refusal: SPLICE_ERROR, where a member depends on a member through something that is none.
    """
    module = program.modules[name]
    owners = {member: frozenset(group) for group in groups for member in group}
    left = {group: len(group) for group in owners.values()}
    undefined = {instruction.id for instruction in module.instructions}
    waiting: list[Instruction] = []
    ordered: list[Instruction] = []

    def ready(instruction: Instruction) -> bool:
        own = owners.get(instruction.id, frozenset())
        return not (_reads(instruction, program) - own) & undefined

    for instruction in module.instructions:
        waiting.append(instruction)
        while placed := [each for each in waiting if ready(each)]:
            for each in placed:
                waiting.remove(each)
                group = owners.get(each.id, frozenset([each.id]))
                left[group] = left.get(group, 1) - 1
                if not left[group]:
                    undefined -= group
            ordered += placed
    if waiting:
        raise _refusal(f"{waiting[0].id!r} ({waiting[0].name}) reads a subgraph's value and feeds the subgraph")
    return replace(module, instructions=tuple(ordered))


def replace_values(module: Module, replacements: Mapping[str, str]) -> Module:
    """Let the readers of each key read its value instead, in this module only; one step, chains are not followed."""
    return replace(
        module,
        instructions=tuple(
            replace(instruction, inputs=tuple(replacements.get(value, value) for value in instruction.inputs))
            if any(value in replacements for value in instruction.inputs)
            else instruction
            for instruction in module.instructions
        ),
    )


def remove_dead(program: Program) -> Program:
    """Leave out the instructions nobody reads, and the submodules nobody refers to.

    As in MIGraphX (src/dead_code_elimination.cpp) parameters, the last instruction of a module, and instructions with
    an effect stay. The latter are those with a result of no elements.
    """
    live: set[str] = set()
    modules: dict[str, Module] = {}

    def sweep(module: Module) -> None:
        kept: list[Instruction] = []
        for instruction in reversed(module.instructions):
            if not kept or instruction.id in live or instruction.name == "@param" or _has_effect(instruction):
                live.update(instruction.inputs)
                for name in reversed(instruction.modules):
                    sweep(program.modules[name])
                kept.append(instruction)
        modules[module.name] = replace(module, instructions=tuple(reversed(kept)))

    sweep(program.main)
    return replace(program, modules={name: modules[name] for name in program.modules if name in modules})


def unique_ids(program: Program, stem: str) -> Iterator[str]:
    """Ids that start with `stem` and that no value of the program has."""
    taken = {instruction.id for instruction in program.instructions()}
    return (name for number in itertools.count() if (name := f"{stem}_{number}") not in taken)


def _reads(instruction: Instruction, program: Program) -> set[str]:
    """What an instruction reads, in its submodules as well."""
    inside = (each for name in instruction.modules for each in program.modules[name].instructions)
    return {*instruction.inputs}.union(*(_reads(each, program) for each in inside))


def _has_effect(instruction: Instruction) -> bool:
    shape = instruction.shape
    return (
        shape.elements == 0
        and not shape.dynamic
        and not shape.sub_shapes
        and not instruction.name.startswith("@")
        and instruction.name not in ("identity", "allocate", "undefined")
    )


def _refusal(detail: str) -> Refusal:
    return Refusal(Reason.SPLICE_ERROR, detail)
