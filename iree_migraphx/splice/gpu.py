"""GPU kernels into a program: placeholders, MIGraphX's compile, and the kernels in their place.

MIGraphX merges equal expressions (src/eliminate_common_subexpression.cpp), and two equal buffers are one: then two
kernels would write one buffer. So each buffer has a shape of its own, of the right size: an axis of length 1 with a
stride that no other has.

What only the launches of one kernel read is in buffers that MIGraphX plans as well, in front of those of the results.

A kernel with several results has a buffer for each. Its placeholder gives the last one; the others are read through
placeholders that do nothing, of which `identity` remains. Such a buffer has a placeholder of its own in front of
the kernel: MIGraphX allocates a buffer anew, with its final shape, right before the first operator that gives it back
(src/adjust_allocation.cpp), which must not be behind the kernel.
"""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from iree_migraphx import binding
from iree_migraphx.capture.helper import device_and_flags, run_helper
from iree_migraphx.errors import HelperError, Reason, Refusal
from iree_migraphx.ir.edit import Splice, remove_dead, splice_all, together, unique_ids
from iree_migraphx.ir.loops import with_loops_like
from iree_migraphx.ir.model import Instruction, Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import shape_fields, write_program
from iree_migraphx.kernels.model import GpuKernel, GpuSequence
from iree_migraphx.options import helper_environment
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice.gpu_child import pack
from iree_migraphx.splice.gpu_memory import with_own_plan
from iree_migraphx.splice.gpu_placeholder import GpuPlaceholder
from iree_migraphx.splice.gpu_swap import swap

#: MIGraphX converts operands of these types to float in front of any operator that it does not know
#: (src/targets/gpu/target.cpp, unsupported_types).
CONVERTED_TYPES = frozenset({"double_type", "int16_type", "int64_type", "uint16_type", "uint32_type", "uint64_type"})

#: Compiles by MIGraphX before the whole program is left to it.
_ATTEMPTS = 4

_CHILD = "iree_migraphx.splice.gpu_child"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class GpuCompiled:
    """What came of a compile.

    Attributes:
        program: loaded and ready to run; None where no kernel could be put in.
        refusals: subgraphs, by name, that could not be put into the program.
    """

    program: binding.program | None
    refusals: Mapping[str, Refusal]


@dataclass(frozen=True, slots=True)
class _Edited:
    """A program with placeholders in it.

    Attributes:
        subgraphs: by the name of the kernel's placeholder.
        others: name of a placeholder for a further result, or its buffer -> name of the kernel's.
    """

    program: Program
    placeholders: list[GpuPlaceholder]
    subgraphs: Mapping[str, Subgraph]
    others: Mapping[str, str]


def compile_gpu(
    program: Program,
    subgraphs: Sequence[Subgraph],
    kernels: Mapping[str, GpuKernel | GpuSequence],
    offload_copy: bool,
    fast_math: bool,
    exhaustive_tune: bool,
) -> GpuCompiled:
    """Compile a program for the gpu with kernels in the place of subgraphs.

    A subgraph whose kernel can't be put in after MIGraphX's compile is not left behind: the program is compiled again
    without it.

    Args:
        program: ordinary operators, not compiled.
        subgraphs: of this program; those without a kernel are left to MIGraphX.
        kernels: by the subgraphs' key.
        offload_copy: as MIGraphX's compile.
        fast_math: as MIGraphX's compile.
        exhaustive_tune: as MIGraphX's compile.

    Raises:
        HelperError: MIGraphX crashed, or refused the program for something else than a placeholder.
        MigraphxError: it can't load what it compiled, with the kernels in it.
        Refusal: UNSUPPORTED_OPERATOR for a loop that MIGraphX has changed beyond recognition.
        OSError: the files of the process that compiles can't be written or read.
    """
    refusals: dict[str, Refusal] = {}
    chosen = [subgraph for subgraph in subgraphs if subgraph.key in kernels]
    for subgraph in chosen:
        types = {parameter.shape.type for parameter in subgraph.parameters} | {
            shape.type for shape in subgraph.result_shapes
        }
        if types & CONVERTED_TYPES:
            converted = ", ".join(sorted(types & CONVERTED_TYPES))
            refusals[subgraph.name] = Refusal(Reason.UNSUPPORTED_TYPE, f"MIGraphX's gpu target converts {converted}")
    for _ in range(_ATTEMPTS):
        chosen = [subgraph for subgraph in chosen if subgraph.name not in refusals]
        if not chosen:
            break
        edited = _with_placeholders(program, chosen, kernels)
        found: Mapping[str, Refusal]
        try:
            compiled = _compiled_apart(edited, offload_copy, fast_math, exhaustive_tune)
            swapped = swap(
                with_loops_like(compiled, edited.program),
                edited.placeholders,
                {name: kernels[subgraph.key] for name, subgraph in edited.subgraphs.items()},
                edited.others,
            )
            if not swapped.refusals:
                done = with_own_plan(swapped.program)
                return GpuCompiled(binding.load_buffer(write_program(done)), refusals)
            found = swapped.refusals
        except HelperError as error:
            everything = {name: name for name in edited.subgraphs} | dict(edited.others)
            named = {kernel for name, kernel in everything.items() if re.search(rf"\b{re.escape(name)}\b", str(error))}
            if not error.refused or not named:
                raise
            found = dict.fromkeys(named, Refusal(Reason.SPLICE_ERROR, f"MIGraphX can't compile around it: {error}"))
        refusals.update({edited.subgraphs[name].name: error for name, error in found.items()})
        _log.info("compiling again without %d subgraphs: %s", len(found), "; ".join(map(str, found.values())))
    given_up = Refusal(Reason.SPLICE_ERROR, f"{_ATTEMPTS} compiles by MIGraphX, and each refused some kernels")
    return GpuCompiled(
        None, refusals | {subgraph.name: given_up for subgraph in chosen if subgraph.name not in refusals}
    )


