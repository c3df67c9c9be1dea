"""The scratch memory of compiled programs. The harness checks that of every program that it compiles."""

import numpy as np
import pytest

from gpu import harness, nets
from gpu.harness import compiled, run_on_device
from gpu.test_models import light_resnet50, magika, whole_detector
from gpu.test_programs import assert_right, inputs_of
from iree_migraphx import binding
from iree_migraphx.splice import gpu, gpu_memory
from splice.models import convolutions, expected
from splice.scratch_memory import followed


@pytest.mark.parametrize("offload_copy", [False, True], ids=["device", "offload"])
def test_a_chain_takes_turns_in_two_places(virtual_device, kernel_options, monkeypatch, offload_copy):
    """MIGraphX's own plan has three."""
    onnx = convolutions(count=6)
    done = compiled(onnx, kernel_options, virtual_device, offload_copy)
    made = followed(done.instructions())
    assert made.size == made.most_alive
    assert len(set(made.spans.values())) == 2
    assert_right(done, virtual_device, onnx, inputs_of(onnx), offload_copy)
    monkeypatch.setattr(gpu, "with_own_plan", lambda program: program)
    with pytest.raises(AssertionError, match=f"main.*{made.most_alive}"):
        compiled(onnx, kernel_options, virtual_device, offload_copy)


def skipped():
    """A value that is read again after two others."""
    net = nets.Net(20)
    first = net.conv("x", (4, 4), 3)
    last = net.conv(net.conv(net.conv(first, (4, 4), 3), (4, 4), 3), (4, 4), 3, relu=False)
    return net.build({"x": (1, 4, 12, 12)}, net.conv(net.op("Add", last, first), (4, 4), 1))


def test_a_value_that_is_overwritten_would_be_seen(virtual_device, kernel_options, monkeypatch):
    """By who follows the memory, and in the numbers; each launch by itself is one that the device takes."""
    onnx = skipped()
    monkeypatch.setattr(gpu_memory, "plan", lambda buffers: [place * buffers[0].nbytes for place in (0, 1, 0, 1)])
    with pytest.raises(AssertionError, match=r"^\('main', \["):
        compiled(onnx, kernel_options, virtual_device)
    monkeypatch.setattr(harness, "assert_nothing_is_overwritten", lambda made: None)
    monkeypatch.setattr(harness, "assert_little_is_wasted", lambda made: None)
    done = compiled(onnx, kernel_options, virtual_device)
    with pytest.raises(AssertionError, match="Mismatched elements"):
        assert_right(done, virtual_device, onnx, inputs_of(onnx), False)


def test_several_streams_keep_migraphxs_plan(virtual_device, kernel_options, monkeypatch):
    """There kernels don't run in the order in which they stand."""
    monkeypatch.setenv("MIGRAPHX_NSTREAMS", "2")
    monkeypatch.setattr(gpu_memory, "plan", lambda buffers: pytest.fail("planned"))
    onnx = nets.shared_results()
    done = compiled(onnx, kernel_options, virtual_device)
    assert "gpu::set_stream" in {i.name for i in done.instructions().instructions()}
    given = inputs_of(onnx)
    for mine, theirs in zip(run_on_device(done, virtual_device, given, False), expected(onnx, given), strict=True):
        np.testing.assert_allclose(mine, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.timeout(0)
@pytest.mark.whole_model
@pytest.mark.parametrize("precision", ["half", "float"])
@pytest.mark.parametrize("model", [light_resnet50, whole_detector, magika], ids=lambda model: model.__name__)
def test_whole_models(virtual_device, kernel_options, model, precision):
    """With results in the caller's memory; with offload_copy where each launch of theirs is tested."""
    program = model()
    if precision == "half":
        binding.quantize_fp16(program)
    done = compiled(program, kernel_options, virtual_device, compute=False)
    assert done.report.swapped == done.report.eligible > 0, done.report.summary()
