"""Numbers of 4 bits, two in a byte: packing and unpacking along each axis, and in front of an anchor."""

import numpy as np
import pytest

import batches
import iree_migraphx
from iree_migraphx import binding
from iree_migraphx.lowering.packed import PACKED
from programs import Builder, assert_equal, inputs_of, loaded, on_ref

BYTES = {
    "int8_type": np.arange(-128, 128, dtype=np.int8).reshape(8, 4, 8),
    "uint8_type": np.arange(256, dtype=np.uint8).reshape(8, 4, 8),
}
#: Around every tie of a 4-bit float, and what is none.
FLOATS = np.array(
    [[s * (t + d) for s in (1, -1) for d in (-0.1, 0, 0.1)] for t in (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0, 0.1)]
    + [[0.0, -0.0, np.inf, -np.inf, np.nan, 100.0]],
    np.float32,
)


def test_each_operator_is_tested():
    assert set(PACKED) == {"pack_int4", "unpack_int4", "pack_fp4", "unpack_fp4"}


@pytest.mark.parametrize("type_", BYTES)
def test_int4(kernel_options, type_):
    programs = []
    for operator in ("pack_int4", "unpack_int4"):
        for axis in (-1, 0, 1):
            b = Builder()
            programs.append(b.build(b.op(operator, b.param("x", BYTES[type_].shape, type_), axis=axis)))
    b = Builder()
    moved = b.op("transpose", b.param("x", BYTES[type_].shape, type_), permutation=[2, 0, 1])
    programs.append(b.build(b.op("unpack_int4", moved, axis=1)))
    batch = batches.compiled(programs, kernel_options)
    given = {"x": BYTES[type_]}
    for index, program in enumerate(programs):
        assert_equal(batch.run(index, given), on_ref(program, given)[0])


@pytest.mark.parametrize("type_", ["float_type", "half_type", "double_type", "fp8e4m3fn_type"])
def test_fp4_there_and_back(kernel_options, type_):
    with np.errstate(over="ignore"):
        values = FLOATS.astype(batches.DTYPES[type_])
    programs = []
    for axis in (-1, 0) if len(values) % 2 == 0 else (-1,):
        b = Builder()
        packed = b.op("pack_fp4", b.param("x", values.shape, type_), axis=axis)
        programs.append(b.build(b.op("unpack_fp4", packed, axis=axis)))
    batch = batches.compiled(programs, kernel_options)
    for index, program in enumerate(programs):
        actual, expected = batch.run(index, {"x": values}), on_ref(program, {"x": values})[0]
        assert actual.tobytes() == expected.tobytes()


def quantized_weights(b):
    """Weights of 4 bits with a scale a channel, as models have them."""
    x, w = b.param("x", (3, 8)), b.param("w", (8, 3), "int8_type")
    scale = b.op("broadcast", b.param("s", (6,)), axis=1, out_lens=[8, 6])
    whole = b.op("dequantizelinear", b.op("unpack_int4", w, axis=1), scale)
    return b.op("relu", b.op("dot", x, whole))


def weights_of_fp4(b):
    """The bytes with two floats come from a packing that MIGraphX does."""
    x, w = b.param("x", (3, 8)), b.param("w", (8, 6))
    packed = b.op("pack_fp4", w, axis=1)
    return b.op("dot", x, b.op("convert", b.op("unpack_fp4", packed, axis=1), target_type=2))


def dequantized_images(b):
    """A quantized convolution: both operands, and padding whose zeros are zeros after dequantization."""
    scale = b.spread(b.literal(0.5), (1, 2, 5, 5))
    zero = b.spread(b.literal(3, "uint8_type"), (1, 2, 5, 5))
    x = b.op("dequantizelinear", b.param("x", (1, 2, 5, 5), "uint8_type"), scale, zero)
    w = b.op("dequantizelinear", b.param("w", (3, 2, 3, 3), "int8_type"), b.spread(b.literal(0.25), (3, 2, 3, 3)))
    return b.conv(x, w, padding=[1, 1])


@pytest.mark.parametrize(
    "make, inside",
    [
        (quantized_weights, ["broadcast", "unpack_int4", "dequantizelinear", "dot", "relu"]),
        (weights_of_fp4, ["unpack_fp4", "convert", "dot"]),
        (dequantized_images, ["dequantizelinear", "dequantizelinear", "convolution"]),
    ],
)
def test_in_front_of_an_anchor(kernel_options, make, inside):
    b = Builder()
    program = b.build(make(b))
    compiled = iree_migraphx.compile(loaded(program), binding.get_target("ref"), options=kernel_options)
    report = compiled.iree_report
    anchored = [s for s in report.subgraphs if s.anchor in ("dot", "convolution")]
    assert [s.provider for s in anchored] == ["iree"], report.summary()
    assert sorted(o for o in anchored[0].operators if o != "multibroadcast") == sorted(inside)
    inputs = inputs_of(program)
    np.testing.assert_allclose(np.array(compiled.run(inputs)[0]), on_ref(program, inputs)[0], rtol=1e-6)


def test_a_value_that_others_read_too_is_computed_once(kernel_options):
    b = Builder()
    w = b.op("dequantizelinear", b.param("w", (8, 6), "int8_type"), b.spread(b.literal(0.5), (8, 6)))
    program = b.build(b.op("dot", b.param("x", (3, 8)), w), w)
    compiled = iree_migraphx.compile(loaded(program), binding.get_target("ref"), options=kernel_options)
    (anchored,) = [s for s in compiled.iree_report.subgraphs if s.anchor == "dot"]
    assert "dequantizelinear" not in anchored.operators
    inputs = inputs_of(program)
    for actual, expected in zip(compiled.run(inputs), on_ref(program, inputs), strict=True):
        np.testing.assert_array_equal(np.array(actual), expected)
