"""Takes the node tests of the onnx package through reading, writing and folding: `corpus.py RESULTS`.

A process of its own, and children of it: a broken invariant of MIGraphX ends the process (its assertions are on in some
builds). Each child takes models until it dies or all are done, the next one goes on behind the model that ended it.

RESULTS gets one JSON list a fact, [model, fact, value], as soon as it is known. The facts, in order: "parsed"; "exact",
byte for byte as it was; "repaired", where it is not: but for empty literals, which MIGraphX 7.1 writes wrongly;
"equal", loaded again it equals the parsed program; "folded", with all inputs made literals: "same" results bit for bit,
"different", or why there are none; "left", operators that were not folded; "done".
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases

from iree_migraphx import binding
from iree_migraphx.errors import MigraphxError
from iree_migraphx.ir.constants import fold_constants
from iree_migraphx.ir.evaluate import evaluate_with_ref
from iree_migraphx.ir.model import Instruction, Literal, Program
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program


def examine(model: onnx.ModelProto, inputs: Sequence[Any]) -> Iterator[tuple[str, Any]]:
    """What is known of a model, as soon as it is."""
    try:
        parsed = binding.parse_onnx_buffer(model.SerializeToString())
    except MigraphxError:
        return
    yield "parsed", True
    data = binding.save_buffer(parsed)
    program = read_program(data)
    written = write_program(program)
    yield "exact", written == data
    if written != data:
        yield "repaired", written == data.replace(b"\xa4data\x93\xc4\x00", b"\xa4data\x91\xc4\x00")
    yield "equal", binding.load_buffer(written) == parsed
    yield from _fold(program, dict(zip((value.name for value in model.graph.input), inputs, strict=False)))


def _fold(program: Program, inputs: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Fold the program with its inputs made literals; compare what ref computes of the program before and after."""
    if any(i.name.startswith("reduce_") and len(i.inputs) == 2 for i in program.instructions()):
        yield "folded", "MIGraphX writes past the end where axes that are computed are negative"
        return
    if any(i.literal is not None and not i.literal.data for i in program.instructions()):
        yield "folded", "MIGraphX 7.1 can't save a literal without elements"
        return
    try:
        instructions = tuple(_bound(instruction, inputs) for instruction in program.main.instructions)
    except (TypeError, ValueError, KeyError) as error:
        yield "folded", f"no literal of the input: {error}"
        return
    constant = program.with_module(replace(program.main, instructions=instructions))
    try:
        expected = evaluate_with_ref(write_program(constant))
    except MigraphxError as error:
        yield "folded", f"ref can't run it: {error}"
        return
    folded = fold_constants(constant, evaluate_with_ref)
    results = evaluate_with_ref(write_program(folded))
    same = [(r.dtype, r.shape, r.tobytes()) for r in results] == [(e.dtype, e.shape, e.tobytes()) for e in expected]
    yield "folded", "same" if same else "different"
    yield "left", sorted({i.name for i in folded.instructions() if not i.name.startswith("@")})


def _bound(instruction: Instruction, inputs: dict[str, Any]) -> Instruction:
    if instruction.name != "@param":
        return instruction
    value = inputs[instruction.operator["parameter"]]
    array = np.asarray(onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else value)
    if array.shape != instruction.shape.lens and array.size != 1:
        raise ValueError(f"lengths {array.shape}, not {instruction.shape.lens}")
    data = np.ascontiguousarray(array.astype(instruction.shape.dtype)).tobytes()
    return replace(instruction, name="@literal", operator={}, literal=Literal(instruction.shape, data))


def main(results: Path) -> None:
    warnings.simplefilter("ignore")
    cases = [case for case in collect_testcases(None) if case.model is not None]
    begin = 0
    while begin < len(cases):
        child = os.fork()
        if not child:
            with results.open("a", buffering=1) as lines:
                for case in cases[begin:]:
                    lines.write(json.dumps([case.name, "begun", True]) + "\n")
                    for fact, value in examine(case.model, case.data_sets[0][0] if case.data_sets else ()):
                        lines.write(json.dumps([case.name, fact, value]) + "\n")
                    lines.write(json.dumps([case.name, "done", True]) + "\n")
            os._exit(0)
        os.waitpid(child, 0)
        begin = sum(json.loads(line)[1] == "begun" for line in results.read_text().splitlines())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
