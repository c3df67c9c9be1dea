"""Convolutions and dots of every kind, in both forms, against MIGraphX. Whole numbers make every sum exact."""

from dataclasses import dataclass, field

import numpy as np
import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import DTYPES, Shape
from iree_migraphx.kernels.model import GpuKernel
from iree_migraphx.lowering.anchors import ANCHORS, Form
from iree_migraphx.lowering.emit import lower
from iree_migraphx.lowering.types import TYPES
from programs import (
    LAYOUTS,
    Builder,
    assert_equal,
    body_of,
    inputs_of,
    integers,
    kernels_of,
    on_iree,
    on_ref,
    operands_of,
    parameters,
    subgraphs_of,
)
from random_programs.gpus import gpu_kernels


@dataclass(frozen=True)
class Row:
    """One anchor: lengths of both operands, fields; and their strides where they are not row-major."""

    name: str
    a: tuple
    b: tuple
    fields: dict = field(default_factory=dict)
    strides: tuple = (None, None)
    half: bool = False


def conv(x, w, half=False, strides=(None, None), **fields):
    rank = len(x) - 2
    given = {"padding": [0] * rank, "stride": [1] * rank, "dilation": [1] * rank, "group": 1, "padding_mode": 0}
    return Row("convolution", x, w, given | fields, strides, half)


def backwards(x, w, stride, half=False, strides=(None, None), **fields):
    rank = len(stride)
    given = {"padding": [0] * rank, "stride": stride, "dilation": [1] * rank, "group": 1, "padding_mode": 0}
    return Row("convolution_backwards", x, w, given | fields, strides, half)


def dot(a, b, half=False, strides=(None, None)):
    return Row("dot", a, b, {}, strides, half)


