"""A code object of IREE in a program written by hand: MIGraphX loads and launches it, the host's kernel computes it."""

import dataclasses

import numpy as np
import pytest

from iree_migraphx import binding
from iree_migraphx.ir.model import Instruction, Module, Program, Shape
from iree_migraphx.ir.write import write_program
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from kernels.sources import dot
from virtual_hip.device import Buffer, KernelSpec, VirtualDevice
from virtual_hip.host import computed_by

M, N, K = 64, 48, 32
OPERANDS = {"a": (M, K), "b": (K, N), "bias": (N,)}
ARGUMENTS = [Shape.standard_of("half_type", lens) for lens in (*OPERANDS.values(), (M, N))]
NAMES = (*OPERANDS, "out")


@pytest.fixture(scope="module")
def kernel(kernel_options):
    return compile_kernels([dot()], parse_target("gfx942"), kernel_options)[0].kernel


@pytest.fixture(scope="module")
def spec(kernel, kernel_options):
    host = compile_kernels([dot()], parse_target("host"), kernel_options)[0].kernel
    return computed_by([host], kernel, ARGUMENTS)


def params():
    return [
        Instruction(name, "@param", shape, {"parameter": name}) for name, shape in zip(NAMES, ARGUMENTS, strict=True)
    ]


def launch(kernel, inputs, **changes):
    """The gpu::code_object of the kernel, with other fields where a test wants them."""
    shapes = [ARGUMENTS[index] for index in kernel.operands]
    fields = {
        "code_object": kernel.code_object,
        "symbol_name": kernel.symbol,
        "global": kernel.workgroups * kernel.workgroup_size,
        "local": kernel.workgroup_size,
        "expected_inputs": [described(shape) for shape in shapes],
        "output": described(ARGUMENTS[-1]),
        "output_arg": -1,
        **changes,
    }
    given = tuple(inputs[index] for index in kernel.operands)
    return Instruction("@launch", "gpu::code_object", ARGUMENTS[-1], fields, given)


def described(shape):
    return {
        "type": shape.type,
        "sub_shapes": [],
        "lens": list(shape.lens),
        "strides": list(shape.strides),
        "dynamic_dimensions": [],
    }


def program(*instructions, result):
    """A compiled program."""
    end = Instruction("@return", "@return", ARGUMENTS[-1], {}, (result,))
    modules = {"main": Module("main", (*instructions, end))}
    whole = Program(7, "2.14.0", modules, ({"name": "gpu"},), ({"events": 0, "streams": 1},))
    return binding.load_buffer(write_program(whole))


def values():
    random = np.random.default_rng(3)
    return {name: random.integers(-2, 3, lens).astype(np.float16) for name, lens in OPERANDS.items()}


def expected(given):
    return given["a"] @ given["b"] + given["bias"]


def on_device(device: VirtualDevice, given) -> dict[str, Buffer]:
    return {**{name: device.upload(value) for name, value in given.items()}, "out": device.allocate(M * N * 2)}


def run(compiled, buffers, **addresses):
    """Run it over buffers of the device, some of them elsewhere."""
    shapes = compiled.get_parameter_shapes()
    where = {name: buffer.address for name, buffer in buffers.items()} | addresses
    compiled.run({name: binding.argument_from_pointer(shapes[name], where[name]) for name in NAMES})


@pytest.fixture
def direct(kernel):
    """The program that launches the kernel over its parameters."""
    return program(*params(), launch(kernel, NAMES), result="@launch")


def test_a_launch_is_computed(virtual_device, kernel, spec, direct):
    virtual_device.register(kernel.symbol, spec)
    given = values()
    buffers = on_device(virtual_device, given)
    with virtual_device.expect_numbers():
        run(direct, buffers)
    np.testing.assert_array_equal(virtual_device.download(buffers["out"].address, (M, N), np.float16), expected(given))
    (seen,) = virtual_device.launches
    assert seen.is_ours and seen.computed
    assert seen.local_size == (kernel.workgroup_size, 1, 1)
    assert seen.pointers == tuple(buffers[NAMES[index]].address for index in kernel.operands)
    virtual_device.free(*buffers.values())


