"""Every pointwise operator behind an anchor, over every combination of values where rules change."""

import itertools
from dataclasses import dataclass, field

import numpy as np
import pytest

import iree_migraphx
from iree_migraphx import binding
from iree_migraphx.ir.model import DTYPES
from iree_migraphx.lowering.pointwise import POINTWISE
from programs import NAMES, Builder, loaded, on_ref

#: Values that operators treat in their own ways, beside the limits of each type.
COMMON = (0.0, 0.25, 0.5, 1.0, 1.5, 2.5, 3.5, 2.75, 7.0, 11.0, 100.0, np.inf, 0.1, 1 / 3, 0.9999, 2.0, 1e-4, 3.0)
LIMITS = {
    "float_type": (1.17549435e-38, 3.4028235e38, 88.8, 89.5, 103.9, 8388607.5, 2147483648.0, 70000.0),
    "half_type": (6e-8, 1e-5, 6.104e-5, 65504.0, 11.1, 2049.0, 1023.5, 300.0),
}


@dataclass(frozen=True)
class Row:
    """How one operator is tested.

    Attributes:
        operands: how many.
        ulps: how far the two may be apart, in steps of the result's type; half adds one, as MIGraphX truncates there.
        fields: the operator's fields.
    """

    operands: int
    ulps: int = 0
    half_ulps: int = 1
    fields: dict = field(default_factory=dict)


TABLE = {
    "abs": Row(1),
    "add": Row(2),
    "ceil": Row(1),
    "clip": Row(3),
    "div": Row(2),
    "elu": Row(1, ulps=4, fields={"alpha": 0.75}),
    "erf": Row(1, ulps=4),
    "exp": Row(1, ulps=4),
    "floor": Row(1),
    "greater": Row(2),
    "leaky_relu": Row(1, ulps=1, fields={"alpha": 0.3}),
    "less": Row(2),
    "log": Row(1, ulps=4),
    "log2": Row(1, ulps=4),
    "max": Row(2),
    "min": Row(2),
    "mul": Row(2),
    "nearbyint": Row(1),
    "neg": Row(1),
    # The error of IREE's expansion grows with the logarithm of the result.
    "pow": Row(2, ulps=128),
    "prelu": Row(2),
    "recip": Row(1),
    "relu": Row(1),
    "rsqrt": Row(1, ulps=2),
    "sigmoid": Row(1, ulps=4),
    "sign": Row(1),
    "sqdiff": Row(2, half_ulps=4),
    "sqrt": Row(1),
    "sub": Row(2),
    "tanh": Row(1, ulps=4),
}
#: Below this a result may be zero: IREE's threads flush float's denormals, which MIGraphX converts to halves near 1e-6.
FLUSHED = {np.dtype(np.float32): np.finfo(np.float32).tiny, np.dtype(np.float16): 1e-6}
#: Operators whose operands have different types have tests of their own.
APART = {"convert", "where"}
TYPES = ("float_type", "half_type")


def test_the_table_is_complete():
    assert set(TABLE) | APART == set(POINTWISE)
    assert {name: row.operands for name, row in TABLE.items()} == {name: POINTWISE[name].arity for name in TABLE}


def edges(type_):
    positive = np.array(COMMON + LIMITS[type_], DTYPES[type_])
    return np.concatenate([positive, -positive, np.array([np.nan], positive.dtype)])


def combinations(type_, operands):
    """Every combination of edge values, an array an operand; of three operands a sample."""
    values = edges(type_)
    if operands == 3:
        values = values[np.argsort(np.random.default_rng(3).random(len(values)))][:20]
        values = np.concatenate([values, np.array([np.nan, np.inf, -np.inf, 0.0, -0.0], values.dtype)])
    return [np.array(column, values.dtype) for column in zip(*itertools.product(values, repeat=operands), strict=True)]


def anchored(builder, x, sign, type_):
    """Operand `x` as an anchor's result: a dot with one product, whose sum has lost the sign of a zero."""
    one = builder.literal([[1.0]], type_)
    return builder.op("mul", builder.op("dot", x, one), sign)


def without_sign(values):
    return np.where(values == 0, np.abs(values), values)


@pytest.fixture(scope="module")
def results(kernel_options):
    """Operator and type -> (what IREE computes, what MIGraphX computes), all compiled as one program a type."""
    found = {}
    for type_ in TYPES:
        builder, inputs, ends = Builder(), {}, []
        columns = {count: combinations(type_, count) for count in (1, 2, 3)}
        names = {}
        for count, arrays in columns.items():
            for number, array in enumerate(arrays):
                name = f"x{count}{number}"
                inputs[name] = array[:, None]
                names[name] = builder.param(name, inputs[name].shape, type_)
            sign = f"s{count}"
            inputs[sign] = np.where(np.signbit(arrays[0]), -1, 1).astype(arrays[0].dtype)[:, None]
            names[sign] = builder.param(sign, inputs[sign].shape, type_)
            inputs[f"x{count}0"] = np.abs(inputs[f"x{count}0"])
        for operator, row in TABLE.items():
            count = row.operands
            first = anchored(builder, names[f"x{count}0"], names[f"s{count}"], type_)
            others = [names[f"x{count}{number}"] for number in range(1, count)]
            ends.append(builder.op(operator, first, *others, **row.fields))
        program = builder.build(*ends)
        compiled = iree_migraphx.compile(loaded(program), binding.get_target("ref"), options=kernel_options)
        assert compiled.iree_report.swapped == len(TABLE), compiled.iree_report.summary()
        actual = [np.array(result) for result in compiled.run(inputs)]
        expected = on_ref(program, inputs)
        for operator, a, e in zip(TABLE, actual, expected, strict=True):
            found[operator, type_] = columns[TABLE[operator].operands], a[:, 0], e[:, 0]
    return found