TABLE = {
    "3x3": conv((1, 4, 6, 7), (5, 4, 3, 3), half=True, padding=[1, 1]),
    "3x3-batch": conv((3, 2, 5, 5), (4, 2, 3, 3)),
    "1x1": conv((2, 4, 5, 6), (3, 4, 1, 1), half=True),
    "1x1-stride": conv((1, 4, 7, 8), (3, 4, 1, 1), half=True, stride=[2, 3]),
    "1x1-padded": conv((1, 4, 5, 6), (3, 4, 1, 1), padding=[1, 2]),
    "1x1-stride-padded": conv((1, 4, 5, 6), (3, 4, 1, 1), padding=[1, 1], stride=[2, 2]),
    "1x3": conv((1, 3, 5, 8), (4, 3, 1, 3), padding=[0, 1], stride=[2, 1]),
    "one-filter": conv((1, 3, 5, 5), (1, 3, 3, 3), padding=[1, 1]),
    "one-channel": conv((1, 1, 6, 6), (4, 1, 3, 3), padding=[1, 1]),
    "one-everything": conv((1, 1, 3, 3), (1, 1, 3, 3)),
    "one-pixel": conv((1, 8, 1, 1), (4, 8, 1, 1), half=True),
    "one-column": conv((1, 3, 9, 1), (4, 3, 3, 1), padding=[1, 0]),
    "stride": conv((1, 3, 9, 10), (4, 3, 3, 3), padding=[1, 1], stride=[2, 2]),
    "stride-over-kernel": conv((1, 3, 11, 11), (4, 3, 2, 2), stride=[3, 4]),
    "kernel-over-stride": conv((1, 3, 15, 15), (4, 3, 7, 7), padding=[3, 3], stride=[2, 2]),
    "dilation": conv((1, 3, 9, 11), (4, 3, 3, 3), padding=[2, 3], dilation=[2, 3]),
    "asymmetric": conv((1, 3, 6, 7), (4, 3, 3, 2), padding=[0, 1, 2, 0]),
    "everything": conv((2, 4, 9, 11), (6, 2, 3, 2), padding=[1, 0, 2, 1], stride=[2, 1], dilation=[1, 2], group=2),
    "groups": conv((1, 6, 5, 5), (4, 3, 3, 3), half=True, padding=[1, 1], group=2),
    "groups-batch": conv((2, 6, 5, 5), (6, 2, 2, 2), group=3),
    "groups-1x1": conv((1, 6, 4, 4), (4, 3, 1, 1), group=2),
    "groups-one-filter": conv((1, 6, 5, 5), (2, 3, 3, 3), group=2),
    "depthwise": conv((1, 6, 7, 7), (6, 1, 3, 3), half=True, padding=[1, 1], group=6),
    "depthwise-stride": conv((2, 4, 8, 9), (4, 1, 3, 3), padding=[1, 1], stride=[2, 2], group=4),
    "depthwise-dilation": conv((1, 4, 9, 9), (4, 1, 3, 3), padding=[2, 2], dilation=[2, 2], group=4),
    "depthwise-1x1": conv((1, 4, 5, 5), (4, 1, 1, 1), group=4),
    "depthwise-multiplier": conv((1, 3, 6, 6), (6, 1, 3, 3), padding=[1, 1], group=3),
    "1d": conv((2, 3, 10), (4, 3, 3), half=True, padding=[1]),
    "1d-everything": conv((1, 4, 12), (6, 2, 3), padding=[2, 1], stride=[2], dilation=[2], group=2),
    "1d-depthwise": conv((1, 4, 9), (4, 1, 3), padding=[1], group=4),
    "3d": conv((1, 2, 4, 5, 6), (3, 2, 2, 3, 3), half=True, padding=[0, 1, 1]),
    "3d-everything": conv((1, 4, 5, 6, 7), (4, 2, 2, 3, 1), stride=[1, 2, 2], dilation=[2, 1, 1], group=2),
    "nhwc": conv((2, 4, 5, 6), (3, 4, 3, 3), strides=((120, 1, 24, 4), None)),
    "repeated-image": conv((2, 4, 5, 6), (3, 4, 3, 3), strides=((0, 30, 6, 1), (36, 9, 1, 3)), padding=[1, 1]),
    "repeated-filters": conv((1, 4, 5, 6), (3, 4, 3, 3), strides=(None, (0, 0, 3, 1)), padding=[1, 1]),
    "repeated-along-channels": conv((2, 33, 5, 6), (3, 33, 3, 3), strides=(None, (9, 0, 3, 1)), padding=[1, 1]),
    "repeated-pixel": conv((1, 4, 5, 6), (3, 4, 3, 3), strides=((4, 1, 0, 0), None), padding=[1, 1]),
    "repeated-taps": conv((1, 2, 5, 5), (3, 2, 3, 3), strides=(None, (2, 1, 0, 0))),
    "repeated-channels": conv((1, 2, 5, 5), (3, 2, 3, 3), strides=((25, 0, 5, 1), (9, 0, 3, 1))),
    "1x1-stride-permuted": conv((1, 4, 7, 8), (3, 4, 1, 1), strides=(None, (1, 3, 1, 1)), stride=[2, 3]),
    "one-output": conv((2, 3, 4, 5), (4, 3, 3, 2), stride=[2, 4]),
    "one-output-padded": conv((2, 3, 2, 2), (4, 3, 3, 3), padding=[1, 1], stride=[2, 2]),
    "one-output-dilated": conv((1, 3, 6, 7), (4, 3, 3, 2), stride=[2, 5], dilation=[2, 3]),
    "one-output-1d": conv((3, 2, 4), (1, 2, 3), stride=[2]),
    "transposed": backwards((1, 3, 4, 5), (3, 6, 2, 2), [2, 2], half=True),
    "transposed-equal-channels": backwards((2, 2, 2, 2), (2, 3, 1, 2), [1, 2], strides=((2, 0, 1, 4), (0, 1, 3, 3))),
    "transposed-1d": backwards((2, 3, 5), (3, 4, 3), [3]),
    "transposed-1x1": backwards((1, 3, 4, 5), (3, 4, 1, 1), [1, 1]),
    "transposed-3x3": backwards((2, 3, 4, 5), (3, 4, 3, 3), [2, 2], half=True, padding=[1, 1]),
    "transposed-4x4": backwards((1, 3, 4, 5), (3, 4, 4, 4), [2, 2], half=True, padding=[1, 1]),
    "transposed-stride-1": backwards((1, 3, 4, 5), (3, 4, 3, 2), [1, 1], padding=[1, 0]),
    "transposed-gaps": backwards((1, 3, 4, 5), (3, 4, 2, 1), [3, 2]),
    "transposed-far-padding": backwards((1, 3, 4, 5), (3, 4, 3, 3), [2, 1], padding=[3, 2]),
    "transposed-groups": backwards((2, 4, 4, 5), (4, 3, 3, 2), [2, 1], half=True, padding=[1, 0], group=2),
    "transposed-groups-tiles": backwards((1, 4, 4, 5), (4, 3, 2, 2), [2, 2], group=2),
    "transposed-depthwise": backwards((1, 4, 4, 5), (4, 1, 4, 4), [2, 2], half=True, padding=[1, 1], group=4),
    "transposed-dilation": backwards((1, 3, 4, 5), (3, 4, 3, 2), [2, 1], padding=[1, 2], dilation=[2, 3]),
    "transposed-everything": backwards((2, 4, 4, 3), (4, 2, 3, 2), [3, 2], padding=[2, 1], dilation=[2, 3], group=2),
    "transposed-mode": backwards((1, 3, 4, 5), (3, 4, 3, 3), [2, 2], padding=[1, 1], padding_mode=1),
    "transposed-1d-overlap": backwards((2, 3, 5), (3, 4, 5), [2], half=True, padding=[1]),
    "transposed-1d-groups": backwards((2, 4, 5), (4, 3, 3), [2], padding=[1], group=2),
    "transposed-3d": backwards((1, 2, 3, 4, 2), (2, 3, 3, 2, 3), [2, 1, 2], half=True, padding=[1, 0, 1]),
    "transposed-3d-everything": backwards((1, 4, 3, 2, 2), (4, 2, 2, 3, 2), [2, 1, 3], dilation=[1, 2, 1], group=2),
    "transposed-nhwc": backwards((2, 3, 4, 5), (3, 4, 3, 3), [2, 2], strides=((60, 1, 15, 3), (1, 3, 36, 12))),
    "transposed-repeated": backwards((2, 3, 4, 5), (3, 4, 3, 3), [2, 2], strides=((0, 20, 5, 1), (0, 3, 0, 1))),
    "dot": dot((5, 7), (7, 6), half=True),
    "dot-3d": dot((3, 5, 7), (3, 7, 6), half=True),
    "dot-4d": dot((2, 3, 4, 5), (2, 3, 5, 6)),
    "dot-5d": dot((2, 1, 2, 3, 4), (2, 1, 2, 4, 5)),
    "dot-m1": dot((1, 7), (7, 6), half=True),
    "dot-n1": dot((5, 7), (7, 1), half=True),
    "dot-k1": dot((5, 1), (1, 6)),
    "dot-all-1": dot((1, 1), (1, 1)),
    "dot-batch-m1": dot((3, 1, 7), (3, 7, 2)),
    "dot-transposed-b": dot((5, 7), (7, 6), half=True, strides=(None, (1, 7))),
    "dot-transposed-a": dot((5, 7), (7, 6), strides=((1, 5), None)),
    "dot-transposed-both": dot((2, 5, 7), (2, 7, 6), strides=((35, 1, 5), (42, 1, 7))),
    "dot-repeated-b": dot((3, 5, 7), (3, 7, 6), strides=(None, (0, 6, 1))),
    "dot-repeated-both": dot((3, 7, 11), (3, 11, 13), half=True, strides=((0, 11, 1), (0, 13, 1))),
    "dot-repeated-batch": dot((2, 3, 5, 7), (2, 3, 7, 6), strides=((0, 35, 7, 1), (0, 0, 6, 1))),
    "dot-repeated-both-k": dot((3, 5, 7), (3, 7, 6), strides=((0, 1, 0), (0, 6, 1))),
    "dot-repeated-k": dot((5, 7), (7, 6), strides=((1, 0), (0, 1))),
    "dot-repeated-row": dot((3, 5, 7), (3, 7, 6), strides=((7, 0, 1), (0, 1, 0))),
    "dot-batch-inside": dot((4, 5, 6), (4, 6, 7), strides=((6, 24, 1), (1, 28, 4))),
}
#: The type changes nothing about the form, so that a few will do.
HALF_CHANNELS_LAST = (
    "3x3",
    "1x1-stride",
    "depthwise",
    "transposed",
    "transposed-3x3",
    "transposed-4x4",
    "transposed-groups",
)
CASES = [
    (name, type_, form)
    for name, row in TABLE.items()
    for type_ in ("float_type", "half_type")
    for form in LAYOUTS
    if (type_ == "float_type" or (row.half and (form is Form.OPERANDS or name in HALF_CHANNELS_LAST)))
    and (form is Form.OPERANDS or row.name != "dot")
]


