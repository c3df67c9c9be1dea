"""A dot behind a pointwise behind a dot or convolution: one kernel of two launches where the user asks MIGraphX for it.

The virtual GPU's MIGraphX has no MLIR, so its rules decide. What MIGraphX fuses itself is in test_sequences.py.
"""

import numpy as np
import pytest

from gpu.by_ref import ByRef
from gpu.harness import compiled, run_on_device
from programs import Builder, inputs_of, loaded, on_ref


def dots():
    """As in a feed-forward block, the second dot's weights as a transpose."""
    b = Builder()
    first = b.op("dot", b.param("x", (16, 64)), b.param("w", (64, 32)))
    between = b.op("relu", b.op("add", first, b.spread(b.param("b", (32,)), (16, 32))))
    return b, first, between, b.op("transpose", b.param("v", (16, 32)), permutation=[1, 0])


def one_result():
    b, _, between, v = dots()
    return b.build(b.op("dot", between, v))


def all_results():
    """Others read both values in front of the second dot, before all that this one reads is computed."""
    b, first, between, _ = dots()
    others = [b.op("dot", value, b.param(name, (32, 8))) for value, name in ((first, "t"), (between, "u"))]
    v = b.op("dot", b.param("y", (32, 4)), b.param("z", (4, 16)))
    return b.build(b.op("dot", between, v), *others, first)


def convolution():
    b = Builder()
    first = b.conv(b.param("x", (1, 8, 8, 16)), b.param("w", (8, 8, 1, 1)))
    return b.build(b.op("dot", b.op("relu", first), b.param("v", (1, 8, 16, 8))))


def chosen(plain, options, device, *how, **more):
    return compiled(loaded(plain), options, device, *how, eligible=None, **more)


@pytest.mark.parametrize("offload_copy", [False, True], ids=["device", "offload"])
@pytest.mark.parametrize(
    ("program", "results", "others"), [(one_result, 1, 0), (all_results, 3, 3), (convolution, 1, 0)]
)
def test_a_pair_is_one_kernel(virtual_device, kernel_options, monkeypatch, program, results, others, offload_copy):
    monkeypatch.setenv("MIGRAPHX_ENABLE_MLIR_GEG_FUSION", "1")
    plain, by_ref = program(), ByRef()
    with virtual_device.expect_no_leaks():
        done = chosen(plain, kernel_options, virtual_device, offload_copy, observing=by_ref.observing)
        assert done.report.swapped == done.report.eligible == 1 + others, done.report.summary()
        assert [len(subgraph.results) for subgraph in done.subgraphs] == [results] + [1] * others
        assert done.report.subgraphs[0].kernel.launches == 2
        inputs = inputs_of(plain)
        actual = run_on_device(done, virtual_device, inputs, offload_copy)
        for mine, theirs in zip(actual, on_ref(plain, inputs), strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert (by_ref.checked, by_ref.wrong) == (results + others, [])
        del done


def test_two_kernels_where_nobody_asks(virtual_device, kernel_options):
    done = chosen(one_result(), kernel_options, virtual_device, compute=False)
    assert [subgraph.operators.count("dot") for subgraph in done.subgraphs] == [1, 1]
