"""The shapes of a program that was edited, as MIGraphX computes them."""

from __future__ import annotations

from dataclasses import replace

from iree_migraphx import binding
from iree_migraphx.errors import CaptureError, MigraphxError
from iree_migraphx.ir.model import Instruction, Program
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program

#: Larger literals of main are not handed to MIGraphX: shapes don't depend on values.
_SMALL_BYTES = 1 << 10


def settle(program: Program) -> Program:
    """The same program with every shape as MIGraphX computes it.

    Raises:
        CaptureError: MIGraphX does not take the program, or finds another type or other lengths than are recorded.
    """
    main = tuple(map(_without_data, program.main.instructions))
    light = program.with_module(replace(program.main, instructions=main))
    try:
        computed = read_program(binding.save_buffer(binding.load_buffer(write_program(light))))
    except MigraphxError as error:
        raise CaptureError(
            f"MIGraphX does not take its own program once its fusions are taken apart: {error}"
        ) from error
    modules = {}
    for name, module in light.modules.items():
        given = computed.modules[name].instructions
        if [i.name for i in given] != [i.name for i in module.instructions]:
            raise CaptureError(f"MIGraphX changed the order of the module {name!r} when it loaded it")
        settled = map(_settled, program.modules[name].instructions, given)
        modules[name] = replace(module, instructions=tuple(settled))
    return replace(program, modules=modules)


def _without_data(instruction: Instruction) -> Instruction:
    literal = instruction.literal
    if literal is None or len(literal.data) <= _SMALL_BYTES:
        return instruction
    return Instruction(instruction.id, "@param", instruction.shape, {"parameter": f"literal {instruction.id}"})


def _settled(instruction: Instruction, computed: Instruction) -> Instruction:
    if instruction.name.startswith("@"):
        return instruction
    before, after = instruction.shape, computed.shape
    if (before.type, before.lens) != (after.type, after.lens):
        raise CaptureError(
            f"{instruction.id!r} ({instruction.name}) was {before.type} {list(before.lens)} in MIGraphX's fused "
            f"program and is {after.type} {list(after.lens)} by itself"
        )
    return replace(instruction, shape=after)