def program(name, type_, form):
    """The anchor, a bias and relu. The second operand is a constant where convolutions are computed channels-last."""
    row, builder = TABLE[name], Builder()
    a = builder.param("a", row.a, type_, row.strides[0])
    if form is Form.OPERANDS:
        b = builder.param("b", row.b, type_, row.strides[1])
    else:
        b = builder.literal(integers(Shape.standard_of(type_, row.b), 77), type_)
    value = builder.op(row.name, a, b, **row.fields)
    if row.name == "dot":
        return builder.build(builder.op("relu", value))
    lens = builder.build(value).main.by_id()
    lens = next(i.shape.lens for i in lens.values() if i.name == row.name)
    bias = builder.op("broadcast", builder.param("c", (lens[1],), type_), axis=1, out_lens=list(lens))
    return builder.build(builder.op("relu", builder.op("add", value, bias)))


def only(program, form):
    (subgraph,) = subgraphs_of(program, form, standard_operands=form is Form.CHANNELS_LAST)
    return subgraph


@pytest.fixture(scope="module")
def computed(kernel_options):
    """Everything compiled at once: programs, and the kernels by key."""
    made = {case: program(*case) for case in CASES}
    kernels = {}
    for form in LAYOUTS:
        kernels |= kernels_of([only(p, form) for case, p in made.items() if case[-1] is form], form, kernel_options)
    return made, kernels


