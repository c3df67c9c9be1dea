"""After MIGraphX's compile: each placeholder of a serialized gpu program becomes the launch of its kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.layout import same_layout
from iree_migraphx.ir.model import Instruction, Program
from iree_migraphx.ir.write import shape_fields
from iree_migraphx.kernels.model import GpuKernel
from iree_migraphx.splice.gpu_memory import ALIGNMENT, align_scratch, is_aligned, written_to_outputs
from iree_migraphx.splice.gpu_placeholder import GpuPlaceholder


@dataclass(frozen=True, slots=True)
class Swapped:
    """A program after the swap.

    Attributes:
        program: without placeholders, but for those that were refused.
        refusals: by the placeholder's name.
    """

    program: Program
    refusals: Mapping[str, Refusal]


def swap(program: Program, placeholders: Sequence[GpuPlaceholder], kernels: Mapping[str, GpuKernel]) -> Swapped:
    """Replace every placeholder that passes the checks.

    Args:
        program: compiled by MIGraphX for the gpu.
        placeholders: what was put in before.
        kernels: by the placeholder's name.
    """
    program = align_scratch(program)
    instructions = {instruction.id: instruction for instruction in program.instructions()}
    known = {placeholder.name: placeholder for placeholder in placeholders}
    nodes = [instruction for instruction in instructions.values() if instruction.name in known]
    buffers = Counter(node.inputs[-1] for node in nodes)
    refusals: dict[str, Refusal] = {}
    launches: set[str] = set()
    modules = {}
    for name, module in program.modules.items():
        new: list[Instruction] = []
        for instruction in module.instructions:
            placeholder = known.get(instruction.name)
            if placeholder is not None:
                try:
                    if buffers[instruction.inputs[-1]] > 1:
                        raise Refusal(Reason.SPLICE_ERROR, "MIGraphX gave several kernels one buffer")
                    check(instruction, placeholder, instructions)
                except Refusal as refusal:
                    refusals[placeholder.name] = refusal
                else:
                    instruction = launch(instruction, kernels[placeholder.name], instructions)
                    launches.add(instruction.id)
            new.append(instruction)
        modules[name] = replace(module, instructions=tuple(new))
    modules["main"] = written_to_outputs(modules["main"], frozenset(launches))
    return Swapped(replace(program, modules=modules), refusals)


def check(node: Instruction, placeholder: GpuPlaceholder, instructions: Mapping[str, Instruction]) -> None:
    """See that the kernel gets what it was compiled for.

    Raises:
        Refusal: UNSUPPORTED_LAYOUT, or SPLICE_ERROR for anything that MIGraphX should not have changed.
    """
    if len(node.inputs) != len(placeholder.operands) + 1:
        raise Refusal(Reason.SPLICE_ERROR, f"MIGraphX gave it {len(node.inputs)} inputs")
    for index, (value, wanted) in enumerate(zip(node.inputs, placeholder.operands, strict=False)):
        given = instructions[value].shape
        if (given.type, given.lens) != (wanted.type, wanted.lens):
            raise Refusal(Reason.SPLICE_ERROR, f"MIGraphX made operand {index} {given.type} {list(given.lens)}")
        if not same_layout(given, wanted):
            raise Refusal(
                Reason.UNSUPPORTED_LAYOUT,
                f"MIGraphX lays operand {index} out with strides {list(given.strides)}, not {list(wanted.strides)}",
            )
    if not same_layout(node.shape, placeholder.result):
        raise Refusal(Reason.SPLICE_ERROR, "MIGraphX changed the shape of its result")
    if instructions[node.inputs[-1]].shape.nbytes < placeholder.result.nbytes:
        raise Refusal(Reason.SPLICE_ERROR, "the buffer of its result is too small")
    for value in node.inputs:
        if not is_aligned(value, instructions):
            raise Refusal(Reason.UNSUPPORTED_LAYOUT, f"an operand or the result is not aligned to {ALIGNMENT} bytes")


def launch(node: Instruction, kernel: GpuKernel, instructions: Mapping[str, Instruction]) -> Instruction:
    """The launch in the place of a placeholder (src/targets/gpu/code_object_op.cpp).

    The fields are those of release rocm-6.4 and later: work-items, not workgroups; the last input is the result.
    """
    operator = {
        "code_object": kernel.code_object,
        "symbol_name": kernel.symbol,
        "global": kernel.workgroups * kernel.workgroup_size,
        "local": kernel.workgroup_size,
        "expected_inputs": [shape_fields(instructions[value].shape) for value in node.inputs],
        "output": shape_fields(node.shape),
        "output_arg": -1,
    }
    return replace(node, name="gpu::code_object", operator=operator)
