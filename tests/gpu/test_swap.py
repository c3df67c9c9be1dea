"""Kernels in the place of placeholders: what is refused, what is compiled again, what is saved."""

import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gpu import nets
from gpu.harness import compiled, run_on_device
from gpu.test_programs import assert_right, inputs_of
from iree_migraphx import binding, pipeline
from iree_migraphx.errors import HelperError, OptionError, Reason, Refusal
from iree_migraphx.ir.model import Instruction, Module, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice import gpu, gpu_child, gpu_swap
from iree_migraphx.splice.gpu_placeholder import GpuPlaceholder
from splice.models import X, convolutions, expected


def plain(onnx, offload_copy):
    program = binding.parse_onnx_buffer(onnx)
    program.compile(binding.get_target("gpu"), offload_copy)
    return program


def listed(program):
    """Every instruction but for the names and offsets, which MIGraphX deals out anew in each compile."""
    made = read_program(binding.save_buffer(program))
    return sorted(
        repr((i.name, i.shape, {name: i.operator[name] for name in i.operator if name not in ("id", "offset")}))
        for i in made.instructions()
    )


@pytest.mark.parametrize("offload_copy", [False, True])
@pytest.mark.parametrize("why", ["disable", "eligible", "kernels"])
def test_with_everything_rejected_it_is_what_migraphx_compiles(
    virtual_device, kernel_options, monkeypatch, why, offload_copy
):
    onnx = convolutions(count=2)
    if why == "kernels":
        monkeypatch.setattr(gpu_swap, "check", refuse)
    how = {"disable": why == "disable", "eligible": "migraphx" if why == "eligible" else "all"}
    options = replace(kernel_options, **how)
    done = pipeline.compile(binding.parse_onnx_buffer(onnx), binding.get_target("gpu"), offload_copy, options=options)
    assert done.iree_report.swapped == 0
    assert listed(done) == listed(plain(onnx, offload_copy))
    assert "iree_" not in repr(done)


def refuse(*_):
    raise Refusal(Reason.UNSUPPORTED_LAYOUT, "just so")


def test_the_report_says_who_computes_the_rest(virtual_device, kernel_options):
    """Debian's MIGraphX has no MLIR; 3x3 convolutions it would not give to rocMLIR on this device anyway."""
    done = compiled(convolutions(count=2), kernel_options, virtual_device, eligible=None)
    assert done.report.eligible == 0
    assert 'eligible="all"' in done.report.note
    assert done.report.summary().startswith("iree_migraphx: nothing on IREE")


def test_a_kernel_that_can_not_be_put_in_is_compiled_around(virtual_device, kernel_options, monkeypatch):
    """One of four is refused after MIGraphX's compile; the others stay, and the program is right."""
    original = gpu_swap.check

    def check(node: Instruction, placeholder: GpuPlaceholder, instructions):
        if placeholder.result.lens == (1, 4, 12, 12):
            raise Refusal(Reason.UNSUPPORTED_LAYOUT, "just so")
        original(node, placeholder, instructions)

    monkeypatch.setattr(gpu_swap, "check", check)
    done = compiled(nets.residual(), kernel_options, virtual_device)
    assert (done.report.eligible, done.report.swapped) == (4, 3)
    (left,) = (s for s in done.report.subgraphs if s.reason)
    assert (left.reason, left.detail, left.provider) == (Reason.UNSUPPORTED_LAYOUT, "just so", "migraphx")
    assert "MIOpen" in done.report.note
    names = [i.name for i in done.instructions().main.instructions]
    assert names.count("gpu::convolution") == 1
    assert len(done.launches()) == 3
    assert not any(name.startswith("iree_") for name in names)


def test_a_placeholder_that_migraphx_stumbles_over(virtual_device, kernel_options, monkeypatch):
    """The compile fails and names it; the others stay."""

    def pack(placeholders):
        return gpu_child.pack(
            [
                GpuPlaceholder(p.name, [WANTED] * len(p.operands), p.result) if p.result.lens == (1, 4, 12, 12) else p
                for p in placeholders
            ]
        )

    monkeypatch.setattr(gpu, "pack", pack)
    done = compiled(nets.residual(), kernel_options, virtual_device, compute=False)
    assert (done.report.eligible, done.report.swapped) == (4, 3)
    (left,) = (s for s in done.report.subgraphs if s.reason)
    assert left.reason is Reason.SPLICE_ERROR
    assert "operand 0 of iree_convolution" in left.detail


