"""A program in Graphviz's language, as migraphx-driver's --graphviz gives it: the module main, top to bottom."""

from __future__ import annotations

import json
from collections.abc import Iterator

from iree_migraphx.ir.model import Instruction, Program
from iree_migraphx.partition.subgraph import shape_text
from iree_migraphx.splice.placeholder import symbol_in

#: IREE's kernels, green as on the report's page.
_IREE = ', style=filled, fillcolor="#bfe5cf"'
_LONG = 60


def graphviz(program: Program, brief: bool = False) -> str:
    """The program as a digraph. `brief` leaves out the operators' fields and all shapes."""
    return "\n".join(["digraph {", "\tnode [shape=box];", *_lines(program, brief), "}", ""])


def _lines(program: Program, brief: bool) -> Iterator[str]:
    shapes = {instruction.id: instruction.shape for instruction in program.main.instructions}
    for instruction in program.main.instructions:
        name, by_iree = _name(instruction)
        label = [name]
        if not brief and instruction.name != "@return":
            label += [*_fields(instruction), shape_text(instruction.shape)]
        yield f"\t{_quoted(instruction.id)} [label={_quoted(chr(10).join(label))}{_IREE if by_iree else ''}];"
        for value in instruction.inputs:
            shape = "" if brief else f" [label={_quoted(shape_text(shapes[value]))}]"
            yield f"\t{_quoted(value)} -> {_quoted(instruction.id)}{shape};"


def _name(instruction: Instruction) -> tuple[str, bool]:
    """What an instruction is called, and whether it is a kernel of IREE's."""
    if instruction.name == "@param":
        return f"@param:{instruction.operator['parameter']}", False
    symbol = instruction.operator.get("symbol_name") or symbol_in(instruction.name)
    return (str(symbol), str(symbol).startswith("iree_")) if symbol else (instruction.name, False)


def _fields(instruction: Instruction) -> Iterator[str]:
    if instruction.name.startswith("@") or instruction.name == "gpu::code_object":
        return
    for key, value in instruction.operator.items():
        text = f"{key}={value}"
        yield text if len(text) <= _LONG else f"{text[:_LONG]}…"


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
