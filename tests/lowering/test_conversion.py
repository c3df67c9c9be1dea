"""Operators that change the type: convert between all pairs, quantization, bit_cast, where, against MIGraphX."""

import numpy as np
import pytest

import batches
from iree_migraphx.binding.datatypes import type_t
from iree_migraphx.ir.model import DTYPES
from iree_migraphx.lowering.types import TYPES, is_float, limits
from lowering.test_pointwise import edges, message, spacing
from programs import Builder, on_ref

#: Sources whose conversions to every type are tested; of the others each fourth one.
WHOLLY = ("float_type", "half_type")
PAIRS = [
    (source, target)
    for i, source in enumerate(TYPES)
    for j, target in enumerate(TYPES)
    if source in WHOLLY or (i + j) % 4 == 0
]
HALFWAY = (-2049.5, 65519.0, 1e5, -1e5, 300.0, -200.0, 464.0, 0.6, -0.6, 4294967040.0, 1e10, -1e10)


def code(type_):
    return int(type_t[type_])


def values_of(type_):
    values = edges(type_)
    if is_float(type_):
        with np.errstate(over="ignore"):
            values = np.concatenate([values, np.array(HALFWAY).astype(values.dtype)])
    return values


@pytest.fixture(scope="module")
def converted(kernel_options):
    """Source and target -> (values, what IREE makes of them, what MIGraphX does)."""
    programs = []
    for source, target in PAIRS:
        b = Builder()
        x = b.param("x", values_of(source).shape, source)
        programs.append(b.build(b.op("convert", x, target_type=code(target))))
    batch = batches.compiled(programs, kernel_options)
    found = {}
    for index, pair in enumerate(PAIRS):
        inputs = {"x": values_of(pair[0])}
        found[pair] = inputs["x"], batch.run(index, inputs), on_ref(programs[index], inputs)[0]
    return found


def has_meaning(values, source, target):
    """Where C++ says what op/convert.hpp does: no integer overflows when one is made of a float."""
    wide = values.astype(np.float64)
    if is_float(source) and not is_float(target):
        low, high = limits(target)
        if source not in ("float_type", "double_type") and TYPES[target].bits < 32 and low < 0:
            low, high = limits("int32_type")
        # Of an inf the greatest value is made before, but with two numbers it can't be held.
        return ~((wide > np.nextafter(float(high + 1), 0)) | (wide < low)) & ~np.isinf(wide)
    if not is_float(source) and is_float(target):
        # The float is made an integer again on the way; a rounded greatest value is none.
        with np.errstate(over="ignore"):
            rounded = values.astype(DTYPES[target]).astype(np.float64)
        low, high = limits(source)
        return (rounded >= low) & (rounded < float(high + 1))
    return np.ones(len(values), bool)


@pytest.mark.parametrize("source, target", PAIRS, ids=["-".join(pair).replace("_type", "") for pair in PAIRS])
def test_convert(converted, source, target):
    values, actual, expected = converted[source, target]
    with np.errstate(all="ignore"):
        meant = has_meaning(values, source, target)
        if not is_float(target):
            wrong = (actual != expected) & meant
            assert not wrong.any(), message([values], wrong, actual, expected)
            return
        a, e = actual.astype(np.float64), expected.astype(np.float64)
        # MIGraphX drops the bits that make some NaNs what they are.
        nan = np.isnan(values.astype(np.float64))
        assert np.isnan(a[nan]).all()
        step = spacing(np.abs(e), actual.dtype) if target in ("half_type", "bf16_type") else 0.0
        wrong = ~((a == e) | (np.isnan(a) & np.isnan(e)) | (np.abs(a - e) <= step)) & meant & ~nan
        flushed = (np.abs(e) < 1.2e-38) & (np.abs(a) <= np.abs(e)) & (TYPES[target].bits > 8)
        wrong &= ~flushed
    assert not wrong.any(), message([values], wrong, actual, expected)


@pytest.mark.parametrize("target", ["int8_type", "uint8_type", "int32_type", "int64_type", "uint32_type"])
def test_what_no_integer_holds_is_saturated(kernel_options, target):
    """Where MIGraphX's C++ has no meaning."""
    values = np.array([np.inf, -np.inf, 1e30, -1e30, np.nan, 2.0**31, 2.0**63], np.float32)
    b = Builder()
    program = b.build(b.op("convert", b.param("x", values.shape), target_type=code(target)))
    low, high = limits(target)
    actual = batches.compiled([program], kernel_options).run(0, {"x": values})
    assert actual.tolist() == [high, low, high, low, 0, min(high, 2**31), min(high, 2**63)]