def _compiled_apart(edited: _Edited, *how: bool) -> Program:
    """The program as MIGraphX compiles it for the current device, in a process of its own."""
    with TemporaryDirectory(prefix="iree_migraphx-", ignore_cleanup_errors=True) as folder:
        placeholders, source, result = (Path(folder, name) for name in ("placeholders", "program.mxr", "compiled.mxr"))
        placeholders.write_bytes(pack(edited.placeholders))
        source.write_bytes(write_program(edited.program))
        arguments = [str(placeholders), str(source), str(result), *device_and_flags(*how)]
        run_helper(_CHILD, arguments, helper_environment())
        return read_program(result.read_bytes())


def _with_placeholders(
    program: Program, chosen: Sequence[Subgraph], kernels: Mapping[str, GpuKernel | GpuSequence]
) -> _Edited:
    ids = unique_ids(program, "iree")
    instructions = {instruction.id: instruction for instruction in program.instructions()}
    edits: dict[str, list[Splice]] = {}
    several: dict[str, list[list[str]]] = {}
    placeholders: list[GpuPlaceholder] = []
    by_name: dict[str, Subgraph] = {}
    others: dict[str, str] = {}
    counts: Counter[str] = Counter()
    strides = itertools.count()

    def allocated(size: int) -> Instruction:
        own = Shape("int8_type", (1, size), (size + next(strides), 1))
        return Instruction(next(ids), "hip::allocate", own, {"shape": shape_fields(own)})

    for subgraph in chosen:
        kernel, shapes = kernels[subgraph.key], subgraph.result_shapes
        # The rest is not computed with.
        read = [index for index in sorted(set(kernel.operands)) if index < len(subgraph.operands)]
        operands = [subgraph.parameters[index].shape for index in read]
        counts[subgraph.key] += 1
        name = f"{kernel.symbol}_{_digest(operands, shapes)}_{counts[subgraph.key]}"
        by_name[name] = subgraph
        sizes = kernel.temporaries if isinstance(kernel, GpuSequence) else ()
        before = [allocated(size) for size in sizes]
        buffers = [memory.id for memory in before]
        behind: list[Instruction] = []
        others_bytes = [*sizes, *(shape.nbytes for shape in shapes[:-1])]
        placeholders.append(GpuPlaceholder(name, operands, shapes[-1], others_bytes))
        last = subgraph.results[-1]
        for number, (result, shape) in enumerate(zip(subgraph.results[:-1], shapes[:-1], strict=True)):
            place, other = f"{name}_{number}_buffer", f"{name}_{number}"
            others |= {place: name, other: name}
            placeholders += [GpuPlaceholder(place, [], shape), GpuPlaceholder(other, [shapes[-1]], shape)]
            memory = allocated(shape.nbytes)
            before += [memory, Instruction(next(ids), place, shape, inputs=(memory.id,))]
            buffers.append(before[-1].id)
            behind.append(Instruction(result, other, shape, inputs=(last, buffers[-1])))
        before.append(allocated(shapes[-1].nbytes))
        inputs = (*(subgraph.operands[index] for index in read), *buffers, before[-1].id)
        new = [*before, Instruction(last, name, shapes[-1], inputs=inputs), *behind]
        replaced = _replaced(subgraph, instructions)
        edits.setdefault(subgraph.module, []).append(Splice(replaced, new[-1].id, new))
        if behind:
            several.setdefault(subgraph.module, []).append(replaced)
    for module, groups in several.items():
        program = program.with_module(together(program, module, groups))
    for module, splices in edits.items():
        program = program.with_module(splice_all(program.modules[module], splices))
    return _Edited(remove_dead(program), placeholders, by_name, others)


def _replaced(subgraph: Subgraph, instructions: Mapping[str, Instruction]) -> list[str]:
    """The results, and the members that are computed from one; all others nobody reads any more, but another kernel."""
    found = dict.fromkeys(subgraph.results)
    for member in subgraph.members:
        if not found.keys().isdisjoint(instructions[member].inputs):
            found[member] = None
    return list(found)


def _digest(operands: Sequence[Shape], results: Sequence[Shape]) -> str:
    """Tells operators with the same kernel symbol apart: MIGraphX can't forget an operator's name."""
    return hashlib.sha256(repr([*operands, *results]).encode()).hexdigest()[:8]