def test_a_crash_of_migraphx_over_its_own_program(virtual_device, kernel_options, monkeypatch):
    """What it made of the program is not what its passes were tried on: then the parsed one is taken."""
    original, failed = gpu._compiled_apart, []

    def crash(*arguments):
        if not failed:
            failed.append(arguments)
            raise HelperError("ended by SIGABRT")
        return original(*arguments)

    monkeypatch.setattr(gpu, "_compiled_apart", crash)
    onnx = nets.residual()
    done = compiled(onnx, kernel_options, virtual_device)
    assert "the parsed one was taken instead: ended by SIGABRT" in done.report.note
    assert_right(done, virtual_device, onnx, inputs_of(onnx), False)


def test_a_crash_of_migraphx_whatever_it_is_given(virtual_device, kernel_options, monkeypatch):
    monkeypatch.setattr(gpu, "_CHILD", "gpu.aborting")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
    done = compiled(convolutions(count=2), kernel_options, virtual_device, compute=False)
    assert done.report.swapped == 0
    assert "ended by SIGABRT" in done.report.note
    assert all(s.reason is Reason.SPLICE_ERROR for s in done.report.subgraphs)
    assert "gpu::convolution" in repr(done.program)


def test_placeholders_reach_the_other_process():
    sent = [GpuPlaceholder("a", [WANTED, Shape("half_type", (2, 2), (1, 2))], WANTED), GpuPlaceholder("b", [], WANTED)]
    received = gpu_child.unpack(gpu_child.pack(sent))
    assert [(p.name, p.operands, p.result) for p in received] == [(p.name, p.operands, p.result) for p in sent]


def test_attempts_come_to_an_end(virtual_device, kernel_options, monkeypatch):
    """Each compile refuses one more: after a few all is left to MIGraphX."""
    refused = []

    def check(node, placeholder, instructions):
        if not refused or refused[-1] != id(instructions):
            refused.append(id(instructions))
            refuse()

    monkeypatch.setattr(gpu_swap, "check", check)
    monkeypatch.setattr(gpu, "_ATTEMPTS", 2)
    done = compiled(nets.residual(), kernel_options, virtual_device, compute=False)
    assert len(refused) == 2
    assert done.report.swapped == 0
    details = [s.detail for s in done.report.subgraphs]
    assert len(details) == 4
    assert sum("2 compiles by MIGraphX" in detail for detail in details) == 2
    assert "iree_" not in repr(done.program)


WANTED = Shape.standard_of("float_type", (2, 3))


@pytest.mark.parametrize(
    ("given", "reason", "detail"),
    [
        (WANTED, None, ""),
        (Shape("float_type", (2, 3), (1, 2)), Reason.UNSUPPORTED_LAYOUT, "strides"),
        (Shape.standard_of("half_type", (2, 3)), Reason.SPLICE_ERROR, "half_type"),
        (Shape.standard_of("float_type", (3, 2)), Reason.SPLICE_ERROR, r"\[3, 2\]"),
    ],
)
def test_operands_are_checked(given, reason, detail):
    nodes = {
        "x": Instruction("x", "@param", given),
        "b": Instruction("b", "hip::hip_allocate_memory", WANTED),
        "k": Instruction("k", "iree_k", WANTED, inputs=("x", "b")),
    }
    placeholder = GpuPlaceholder("iree_k", [WANTED], WANTED)
    if reason is None:
        gpu_swap.check(nodes["k"], placeholder, nodes)
        return
    with pytest.raises(Refusal, match=detail) as refused:
        gpu_swap.check(nodes["k"], placeholder, nodes)
    assert refused.value.reason is reason


@pytest.mark.parametrize("type_", sorted(gpu.CONVERTED_TYPES))
def test_operands_that_migraphx_would_convert_are_refused(virtual_device, type_):
    subgraph = subgraph_over(type_)
    done = gpu.compile_gpu(None, [subgraph], {subgraph.key: None}, False, True, False)
    assert done.program is None
    assert done.refusals[subgraph.name].reason is Reason.UNSUPPORTED_TYPE


def subgraph_over(type_):
    parameter = Instruction("x0", "@param", Shape.standard_of(type_, (2, 3)), {"parameter": "x0"})
    return Subgraph("dot_1", "dot", "main", ("y",), ("x",), ("y",), Module("main", (parameter,)), (WANTED,), "key")


