"""A kernel of several steps as instructions of a program that MIGraphX compiled for the gpu.

They stand one behind the other, and MIGraphX runs them in this order on one stream.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.ir.write import shape_fields
from iree_migraphx.kernels.model import Copy, Fill, GpuKernel, GpuSequence, Launch, Region


def code_object(kernel: GpuKernel | Launch, elf: bytes, inputs: Sequence[Shape], output: int) -> dict[str, Any]:
    """The fields of a gpu::code_object (src/targets/gpu/code_object_op.cpp).

    They are those of release rocm-6.4 and later: work-items, not workgroups; `output_arg` is the result.

    Args:
        kernel: what is launched.
        elf: its code object.
        inputs: shapes of what its pointers are to.
        output: the index of the result among these.
    """
    sizes = (kernel.workgroup_size, *kernel.workgroup_size_yz)
    totals = [count * size for count, size in zip((kernel.workgroups, *kernel.workgroups_yz), sizes, strict=True)]
    more = {"global_y": totals[1], "global_z": totals[2], "local_y": sizes[1], "local_z": sizes[2]}
    usual = set(more.values()) == {1} and kernel.dynamic_lds == 0
    return {
        "code_object": elf,
        "symbol_name": kernel.symbol,
        "global": totals[0],
        "local": sizes[0],
        "expected_inputs": [shape_fields(shape) for shape in inputs],
        "output": shape_fields(inputs[output]),
        "output_arg": output,
        # A MIGraphX without patches/ knows no such fields.
        **({} if usual else {**more, "dynamic_lds": kernel.dynamic_lds}),
    }


def sequence(
    node: Instruction, kernel: GpuSequence, instructions: Mapping[str, Instruction], ids: Iterator[str]
) -> list[Instruction]:
    """The steps in the place of a placeholder, and behind them the last result's buffer under the placeholder's id.

    A part of a buffer is a `load` of it, a fill a hip::fill, a copy a hip::copy (src/targets/gpu/hip.cpp).

    Args:
        node: the placeholder; its inputs are the operands that are read, the temporaries, and the results.
        kernel: the steps.
        instructions: of the program, by id.
        ids: that nothing else has.

    Raises:
        Refusal: SPLICE_ERROR, where a region is not inside of its buffer.
    """
    *_, last = node.inputs
    buffers = _buffers(node, kernel)
    made: list[Instruction] = []

    def part(region: Region, whole: bool) -> Instruction:
        source = instructions[buffers[region.buffer]]
        if region.offset + region.size > source.shape.nbytes:
            raise Refusal(Reason.SPLICE_ERROR, f"{region} is not inside of a buffer of {source.shape.nbytes} bytes")
        if whole and region.offset == 0:
            return source
        shape = Shape.standard_of("int8_type", (region.size,))
        fields = {"shape": shape_fields(shape), "offset": region.offset}
        made.append(Instruction(next(ids), "load", shape, fields, (source.id,)))
        return made[-1]

    def add(name: str, operator: Mapping[str, Any], inputs: Sequence[Instruction]) -> None:
        shape = inputs[operator.get("output_arg", -1)].shape
        made.append(Instruction(next(ids), name, shape, operator, tuple(each.id for each in inputs)))

    for step in kernel.steps:
        match step:
            case Launch():
                inputs = [part(region, whole=True) for region in step.pointers]
                fields = code_object(step, kernel.code_object, [each.shape for each in inputs], len(inputs) - 1)
                add("gpu::code_object", fields, inputs)
            case Fill():
                add("hip::fill", {"value": 0}, [part(step.target, whole=False)])
            case Copy():
                add("hip::copy", {}, [part(step.source, whole=False), part(step.target, whole=False)])
    shape = instructions[last].shape
    return [*made, replace(node, name="identity", operator={}, inputs=(last,), shape=shape)]


def _buffers(node: Instruction, kernel: GpuSequence) -> dict[int, str]:
    """The values behind the numbers of a kernel's buffers."""
    first = kernel.arguments - kernel.results
    operands = [argument for argument in kernel.operands if argument < first]
    written = range(first, kernel.arguments)
    temporaries = range(kernel.arguments, kernel.arguments + len(kernel.temporaries))
    return dict(zip([*operands, *temporaries, *written], node.inputs, strict=True))
