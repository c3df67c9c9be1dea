"""autocast_fp8 on libmigraphx_c alone: MIGraphX's own pass (src/autocast_fp8.cpp) on the serialized program."""

from __future__ import annotations

from dataclasses import replace

from iree_migraphx import binding
from iree_migraphx.errors import MigraphxError
from iree_migraphx.ir.edit import unique_ids
from iree_migraphx.ir.model import Instruction
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program

_FP8 = {"fp8e4m3fnuz_type", "fp8e5m2fnuz_type", "fp8e4m3fn_type", "fp8e5m2_type"}
_FLOAT = "float_type"


def autocast_fp8(prog: binding.program) -> None:
    """Let 8-bit floats among the program's parameters and results be float32 outside, with conversions inside.

    Raises:
        MigraphxError: the program is compiled.
    """
    if prog.is_compiled():
        raise MigraphxError("can't convert a program's 8-bit floats: the program is compiled already")
    program = read_program(binding.save_buffer(prog))
    ids = unique_ids(program, "autocast_fp8")
    done: list[Instruction] = []
    types = {instruction.id: instruction.shape for instruction in program.main.instructions}
    for instruction in program.main.instructions:
        if instruction.name == "@param" and instruction.shape.type in _FP8:
            outside = replace(instruction, id=next(ids), shape=replace(instruction.shape, type=_FLOAT))
            done = [outside, *done, _convert(instruction.id, outside, instruction.shape.type)]  # in front, as MIGraphX
        elif instruction.name == "@return":
            results = []
            for value in instruction.inputs:
                if types[value].type in _FP8:
                    inside = Instruction(value, "", types[value])
                    done.append(_convert(next(ids), inside, _FLOAT))
                    results.append(done[-1].id)
                else:
                    results.append(value)
            done.append(replace(instruction, inputs=tuple(results)))
        else:
            done.append(instruction)
    modules = {**program.modules, "main": replace(program.main, instructions=tuple(done))}
    prog.become(binding.load_buffer(write_program(replace(program, modules=modules))))


def _convert(name: str, value: Instruction, type_: str) -> Instruction:
    shape = replace(value.shape, type=type_)
    return Instruction(name, "convert", shape, {"target_type": int(binding.shape.type_t[type_])}, (value.id,))