def test_the_table_is_complete():
    assert {row.name for row in TABLE.values()} | {name.split("-")[0] for name in QUANTIZED} == set(ANCHORS)


@pytest.mark.parametrize("name, type_, form", CASES, ids=lambda value: getattr(value, "value", value))
def test_anchor(computed, name, type_, form):
    made, kernels = computed
    program = made[name, type_, form]
    subgraph = only(program, form)
    assert "relu" in subgraph.operators
    kernel = kernels[subgraph.key].kernel
    assert not isinstance(kernel, Refusal), kernel
    inputs = inputs_of(program)
    assert_equal(on_iree(subgraph, kernel, operands_of(subgraph, program, inputs)), on_ref(program, inputs)[0])


@pytest.mark.parametrize("gpu", ["gfx942", "gfx1100"])
def test_on_gpus(kernel_options, gpu):
    """Odd lengths and layouts are what IREE's GPU code has trouble with."""
    programs = [program(name, "float_type", Form.OPERANDS) for name in TABLE]
    made = dict(zip(TABLE, gpu_kernels(programs, gpu, kernel_options), strict=True))
    assert not {name: kernel for name, kernel in made.items() if isinstance(kernel, Refusal)}
    assert isinstance(made["dot-repeated-both"], GpuKernel)


@pytest.mark.parametrize("form", LAYOUTS)
@pytest.mark.parametrize(
    "row",
    [
        conv((1, 2, 2, 2), (3, 2, 3, 3)),
        conv((1, 2, 5, 5), (3, 2, 3, 3), padding=[1, 1], padding_mode=1),
        conv((1, 2, 5, 2), (3, 2, 3, 2), dilation=[1, 2]),
        conv((1, 2, 1, 5), (3, 2, 2, 2), padding=[2, 0, 1, 0], stride=[3, 1]),
    ],
    ids=[
        "window-over-input",
        "padding-at-run-time",
        "dilated-window-over-input",
        "padding-only",
    ],
)
def test_refused(row, form):
    builder = Builder()
    value = builder.op(row.name, builder.param("a", row.a), builder.param("b", row.b), **row.fields)
    subgraph = only(builder.build(value), form)
    with pytest.raises(Refusal) as refusal:
        lower(subgraph, "kernel", form)
    assert refusal.value.reason is Reason.UNSUPPORTED_OPERATOR


