"""Capturing on the virtual GPU: what comes out, and what becomes of a compile where nothing does."""

import re
from pathlib import Path

import numpy as np
import pytest

from gpu import nets
from gpu.harness import compiled
from gpu.test_programs import assert_right, inputs_of
from iree_migraphx import binding, gpu
from iree_migraphx.binding.device import choose_device, current_device
from iree_migraphx.capture import process
from iree_migraphx.capture.process import capture
from iree_migraphx.errors import CaptureError
from iree_migraphx.ir.read import read_program

HERE = Path(__file__).parent


def saved(onnx):
    return binding.save_buffer(binding.parse_onnx_buffer(onnx))


def test_what_is_captured(virtual_device):
    """MIGraphX has folded and fused: three convolutions with a pointwise each, the residual one with two operands."""
    names = [i.name for i in capture(saved(nets.residual()), True, True, 60).main.instructions]
    assert names.count("convolution") == 4
    assert names.count("pointwise") == 4
    assert set(names) <= {"@param", "@literal", "@return", "convolution", "broadcast", "pointwise"}


def test_shapes_are_settled(virtual_device):
    """The unfused program is MIGraphX's own down to every shape."""
    found = gpu.captured(read_program(saved(nets.residual())), True, True, 60)
    program = found.unfused.program
    assert [i.name for i in program.main.instructions].count("relu") == 3
    again = gpu.settle(program)
    assert again == program
    assert program.targets == program.contexts == ()


def test_the_users_own_passes_stay_off(virtual_device, monkeypatch):
    monkeypatch.setenv("MIGRAPHX_DISABLE_PASSES", "fuse_pointwise_reduce")
    names = {i.name for i in capture(saved(nets.mlp()), True, True, 60).main.instructions}
    assert "pointwise" not in names
    assert {"dot", "add", "relu"} <= names


FAILURES = {
    "dies": (
        lambda m: m.setattr(process, "_CHILD", "gpu.aborting"),
        "ended by SIGABRT: .*Assertion `something' failed",
    ),
    "is not there": (lambda m: m.setattr(process, "_CHILD", "gpu.nothing"), "status 1: .*gpu.nothing"),
    "writes nothing": (lambda m: m.setattr(process, "_CHILD", "this"), "captured.mxr"),
    "leaves no passes out": (lambda m: m.setattr(process, "PASSES_AFTER_FUSION", ()), "can't be compiled again"),
    "has no such device": (
        lambda m: m.setattr(process, "device_and_flags", lambda *flags: ["7", "1", "1"]),
        "HIP can't use the device number 7",
    ),
}


@pytest.mark.parametrize("how", FAILURES)
def test_the_parsed_program_is_taken_instead(virtual_device, kernel_options, monkeypatch, how):
    fail, reason = FAILURES[how]
    fail(monkeypatch)
    monkeypatch.setenv("PYTHONPATH", str(HERE.parent))
    onnx = nets.mlp()
    done = compiled(onnx, kernel_options, virtual_device)
    assert "the parsed one was taken instead" in done.report.note
    assert re.search(reason, done.report.note), done.report.note
    assert "fold" in done.report.seconds
    assert_right(done, virtual_device, onnx, inputs_of(onnx), False)


def test_a_time_limit(virtual_device):
    with pytest.raises(CaptureError, match=r"more than 0\.01 s .*IREE_MIGRAPHX_CAPTURE_TIMEOUT"):
        capture(saved(nets.mlp()), True, True, 0.01)


def test_what_migraphx_refuses(virtual_device):
    """A program of a target that is compiled already."""
    program = binding.parse_onnx_buffer(nets.mlp())
    program.compile(binding.get_target("ref"))
    with pytest.raises(CaptureError, match="compiled already"):
        capture(binding.save_buffer(program), True, True, 60)


def test_a_file_that_can_not_be_read(virtual_device):
    with pytest.raises(CaptureError, match="can't read"):
        capture(b"nothing", True, True, 60)


def test_the_second_of_two_devices(virtual_device, kernel_options):
    """The process that captures has a device of its own; ours is the one that is compiled for."""
    virtual_device.use("gfx90a,gfx942")
    assert current_device().arch.startswith("gfx90a")
    choose_device(1)
    device = current_device()
    assert (device.number, device.arch, device.product) == (1, "gfx942:sramecc+:xnack-", "AMD Instinct MI300X")
    done = compiled(nets.mlp(np.float16), kernel_options, virtual_device)
    assert done.report.arch == "mi300x:sramecc+:xnack-"
    choose_device(0)
