"""Kernels of several launches, fills and copies: each launch is computed by itself, over MIGraphX's own memory."""

from dataclasses import replace

import numpy as np
import pytest

from capture.fused import captured, fusion, standard
from gpu import harness
from gpu.by_ref import ByRef
from gpu.harness import compiled, run_on_device
from gpu.test_choice import DOT
from gpu.test_results import compile_as_captured
from iree_migraphx import binding
from iree_migraphx.errors import Reason
from iree_migraphx.kernels.model import Copy, Fill, GpuSequence, Region
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.splice import gpu, gpu_sequence
from programs import Builder, inputs_of, kernels_of, loaded, on_ref
from virtual_hip.device import KernelSpec
from virtual_hip.host import specs

LENS = {"x": (16, 64), "w": (64, 32), "v": (32, 16)}
FORMS = {0: (16, 64), 1: (64, 32), 2: (32, 16), 3: (16, 16), 4: (16, 32)}
RESULT, BETWEEN = 3, 4


def two_dots():
    """A dot behind a dot, of which MIGRAPHX_ENABLE_MLIR_GEG_FUSION makes one kernel."""
    inside, main = Builder("m:"), Builder()
    x, w, v = (inside.param(f"x{number}", lens) for number, lens in enumerate(LENS.values()))
    first = inside.op("relu", inside.op("dot", x, w))
    module = inside.module("m", inside.op("dot", first, v))
    operands = [main.param(name, lens) for name, lens in LENS.items()]
    value = fusion(main, "gpu::mlir_op", module, *operands, shape=standard(16, 16), op=DOT)
    return captured(main, value, modules=[module])


def register(device, kernel):
    """Tell the device what the two launches compute."""
    for number, launch in enumerate(kernel.launches):

        def compute(buffers, launch=launch, number=number):
            arrays = {
                region.buffer: buffer.view(np.float32).reshape(FORMS[region.buffer])
                for region, buffer in zip(launch.pointers, buffers, strict=True)
            }
            if number == 0:
                arrays[BETWEEN][...] = np.maximum(arrays[0] @ arrays[1], 0)
            else:
                arrays[max(set(arrays) - {BETWEEN})][...] = arrays[BETWEEN] @ arrays[2]

        sizes = tuple(region.size for region in launch.pointers)
        device.register(launch.symbol, KernelSpec(sizes, compute, workgroups=launch.workgroups), kernel.code_object)


def assert_right(plain, done, device, offload_copy):
    inputs = inputs_of(plain)
    for kernel in done.kernels.values():
        register(device, kernel)
    (actual,) = run_on_device(done, device, inputs, offload_copy)
    np.testing.assert_array_equal(actual, on_ref(plain, inputs)[0])


@pytest.mark.parametrize("offload_copy", [False, True], ids=["device", "offload"])
def test_two_launches(virtual_device, kernel_options, monkeypatch, offload_copy):
    with virtual_device.expect_no_leaks():
        plain, done = compile_as_captured(
            two_dots(), monkeypatch, kernel_options, virtual_device, offload_copy, compute=False
        )
        assert done.report.swapped == done.report.eligible == 1, done.report.summary()
        assert done.report.subgraphs[0].kernel.launches == 2
        assert_right(plain, done, virtual_device, offload_copy)
        assert [launch.computed for launch in virtual_device.launches if launch.is_ours] == [True, True]
        del done


def test_the_result_is_written_in_place(virtual_device, kernel_options, monkeypatch):
    _, done = compile_as_captured(two_dots(), monkeypatch, kernel_options, virtual_device, compute=False)
    main = done.instructions().main
    (output,) = (i.id for i in main.instructions if i.operator.get("parameter") == "main:#output_0")
    assert output in done.launches()[-1].inputs
    assert "hip::copy" not in {i.name for i in main.instructions}


def with_more_steps(kernel: GpuSequence) -> GpuSequence:
    """Between the launches and the result another buffer, which is filled before and copied afterwards."""
    size = next(region.size for launch in kernel.launches for region in launch.pointers if region.buffer == RESULT)
    last, offset = kernel.launches[-1], 64
    place = Region(kernel.arguments + 1, offset, size)
    pointers = tuple(place if region.buffer == RESULT else region for region in last.pointers)
    steps = (*kernel.steps[:-1], Fill(place), replace(last, pointers=pointers), Copy(place, Region(RESULT, 0, size)))
    return replace(kernel, steps=steps, temporaries=(*kernel.temporaries, offset + size))


def test_fills_copies_and_parts_of_buffers(virtual_device, kernel_options, monkeypatch):
    original = gpu.compile_gpu
    made = []

    def with_more(program, subgraphs, kernels, **how):
        made.append({key: with_more_steps(kernel) for key, kernel in kernels.items()})
        return original(program, subgraphs, made[-1], **how)

    monkeypatch.setattr(gpu, "compile_gpu", with_more)
    plain, done = compile_as_captured(two_dots(), monkeypatch, kernel_options, virtual_device, compute=False)
    names = [i.name for i in done.instructions().main.instructions]
    assert done.report.swapped == 1, done.report.summary()
    assert {"hip::fill", "hip::copy"} <= set(names)
    FORMS[5] = FORMS[RESULT]
    done.kernels = made[-1]
    assert_right(plain, done, virtual_device, False)
    assert_right(plain, replaced_by_file(done), virtual_device, False)


