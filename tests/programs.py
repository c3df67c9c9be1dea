"""Small programs, and the two ways of computing them: MIGraphX's ref target alone, and with IREE's kernels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from iree_migraphx import binding
from iree_migraphx.errors import Refusal
from iree_migraphx.ir.model import DTYPES, Instruction, Literal, Module, Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program
from iree_migraphx.kernels.model import HostKernel, Outcome, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.emit import lower
from iree_migraphx.options import Options
from iree_migraphx.partition.partition import partition
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice.runtime import LoadedKernel, aligned_bytes, device

NAMES = {dtype: name for name, dtype in DTYPES.items()}
#: The forms that differ in more than how products of few rows are written (lowering/test_few_rows.py).
LAYOUTS = (Form.OPERANDS, Form.CHANNELS_LAST)


class Builder:
    """A program written down instruction by instruction; MIGraphX computes the shapes when it loads it."""

    def __init__(self, prefix: str = "") -> None:
        self._prefix = prefix
        self._instructions: list[Instruction] = []

    def param(
        self, name: str, lens: Sequence[int], type_: str = "float_type", strides: Sequence[int] | None = None
    ) -> str:
        shape = Shape.standard_of(type_, tuple(lens))
        if strides is not None:
            shape = Shape(type_, tuple(lens), tuple(strides))
        return self._add(Instruction(self._prefix + name, "@param", shape, {"parameter": name}))

    def literal(self, value: Any, type_: str = "float_type") -> str:
        """A constant; a number is MIGraphX's scalar {1}:{0}."""
        array = np.asarray(value, DTYPES[type_])
        shape = Shape.standard_of(type_, array.shape) if array.shape else Shape(type_, (1,), (0,))
        return self._add(Instruction(self._new(), "@literal", shape, literal=Literal(shape, array.tobytes())))

    def op(self, name: str, *inputs: str, modules: Sequence[str] = (), **fields: Any) -> str:
        """An operator under a new id."""
        shape = Shape.standard_of("float_type", (1,))
        return self._add(Instruction(self._new(), name, shape, fields, tuple(inputs), tuple(modules)))

    def spread(self, value: str, lens: Sequence[int]) -> str:
        """multibroadcast."""
        return self.op("multibroadcast", value, out_lens=list(lens), out_dyn_dims=[])

    def conv(self, x: str, w: str, rank: int = 2, **fields: Any) -> str:
        """convolution; without fields a dense one of stride 1 without padding."""
        given = {
            "padding": [0] * rank,
            "stride": [1] * rank,
            "dilation": [1] * rank,
            "group": 1,
            "padding_mode": 0,
            **fields,
        }
        return self.op("convolution", x, w, **given)

    def module(self, name: str, *results: str) -> Module:
        """The instructions so far as a module."""
        shape = Shape.standard_of("float_type", (1,))
        end = Instruction(f"{self._prefix}@return", "@return", shape, {}, results)
        return Module(name, (*self._instructions, end))

    def build(self, *results: str, submodules: Sequence[Module] = ()) -> Program:
        """The program as MIGraphX saves it, with its shapes."""
        modules = {"main": self.module("main", *results), **{module.name: module for module in submodules}}
        return recorded(Program(7, "2.14.0", modules))

    def _new(self) -> str:
        return f"{self._prefix}@{len(self._instructions)}"

    def _add(self, instruction: Instruction) -> str:
        self._instructions.append(instruction)
        return instruction.id


def recorded(program: Program) -> Program:
    """The program as MIGraphX saves it after loading: with the shapes it computes."""
    return read_program(binding.save_buffer(binding.load_buffer(write_program(program))))


def loaded(program: Program) -> binding.program:
    """The program in MIGraphX, not compiled."""
    return binding.load_buffer(write_program(program))


def text(program: Program) -> str:
    """A program in short, for the messages of failures."""
    lines = []
    for i in program.main.instructions:
        shape = f"{i.shape.type.removesuffix('_type')} {list(i.shape.lens)}:{list(i.shape.strides)}"
        fields = {key: value for key, value in i.operator.items() if value not in (None, [])}
        lines.append(f"{i.id} = {i.name}({', '.join(i.inputs)}) {shape} {fields}")
    return "\n".join(lines)


