"""Kernels with several results: fusions of MIGraphX's own that it makes where it has MLIR, with IREE's kernels in their
place. Debian's build has no MLIR, so what it would capture is written by hand.
"""

import numpy as np
import pytest

from capture.fused import captured, fusion, shaped, standard, tuple_of
from gpu.harness import compiled, run_on_device
from gpu.test_choice import DOT, found
from iree_migraphx import gpu
from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.splice import gpu_swap
from programs import Builder, inputs_of, loaded, on_ref, parameters

PAIR = tuple_of(standard(8, 16), standard(8, 16))
NAMES = ("x", "w", "b")


def dot_and_relu(prefix="m"):
    """[relu(dot + b), dot]: what MIGraphX makes of a dot with another reader beside the pointwise (fuse_mlir.cpp)."""
    inside = Builder(f"{prefix}:")
    x, w, b = inside.param("x0", (8, 32)), inside.param("x1", (32, 16)), inside.param("x2", (8, 16))
    product = inside.op("dot", x, w)
    return inside.module(prefix, inside.op("relu", inside.op("add", product, b)), product)


def fused_pair():
    main = Builder()
    operands = [main.param(name, lens) for name, lens in zip(NAMES, [(8, 32), (32, 16), (8, 16)], strict=True)]
    pair = fusion(main, "gpu::mlir_op", dot_and_relu(), *operands, shape=PAIR, op=DOT)
    return main, *(shaped(main, main.op("get_tuple_elem", pair, index=i), standard(8, 16)) for i in (0, 1))


def both_returned():
    main, relu, product = fused_pair()
    return captured(main, relu, product, modules=[dot_and_relu()])


def one_returned_twice():
    main, relu, product = fused_pair()
    return captured(main, product, relu, product, modules=[dot_and_relu()])


def one_read_by_another_kernel():
    """A chain: the second kernel reads both results of the first, of which the program gives back one as well."""
    main, relu, product = fused_pair()
    inside = Builder("n:")
    a, v, c = inside.param("x0", (8, 16)), inside.param("x1", (16, 16)), inside.param("x2", (8, 16))
    again = inside.op("dot", a, v)
    module = inside.module("n", inside.op("add", again, c), again)
    operands = (relu, main.param("v", (16, 16)), product)
    pair = fusion(main, "gpu::mlir_op", module, *operands, shape=PAIR, op=DOT)
    total, alone = (shaped(main, main.op("get_tuple_elem", pair, index=i), standard(8, 16)) for i in (0, 1))
    return captured(main, alone, total, product, modules=[dot_and_relu(), module])


def only_the_second_is_read():
    main, _, product = fused_pair()
    return captured(main, product, modules=[dot_and_relu()])


def sums_behind_a_dot(both):
    """[reduce_sum(dot * b), dot]: a reduction behind an anchor (fuse_mlir.cpp, MIGRAPHX_ENABLE_MLIR_REDUCE_FUSION)."""
    inside, main = Builder("m:"), Builder()
    x, w, b = inside.param("x0", (8, 32)), inside.param("x1", (32, 16)), inside.param("x2", (8, 16))
    product = inside.op("dot", x, w)
    total = inside.op("reduce_sum", inside.op("mul", product, b), axes=[1])
    module = inside.module("m", total, *[product] * both)
    operands = [main.param(name, lens) for name, lens in zip(NAMES, [(8, 32), (32, 16), (8, 16)], strict=True)]
    if not both:
        return captured(main, fusion(main, "gpu::mlir_op", module, *operands, shape=standard(8, 1)), modules=[module])
    pair = fusion(main, "gpu::mlir_op", module, *operands, shape=tuple_of(standard(8, 1), standard(8, 16)))
    lens = ((8, 1), (8, 16))
    values = [shaped(main, main.op("get_tuple_elem", pair, index=i), standard(*each)) for i, each in enumerate(lens)]
    return captured(main, *values, modules=[module])


def compile_as_captured(program, monkeypatch, options, device, offload_copy=False, compute=True):
    """Compile as where MIGraphX has MLIR and fuses to this program."""
    given = found(program)
    monkeypatch.setattr(gpu, "has_mlir", lambda: True)
    monkeypatch.setattr(gpu, "captured", lambda *_: given)
    done = compiled(loaded(given.unfused.program), options, device, offload_copy, compute, eligible="migraphx")
    return given.unfused.program, done


