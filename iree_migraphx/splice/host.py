"""Host kernels into a program, before MIGraphX compiles it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from iree_migraphx.binding import register_custom_op
from iree_migraphx.errors import KernelError, Refusal
from iree_migraphx.ir.edit import Splice, remove_dead, splice_all, unique_ids
from iree_migraphx.ir.model import Instruction, Program
from iree_migraphx.kernels.model import HostKernel
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice.placeholder import Placeholder
from iree_migraphx.splice.runtime import device


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
        for placeholder in self.placeholders:
            placeholder.keep(False)


def splice_host(
    program: Program, subgraphs: Sequence[Subgraph], kernels: Mapping[str, HostKernel], threads: int
) -> HostSplice:
    """Put a placeholder in the place of each subgraph whose key has a kernel, and register it with MIGraphX.

    Constant operands move into the placeholder. Other operands that are not row-major get a `contiguous`, as kernels of
    the host take them that way.
    """
    instructions = {instruction.id: instruction for instruction in program.instructions()}
    ids = unique_ids(program, "iree")
    edits: dict[str, list[Splice]] = {}
    placeholders: list[Placeholder] = []
    refusals: dict[str, Refusal | KernelError] = {}
    for subgraph in subgraphs:
        kernel = kernels.get(subgraph.key)
        if kernel is None:
            continue
        shapes = [parameter.shape for parameter in subgraph.parameters]
        literals = {
            index: literal
            for index, value in enumerate(subgraph.operands)
            if (literal := instructions[value].literal) is not None
        }
        try:
            placeholder = Placeholder(kernel.symbol, kernel, shapes, subgraph.result_shape, literals, device(threads))
        except (Refusal, KernelError) as error:
            refusals[subgraph.name] = error
            continue
        register_custom_op(placeholder)
        placeholders.append(placeholder)
        new: list[Instruction] = []
        inputs: list[str] = []
        for index, value in enumerate(subgraph.operands):
            if index in literals:
                continue
            if instructions[value].shape != shapes[index]:
                new.append(Instruction(next(ids), "contiguous", shapes[index], inputs=(value,)))
                value = new[-1].id
            inputs.append(value)
        new.append(Instruction(next(ids), placeholder.name, subgraph.result_shape, inputs=tuple(inputs)))
        edits.setdefault(subgraph.module, []).append(Splice([subgraph.result], subgraph.result, new))
    for name, splices in edits.items():
        program = program.with_module(splice_all(program.modules[name], splices))
    return HostSplice(remove_dead(program), placeholders, refusals)
