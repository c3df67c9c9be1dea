"""A part of a program as a program of its own, as migraphx-driver's --trim cuts it out (src/driver/trim.cpp)."""

from __future__ import annotations

from dataclasses import replace

from iree_migraphx.ir.edit import remove_dead, replace_values, unique_ids
from iree_migraphx.ir.model import Instruction, Module, Program

#: Operators that only see a value in another way, and come along with what reads them.
_VIEWS = frozenset(
    {"broadcast", "contiguous", "flatten", "identity", "multibroadcast", "reshape", "reshape_lazy", "scalar"}
    | {"slice", "squeeze", "step", "transpose", "unsqueeze"}
)


def trimmed(program: Program, count: int, size: int = 0) -> Program:
    """Leave the last instructions of a program out.

    Args:
        program: parsed.
        count: how many, the return included.
        size: keep only so many before them; what those read becomes a parameter, x0, x1 and so on. 0 keeps all.
    """
    instructions = program.main.instructions
    kept = instructions[: max(1, len(instructions) - count)]
    if not size:
        return _with_main(program, kept)
    values = {instruction.id: instruction for instruction in kept}
    constant = _constants(kept)
    part = {instruction.id for instruction in kept[-size:]}
    ids = unique_ids(program, "trimmed")
    made: dict[str, Instruction] = {}
    number = sum(instruction.name == "@param" for instruction in instructions)
    for instruction in kept[-size:]:
        for value in instruction.inputs:
            while value not in part and values[value].name in _VIEWS and value not in constant:
                part.add(value)
                value = values[value].inputs[0]
            known = values[value]
            if value in part or value in constant or value in made or not known.inputs:
                continue
            name = f"x{number + len(made)}"
            made[value] = Instruction(next(ids), "@param", known.shape, {"parameter": name}, normalized=True)
    main = replace_values(Module("main", kept), {value: parameter.id for value, parameter in made.items()})
    found = remove_dead(_with_main(program, (*made.values(), *main.instructions)))
    read = {value for instruction in found.instructions() for value in instruction.inputs}
    last = found.main.instructions[-1]
    wanted = tuple(i for i in found.main.instructions if i.name != "@param" or i.id in read or i is last)
    return _with_main(found, wanted)


def _constants(instructions: tuple[Instruction, ...]) -> set[str]:
    """Values that follow from literals alone."""
    constant: set[str] = set()
    for each in instructions:
        if each.name == "@literal" or (each.inputs and constant.issuperset(each.inputs) and not each.modules):
            constant.add(each.id)
    return constant


def _with_main(program: Program, instructions: tuple[Instruction, ...]) -> Program:
    modules = {**program.modules, "main": replace(program.main, instructions=instructions)}
    return remove_dead(replace(program, modules=modules))
