"""Many small programs computed by IREE with one compile: each is a function of one module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from iree_migraphx.errors import Refusal
from iree_migraphx.ir.model import DTYPES as DTYPES
from iree_migraphx.ir.model import Program, Shape
from iree_migraphx.kernels.model import HostKernel, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.emit import lower
from iree_migraphx.options import Options
from iree_migraphx.partition.subgraph import Subgraph
from programs import on_iree


def whole(program: Program) -> Subgraph:
    """A program with one result as one subgraph, anchor or not."""
    instructions = program.main.instructions
    (result,) = instructions[-1].inputs
    members = tuple(i.id for i in instructions if not i.name.startswith("@"))
    operands = tuple(i.id for i in instructions if i.name == "@param")
    shape = program.main.by_id()[result].shape
    if not shape.packed:  # a result over a slice, which a kernel writes without gaps
        shape = Shape.standard_of(shape.type, shape.lens)
    return Subgraph("whole", "dot", "main", members, operands, (result,), program.main, (shape,), key="")


@dataclass(frozen=True)
class Batch:
    """Subgraphs with the module that has a function for each."""

    subgraphs: Sequence[Subgraph]
    kernel: HostKernel

    def run(self, index: int, inputs: Mapping[str, np.ndarray]) -> np.ndarray:
        return on_iree(self.subgraphs[index], replace(self.kernel, symbol=f"f{index}"), inputs)


def module_of(subgraphs: Sequence[Subgraph], form: Form = Form.CHANNELS_LAST) -> str:
    """One module with the functions f0, f1, ...; raises Refusal as the lowering of each."""
    functions, maps = [], []
    for index, subgraph in enumerate(subgraphs):
        text = re.sub(r"#map(\d*)\b", rf"#map_{index}_\1", lower(subgraph, f"f{index}", form))
        lines = text.splitlines()
        start = lines.index("module {")
        maps += lines[:start]
        functions += lines[start + 1 : -1]
    return "\n".join([*maps, "module {", *functions, "}", ""])


def compiled(programs: Sequence[Program], options: Options) -> Batch:
    """Compile programs for this machine; each has one result, and all of it is computed by IREE."""
    return compiled_together([whole(program) for program in programs], options)


def compiled_together(subgraphs: Sequence[Subgraph], options: Options, form: Form = Form.CHANNELS_LAST) -> Batch:
    """Compile subgraphs that can all be lowered."""
    arguments = len(subgraphs[0].operands) + 1
    request = Request("f0", module_of(subgraphs, form), arguments, "dot")
    (outcome,) = compile_kernels([request], parse_target("host"), replace(options, timeout=600))
    if isinstance(outcome.kernel, Refusal):
        raise outcome.kernel
    assert isinstance(outcome.kernel, HostKernel)
    return Batch(subgraphs, outcome.kernel)