QUANTIZED = [
    *(
        (source, target)
        for source in ("float_type", "half_type")
        for target in ("int8_type", "uint8_type", "int32_type", "fp8e4m3fn_type", "fp8e5m2fnuz_type", "float_type")
    ),
    *(("bf16_type", "int8_type"), ("bf16_type", "fp8e4m3fn_type")),
    *(("double_type", "uint8_type"), ("double_type", "int32_type")),
]


def scales_of(type_):
    with np.errstate(over="ignore"):
        return np.array([1.0, 0.5, 0.25, 0.1, 3.0, -2.0, 1e-3]).astype(DTYPES[type_])


@pytest.fixture(scope="module")
def quantized(kernel_options):
    """Operator, types and whether there is a zero -> (operands, IREE's, MIGraphX's)."""
    keys, programs, columns = [], [], []
    for source, target in QUANTIZED:
        for operator in ("quantizelinear", "dequantizelinear"):
            for zero in (False, True):
                x_type, scale_type = (source, source) if operator == "quantizelinear" else (target, source)
                x, scale = values_of(x_type), scales_of(source)
                zeros = np.array([0, 1, 3, 7]).astype(DTYPES[target])
                grid = np.meshgrid(*map(np.arange, (len(x), len(scale), len(zeros))), indexing="ij")
                data = [v[g.reshape(-1)] for v, g in zip((x, scale, zeros), grid, strict=True)]
                b = Builder()
                names = [b.param("x", data[0].shape, x_type), b.param("scale", data[0].shape, scale_type)]
                fields = {"out_type": None} if operator == "quantizelinear" else {}
                if zero:
                    names.append(b.param("zero", data[0].shape, target))
                elif operator == "quantizelinear":
                    fields = {"out_type": code(target)}
                programs.append(b.build(b.op(operator, *names, **fields)))
                keys.append((operator, source, target, zero))
                columns.append(data if zero else data[:2])
    batch = batches.compiled(programs, kernel_options)
    found = {}
    for index, key in enumerate(keys):
        inputs = dict(zip(("x", "scale", "zero"), columns[index], strict=False))
        found[key] = columns[index], batch.run(index, inputs), on_ref(programs[index], inputs)[0]
    return found


@pytest.mark.parametrize("zero", [False, True], ids=["", "zero"])
@pytest.mark.parametrize("source, target", QUANTIZED, ids=["-".join(p).replace("_type", "") for p in QUANTIZED])
@pytest.mark.parametrize("operator", ["quantizelinear", "dequantizelinear"])
def test_quantization(quantized, operator, source, target, zero):
    if operator == "dequantizelinear" and not zero and TYPES[target].bits > TYPES[source].bits:
        # MIGraphX reads zeros from behind the end of what it has made for them (op/dequantizelinear.hpp).
        operands, actual, _ = quantized[operator, source, target, zero]
        expected = quantized[operator, source, target, True][2][::4]
        assert len(expected) * 4 == len(quantized[operator, source, target, True][2])
        quantized = {(operator, source, target, zero): (operands, actual, expected.repeat(4))}
    operands, actual, expected = quantized[operator, source, target, zero]
    assert actual.dtype == expected.dtype
    with np.errstate(all="ignore"):
        a, e = actual.astype(np.float64), expected.astype(np.float64)
        narrow = source in ("half_type", "bf16_type")
        if operator == "quantizelinear" and not is_float(target):
            # MIGraphX truncates a quotient to the narrow type, IREE rounds it: they may be one whole number apart.
            quotient = operands[0].astype(np.float64) / operands[1].astype(np.float64)
            step = np.maximum(spacing(np.abs(quotient), operands[0].dtype), 1.0) if narrow else 0.0
        else:
            step = 1.5 * spacing(np.abs(e), actual.dtype) if narrow or target.startswith("fp8") else 0.0
        same = (a == e) | (np.isnan(a) & np.isnan(e)) | (np.abs(a - e) <= step)
        # MIGraphX makes a NaN of some too large fp8e4m3fn, and wrong halves of denormal floats.
        known = np.isnan(e) & (np.abs(a) == 448)
        product = np.abs(operands[0].astype(np.float64) * operands[1].astype(np.float64))
        flushed = ((np.abs(e) < 1.2e-38) | (narrow & (product < 1.2e-38))) & (np.abs(a) <= np.abs(e))
        wrong = ~same & ~known & ~flushed
    assert not wrong.any(), message(operands, wrong, actual, expected)


