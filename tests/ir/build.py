"""Small programs written by hand, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from iree_migraphx import binding
from iree_migraphx.ir.model import DTYPES, Instruction, Literal, Module, Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program

TYPES = {dtype: name for name, dtype in DTYPES.items()}
FLOAT = Shape.standard_of("float_type", (2, 3))


def param(name: str, shape: Shape = FLOAT) -> Instruction:
    return Instruction(name, "@param", shape, {"parameter": name})


def literal(id_: str, value: Any, dtype: Any = np.float32) -> Instruction:
    array = np.asarray(value, dtype)
    shape = Shape.standard_of(TYPES[array.dtype], array.shape) if array.shape else Shape(TYPES[array.dtype], (1,), (0,))
    return Instruction(id_, "@literal", shape, literal=Literal(shape, array.tobytes()))


def op(id_: str, name: str, *inputs: str, modules: Sequence[str] = (), **fields: Any) -> Instruction:
    """An operator; MIGraphX computes its shape when it loads the program."""
    return Instruction(id_, name, FLOAT, fields, inputs, tuple(modules))


def strided(id_: str, shape: Shape, data: bytes) -> Instruction:
    return Instruction(id_, "@literal", shape, literal=Literal(shape, data))


def result(*inputs: str, id_: str = "@return") -> Instruction:
    return Instruction(id_, "@return", FLOAT, {}, inputs)


def program(*instructions: Instruction, **submodules: Sequence[Instruction]) -> Program:
    modules = {"main": Module("main", instructions)}
    for name, nodes in submodules.items():
        modules[name] = Module(name, tuple(nodes))
    return Program(7, "2.14.0", modules)


def recorded(written: Program) -> Program:
    """The same program as MIGraphX saves it: with its shapes and its ids."""
    return read_program(binding.save_buffer(binding.load_buffer(write_program(written))))


def run(ran: Program, **inputs: Any) -> list[np.ndarray]:
    loaded = binding.load_buffer(write_program(ran))
    loaded.compile(binding.get_target("ref"))
    return [np.array(output) for output in loaded.run(inputs)]


def names(ran: Program) -> list[str]:
    """Operator names of main, sorted."""
    return sorted(instruction.name for instruction in ran.main.instructions)