FP8 = tuple(type_ for type_ in TYPES if type_.startswith("fp8"))
QUANTIZED = {
    "quant_dot": (dot((2, 5, 19), (2, 19, 6)), ("int8_type", "uint8_type", *FP8)),
    "quant_dot-transposed": (dot((5, 19), (19, 6), strides=(None, (1, 19))), ("int8_type",)),
    "quant_convolution": (conv((1, 4, 6, 7), (5, 4, 3, 3), padding=[1, 1], stride=[2, 1]), ("int8_type", *FP8)),
    "quant_convolution-1x1": (conv((2, 4, 5, 6), (3, 4, 1, 1)), ("int8_type",)),
    "quant_convolution-groups": (conv((1, 6, 5, 5), (4, 3, 3, 3), padding=[0, 1, 2, 0], group=2), ("int8_type",)),
    "quant_convolution-depthwise": (conv((1, 6, 7, 7), (6, 1, 3, 3), padding=[1, 1], group=6), ("int8_type",)),
    "quant_convolution-1d": (conv((2, 3, 10), (4, 3, 3), padding=[1]), ("int8_type",)),
    "quant_convolution-3d": (conv((1, 2, 4, 5, 6), (3, 2, 2, 3, 3), padding=[0, 1, 1]), ("int8_type",)),
}
QUANTIZED_CASES = [(name, type_, form) for name, (_, types) in QUANTIZED.items() for type_ in types for form in LAYOUTS]


def quantized(name, type_):
    """The anchor over the whole range of its type, and what brings its sums back to float."""
    row, b = QUANTIZED[name][0], Builder()
    value = b.op(
        name.split("-")[0], b.param("a", row.a, type_, row.strides[0]), b.param("b", row.b, type_), **row.fields
    )
    lens = b.build(value).main.instructions[-2].shape.lens
    return b.build(b.op("mul", b.op("convert", value, target_type=2), b.spread(b.literal(0.125), lens)))


@pytest.fixture(scope="module")
def quantized_kernels(kernel_options):
    subgraphs = {
        form: [only(quantized(*case[:2]), form) for case in QUANTIZED_CASES if case[2] is form] for form in LAYOUTS
    }
    return {form: kernels_of(each, form, kernel_options) for form, each in subgraphs.items()}


@pytest.mark.parametrize("name, type_, form", QUANTIZED_CASES, ids=lambda value: getattr(value, "value", value))
def test_quantized(quantized_kernels, name, type_, form):
    program = quantized(name, type_)
    subgraph = only(program, form)
    kernel = quantized_kernels[form][subgraph.key].kernel
    assert not isinstance(kernel, Refusal), kernel
    random = np.random.default_rng(9)
    inputs = {}
    for key, shape in parameters(program).items():
        values = random.integers(0, 256, shape.lens, dtype=np.uint8)
        if shape.type in FP8:
            # Whole numbers, whose sums of products are exact.
            values = (values % 17 - 8.0).astype(shape.dtype).view(np.uint8)
        inputs[key] = np.asarray(values.view(shape.dtype))
    assert_equal(on_iree(subgraph, kernel, operands_of(subgraph, program, inputs)), on_ref(program, inputs)[0])


