"""After MIGraphX's compile: each placeholder of a serialized gpu program becomes the launch of its kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.edit import replace_values, unique_ids
from iree_migraphx.ir.layout import same_layout
from iree_migraphx.ir.model import Instruction, Program
from iree_migraphx.kernels.accept import ALIGNMENT
from iree_migraphx.kernels.model import GpuKernel, GpuSequence
from iree_migraphx.splice.gpu_memory import align_scratch, is_aligned, without_unused, written_to_outputs
from iree_migraphx.splice.gpu_placeholder import GpuPlaceholder
from iree_migraphx.splice.gpu_sequence import code_object, sequence


@dataclass(frozen=True, slots=True)
class Swapped:
    """A program after the swap.

    Attributes:
        program: without placeholders, but for those that were refused.
        refusals: by the placeholder's name.
    """

    program: Program
    refusals: Mapping[str, Refusal]


def swap(
    program: Program,
    placeholders: Sequence[GpuPlaceholder],
    kernels: Mapping[str, GpuKernel | GpuSequence],
    others: Mapping[str, str] | None = None,
) -> Swapped:
    """Replace every placeholder that passes the checks.

    Args:
        program: compiled by MIGraphX for the gpu.
        placeholders: what was put in before.
        kernels: by the placeholder's name.
        others: name of a placeholder for a further result, or its buffer -> name of the kernel's placeholder.
    """
    others = others or {}
    known = {placeholder.name: placeholder for placeholder in placeholders}
    program = align_scratch(_without(program, {name for name in others if not known[name].operands}))
    instructions = {instruction.id: instruction for instruction in program.instructions()}
    nodes = {instruction.name: instruction for instruction in instructions.values() if instruction.name in kernels}
    buffers = Counter(value for node in nodes.values() for value in node.inputs[len(known[node.name].operands) :])
    refusals: dict[str, Refusal] = {}
    results: dict[str, str] = {}
    steps: dict[str, set[str]] = {}
    ids = unique_ids(program, "iree_step")
    modules = {}
    for name, module in program.modules.items():
        new: list[Instruction] = []
        for instruction in module.instructions:
            placeholder = known.get(instruction.name)
            if placeholder is not None:
                kernel = others.get(placeholder.name, placeholder.name)
                try:
                    check(instruction, placeholder, instructions)
                    if kernel != placeholder.name:
                        made = [identity(instruction, nodes[kernel], instructions)]
                    elif any(buffers[value] > 1 for value in instruction.inputs[len(placeholder.operands) :]):
                        raise Refusal(Reason.SPLICE_ERROR, "MIGraphX gave several kernels one buffer")
                    else:
                        made = _computing(instruction, kernels[placeholder.name], instructions, ids)
                except Refusal as refusal:
                    refusals.setdefault(kernel, refusal)
                else:
                    steps.setdefault(kernel, set()).update(each.id for each in made)
                    results[instruction.id] = kernel
                    new.extend(made)
                    continue
            new.append(instruction)
        modules[name] = replace(module, instructions=tuple(new))
    modules["main"] = written_to_outputs(
        modules["main"], {value: frozenset(steps[kernel]) for value, kernel in results.items()}
    )
    modules = {name: without_unused(module) for name, module in modules.items()}
    return Swapped(replace(program, modules=modules), refusals)


def _without(program: Program, names: Collection[str]) -> Program:
    """Let the readers of these placeholders read the buffers that they stand for."""
    modules = {}
    for name, module in program.modules.items():
        buffers = {i.id: i.inputs[0] for i in module.instructions if i.name in names}
        kept = tuple(instruction for instruction in module.instructions if instruction.id not in buffers)
        modules[name] = replace_values(replace(module, instructions=kept), buffers)
    return replace(program, modules=modules)


def check(node: Instruction, placeholder: GpuPlaceholder, instructions: Mapping[str, Instruction]) -> None:
    """See that the kernel gets what it was compiled for.

    Raises:
        Refusal: UNSUPPORTED_LAYOUT, or SPLICE_ERROR for anything that MIGraphX should not have changed.
    """
    sizes = (*placeholder.others, placeholder.result.nbytes)
    if len(node.inputs) != len(placeholder.operands) + len(sizes):
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
    for value, size in zip(node.inputs[len(placeholder.operands) :], sizes, strict=True):
        if instructions[value].shape.nbytes < size:
            raise Refusal(Reason.SPLICE_ERROR, "the buffer of its result is too small")
    for value in node.inputs:
        if not is_aligned(value, instructions):
            raise Refusal(Reason.UNSUPPORTED_LAYOUT, f"an operand or the result is not aligned to {ALIGNMENT} bytes")


def identity(node: Instruction, kernel: Instruction, instructions: Mapping[str, Instruction]) -> Instruction:
    """What stands for a further result of a kernel: its buffer, which the kernel has written by then.

    Raises:
        Refusal: SPLICE_ERROR, where MIGraphX put another buffer there, or one that does not look like the result.
    """
    buffer = instructions[node.inputs[1]]
    if buffer.id not in kernel.inputs or buffer.shape.type != node.shape.type or buffer.shape.lens != node.shape.lens:
        raise Refusal(Reason.SPLICE_ERROR, "MIGraphX changed the buffer of one of its results")
    if not same_layout(buffer.shape, node.shape):
        raise Refusal(Reason.SPLICE_ERROR, "MIGraphX changed the layout of one of its results")
    return replace(node, name="identity", operator={}, inputs=(buffer.id,), shape=buffer.shape)


def _computing(
    node: Instruction,
    kernel: GpuKernel | GpuSequence,
    instructions: Mapping[str, Instruction],
    ids: Iterator[str],
) -> list[Instruction]:
    """What stands for a kernel's placeholder; the last instruction has its id."""
    if isinstance(kernel, GpuSequence):
        return sequence(node, kernel, instructions, ids)
    return [launch(node, kernel, instructions)]


def launch(node: Instruction, kernel: GpuKernel, instructions: Mapping[str, Instruction]) -> Instruction:
    """The launch in the place of a placeholder (src/targets/gpu/code_object_op.cpp).

    The fields are those of release rocm-6.4 and later: work-items, not workgroups; `output_arg` is the last result.
    """
    # The placeholder has its inputs in the order of the arguments, the kernel in an order of its own.
    given = dict(zip(sorted(set(kernel.operands)), node.inputs, strict=True))
    inputs = tuple(given[argument] for argument in kernel.operands)
    output = kernel.operands.index(max(kernel.operands))
    shapes = [instructions[value].shape for value in inputs]
    operator = code_object(kernel, kernel.code_object, shapes, output)
    return replace(node, name="gpu::code_object", operator=operator, inputs=inputs)
