"""Host kernels into a program, before MIGraphX compiles it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from iree_migraphx.binding import register_custom_op
from iree_migraphx.binding.custom_op import let_go
from iree_migraphx.errors import KernelError, Refusal
from iree_migraphx.ir.edit import Splice, remove_dead, splice_all, unique_ids
from iree_migraphx.ir.layout import as_stored, memory_order
from iree_migraphx.ir.model import Instruction, Program, Shape
from iree_migraphx.kernels.model import HostKernel
from iree_migraphx.partition.layouts import read_by_others
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice.placeholder import Failed, Placeholder
from iree_migraphx.splice.runtime import Device, device

#: Operators whose result is row-major whatever the layouts of their operands (src/include/migraphx/op).
_ROW_MAJOR = frozenset({"contiguous", "dot", "flatten", "reshape"})


Witness: TypeAlias = "Callable[[str, Sequence[Shape]], Failed | None]"


@dataclass(frozen=True)
class HostSplice:
    """A program with placeholders in it, which must be kept until MIGraphX has loaded it.

    Attributes:
        refusals: subgraphs, by name, that could not be put into the program.
    """

    program: Program
    placeholders: Sequence[Placeholder]
    refusals: Mapping[str, Refusal | KernelError]

    def let_go(self) -> None:
        """Leave the kernels to the program: they are released with it, or now if nothing came of it."""
        _let_go(self.placeholders)


def splice_host(
    program: Program,
    subgraphs: Sequence[Subgraph],
    kernels: Mapping[str, HostKernel],
    threads: int,
    witness: Witness = lambda key, shapes: None,
) -> HostSplice:
    """Put a placeholder in the place of each subgraph whose key has a kernel, and register it with MIGraphX.

    Constant operands move into the placeholder. Other operands that are not row-major, or might not stay so, get a
    `contiguous`, as kernels of the host take them that way; those in another order come from another kernel, or are
    copied into it.

    Args:
        program: which the subgraphs are of.
        subgraphs: to be replaced, as far as they have kernels.
        kernels: by the subgraphs' key.
        threads: of a kernel.
        witness: given a key and the shapes of operands and result, what is to be told of a kernel that fails.
    """
    instructions = {instruction.id: instruction for instruction in program.instructions()}
    refusals: dict[str, Refusal | KernelError] = {}
    held: list[Placeholder] = []
    chosen = [subgraph for subgraph in subgraphs if subgraph.key in kernels]
    try:
        while True:
            failed = len(refusals)
            made = _placeholders(program, chosen, kernels, threads, witness)
            placeholders = [each for each in made if isinstance(each, Placeholder)]
            refusals |= {s.name: each for s, each in zip(chosen, made, strict=True) if isinstance(each, Exception)}
            if len(refusals) == failed:
                break
            # What the others may do with their results depends on who reads them.
            chosen = [subgraph for subgraph in chosen if subgraph.name not in refusals]
        for placeholder in placeholders:
            register_custom_op(placeholder, hold=True)
            held.append(placeholder)
        edits = _edits(program, chosen, placeholders, instructions)
        for name, splices in edits.items():
            program = program.with_module(splice_all(program.modules[name], splices))
        return HostSplice(remove_dead(program), held, refusals)
    except BaseException:
        _let_go(held)
        raise


def _placeholders(
    program: Program,
    subgraphs: Sequence[Subgraph],
    kernels: Mapping[str, HostKernel],
    threads: int,
    witness: Witness,
) -> list[Placeholder | Refusal | KernelError]:
    instructions = {instruction.id: instruction for instruction in program.instructions()}
    read = read_by_others(program, subgraphs)

    def made(subgraph: Subgraph) -> Placeholder | Refusal | KernelError:
        try:
            failed = witness(subgraph.key, [*(each.shape for each in subgraph.parameters), subgraph.result_shape])
            scratch = subgraph.result not in read
            return _placeholder(subgraph, kernels[subgraph.key], instructions, device(threads), failed, scratch)
        except (Refusal, KernelError) as error:
            return error

    # Most of it is copying and hashing the weights, which leave Python's lock alone.
    with ThreadPoolExecutor(threads) as pool:
        return list(pool.map(made, subgraphs))


def _edits(
    program: Program,
    subgraphs: Sequence[Subgraph],
    placeholders: Sequence[Placeholder],
    instructions: Mapping[str, Instruction],
) -> dict[str, list[Splice]]:
    """What to put in the place of each subgraph's result, by module."""
    ids = unique_ids(program, "iree")
    settled = _settled(program, {subgraph.result for subgraph in subgraphs})
    stored = {s.result: next(ids) for s in subgraphs if not s.result_shape.standard}
    edits: dict[str, list[Splice]] = {}
    for subgraph, placeholder in zip(subgraphs, placeholders, strict=True):
        new: list[Instruction] = []
        inputs: list[str] = []
        for value, parameter in zip(subgraph.operands, subgraph.parameters, strict=True):
            if instructions[value].literal is not None:
                continue
            shape = parameter.shape
            if not shape.standard and value in stored:
                value = stored[value]
            elif not shape.standard:
                order, rows = memory_order(shape), as_stored(shape)
                fields = {"permutation": list(order)}
                new.append(Instruction(next(ids), "transpose", rows, fields, inputs=(value,)))
                new.append(Instruction(next(ids), "contiguous", rows, inputs=(new[-1].id,)))
                value = new[-1].id
            elif instructions[value].shape != shape or value not in settled:
                new.append(Instruction(next(ids), "contiguous", shape, inputs=(value,)))
                value = new[-1].id
            inputs.append(value)
        shape = subgraph.result_shape
        name = stored.get(subgraph.result) or next(ids)
        new.append(Instruction(name, placeholder.name, as_stored(shape), inputs=tuple(inputs)))
        if subgraph.result in stored:
            # For readers that are no kernels: another subgraph's kernel may have failed.
            fields = {"permutation": list(np.argsort(memory_order(shape)).tolist())}
            new.append(Instruction(next(ids), "transpose", shape, fields, inputs=(name,)))
        edits.setdefault(subgraph.module, []).append(Splice([subgraph.result], subgraph.result, new))
    return edits


def _settled(program: Program, replaced: Collection[str]) -> set[str]:
    """Values that are row-major throughout MIGraphX's compile; `replaced` are those that kernels compute.

    The auto_contiguous pass (src/auto_contiguous.cpp) puts a copy behind each value that is not row-major. That changes
    the layouts of what follows, and a placeholder is asked about them before the pass has come to its operands.
    """
    settled: set[str] = set()
    for _, instruction in program.walk():
        fixed = instruction.name in _ROW_MAJOR or settled.issuperset(instruction.inputs)
        if instruction.id in replaced or (instruction.shape.standard and fixed):
            settled.add(instruction.id)
    return settled


def _placeholder(
    subgraph: Subgraph,
    kernel: HostKernel,
    instructions: Mapping[str, Instruction],
    where: Device,
    failed: Failed | None,
    scratch: bool,
) -> Placeholder:
    shapes = [parameter.shape for parameter in subgraph.parameters]
    literals = {
        index: literal
        for index, value in enumerate(subgraph.operands)
        if (literal := instructions[value].literal) is not None
    }
    return Placeholder(kernel.symbol, kernel, shapes, subgraph.result_shape, literals, where, failed, scratch)


def _let_go(placeholders: Sequence[Placeholder]) -> None:
    for placeholder in placeholders:
        let_go(placeholder.name)
