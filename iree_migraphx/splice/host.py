"""Host kernels into a program, before MIGraphX compiles it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from iree_migraphx.binding import register_custom_op
from iree_migraphx.binding.custom_op import let_go
from iree_migraphx.errors import KernelError, Refusal
from iree_migraphx.ir.edit import Splice, remove_dead, splice_all, unique_ids
from iree_migraphx.ir.model import Instruction, Program, Shape
from iree_migraphx.kernels.model import HostKernel
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice.placeholder import Failed, Placeholder
from iree_migraphx.splice.runtime import Device, device

#: Operators whose result is row-major whatever the layouts of their operands (src/include/migraphx/op).
_ROW_MAJOR = frozenset({"contiguous", "dot", "flatten", "reshape"})


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
    witness: Callable[[str, Sequence[Shape]], Failed | None] = lambda key, shapes: None,
) -> HostSplice:
    """Put a placeholder in the place of each subgraph whose key has a kernel, and register it with MIGraphX.

    Constant operands move into the placeholder. Other operands that are not row-major, or might not stay so, get a
    `contiguous`, as kernels of the host take them that way.

    Args:
        program: which the subgraphs are of.
        subgraphs: to be replaced, as far as they have kernels.
        kernels: by the subgraphs' key.
        threads: of a kernel.
        witness: given a key and the shapes of operands and result, what is to be told of a kernel that fails.
    """
    instructions = {instruction.id: instruction for instruction in program.instructions()}
    ids = unique_ids(program, "iree")
    edits: dict[str, list[Splice]] = {}
    placeholders: list[Placeholder] = []
    refusals: dict[str, Refusal | KernelError] = {}
    chosen = [subgraph for subgraph in subgraphs if subgraph.key in kernels]

    settled = _settled(program, {subgraph.result for subgraph in chosen})

    def made(subgraph: Subgraph) -> Placeholder | Refusal | KernelError:
        try:
            failed = witness(subgraph.key, [*(each.shape for each in subgraph.parameters), subgraph.result_shape])
            return _placeholder(subgraph, kernels[subgraph.key], instructions, device(threads), failed)
        except (Refusal, KernelError) as error:
            return error

    try:
        # Most of it is copying and hashing the weights, which leave Python's lock alone.
        with ThreadPoolExecutor(threads) as pool:
            for subgraph, placeholder in zip(chosen, pool.map(made, chosen), strict=True):
                if isinstance(placeholder, Exception):
                    refusals[subgraph.name] = placeholder
                    continue
                register_custom_op(placeholder, hold=True)
                placeholders.append(placeholder)
                new: list[Instruction] = []
                inputs: list[str] = []
                for value, parameter in zip(subgraph.operands, subgraph.parameters, strict=True):
                    if instructions[value].literal is not None:
                        continue
                    if instructions[value].shape != parameter.shape or value not in settled:
                        new.append(Instruction(next(ids), "contiguous", parameter.shape, inputs=(value,)))
                        value = new[-1].id
                    inputs.append(value)
                new.append(Instruction(next(ids), placeholder.name, subgraph.result_shape, inputs=tuple(inputs)))
                edits.setdefault(subgraph.module, []).append(Splice([subgraph.result], subgraph.result, new))
        for name, splices in edits.items():
            program = program.with_module(splice_all(program.modules[name], splices))
        return HostSplice(remove_dead(program), placeholders, refusals)
    except BaseException:
        _let_go(placeholders)
        raise


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
) -> Placeholder:
    shapes = [parameter.shape for parameter in subgraph.parameters]
    literals = {
        index: literal
        for index, value in enumerate(subgraph.operands)
        if (literal := instructions[value].literal) is not None
    }
    return Placeholder(kernel.symbol, kernel, shapes, subgraph.result_shape, literals, where, failed)


def _let_go(placeholders: Sequence[Placeholder]) -> None:
    for placeholder in placeholders:
        let_go(placeholder.name)