def on_ref(program: Program, inputs: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """What MIGraphX alone computes."""
    compiled = loaded(program)
    compiled.compile(binding.get_target("ref"))
    return [np.array(result) for result in compiled.run(inputs)]


def parameters(program: Program) -> dict[str, Shape]:
    return {i.operator["parameter"]: i.shape for i in program.main.instructions if i.name == "@param"}


def integers(shape: Shape, seed: int, limit: int = 2) -> np.ndarray:
    """Small whole numbers with the shape's strides: their products and sums are exact, so results must be equal."""
    random = np.random.default_rng(seed)
    least = 0 if shape.type.startswith("u") else -limit
    memory = random.integers(least, limit, max(shape.element_space, 1), endpoint=True).astype(shape.dtype)
    if shape.type == "bool_type":
        memory = random.integers(0, 1, max(shape.element_space, 1), endpoint=True).astype(np.bool_)
    return strided(memory, shape)


def strided(memory: np.ndarray, shape: Shape) -> np.ndarray:
    """Flat memory seen with the shape's lengths and strides."""
    return np.ndarray(shape.lens, memory.dtype, memory, strides=[step * memory.itemsize for step in shape.strides])


def inputs_of(program: Program, limit: int = 2) -> dict[str, np.ndarray]:
    """Whole numbers for each parameter; none below 0 where they become unsigned, which has no meaning for floats."""
    values = {
        name: integers(shape, seed, limit) for seed, (name, shape) in enumerate(sorted(parameters(program).items()))
    }
    to_unsigned = {
        value
        for i in program.main.instructions
        if i.name == "convert" and i.shape.type.startswith("uint")
        for value in i.inputs
    }
    for i in program.main.instructions:
        if i.id in to_unsigned and i.name == "@param":
            name = i.operator["parameter"]
            values[name] = np.abs(values[name])
    return values


def subgraphs_of(program: Program, form: Form = Form.OPERANDS, standard_operands: bool = False) -> tuple[Subgraph, ...]:
    return partition(program, forms.rules(form, standard_operands))


def extra_of(program: Program, form: Form = Form.CHANNELS_LAST, standard_operands: bool = True) -> tuple[Subgraph, ...]:
    """The subgraphs, those without an anchor too, however little they compute."""
    return partition(program, forms.rules(form, standard_operands, extra=True, least_work=0))


def operands_of(subgraph: Subgraph, program: Program, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What a subgraph that reads only the program's parameters and constants gets, by the body's names."""
    instructions = program.main.by_id()
    values = {}
    for parameter, operand in zip(subgraph.parameters, subgraph.operands, strict=True):
        instruction = instructions[operand]
        literal = instruction.literal
        values[parameter.id] = literal.array() if literal else inputs[instruction.operator["parameter"]]
    return values


def body_of(subgraph: Subgraph) -> Program:
    """The subgraph as a program of its own."""
    return recorded(Program(7, "2.14.0", {"main": subgraph.body}))


def kernels_of(subgraphs: Sequence[Subgraph], form: Form, options: Options) -> dict[str, Outcome]:
    """Each subgraph's kernel for this machine, or the refusal, by key."""
    requests: dict[str, Request] = {}
    outcomes: dict[str, Outcome] = {}
    for subgraph in subgraphs:
        symbol = f"kernel_{subgraph.key[:8]}"
        try:
            mlir = lower(subgraph, symbol, form)
        except Refusal as refusal:
            outcomes[subgraph.key] = Outcome(refusal, 0.0, "off")
        else:
            requests[subgraph.key] = Request(symbol, mlir, len(subgraph.operands) + 1, subgraph.anchor)
    compiled = compile_kernels(list(requests.values()), parse_target("host"), options)
    return outcomes | dict(zip(requests, compiled, strict=True))


def on_iree(subgraph: Subgraph, kernel: HostKernel, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
    """Run a subgraph's kernel over inputs named as the body's parameters, in any layout; it must leave them alone."""
    shapes = [parameter.shape for parameter in subgraph.parameters]
    run = LoadedKernel(device(2), kernel, shapes, subgraph.result_shape)
    operands = []
    for parameter in subgraph.parameters:
        operands.append(aligned_bytes(parameter.shape.nbytes))
        strided(operands[-1].view(parameter.shape.dtype), parameter.shape)[...] = inputs[parameter.id]
    result = subgraph.result_shape
    memory = aligned_bytes(result.nbytes)
    memory[:] = 0xA5
    before = [operand.tobytes() for operand in operands]
    run.run([operand.ctypes.data for operand in operands], {}, memory.ctypes.data)
    assert [operand.tobytes() for operand in operands] == before, "an operand was written to"
    return strided(memory.view(result.dtype), result).copy()


def assert_equal(actual: np.ndarray, expected: np.ndarray) -> None:
    assert actual.dtype == expected.dtype
    np.testing.assert_array_equal(actual, expected)
