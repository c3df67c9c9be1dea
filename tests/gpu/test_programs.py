"""Whole programs on the virtual GPU in which every launch can be computed: the results are onnxruntime's."""

import numpy as np
import onnxruntime
import pytest

from gpu import nets
from gpu.harness import compiled, run_on_device
from iree_migraphx import binding
from splice.models import expected

TOLERANCE = {
    "deep": {"rtol": 1e-3, "atol": 1e-3},
    "bfloat16": {"rtol": 1e-1, "atol": 1e-1},
    "float16": {"rtol": 2e-2, "atol": 2e-2},
    "float32": {"rtol": 1e-4, "atol": 1e-5},
}


def inputs_of(onnx, dtype=np.float32):
    random = np.random.default_rng(5)
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    values = {"tensor(bool)": lambda lens: np.array(True)}
    return {
        i.name: values.get(i.type, lambda lens: random.standard_normal(lens).astype(dtype))(i.shape)
        for i in session.get_inputs()
    }


def assert_right(done, device, onnx, inputs, offload_copy, precision="float32"):
    """All is computed by IREE's kernels, and right; the saved program has no operator that only we know."""
    report = done.report
    assert report.swapped == report.eligible == len(done.subgraphs) > 0, report.summary()
    wanted = expected(onnx, inputs)
    given = {name: value.reshape(value.shape or (1,)) for name, value in inputs.items()}
    actual = run_on_device(done, device, given, offload_copy)
    assert len(actual) == len(wanted)
    for mine, theirs in zip(actual, wanted, strict=True):
        np.testing.assert_allclose(mine, theirs, **TOLERANCE[precision])
    known = {"gpu::code_object", "load", "if", "identity", "get_tuple_elem", "check_context::migraphx::gpu::context"}
    names = {i.name for i in done.instructions().instructions()}
    assert all(name in known or name.startswith(("@", "hip::", "gpu::loop", "slice", "transpose")) for name in names)


NETS = [
    nets.mlp,
    nets.residual,
    nets.shared_results,
    nets.twice,
    nets.channels_last,
    nets.sliced,
    nets.joined,
    nets.loop,
    nets.branches,
]


@pytest.mark.parametrize("offload_copy", [False, True], ids=["device", "offload"])
@pytest.mark.parametrize("net", NETS, ids=lambda net: net.__name__)
def test_float(virtual_device, kernel_options, net, offload_copy):
    onnx = net()
    with virtual_device.expect_no_leaks():
        done = compiled(onnx, kernel_options, virtual_device, offload_copy)
        assert not done.report.note, done.report.note
        assert_right(done, virtual_device, onnx, inputs_of(onnx), offload_copy)
        del done


@pytest.mark.parametrize("flag", [True, False])
def test_each_branch(virtual_device, kernel_options, flag):
    onnx = nets.branches()
    done = compiled(onnx, kernel_options, virtual_device)
    assert_right(done, virtual_device, onnx, {**inputs_of(onnx), "c": np.array(flag)}, False)
    assert len(virtual_device.launches) == 3


QUANTIZED = {"float16": (binding.quantize_fp16, "_f16"), "bfloat16": (binding.quantize_bf16, "bf16")}


@pytest.mark.parametrize("precision", QUANTIZED)
@pytest.mark.parametrize("net", [nets.mlp, nets.residual], ids=lambda net: net.__name__)
def test_quantized(virtual_device, kernel_options, net, precision):
    onnx = net()
    program = binding.parse_onnx_buffer(onnx)
    quantize, name = QUANTIZED[precision]
    quantize(program)
    done = compiled(program, kernel_options, virtual_device, offload_copy=True)
    assert_right(done, virtual_device, onnx, inputs_of(onnx), True, precision)
    assert any(name in launch.symbol for launch in virtual_device.launches)


def test_the_backbone_of_a_real_model(virtual_device, kernel_options):
    """PP-OCR's detector up to its first operator that has no convolution in front: 22 convolutions."""
    onnx = nets.backbone()
    done = compiled(onnx, kernel_options, virtual_device)
    assert_right(done, virtual_device, onnx, inputs_of(onnx), False, "deep")
    assert done.report.swapped == 22
    assert all(launch.computed for launch in virtual_device.launches)


def test_a_kernel_writes_the_programs_result_itself(virtual_device, kernel_options):
    """Without offload_copy a program's result is the caller's memory."""
    done = compiled(nets.residual(), kernel_options, virtual_device)
    program = done.instructions().main
    outputs = {i.id for i in program.instructions if i.name == "@param" and "#output_" in i.operator["parameter"]}
    assert [i.name for i in program.instructions if outputs & set(i.inputs)] == ["gpu::code_object"]
    assert "hip::copy" not in {i.name for i in program.instructions}


@pytest.mark.parametrize("gfx", ["gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201"])
@pytest.mark.parametrize("net", [nets.mlp, nets.residual], ids=lambda net: net.__name__)
def test_each_device(virtual_device, kernel_options, net, gfx):
    """Half precision is taken on every device."""
    virtual_device.use(gfx)
    onnx = net(np.float16)
    done = compiled(onnx, kernel_options, virtual_device)
    assert_right(done, virtual_device, onnx, inputs_of(onnx, np.float16), False, "float16")


def test_one_gpu_after_another(virtual_device, kernel_options):
    """The processes in which MIGraphX compiles have the same one: its own kernels must fit, too."""
    net = nets.Net(33)
    onnx = net.build({"x": (1, 4, 9, 9)}, net.conv("x", (4, 8), 3), net.op("Relu", net.op("Mul", "x", "x")))
    for gfx in ("gfx942", "gfx1100"):
        virtual_device.use(gfx)
        done = compiled(onnx, kernel_options, virtual_device, offload_copy=True)
        assert done.report.swapped == done.report.eligible == 1, done.report.summary()
        done.program.run({"x": np.ones((1, 4, 9, 9), np.float32)})
    assert [launch.is_ours for launch in virtual_device.launches] == [False, True] * 2