@pytest.mark.parametrize("more", [False, True])
def test_a_sequence_is_computed_and_checked_as_a_whole(virtual_device, kernel_options, monkeypatch, more):
    """By the harness, as it is for whole models."""
    original, by_ref = gpu.compile_gpu, ByRef()
    made = []

    def watched(program, subgraphs, kernels, **how):
        made.append({key: with_more_steps(kernel) if more else kernel for key, kernel in kernels.items()})
        return original(program, subgraphs, made[-1], **how)

    monkeypatch.setattr(gpu, "compile_gpu", watched)
    plain, done = compile_as_captured(two_dots(), monkeypatch, kernel_options, virtual_device, compute=False)
    harness.register(virtual_device, done.subgraphs, made[-1], kernel_options, by_ref.observing)
    inputs = inputs_of(plain)
    (actual,) = run_on_device(done, virtual_device, inputs, False)
    np.testing.assert_array_equal(actual, on_ref(plain, inputs)[0])
    assert (by_ref.checked, by_ref.whole, by_ref.wrong) == (1, 1, [])


def test_a_buffer_between_launches_over_an_operand_is_seen(virtual_device, kernel_options, monkeypatch):
    """The second launch's own operand is not what it was when the first one began."""
    _, done = compile_as_captured(two_dots(), monkeypatch, kernel_options, virtual_device, compute=False)
    (subgraph,), by_ref = done.subgraphs, ByRef()
    kernel = done.kernels[subgraph.key]
    shapes = [*(parameter.shape for parameter in subgraph.parameters), subgraph.result_shape]
    hosts = kernels_of([subgraph], Form.OPERANDS, kernel_options)
    made = specs([hosts[subgraph.key].kernel], kernel, shapes, by_ref.observing(subgraph))
    places = {index: np.ones(1 << 12, np.float32).view(np.uint8) for index in range(5)}
    places[BETWEEN] = places[0]
    for launch in kernel.launches:
        made[launch.symbol].compute([places[region.buffer][: region.size] for region in launch.pointers])
    assert len(by_ref.wrong) == 1


def replaced_by_file(done):
    """The program as it comes back from a file."""
    report = done.report
    done.program = binding.load_buffer(binding.save_buffer(done.program))
    done.program.iree_report = report
    return done


def test_a_region_that_does_not_fit(virtual_device, kernel_options, monkeypatch):
    """Then MIGraphX computes it."""
    original = gpu_sequence.sequence

    def sequence(node, kernel, instructions, ids):
        return original(
            node, replace(kernel, steps=(*kernel.steps, Fill(Region(RESULT, 16, 1 << 20)))), instructions, ids
        )

    monkeypatch.setattr("iree_migraphx.splice.gpu_swap.sequence", sequence)
    _, done = compile_as_captured(two_dots(), monkeypatch, kernel_options, virtual_device, compute=False)
    (left,) = done.report.subgraphs
    assert (left.provider, left.reason) == ("migraphx", Reason.SPLICE_ERROR)
    assert "is not inside of a buffer of 1024 bytes" in left.detail


def test_a_dot_split_along_its_sum(virtual_device, kernel_options):
    """With IREE's flag for it: parts of the sums, and then their sum."""
    main = Builder()
    lens = {"x": (16, 65536), "w": (65536, 16)}
    plain = main.build(main.op("dot", *(main.param(name, each) for name, each in lens.items())))
    options = replace(kernel_options, flags=("--iree-dispatch-creation-enable-split-reduction",))
    done = compiled(loaded(plain), options, virtual_device, compute=False)
    assert done.report.swapped == 1, done.report.summary()
    (kernel,) = done.kernels.values()
    first, second = kernel.launches
    (size,) = kernel.temporaries
    parts = size // (16 * 16 * 4)
    assert parts > 1

    def partly(buffers):
        given = dict(zip([region.buffer for region in first.pointers], buffers, strict=True))
        x, w = (given[n].view(np.float32).reshape(each) for n, each in enumerate(lens.values()))
        sums = [a @ b for a, b in zip(np.split(x, parts, axis=1), np.split(w, parts), strict=True)]
        given[3].view(np.float32)[...] = np.ravel(sums)

    def altogether(buffers):
        given = dict(zip([region.buffer for region in second.pointers], buffers, strict=True))
        given[2].view(np.float32)[...] = given[3].view(np.float32).reshape(parts, -1).sum(axis=0)

    for launch, compute in ((first, partly), (second, altogether)):
        sizes = tuple(region.size for region in launch.pointers)
        device_spec = KernelSpec(sizes, compute, workgroups=launch.workgroups)
        virtual_device.register(launch.symbol, device_spec, kernel.code_object)
    inputs = inputs_of(plain)
    (actual,) = run_on_device(done, virtual_device, inputs, False)
    np.testing.assert_array_equal(actual, on_ref(plain, inputs)[0])


def test_one_kernel_launched_twice(virtual_device, kernel_options):
    """Over different parts of the buffer between the launches, as MIGraphX places it."""
    main = Builder()
    x, y = (main.op("softmax", main.param(name, (32, 64)), axis=1) for name in "xy")
    plain = main.build(main.op("reduce_sum", main.op("mul", x, y), axes=[0]))
    done = compiled(loaded(plain), kernel_options, virtual_device, extra=True)
    assert done.report.swapped == done.report.eligible == 1, done.report.summary()
    (kernel,) = done.kernels.values()
    first, again, last = kernel.launches
    assert first.symbol == again.symbol
    written = [*first.pointers[1:], *again.pointers[1:]]
    assert len(set(written)) == len(written)
    assert set(written) <= set(last.pointers)
    inputs = inputs_of(plain)
    (actual,) = run_on_device(done, virtual_device, inputs, False)
    np.testing.assert_allclose(actual, on_ref(plain, inputs)[0], rtol=1e-5)
    given = [launch.pointers for launch in virtual_device.launches if launch.is_ours]
    parts = dict(zip(last.pointers, given[-1], strict=True))
    for launch, addresses in zip((first, again), given[:2], strict=True):
        assert [parts[region] for region in launch.pointers[1:]] == [*addresses[1:]]
