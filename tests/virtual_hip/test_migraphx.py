"""MIGraphX's own gpu target on the virtual device."""

import ctypes
import dataclasses
import json
import os
import struct
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from iree_migraphx import binding
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program
from programs import Builder, loaded, parameters, strided
from virtual_hip import hip, metadata
from virtual_hip.device import GFX

GPU = "gpu"
# (wavefront, local memory) by gfx; LLVM's AMDGPUUsage and AMD's ISA guides.
PROCESSORS = {
    "gfx90a": (64, 65536),
    "gfx942": (64, 65536),
    "gfx950": (64, 163840),
    "gfx1100": (32, 65536),
    "gfx1201": (32, 65536),
}


def small_model():
    """A convolution with bias and relu, a pooling, a dot and a softmax."""
    random = np.random.default_rng(0)
    weights = {"w": (8, 3, 3, 3), "b": (8,), "d": (8 * 4 * 4, 10)}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1] * 4),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "d"], ["m"]),
        helper.make_node("Softmax", ["m"], ["y"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, (1, 3, 8, 8))],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, (1, 10))],
        [numpy_helper.from_array(random.standard_normal(s).astype(np.float32), n) for n, s in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return model.SerializeToString()


@pytest.mark.parametrize("gfx", GFX)
def test_migraphx_compiles_for(virtual_device, gfx):
    virtual_device.use(gfx)
    with virtual_device.expect_no_leaks():
        program = binding.parse_onnx_buffer(small_model())
        program.compile(binding.get_target(GPU))
        kernels = [i.operator for i in read_program(binding.save_buffer(program)).main.instructions if "code" in i.name]
        (result,) = program.run({"x": np.ones((1, 3, 8, 8), np.float32)})
        assert np.array(result).shape == (1, 10)
        del program, result
    assert kernels
    # hipDeviceProp_tR0600: sharedMemPerBlock, regsPerBlock and warpSize lie behind name, uuid, luid and totalGlobalMem.
    properties = ctypes.create_string_buffer(4096)
    assert hip.library().hipGetDevicePropertiesR0600(properties, 0) == 0
    local_memory, _, wavefront = struct.unpack_from("<Qii", properties, 296)
    assert (wavefront, local_memory) == PROCESSORS[gfx]
    for kernel in kernels:
        code_object = bytes(kernel["code_object"])
        assert metadata.kernels(code_object)[kernel["symbol_name"]].most >= kernel["local"]
        assert kernel["local"] % wavefront == 0
    launched = [launch.symbol for launch in virtual_device.launches]
    assert [kernel["symbol_name"] for kernel in kernels] == launched[-len(kernels) :]
    assert not any(launch.is_ours or launch.computed for launch in virtual_device.launches)
    assert virtual_device.library_calls


def test_a_library_that_pretends_is_a_fault_where_numbers_count(virtual_device):
    b = Builder()
    compiled = loaded(b.build(b.op("dot", b.param("x", [4, 8]), b.param("y", [8, 4]))))
    compiled.compile(binding.get_target(GPU))
    virtual_device.library_calls.clear()
    with virtual_device.expect_numbers():
        compiled.run({"x": np.ones((4, 8), np.float32), "y": np.ones((8, 4), np.float32)})
    assert len(virtual_device.library_calls) == 1
    assert "only pretends to" in virtual_device.faults.pop()


def test_migraphx_own_kernel_is_a_fault_where_numbers_count(virtual_device):
    b = Builder()
    compiled = loaded(b.build(b.op("relu", b.param("x", [4, 8]))))
    compiled.compile(binding.get_target(GPU))
    with virtual_device.expect_numbers():
        compiled.run({"x": np.ones((4, 8), np.float32)})
    assert virtual_device.faults == ["launch of relu_kernel, which nobody here can compute"]
    virtual_device.faults.clear()


@pytest.mark.parametrize("type_", ["float_type", "half_type", "int8_type"])
def test_migraphx_copies_between_layouts(virtual_device, type_):
    b = Builder()
    x = b.param("x", [4, 2, 3], type_, strides=[1, 4, 8])
    b.op("hip::copy", x, b.param("y", [4, 2, 3], type_, strides=[20, 5, 1]))
    whole = dataclasses.replace(b.build(), targets=({"name": GPU},), contexts=({"events": 0, "streams": 1},))
    compiled = binding.load_buffer(write_program(whole))
    shapes = parameters(whole)
    random = np.random.default_rng(2)
    # What lies behind the two, gaps and all.
    memory = {name: random.integers(-99, 99, shape.element_space).astype(shape.dtype) for name, shape in shapes.items()}
    buffers = {name: virtual_device.upload(values) for name, values in memory.items()}
    there = {
        n: binding.argument_from_pointer(s, buffers[n].address) for n, s in compiled.get_parameter_shapes().items()
    }
    with virtual_device.expect_numbers():
        compiled.run(there)
    strided(memory["y"], shapes["y"])[...] = strided(memory["x"], shapes["x"])
    result = virtual_device.download(buffers["y"].address, memory["y"].shape, memory["y"].dtype)
    np.testing.assert_array_equal(result, memory["y"])
    virtual_device.free(*buffers.values())


def test_a_parameter_that_is_returned(virtual_device):
    b = Builder()
    compiled = loaded(b.build(b.op("unsqueeze", b.param("x", [2, 3]), axes=[1], steps=[])))
    with virtual_device.expect_no_leaks():
        compiled.compile(binding.get_target(GPU), offload_copy=True)
        x = np.arange(6, dtype=np.float32).reshape(2, 3)
        with virtual_device.expect_numbers():
            (result,) = compiled.run({"x": x})
        np.testing.assert_array_equal(np.array(result), x[:, None])
        del result, compiled


def test_a_stream_of_the_caller(virtual_device):
    b = Builder()
    compiled = loaded(b.build(b.op("relu", b.param("x", [4, 8]))))
    compiled.compile(binding.get_target(GPU), offload_copy=False)
    stream = ctypes.c_void_p()
    hip.library().hipStreamCreate(ctypes.byref(stream))
    shapes = compiled.get_parameter_shapes()
    buffers = {name: virtual_device.allocate(128) for name in shapes}
    given = {name: binding.argument_from_pointer(shapes[name], buffer.address) for name, buffer in buffers.items()}
    virtual_device.launches.clear()
    compiled.run_async(given, stream.value)
    (launch,) = virtual_device.launches
    assert set(launch.pointers) == {buffer.address for buffer in buffers.values()}
    assert hip.library().hipStreamDestroy(stream) == 0
    virtual_device.free(*buffers.values())


def test_the_device_named_in_the_environment():
    script = """
import ctypes, json, sys
hip = ctypes.CDLL("libamdhip64.so.6")
properties = ctypes.create_string_buffer(8192)
count = ctypes.c_int()
hip.hipGetDeviceCount(ctypes.byref(count))
status = hip.hipGetDevicePropertiesR0600(properties, 0)
print(json.dumps([count.value, status, properties.value.decode(), properties.raw.count(b"gfx1201")]))
"""
    environment = {**os.environ, "VIRTUAL_HIP_GFX": "gfx1201,gfx90a"}
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout) == [2, 0, "Radeon RX 9070 XT", 1]
    environment["VIRTUAL_HIP_GFX"] = "gfx7"
    run = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert json.loads(run.stdout)[:2] == [0, 101]
    assert "VIRTUAL_HIP_GFX=gfx7 is not a list of: gfx90a" in run.stderr


def test_a_kernel_is_compiled_once(virtual_device, tmp_path, monkeypatch):
    monkeypatch.setenv("VIRTUAL_HIP_KERNELS", str(tmp_path / "kept"))
    b = Builder()
    program = b.build(b.op("relu", b.param("x", [4, 8])))

    def compiled():
        made = loaded(program)
        made.compile(binding.get_target(GPU), offload_copy=False)
        # MIGraphX may write the same program's instructions in another order.
        instructions = read_program(binding.save_buffer(made)).instructions()
        return [bytes(i.operator["code_object"]) for i in instructions if i.name == "gpu::code_object"]

    first = compiled()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()}
    assert times
    assert len(first) == 1
    assert compiled() == first
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "kept").iterdir()} == times
    # What is read is what was kept for just this source and this device.
    for path in times:
        path.write_bytes(b"no code object")
    with pytest.raises(RuntimeError, match="hipErrorInvalidImage"):
        compiled()
    assert "no ELF" in virtual_device.faults.pop()
    virtual_device.use("gfx1100")
    compiled()
    assert len(list((tmp_path / "kept").iterdir())) > len(times)