@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_bit_cast(kernel_options, bits):
    types = [type_ for type_, known in TYPES.items() if known.bits == bits]
    programs, inputs = [], []
    for number, source in enumerate(types):
        b = Builder()
        values = edges(source)
        x = b.param("x", values.shape, source)
        programs.append(b.build(b.op("bit_cast", x, target_type=code(types[number - 1]))))
        inputs.append({"x": values})
    batch = batches.compiled(programs, kernel_options)
    for index, given in enumerate(inputs):
        unsigned = f"u{bits // 8}"
        assert batch.run(index, given).view(unsigned).tolist() == given["x"].view(unsigned).tolist()


def test_where_takes_any_condition(kernel_options):
    programs, inputs = [], []
    for number, condition in enumerate(TYPES):
        type_ = list(TYPES)[number - 3]
        conditions, values = edges(condition), edges(type_)
        c, x = (grid.reshape(-1) for grid in np.meshgrid(np.arange(len(conditions)), np.arange(len(values))))
        given = {"c": conditions[c], "x": values[x], "y": values[x][::-1]}
        b = Builder()
        names = [b.param(n, c.shape, t) for n, t in (("c", condition), ("x", type_), ("y", type_))]
        programs.append(b.build(b.op("where", *names)))
        inputs.append(given)
    batch = batches.compiled(programs, kernel_options)
    for index, given in enumerate(inputs):
        actual, expected = batch.run(index, given), on_ref(programs[index], given)[0]
        assert actual.tobytes() == expected.tobytes(), programs[index].main.instructions[0].shape.type


@pytest.mark.parametrize("lens", [(1,), (1, 1)])
def test_where_with_one_condition_for_all(kernel_options, lens):
    b = Builder()
    program = b.build(b.op("where", b.param("c", lens, "bool_type"), b.param("x", (3, 4)), b.param("y", (3, 4))))
    batch = batches.compiled([program], kernel_options)
    x = np.arange(12, dtype=np.float32).reshape(3, 4)
    for condition in (True, False):
        given = {"c": np.full(lens, condition), "x": x, "y": -x}
        np.testing.assert_array_equal(batch.run(0, given), on_ref(program, given)[0])


@pytest.mark.parametrize("type_", ["int64_type", "uint64_type", "double_type"])
def test_literals_are_exact(kernel_options, type_):
    """Numbers that a float can't hold."""
    numbers = [2**53 + 1, 2**63 - 1, 2**64 - 1] if type_ == "uint64_type" else [2**53 + 1, -(2**63), 2**62 + 1]
    if type_ == "double_type":
        numbers = [0.1, 1 / 3, 1e300]
    programs = []
    for number in numbers:
        b = Builder()
        literal = b.spread(b.literal(np.array(number, DTYPES[type_]), type_), (4,))
        programs.append(b.build(b.op("max", b.param("x", (4,), type_), literal)))
    batch = batches.compiled(programs, kernel_options)
    for index, program in enumerate(programs):
        given = {"x": np.array([0, 1, 2, 3], DTYPES[type_])}
        assert batch.run(index, given).tolist() == on_ref(program, given)[0].tolist()


def test_bf16_is_rounded_where_the_next_operator_reads_it(kernel_options):
    """Floats with 12 significant bits, all of them: ties go to even, carries into the exponent."""
    b = Builder()
    x = b.op("convert", b.param("x", (2**20,)), target_type=int(type_t.bf16_type))
    program = b.build(b.op("convert", x, target_type=int(type_t.float_type)))
    values = (np.arange(2**20, dtype=np.uint32) << 12).view(np.float32)
    actual = batches.compiled([program], kernel_options).run(0, {"x": values})
    # IREE's threads flush what is smaller; what is larger, op/convert.hpp clamps.
    meant = (np.abs(values) > 1.18e-38) & (np.abs(values) < 3.38e38)
    np.testing.assert_array_equal(actual[meant], values[meant].astype(DTYPES["bf16_type"]).astype(np.float32))
    assert np.isnan(actual[np.isnan(values)]).all()
