"""Compiling for the virtual GPU, with every kernel of ours computed by the same subgraph compiled for this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest

from iree_migraphx import binding, pipeline
from iree_migraphx.ir.model import DTYPES, Instruction, Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.kernels.model import GpuKernel, GpuSequence, HostKernel
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.options import Options
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice import gpu
from programs import kernels_of, strided
from splice.scratch_memory import assert_little_is_wasted, assert_nothing_is_overwritten
from virtual_hip.device import KernelSpec, VirtualDevice
from virtual_hip.host import Observer, specs


@dataclass
class Compiled:
    """A compiled program, its instructions, and the subgraphs and kernels that were tried."""

    program: binding.program
    subgraphs: Sequence[Subgraph]
    kernels: Mapping[str, GpuKernel | GpuSequence]

    @property
    def report(self) -> Any:
        return self.program.iree_report

    def instructions(self) -> Program:
        return read_program(binding.save_buffer(self.program))

    def launches(self) -> list[Any]:
        """The gpu::code_object instructions that are ours."""
        code = [i for i in self.instructions().instructions() if i.name == "gpu::code_object"]
        return [i for i in code if i.operator["symbol_name"].startswith("iree_")]


def compiled(
    source: binding.program | bytes,
    options: Options,
    device: VirtualDevice,
    offload_copy: bool = False,
    compute: bool = True,
    eligible: str | None = "all",
    observing: Callable[[Subgraph], Observer] | None = None,
    extra: bool | None = None,
) -> Compiled:
    """Compile with IREE's kernels for the device, and tell it what they compute, and `observing` what they did.

    Whatever is compiled here must use its scratch memory well, and never overwrite what is still read.
    """
    program = binding.parse_onnx_buffer(source) if isinstance(source, bytes) else source
    tried: list[tuple[Sequence[Subgraph], Mapping[str, GpuKernel | GpuSequence]]] = [((), {})]
    original = gpu.compile_gpu

    def watched(
        given: Program, subgraphs: Sequence[Subgraph], kernels: Mapping[str, GpuKernel | GpuSequence], **how: Any
    ) -> Any:
        tried.append((subgraphs, kernels))
        return original(given, subgraphs, kernels, **how)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gpu, "compile_gpu", watched)
        settings = {name: getattr(options, name) for name in ("cache_dir", "quiet", "flags")}
        settings |= {"eligible": eligible, "extra": extra}
        done = pipeline.compile(program, binding.get_target("gpu"), offload_copy, options=Options(**settings))
    result = Compiled(done, *tried[-1])
    if done.iree_report.swapped:
        assert_nothing_is_overwritten(result.instructions())
        assert_little_is_wasted(result.instructions())
    if compute:
        register(device, result.subgraphs, result.kernels, options, observing)
        register_migraphx(device, result.instructions())
    return result


def register(
    device: VirtualDevice,
    subgraphs: Sequence[Subgraph],
    kernels: Mapping[str, GpuKernel | GpuSequence],
    options: Options,
    observing: Callable[[Subgraph], Observer] | None = None,
) -> None:
    wanted = {subgraph.key: alone(subgraph) for subgraph in subgraphs if subgraph.key in kernels}
    hosts = kernels_of([each for subgraphs in wanted.values() for each in subgraphs], Form.OPERANDS, options)
    whole = {subgraph.key: subgraph for subgraph in subgraphs}
    for key, parts in wanted.items():
        computed = [hosts[part.key].kernel for part in parts]
        assert all(isinstance(host, HostKernel) for host in computed), computed
        arguments = [*(p.shape for p in parts[0].parameters), *(part.result_shape for part in parts)]
        kernel, observer = kernels[key], observing(whole[key]) if observing is not None else None
        for symbol, spec in specs(computed, kernel, arguments, observer).items():
            device.register(symbol, spec, kernel.code_object)


def alone(subgraph: Subgraph) -> list[Subgraph]:
    """Each result of a subgraph by itself."""
    *body, end = subgraph.body.instructions
    return [
        replace(
            subgraph,
            results=(result,),
            result_shapes=(shape,),
            body=replace(subgraph.body, instructions=(*body, replace(end, inputs=(value,)))),
            key=f"{number}{subgraph.key}",
        )
        for number, (result, shape, value) in enumerate(
            zip(subgraph.results, subgraph.result_shapes, end.inputs, strict=True)
        )
    ]


def register_migraphx(device: VirtualDevice, program: Program) -> None:
    """Tell the device what MIGraphX's kernels compute that only convert or move elements."""
    for instruction in program.instructions():
        if instruction.name != "gpu::code_object":
            continue
        fields = instruction.operator
        moved = fields["symbol_name"].removesuffix("_kernel")
        if moved in ("concat", "contiguous", "convert"):
            shapes = [shape_of(given) for given in fields["expected_inputs"]]
            spec = KernelSpec(tuple(shape.nbytes for shape in shapes), mover(shapes))
            device.register(fields["symbol_name"], spec, code_object_of(instruction))


def mover(shapes: Sequence[Shape]) -> Callable[[list[np.ndarray]], None]:
    """Operands side by side, along the axis in which they differ from the result, in the result's type."""
    *operands, result = shapes
    axis = next((i for i, lens in enumerate(zip(operands[0].lens, result.lens, strict=True)) if len(set(lens)) > 1), 0)

    def compute(buffers: list[np.ndarray]) -> None:
        values = [strided(b.view(s.dtype), s) for b, s in zip(buffers, shapes, strict=True)]
        values[-1][...] = np.concatenate(values[:-1], axis)

    return compute


def code_object_of(instruction: Instruction) -> bytes:
    """MIGraphX writes the bytes as numbers, one by one."""
    return bytes(instruction.operator["code_object"])


def shape_of(fields: Mapping[str, Any]) -> Shape:
    return Shape(fields["type"], tuple(fields["lens"]), tuple(fields["strides"]))


def run_on_device(
    done: Compiled, device: VirtualDevice, inputs: Mapping[str, np.ndarray], offload_copy: bool
) -> list[np.ndarray]:
    """The results of a run in which every launch is computed."""
    program = done.program
    if offload_copy:
        with device.expect_numbers():
            return [np.array(result) for result in program.run(inputs)]
    buffers, arguments = [], {}
    for name, shape in program.get_parameter_shapes().items():
        size = shape.bytes()
        buffers.append(device.upload(inputs[name]) if name in inputs else device.allocate(size))
        arguments[name] = binding.argument_from_pointer(shape, buffers[-1].address)
    with device.expect_numbers():
        results = program.run(arguments)
    outputs = [
        device.download(result.data_ptr(), result.get_shape().lens(), DTYPES[result.get_shape().type_string()])
        for result in results
    ]
    del results, arguments
    device.free(*buffers)
    return outputs