def test_operands_and_result_of_the_host(virtual_device, kernel, spec):
    virtual_device.register(kernel.symbol, spec)
    allocate = {"shape": described(Shape.standard_of("int8_type", (16384,))), "id": "main:scratch"}
    scratch = Instruction("@scratch", "hip::hip_allocate_memory", ARGUMENTS[-1], allocate)
    copies, place = [], 0
    for name, shape in zip(NAMES, ARGUMENTS, strict=True):
        copies.append(
            Instruction(f"@{name}", "load", shape, {"shape": described(shape), "offset": place}, ("@scratch",))
        )
        place += -(-shape.nbytes // 16) * 16
        if name != "out":
            copies.append(Instruction(f"@{name}_gpu", "hip::copy_to_gpu", shape, {}, (name, f"@{name}")))
    back = Instruction("@back", "hip::copy_from_gpu", ARGUMENTS[-1], {}, ("@launch",))
    wait = Instruction("@wait", "hip::sync_stream", ARGUMENTS[-1], {}, ("@back",))
    inputs = ("@a_gpu", "@b_gpu", "@bias_gpu", "@out")
    given = values()
    with virtual_device.expect_no_leaks():
        compiled = program(scratch, *params()[:-1], *copies, launch(kernel, inputs), back, wait, result="@wait")
        with virtual_device.expect_numbers():
            (result,) = compiled.run(given)
        np.testing.assert_array_equal(np.array(result), expected(given))
        del result, compiled


def faults_of(device, compiled, buffers, **addresses):
    """What is wrong with a run that must not have been computed."""
    run(compiled, buffers, **addresses)
    assert not any(launch.computed for launch in device.launches)
    found = list(device.faults)
    device.faults.clear()
    device.free(*buffers.values())
    return found


def test_misaligned_pointer(virtual_device, kernel, spec, direct):
    virtual_device.register(kernel.symbol, spec)
    buffers = {**on_device(virtual_device, values()), "more": virtual_device.allocate(M * K * 2 + 16)}
    (fault,) = faults_of(virtual_device, direct, buffers, a=buffers["more"].address + 8)
    assert "not aligned to 16 bytes" in fault and kernel.symbol in fault


@pytest.mark.parametrize("name", NAMES)
def test_buffer_too_small(virtual_device, kernel, spec, direct, name):
    virtual_device.register(kernel.symbol, spec)
    needed = ARGUMENTS[NAMES.index(name)].nbytes
    buffers = {**on_device(virtual_device, values()), "less": virtual_device.allocate(needed - 1)}
    (fault,) = faults_of(virtual_device, direct, buffers, **{name: buffers["less"].address})
    assert f"needs {needed} bytes, and {needed - 1} are left" in fault


def test_freed_buffer(virtual_device, kernel, spec, direct):
    virtual_device.register(kernel.symbol, spec)
    buffers = on_device(virtual_device, values())
    virtual_device.free(buffers["b"])
    gone = buffers.pop("b")
    (fault,) = faults_of(virtual_device, direct, buffers, b=gone.address)
    assert "use after free" in fault


def test_memory_of_the_host(virtual_device, kernel, spec, direct):
    virtual_device.register(kernel.symbol, spec)
    ours = np.zeros((K, N), np.float16)
    (fault,) = faults_of(virtual_device, direct, on_device(virtual_device, values()), b=ours.ctypes.data // 16 * 16)
    assert "no memory of the device" in fault


def test_result_over_an_operand(virtual_device, kernel, spec, direct):
    virtual_device.register(kernel.symbol, spec)
    buffers = on_device(virtual_device, values())
    (fault,) = faults_of(virtual_device, direct, buffers, b=buffers["out"].address + 16)
    assert "over argument" in fault


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        (lambda k: {"local": k.workgroup_size * 2, "global": k.workgroups * k.workgroup_size * 2}, "was compiled for"),
        (lambda k: {"global": (k.workgroups + 1) * k.workgroup_size}, "but it was compiled for"),
        (lambda k: {"global": k.workgroups * k.workgroup_size - 1}, "not whole workgroups"),
    ],
    ids=["block", "grid", "part of a block"],
)
def test_other_launch_dimensions(virtual_device, kernel, spec, changes, complaint):
    virtual_device.register(kernel.symbol, spec)
    compiled = program(*params(), launch(kernel, NAMES, **changes(kernel)), result="@launch")
    found = faults_of(virtual_device, compiled, on_device(virtual_device, values()))
    assert any(complaint in fault for fault in found)


def test_too_few_arguments(virtual_device, kernel, spec):
    virtual_device.register(kernel.symbol, spec)
    whole = launch(kernel, NAMES)
    fields = {**whole.operator, "expected_inputs": whole.operator["expected_inputs"][1:]}
    compiled = program(
        *params(), dataclasses.replace(whole, inputs=whole.inputs[1:], operator=fields), result="@launch"
    )
    (fault,) = faults_of(virtual_device, compiled, on_device(virtual_device, values()))
    assert "24 bytes of arguments, but the kernel takes 32" in fault


def test_a_kernel_that_nobody_computes(virtual_device, direct):
    buffers = on_device(virtual_device, values())
    with virtual_device.expect_numbers():
        (fault,) = faults_of(virtual_device, direct, buffers)
    assert "nobody here can compute" in fault


def test_what_a_computation_does_wrong_is_a_fault(virtual_device, kernel, spec, direct):
    def raises(buffers):
        raise ZeroDivisionError

    virtual_device.register(kernel.symbol, KernelSpec(spec.sizes, raises))
    (fault,) = faults_of(virtual_device, direct, on_device(virtual_device, values()))
    assert "ZeroDivisionError" in fault


def test_specs_by_code_object(virtual_device, kernel, spec, direct):
    virtual_device.register(kernel.symbol, KernelSpec(spec.sizes, None))
    virtual_device.register(kernel.symbol, spec, kernel.code_object)
    buffers = on_device(virtual_device, values())
    run(direct, buffers)
    assert virtual_device.launches[0].computed
    virtual_device.free(*buffers.values())


def test_code_object_of_another_gpu(virtual_device, kernel):
    virtual_device.use("gfx90a")
    with pytest.raises(RuntimeError, match="hipErrorNoBinaryForGpu"):
        program(*params(), launch(kernel, NAMES), result="@launch")
    assert "another processor" in virtual_device.faults.pop()


def test_symbol_that_is_not_there(virtual_device, kernel):
    with pytest.raises(RuntimeError, match="hipErrorNotFound"):
        program(*params(), launch(kernel, NAMES, symbol_name="iree_other"), result="@launch")
    assert "no kernel iree_other" in virtual_device.faults.pop()
