"""Products of few rows for GPUs on which IREE fails at them as they are: the form DENSE."""

import dataclasses

import pytest

from iree_migraphx.errors import Refusal
from iree_migraphx.kernels.model import GpuKernel, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.emit import lower
from iree_migraphx.lowering.form import Form
from programs import Builder, assert_equal, inputs_of, kernels_of, on_iree, on_ref, operands_of, subgraphs_of


def dot(a, b, type_="half_type", strides=None):
    builder = Builder()
    factors = builder.param("a", a, type_), builder.param("b", b, type_, strides)
    return builder.build(builder.op("relu", builder.op("dot", *factors)))


def conv(x, w, group=1, type_="half_type"):
    rank, builder = len(x) - 2, Builder()
    fields = {"padding": [1] * rank, "stride": [1] * rank, "dilation": [1] * rank, "group": group, "padding_mode": 0}
    value = builder.op("convolution", builder.param("x", x, type_), builder.param("w", w, type_), **fields)
    return builder.build(builder.op("relu", value))


PROGRAMS = {
    "rows": dot((8, 128), (128, 32)),
    "rows-bf16": dot((6, 128), (128, 32), "bf16_type"),
    "batches": dot((3, 8, 128), (3, 128, 32)),
    "both": dot((8, 128), (128, 8)),
    "filters": conv((1, 128, 6, 6), (8, 128, 3, 3)),
    "filters-of-groups": conv((1, 256, 6, 6), (16, 128, 3, 3), group=2),
    "1d": conv((1, 128, 20), (4, 128, 3)),
}
#: Rows, or what looks like rows, that IREE computes as they are.
OTHERS = {
    "many": dot((16, 128), (128, 32)),
    "repeated-b": dot((2, 8, 128), (2, 128, 32), strides=(0, 32, 1)),
    "depth": dot((8, 96), (96, 32)),
    "float": dot((8, 128), (128, 32), "float_type"),
    "filters": conv((1, 128, 6, 6), (16, 128, 3, 3)),
}


def only(program):
    (subgraph,) = subgraphs_of(program, Form.DENSE)
    return subgraph


@pytest.fixture(scope="module")
def computed(kernel_options):
    return kernels_of([only(program) for program in PROGRAMS.values()], Form.DENSE, kernel_options)


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_numbers(computed, name):
    subgraph = only(PROGRAMS[name])
    inputs = inputs_of(PROGRAMS[name], limit=1)
    actual = on_iree(subgraph, computed[subgraph.key].kernel, operands_of(subgraph, PROGRAMS[name], inputs))
    assert_equal(actual, on_ref(PROGRAMS[name], inputs)[0])


def on_gpu(arch, form, options):
    made = [
        Request(f"kernel_{number}", lower(only(program), f"kernel_{number}", form), 3, "dot")
        for number, program in enumerate(PROGRAMS.values())
    ]
    outcomes = compile_kernels(made, parse_target(arch), dataclasses.replace(options, timeout=300))
    return {name: outcome.kernel for name, outcome in zip(PROGRAMS, outcomes, strict=True)}


@pytest.mark.parametrize("arch", ["gfx90a", "gfx950"])
def test_one_launch(kernel_options, arch):
    assert forms.form_for(arch).dense
    kernels = on_gpu(arch, forms.form_for(arch), kernel_options)
    assert all(isinstance(kernel, GpuKernel) for kernel in kernels.values()), kernels


def test_iree_still_fails_without(kernel_options):
    """When it no longer does, the form can go."""
    kernels = on_gpu("gfx90a", Form.OPERANDS, kernel_options)
    assert {name for name, kernel in kernels.items() if isinstance(kernel, Refusal)} >= {"rows", "filters"}


@pytest.mark.parametrize("name", OTHERS)
def test_anything_else_is_written_as_for_other_gpus(name):
    subgraph = only(OTHERS[name])
    assert lower(subgraph, "kernel", Form.DENSE) == lower(subgraph, "kernel", Form.OPERANDS)