def steps_apart(a, b):
    """Numbers of the type between two finite values, the ends of each range counted once."""
    integer = {2: np.int16, 4: np.int32}[a.dtype.itemsize]

    def ordered(values):
        bits = values.view(integer).astype(np.int64)
        return np.where(bits < 0, np.iinfo(integer).min - bits, bits)

    return np.abs(ordered(a) - ordered(b))


def check(operands, actual, expected, ulps):
    def at(where):
        rows = [(*(float(column[i]) for column in operands), actual[i], expected[i]) for i in np.flatnonzero(where)]
        return f"{len(rows)} differ; operands, IREE, MIGraphX: {rows[:12]}"

    nan = np.isnan(actual) != np.isnan(expected)
    assert not nan.any(), at(nan)
    number = ~np.isnan(expected)
    inf = number & ((np.isinf(actual) | np.isinf(expected)) & (actual != expected))
    assert not inf.any(), at(inf)
    flushed = np.abs(expected) < FLUSHED[expected.dtype]
    zero = number & ~flushed & (np.signbit(actual) != np.signbit(expected))
    zero |= (expected == 0) & (actual == 0) & (np.signbit(actual) != np.signbit(expected))
    assert not zero.any(), at(zero)
    finite = number & np.isfinite(expected)
    far = finite.copy()
    far[finite] = steps_apart(actual[finite], expected[finite]) > ulps
    far &= ~flushed | (actual != 0)
    assert not far.any(), at(far)


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("operator", TABLE)
def test_operator(results, operator, type_):
    operands, actual, expected = results[operator, type_]
    ulps = TABLE[operator].ulps if type_ == "float_type" else TABLE[operator].half_ulps
    check(operands, actual, expected, ulps)


def whole(operands, end, options):
    """Compile a small program both ways; `end` builds its result from a builder and the operands' names."""
    builder = Builder()
    names = [builder.param(f"x{i}", array.shape, NAMES[array.dtype]) for i, array in enumerate(operands)]
    program = builder.build(end(builder, *names))
    inputs = {f"x{i}": array for i, array in enumerate(operands)}
    compiled = iree_migraphx.compile(loaded(program), binding.get_target("ref"), options=options)
    assert compiled.iree_report.swapped == 1, compiled.iree_report.summary()
    return np.array(compiled.run(inputs)[0]), on_ref(program, inputs)[0]


@pytest.mark.parametrize("type_", TYPES)
@pytest.mark.parametrize("condition", ["bool_type", "float_type", "half_type"])
def test_where_takes_any_condition(kernel_options, condition, type_):
    values = edges(type_)
    conditions = np.array([True, False, True]) if condition == "bool_type" else edges(condition)
    x, c = (np.array(column) for column in zip(*itertools.product(values, conditions), strict=True))
    operands = [
        c.astype(DTYPES[condition])[:, None],
        x.astype(values.dtype)[:, None],
        x.astype(values.dtype)[::-1, None],
    ]

    def end(b, c, x, y):
        d = b.op("dot", x, b.literal([[1.0]], type_))
        return b.op("where", c, d, y)

    actual, expected = whole(operands, end, kernel_options)
    check([o[:, 0] for o in operands], actual[:, 0], expected[:, 0], 0)


@pytest.mark.parametrize("source, target", [("float_type", "half_type"), ("half_type", "float_type")])
def test_convert_clamps(kernel_options, source, target):
    beyond = [65504, 65519, 65520, 1e5, -1e5, 2049.5] if source == "float_type" else []
    values = np.concatenate([edges(source), np.array(beyond, DTYPES[source])])[:, None]
    code = {"half_type": 1, "float_type": 2}[target]
    actual, expected = whole(
        [values],
        lambda b, x: b.op("convert", b.op("dot", x, b.literal([[1.0]], source)), target_type=code),
        kernel_options,
    )
    check([values[:, 0]], actual[:, 0], expected[:, 0], 1 if target == "half_type" else 0)


@pytest.mark.parametrize("target", TYPES)
def test_convert_of_a_bool(kernel_options, target):
    x, truth = np.array([[1.5], [-2.0], [0.0]], DTYPES[target]), np.array([[True], [False], [True]])
    code = {"half_type": 1, "float_type": 2}[target]

    def end(b, x, c):
        return b.op("add", b.op("dot", x, b.literal([[1.0]], target)), b.op("convert", c, target_type=code))

    actual, expected = whole([x, truth], end, kernel_options)
    np.testing.assert_array_equal(actual, expected)


def test_a_denormal_is_kept_or_zero(kernel_options):
    """What runs on IREE's threads is zero; nothing else may come of it."""
    x = np.array([[1e-40], [-1e-40], [1e-45]], np.float32)
    actual, expected = whole([x], lambda b, x: b.op("abs", b.op("dot", x, b.literal([[1.0]]))), kernel_options)
    assert all(a in (0, e) for a, e in zip(actual.flat, expected.flat, strict=True))


@pytest.mark.parametrize("exponent", [-2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0])
def test_pow_with_a_constant_exponent(kernel_options, exponent):
    """IREE simplifies these one by one."""
    values = edges("float_type")[:, None]

    def end(b, x):
        d = b.op("dot", x, b.literal([[1.0]]))
        return b.op("pow", d, b.spread(b.literal(exponent), values.shape))

    actual, expected = whole([values], end, kernel_options)
    check([values[:, 0]], actual[:, 0], expected[:, 0], TABLE["pow"].ulps)