@pytest.mark.parametrize("offload_copy", [False, True], ids=["device", "offload"])
@pytest.mark.parametrize(
    ("program", "results"),
    [
        (both_returned, [2]),
        (one_returned_twice, [2]),
        (one_read_by_another_kernel, [2, 2]),
        (only_the_second_is_read, [1]),
    ],
)
def test_each_result(virtual_device, kernel_options, monkeypatch, program, results, offload_copy):
    with virtual_device.expect_no_leaks():
        plain, done = compile_as_captured(program(), monkeypatch, kernel_options, virtual_device, offload_copy)
        report = done.report
        assert report.swapped == report.eligible == len(results), [s.detail for s in report.subgraphs]
        assert [len(subgraph.results) for subgraph in done.subgraphs] == results
        inputs = inputs_of(plain)
        actual = run_on_device(done, virtual_device, inputs, offload_copy)
        for mine, theirs in zip(actual, on_ref(plain, inputs), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert len(virtual_device.launches) == len(results)
        del done


def test_what_migraphx_would_fuse_without_having_mlir(virtual_device, kernel_options):
    """A convolution that a pointwise and another reader read, in MIGraphX's real fused program."""
    main = Builder()
    c = main.conv(main.param("x", (1, 8, 6, 6)), main.param("w", (8, 8, 1, 1)))
    plain = main.build(main.op("relu", main.op("add", c, main.param("b", (1, 8, 6, 6)))), c)
    done = compiled(loaded(plain), kernel_options, virtual_device, eligible="migraphx")
    assert done.report.swapped == done.report.eligible == 1, [s.detail for s in done.report.subgraphs]
    assert [len(subgraph.results) for subgraph in done.subgraphs] == [2]
    inputs = inputs_of(plain)
    for mine, theirs in zip(run_on_device(done, virtual_device, inputs, False), on_ref(plain, inputs), strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert len(virtual_device.launches) == 1


@pytest.mark.parametrize("both", [False, True])
def test_a_reduction_behind_an_anchor(virtual_device, kernel_options, monkeypatch, both):
    program = sums_behind_a_dot(both)
    plain, done = compile_as_captured(program, monkeypatch, kernel_options, virtual_device)
    assert done.report.swapped == done.report.eligible == 1, [s.detail for s in done.report.subgraphs]
    assert done.report.subgraphs[0].operators == ("dot", "mul", "reduce_sum")
    inputs = inputs_of(plain)
    actual = run_on_device(done, virtual_device, inputs, False)
    for mine, theirs in zip(actual, on_ref(plain, inputs), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_results_are_written_in_place(virtual_device, kernel_options, monkeypatch):
    """Without offload_copy both results are the caller's memory, which the kernel writes itself."""
    _, done = compile_as_captured(both_returned(), monkeypatch, kernel_options, virtual_device)
    main = done.instructions().main
    (launch,) = done.launches()
    written = [main.by_id()[value] for value in launch.inputs[-2:]]
    assert sorted(i.operator.get("parameter", i.name) for i in written) == ["main:#output_0", "main:#output_1"]
    assert "hip::copy" not in {i.name for i in main.instructions}
    assert parameters(done.instructions()).keys() == {*NAMES, "main:#output_0", "main:#output_1"}


def test_the_report_names_both(virtual_device, kernel_options, monkeypatch):
    _, done = compile_as_captured(both_returned(), monkeypatch, kernel_options, virtual_device, compute=False)
    assert [s.output for s in done.report.subgraphs] == ["8x16 float, 8x16 float"]


def test_one_result_that_can_not_be_put_in(virtual_device, kernel_options, monkeypatch):
    """Then MIGraphX computes both."""

    def refuse(*_):
        raise Refusal(Reason.SPLICE_ERROR, "just so")

    monkeypatch.setattr(gpu_swap, "identity", refuse)
    _, done = compile_as_captured(both_returned(), monkeypatch, kernel_options, virtual_device, compute=False)
    assert (done.report.swapped, [s.detail for s in done.report.subgraphs]) == (0, ["just so"])
    assert "iree_" not in repr(done.program)
