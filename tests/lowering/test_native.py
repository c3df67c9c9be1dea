"""8-bit floats as GPUs' matrix instructions take them: the numbers on this machine's CPU, the launches for the GPUs."""

import itertools

import numpy as np
import pytest

from iree_migraphx.kernels.model import GpuKernel, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.emit import lower
from iree_migraphx.lowering.native import parameter_types
from iree_migraphx.lowering.types import NATIVE, memory_type
from iree_migraphx.splice import runtime
from programs import Builder, inputs_of, kernels_of, on_iree, on_ref, operands_of, subgraphs_of

GPUS = {"gfx942": Form.FNUZ, "gfx950": Form.DENSE_OCP, "gfx1201": Form.OCP}
CASES = [(type_, form) for form in GPUS.values() for type_ in sorted(form.float8)]
#: As IREE's runtime names them.
NAMES = {
    "fp8e4m3fn_type": "FLOAT_8_E4M3_FN",
    "fp8e4m3fnuz_type": "FLOAT_8_E4M3_FNUZ",
    "fp8e5m2_type": "FLOAT_8_E5M2",
    "fp8e5m2fnuz_type": "FLOAT_8_E5M2_FNUZ",
}


@pytest.fixture
def native_operands(monkeypatch):
    """The CPU's runtime says that operands are what the function takes."""
    known = runtime._element_type

    def element_type(r, type_):
        return getattr(r.HalElementType, NAMES[type_]) if type_ in NAMES else known(r, type_)

    monkeypatch.setattr(runtime, "_element_type", element_type)


def only(program, form):
    (subgraph,) = subgraphs_of(program, form)
    return subgraph


def every_product(type_):
    b = Builder()
    return b.build(b.op("quant_dot", b.param("x", (256, 1), type_), b.param("y", (1, 256), type_)))


def window(type_):
    """Padding, a stride and an operand by way of a transpose."""
    b = Builder()
    x = b.op("transpose", b.param("x", (1, 9, 8, 4), type_), permutation=[0, 3, 1, 2])
    return b.build(
        b.op("convert", b.conv(x, b.param("w", (6, 4, 3, 3), type_), padding=[1, 1], stride=[2, 1]), target_type=2)
    )


def computed(program, inputs, form, options):
    subgraph = only(program, form)
    kernel = kernels_of([subgraph], form, options)[subgraph.key].kernel
    return on_iree(subgraph, kernel, operands_of(subgraph, program, inputs))


@pytest.mark.parametrize("type_, form", CASES)
def test_every_product(kernel_options, native_operands, type_, form):
    program = every_product(type_)
    dtype = program.main.instructions[0].shape.dtype
    values = np.arange(256, dtype=np.uint8).view(dtype)
    if type_ == "fp8e4m3fn_type":
        # IREE takes the NaN of this type for 480 on CPUs, which have no instructions for it.
        values = np.where(np.isnan(values.astype(np.float32)), dtype.type(1), values)
    inputs = {"x": values.reshape(256, 1), "y": values.reshape(1, 256)}
    actual, (expected,) = computed(program, inputs, form, kernel_options), on_ref(program, inputs)
    np.testing.assert_array_equal(actual, expected)
    assert np.isnan(expected).any() == (type_ != "fp8e4m3fn_type")


@pytest.mark.parametrize("type_, form", CASES)
def test_convolutions(kernel_options, native_operands, type_, form):
    program = window(type_)
    inputs = inputs_of(program, limit=1)
    np.testing.assert_array_equal(computed(program, inputs, form, kernel_options), on_ref(program, inputs)[0])


@pytest.mark.parametrize("gpu", GPUS)
def test_one_launch(kernel_options, gpu):
    form = forms.form_for(gpu)
    assert form is GPUS[gpu]
    requests = []
    for number, (type_, made) in enumerate(itertools.product(sorted(form.float8), (every_product, window))):
        text = lower(only(made(type_), form), f"kernel_{number}", form)
        assert text.count(f"x{memory_type(NATIVE[type_])}>") > 1 and "xi8>" not in text
        requests.append(Request(f"kernel_{number}", text, 3, "dot"))
    outcomes = compile_kernels(requests, parse_target(gpu), kernel_options)
    assert all(isinstance(outcome.kernel, GpuKernel) for outcome in outcomes), outcomes


def test_only_for_what_anchors_read():
    """The bits of an operand that something else reads, too, are wanted."""
    b, type_ = Builder(), "fp8e4m3fnuz_type"
    x, y = b.param("x", (4, 4), type_), b.param("y", (4, 4), type_)
    subgraph = only(b.build(b.op("add", b.op("dot", x, y), y)), Form.FNUZ)
    assert list(parameter_types(subgraph, Form.FNUZ).values()) == [NATIVE[type_], type_]
    for form in (Form.OPERANDS, Form.OCP, Form.CHANNELS_LAST):
        assert set(parameter_types(subgraph, form).values()) == {type_}