def test_one_kernel_used_often_is_one_elf(virtual_device, kernel_options):
    done = compiled(convolutions(count=6), kernel_options, virtual_device)
    assert (done.report.swapped, done.report.distinct) == (6, 1)
    launches = done.launches()
    assert len(launches) == 6
    assert len({bytes(i.operator["code_object"]) for i in launches}) == 1
    (kernel,) = done.kernels.values()
    nodes = {name: Instruction(name, "@param", WANTED) for name in "abcd"}
    node = Instruction("k", "iree_k", WANTED, inputs=tuple(nodes))
    assert gpu_swap.launch(node, kernel, nodes).operator["code_object"] is kernel.code_object


def test_another_processor_than_the_devices_is_refused(virtual_device, kernel_options):
    options = replace(kernel_options, arch="gfx1100")
    with pytest.raises(OptionError, match="current device is gfx942"):
        pipeline.compile(binding.parse_onnx_buffer(nets.mlp()), binding.get_target("gpu"), options=options)


def test_the_processors_own_name_may_be_given(virtual_device, kernel_options):
    options = replace(kernel_options, arch="gfx942", eligible="all")
    done = pipeline.compile(binding.parse_onnx_buffer(nets.mlp()), binding.get_target("gpu"), options=options)
    assert (done.iree_report.arch, done.iree_report.swapped) == ("gfx942", 2)


def assert_loads_without_us(path, *, run=False):
    """By MIGraphX's C library alone, in a process of its own; the file holds no operator of ours."""
    assert not any(i.name.startswith("iree_") for i in read_program(path.read_bytes()).instructions())
    load = """
        import ctypes, sys
        c = ctypes.CDLL("libmigraphx_c.so.3")
        options, program, out = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_void_p()
        shapes, shape, argument, parameters = (ctypes.c_void_p() for _ in range(4))
        assert c.migraphx_file_options_create(ctypes.byref(options)) == 0
        assert c.migraphx_load(ctypes.byref(program), sys.argv[1].encode(), options) == 0
    """
    evaluate = """
        assert c.migraphx_program_get_parameter_shapes(ctypes.byref(shapes), program) == 0
        assert c.migraphx_program_parameter_shapes_get(ctypes.byref(shape), shapes, b"x") == 0
        assert c.migraphx_argument_generate(ctypes.byref(argument), shape, ctypes.c_size_t(0)) == 0
        assert c.migraphx_program_parameters_create(ctypes.byref(parameters)) == 0
        assert c.migraphx_program_parameters_add(parameters, b"x", argument) == 0
        assert c.migraphx_program_run(ctypes.byref(out), program, parameters) == 0
    """
    end = """
        assert not any(name.startswith("iree") for name in sys.modules)
    """
    script = textwrap.dedent(load + (evaluate if run else "") + end)
    ran = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr


def test_a_compiled_program_runs_without_us(virtual_device, kernel_options, tmp_path):
    done = compiled(nets.residual(), kernel_options, virtual_device, offload_copy=True)
    path = tmp_path / "residual.mxr"
    binding.save(done.program, path)
    assert_loads_without_us(path, run=True)


def test_a_saved_program_is_the_same(virtual_device, kernel_options):
    onnx = nets.shared_results()
    inputs = inputs_of(onnx)
    done = compiled(onnx, kernel_options, virtual_device)
    data = binding.save_buffer(done.program)
    report, done.program = done.report, binding.load_buffer(data)
    done.program.iree_report = report
    assert_right(done, virtual_device, onnx, inputs, False)


def test_run_async(virtual_device, kernel_options):
    onnx = convolutions(count=2)
    done = compiled(onnx, kernel_options, virtual_device)
    shapes = done.program.get_parameter_shapes()
    buffers = {"x": virtual_device.upload(X)}
    output = next(name for name in shapes if name != "x")
    buffers[output] = virtual_device.allocate(shapes[output].bytes())
    arguments = {name: binding.argument_from_pointer(shapes[name], buffers[name].address) for name in shapes}
    with virtual_device.expect_numbers():
        (result,) = done.program.run_async(arguments, 0)
    assert result.data_ptr() == buffers[output].address
    actual = virtual_device.download(result.data_ptr(), (1, 4, 12, 12), np.float32)
    np.testing.assert_allclose(actual, expected(onnx, {"x": X})[0], rtol=1e-4, atol=1e-5)
    del result, arguments
    virtual_device.free(*buffers.values())


def test_running_twice_gives_the_same(virtual_device, kernel_options):
    onnx = nets.mlp()
    inputs = inputs_of(onnx)
    done = compiled(onnx, kernel_options, virtual_device)
    one, two = (run_on_device(done, virtual_device, inputs, False) for _ in range(2))
    np.testing.assert_array_equal(one[0], two[0])