@pytest.mark.parametrize("scales", [False, True])
def test_quantized_floats_and_blocks_are_refused(scales):
    """MIGraphX's own ref has no sums for scaled blocks."""
    b, type_ = Builder(), "fp8e4m3fn_type" if scales else "float_type"
    operands = [b.param("a", (3, 4), type_), b.param("b", (4, 5), type_)]
    if scales:
        operands += [b.param("c", (3, 4)), b.param("d", (4, 5))]
    with pytest.raises(Refusal) as refusal:
        lower(only(b.build(b.op("quant_dot", *operands)), Form.OPERANDS), "kernel")
    assert refusal.value.reason is (Reason.UNSUPPORTED_OPERATOR if scales else Reason.UNSUPPORTED_TYPE)


@pytest.mark.parametrize("form", LAYOUTS)
@pytest.mark.parametrize("type_", sorted(set(TYPES) - {"half_type", "float_type", "bool_type"}))
def test_every_type(kernel_options, type_, form):
    """A dot, and a convolution with padding, over small whole numbers."""
    b = Builder()
    x, w = b.param("x", (1, 2, 4, 4), type_), b.param("w", (3, 2, 3, 3), type_)
    d = b.op("dot", b.param("a", (3, 4), type_), b.param("b", (4, 5), type_))
    program = b.build(b.conv(x, w, padding=[1, 1, 1, 1]), d)
    # More would round, or be saturated, in 8 bits.
    inputs = inputs_of(program, limit=1)
    subgraphs = subgraphs_of(program, form, standard_operands=True)
    kernels = kernels_of(subgraphs, form, kernel_options)
    for subgraph in subgraphs:
        body, kernel = body_of(subgraph), kernels[subgraph.key].kernel
        assert not isinstance(kernel, Refusal), kernel
        given = operands_of(subgraph, program, inputs)
        np.testing.assert_array_equal(on_iree(subgraph, kernel, given), on_ref(body, given)[0])


@pytest.mark.parametrize("form", LAYOUTS)
@pytest.mark.parametrize("type_", ["float_type", "half_type"])
@pytest.mark.parametrize(
    "row", [conv((1, 32, 9, 9), (24, 32, 3, 3), padding=[1, 1]), dot((24, 600), (600, 40))], ids=["convolution", "dot"]
)
def test_sums_are_as_exact_as_their_type(kernel_options, row, type_, form):
    """IREE sums in float: each sum is within the rounding of its products and additions, and of the result."""
    builder = Builder()
    value = builder.op(row.name, builder.param("a", row.a, type_), builder.param("b", row.b, type_), **row.fields)
    program = builder.build(value)
    random = np.random.default_rng(5)
    inputs = {
        name: (random.random(shape.lens) - 0.5).astype(shape.dtype) for name, shape in parameters(program).items()
    }
    subgraph = only(program, form)
    kernel = kernels_of([subgraph], form, kernel_options)[subgraph.key].kernel
    actual = on_iree(subgraph, kernel, operands_of(subgraph, program, inputs)).astype(np.float64)
    (expected,) = on_ref(program, inputs)
    (sizes,) = on_ref(program, {name: np.abs(value) for name, value in inputs.items()})
    depth = np.prod(row.b[1:]) if row.name == "convolution" else row.b[0]
    summing = depth * np.finfo(np.float32).eps * sizes.astype(np.float64)
    # MIGraphX rounds each product of a half convolution to a half, and each result toward zero.
    products = sizes.astype(np.float64) * np.finfo(DTYPES[type_]).eps if row.name == "convolution" else 0.0
    rounding = np.abs(expected.astype(np.float64)) * 1.5 * np.finfo(DTYPES[type_]).eps
    error = np.abs(actual - expected.astype(np.float64))
    assert (error <= summing + products + rounding).all()
    assert np.any(expected != 0)
