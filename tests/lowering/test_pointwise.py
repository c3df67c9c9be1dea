"""Every pointwise operator over every type, at combinations of the values where rules change, against MIGraphX.

Errors of floats are judged by one rule for all types: MIGraphX computes the same in double, and IREE may be twice as
far from that as MIGraphX is in the type itself, plus the steps of the type that the table allows.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest

import batches
from iree_migraphx.ir.model import DTYPES
from iree_migraphx.lowering.conversion import GREATEST
from iree_migraphx.lowering.pointwise import POINTWISE
from iree_migraphx.lowering.pointwise_functions import FUNCTIONS
from iree_migraphx.lowering.types import TYPES, is_float
from programs import Builder, on_ref, parameters, strided


@dataclass(frozen=True)
class Row:
    """How one operator is tested.

    Attributes:
        operands: how many.
        ulps: steps of the result's type that IREE may be off, beside its share of MIGraphX's own error.
        fields: the operator's fields.
    """

    operands: int
    ulps: int = 0
    fields: dict = field(default_factory=dict)


TABLE = {
    "abs": Row(1),
    "acos": Row(1, ulps=4),
    "acosh": Row(1, ulps=4),
    "add": Row(2),
    "asin": Row(1, ulps=4),
    "asinh": Row(1, ulps=4),
    "atan": Row(1, ulps=4),
    "atanh": Row(1, ulps=4),
    "bitwise_and": Row(2),
    "ceil": Row(1),
    "clip": Row(3),
    "cos": Row(1, ulps=4),
    "cosh": Row(1, ulps=4),
    "div": Row(2),
    "elu": Row(1, ulps=4, fields={"alpha": 0.75}),
    "equal": Row(2),
    "erf": Row(1, ulps=4),
    "exp": Row(1, ulps=4),
    "floor": Row(1),
    "fmod": Row(2),
    "greater": Row(2),
    "isinf": Row(1),
    "isnan": Row(1),
    "leaky_relu": Row(1, ulps=1, fields={"alpha": 0.3}),
    "less": Row(2),
    "log": Row(1, ulps=4),
    "log2": Row(1, ulps=4),
    "logical_and": Row(2),
    "logical_or": Row(2),
    "logical_xor": Row(2),
    "max": Row(2),
    "min": Row(2),
    "mod": Row(2),
    "mul": Row(2),
    "nearbyint": Row(1),
    "neg": Row(1),
    "not": Row(1),
    "pow": Row(2, ulps=8),
    "prelu": Row(2),
    "recip": Row(1),
    "relu": Row(1),
    "rsqrt": Row(1, ulps=2),
    "sigmoid": Row(1, ulps=4),
    "sign": Row(1),
    "sin": Row(1, ulps=4),
    "sinh": Row(1, ulps=4),
    "sqdiff": Row(2),
    "sqrt": Row(1),
    "sub": Row(2),
    "tan": Row(1, ulps=4),
    "tanh": Row(1, ulps=4),
}
#: Types whose functions are all tested. For the others the same code runs, after a conversion: they have a share each.
WITH_FUNCTIONS = ("float_type", "double_type", "int32_type")

COMMON = (0.0, 0.25, 0.5, 1.0, 1.5, 2.5, 3.5, 2.75, 7.0, 11.0, 100.0, np.inf, 0.1, 1 / 3, 0.9999, 2.0, 1e-3, 3.0)
#: Near the limits of a type.
LIMITS = {
    "float_type": (1.17549435e-38, 3.4028235e38, 88.8, 103.9, 8388607.5, 2147483648.0, 70000.0, 1.0000001),
    "double_type": (
        *(2.2250738585072014e-308, 1.7976931348623157e308, 710.0, 4503599627370495.5, 2.0**63, 1e10),
        # erf was 9 units off there.
        3.7999154954599916,
    ),
    "half_type": (6.104e-5, 65504.0, 11.1, 2049.0, 1023.5, 300.0),
    "bf16_type": (1.17549435e-38, 3.3895e38, 89.0, 255.0, 300.0, 2.0**31),
    "fp8e4m3fn_type": (448.0, 2.0**-9, 2.0**-6, 240.0),
    "fp8e4m3fnuz_type": (240.0, 2.0**-10, 2.0**-7),
    "fp8e5m2_type": (57344.0, 2.0**-16, 2.0**-14),
    "fp8e5m2fnuz_type": (57344.0, 2.0**-17, 2.0**-15),
}
#: Operators whose integers C++ computes in double or float, which can't hold all of them.
THROUGH_FLOATS = {*FUNCTIONS, "ceil", "floor", "fmod", "leaky_relu", "mod", "nearbyint"} - {"sqdiff"}


def test_the_table_is_complete():
    assert set(TABLE) == set(POINTWISE)
    assert {name: row.operands for name, row in TABLE.items()} == {name: POINTWISE[name].arity for name in TABLE}


def applies(operator, type_):
    entry = POINTWISE[operator]
    return entry.floats is not None if is_float(type_) else (entry.integers or entry.integers_as) is not None


def chosen(type_):
    """The operators that are tested over a type."""
    shift = list(TYPES).index(type_)
    long = [*FUNCTIONS, "fmod", "mod"]
    share = [name for number, name in enumerate(long) if (number + shift) % 8 == 0]
    wanted = TABLE if type_ in WITH_FUNCTIONS else [name for name in TABLE if name not in long or name in share]
    return [name for name in wanted if applies(name, type_)]


def edges(type_):
    """Values where rules change, each once."""
    dtype = DTYPES[type_]
    if type_ == "bool_type":
        return np.array([False, True])
    if not is_float(type_):
        known = np.iinfo(dtype)
        values = [0, 1, 2, 3, 5, 7, 8, 11, 63, 100, known.max, known.max - 1, known.max // 2, known.min, known.min + 1]
        return np.unique(np.array(values + [-value for value in values[1:10] if known.min < 0], dtype))
    with np.errstate(over="ignore"):
        positive = np.array(COMMON + LIMITS[type_]).astype(dtype)
        values = np.concatenate([positive, -positive, np.array([np.nan]).astype(dtype)])
    return np.unique(values.view(f"u{dtype.itemsize}")).view(dtype)


def combinations(type_, operands):
    """Every combination of edge values, an array an operand; of three operands a sample."""
    values = edges(type_)
    if operands == 3:
        values = values[np.random.default_rng(3).permutation(len(values))][:16]
    grid = np.meshgrid(*[np.arange(len(values))] * operands, indexing="ij")
    return [values[indices.reshape(-1)] for indices in grid]


def survivable(operator, type_, operands):
    """The operands without divisions that would end MIGraphX's process: by zero, and of the least integer by -1."""
    if is_float(type_) or operator not in ("div", "recip"):
        return operands
    unsafe = operands[-1] == 0
    if operator == "div" and np.issubdtype(operands[0].dtype, np.signedinteger):
        unsafe |= (operands[1] == -1) & (operands[0] == np.iinfo(operands[0].dtype).min)
    return [np.where(unsafe, np.ones_like(each), each) for each in operands]


def program_of(operator, type_, count):
    b = Builder()
    operands = [b.param(f"x{i}", (count,), type_) for i in range(TABLE[operator].operands)]
    return b.build(b.op(operator, *operands, **TABLE[operator].fields))


@pytest.fixture(scope="module")
def results(kernel_options):
    """Type -> operator -> (operands, what IREE computes, what MIGraphX computes, what it computes in double)."""
    found = {}

    def of(type_):
        if type_ not in found:
            operands = {count: combinations(type_, count) for count in (1, 2, 3)}
            operators = chosen(type_)
            columns = {name: survivable(name, type_, operands[TABLE[name].operands]) for name in operators}
            programs = [program_of(name, type_, len(columns[name][0])) for name in operators]
            batch = batches.compiled(programs, kernel_options)
            found[type_] = {}
            for index, (name, program) in enumerate(zip(operators, programs, strict=True)):
                inputs = {f"x{i}": column for i, column in enumerate(columns[name])}
                with np.errstate(all="ignore"):
                    doubled = {key: column.astype(np.float64) for key, column in inputs.items()}
                truth = None
                if POINTWISE[name].floats is not None:
                    (truth,) = on_ref(program_of(name, "double_type", len(columns[name][0])), doubled)
                found[type_][name] = columns[name], batch.run(index, inputs), on_ref(program, inputs)[0], truth
        return found[type_]

    return of


def message(operands, where, *values):
    rows = [
        (*(column[i].item() for column in operands), *(value[i].item() for value in values))
        for i in np.flatnonzero(where)
    ]
    return f"{len(rows)} differ; operands, IREE, MIGraphX[, in double]: {rows[:12]}"


def check_integers(operator, type_, operands, actual, expected, truth):
    wrong = actual != expected
    if operator in THROUGH_FLOATS:
        # Where the double is no such integer C++ says nothing; and beyond 2**53 we are exact where MIGraphX is not.
        limit = 2.0**31 if TYPES[type_].bits <= 32 else 2.0**53
        exact = 2.0**24 if operator == "leaky_relu" else 2.0**53
        with np.errstate(invalid="ignore"):
            wrong &= (np.abs(truth) < limit) & ~np.any([np.abs(x.astype(float)) > exact for x in operands], axis=0)
        if operator == "sigmoid":  # -x in the integer's own type is no such number for unsigned ones and for the least
            wrong &= np.logical_not(type_.startswith("u")) & (operands[0].astype(float) > -limit)
    assert not wrong.any(), message(operands, wrong, actual, expected)


def check_floats(operands, actual, expected, truth, type_, ulps):
    """Hold floats against MIGraphX's and against its doubles."""
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    greatest = GREATEST[type_]
    dtype = actual.dtype
    with np.errstate(all="ignore"):
        # A NaN of MIGraphX's that is none: between the greatest fp8e4m3fn and the next power of 2.
        known = (type_ == "fp8e4m3fn_type") & np.isnan(e) & (np.abs(truth) >= 464) & (np.abs(a) == greatest)
        nan = (np.isnan(a) != np.isnan(e)) & ~known
        assert not nan.any(), message(operands, nan, actual, expected, truth)
        step = spacing(np.minimum(np.abs(truth), greatest), dtype)
        end = greatest + spacing(np.array(greatest), dtype)
        held = [np.clip(values, -end, end) for values in (a, e, truth)]
        error, allowed = np.abs(held[0] - held[2]), 2 * np.abs(held[1] - held[2]) + ulps * step
        far = ~(error <= allowed) & ~np.isnan(a) & (a != e) & ~known
        # IREE's threads flush denormal floats and doubles; MIGraphX makes wrong halves of denormal floats.
        flushed = np.abs(truth) < (1.2e-38 if type_ != "double_type" else 2.3e-308)
        far &= ~(flushed & (np.abs(a) <= np.abs(truth) + step))
        assert not far.any(), message(operands, far, actual, expected, truth)
        zero = (a == 0) & (e == 0) & (np.signbit(a) != np.signbit(e))
        assert not zero.any(), message(operands, zero, actual, expected, truth)


def spacing(values, dtype):
    """The distance of floats of a type near each value."""
    import ml_dtypes

    known = ml_dtypes.finfo(dtype)
    exponent = np.floor(np.log2(np.maximum(values, float(known.smallest_normal))))
    return 2.0**exponent * float(known.eps)


CASES = [(type_, operator) for type_ in TYPES for operator in chosen(type_)]


@pytest.mark.parametrize("type_, operator", CASES, ids=[f"{t.removesuffix('_type')}-{o}" for t, o in CASES])
def test_operator(results, type_, operator):
    operands, actual, expected, truth = results(type_)[operator]
    assert actual.dtype == expected.dtype
    if operator in ("cos", "sin", "tan"):
        # Larger angles have no digits left (docs/facts.md).
        fine = ~(np.abs(operands[0].astype(np.float64)) > 1e15)
        operands, (actual, expected, truth) = [operands[0][fine]], (x[fine] for x in (actual, expected, truth))
    if operator == "pow" and type_.startswith("fp8"):
        # MIGraphX's NaNs of 8 bits become signalling ones, of which even the power 0 is NaN.
        fine = ~np.any([np.isnan(x.astype(np.float64)) for x in operands], axis=0)
        operands, (actual, expected, truth) = [x[fine] for x in operands], (x[fine] for x in (actual, expected, truth))
    if not is_float(type_) or actual.dtype == np.bool_:
        check_integers(operator, type_, operands, actual, expected, truth)
    else:
        narrow = TYPES[type_].bits < 32
        check_floats(operands, actual, expected, truth, type_, TABLE[operator].ulps + (2 if narrow else 0))


@pytest.mark.parametrize("type_", ["float_type", "half_type", "double_type"])
def test_pow_with_a_literal_exponent(kernel_options, type_):
    """Some become products."""
    exponents = [-3.0, -2.0, -1.0, 0.0, 0.5, 1.0, 2.0, 3.0, 4.0]
    values, programs, doubled = edges(type_), [], []
    for exponent in exponents:
        for given, made in ((type_, programs), ("double_type", doubled)):
            b = Builder()
            literal = b.spread(b.literal(exponent, given), values.shape)
            made.append(b.build(b.op("pow", b.param("x", values.shape, given), literal)))
    batch = batches.compiled(programs, kernel_options)
    for index, exponent in enumerate(exponents):
        (expected,), (truth,) = (
            on_ref(made[index], {"x": values.astype(dtype)})
            for made, dtype in ((programs, values.dtype), (doubled, np.float64))
        )
        power = np.full(values.shape, exponent)
        check_floats([values, power], batch.run(index, {"x": values}), expected, truth, type_, 8)


LENS = (6, 8)
LAYOUTS = ("permuted", "broadcast", "sliced", "standard")
SMALL = {True: (-3.0, -1.5, -1.0, -0.5, 0.25, 0.5, 1.0, 2.0, 3.0, 7.0), False: (1, 2, 3, 5, 7)}


def laid_out(b, name, type_, layout):
    """An operand of lengths LENS in a layout."""
    rows, columns = LENS
    if layout == "sliced":
        wider = b.param(name, (rows + 1, columns + 3), type_)
        return b.op("slice", wider, axes=[0, 1], starts=[1, 2], ends=[rows + 1, columns + 2])
    strides = {"permuted": (1, rows), "broadcast": (0, 1), "standard": (columns, 1)}[layout]
    return b.param(name, LENS, type_, strides)


def parameter_type(program):
    return next(iter(parameters(program).values())).dtype


def layout_cases():
    for number, operator in enumerate(TABLE):
        types = [type_ for type_ in TYPES if type_ != "bool_type" and applies(operator, type_)]
        for turn in range(1 if operator in FUNCTIONS else 3):
            layouts = [LAYOUTS[(turn + i) % 3 if i == 0 else (number + turn + i) % 4] for i in range(3)]
            yield operator, types[(5 * number + 7 * turn) % len(types)], tuple(layouts[: TABLE[operator].operands])


@pytest.fixture(scope="module")
def in_layouts(kernel_options):
    programs, doubled, inputs, cases = [], [], [], list(layout_cases())
    for operator, type_, layouts in cases:
        # What has no meaning for floats has no truth in double.
        exact = "double_type" if POINTWISE[operator].floats else type_
        for made_of, made in ((type_, programs), (exact, doubled)):
            b = Builder()
            operands = [laid_out(b, f"x{i}", made_of, layout) for i, layout in enumerate(layouts)]
            made.append(b.build(b.op(operator, *operands, **TABLE[operator].fields)))
        inputs.append(parameters(programs[-1]))
    batch = batches.compiled(programs, kernel_options)
    found = {}
    for index, case in enumerate(cases):
        random = np.random.default_rng(index)
        memory = {
            name: random.choice(SMALL[is_float(case[1])], max(shape.element_space, 1))
            for name, shape in inputs[index].items()
        }
        given, wide = (
            {name: strided(values.astype(dtype), inputs[index][name]) for name, values in memory.items()}
            for dtype in (DTYPES[case[1]], parameter_type(doubled[index]))
        )
        truth = on_ref(doubled[index], wide)[0]
        found[case] = batch.run(index, given), on_ref(programs[index], given)[0], truth
    return found


@pytest.mark.parametrize("case", list(layout_cases()), ids=lambda case: "-".join([case[0], case[1][:-5], *case[2]]))
def test_layouts(in_layouts, case):
    operator, type_, _ = case
    actual, expected, truth = in_layouts[case]
    actual, expected = actual.reshape(-1), expected.reshape(-1)
    if not is_float(type_) or actual.dtype == np.bool_:
        np.testing.assert_array_equal(actual, expected)
        return
    ulps = TABLE[operator].ulps + (2 if TYPES[type_].bits < 32 else 0)
    check_floats([], actual, expected, truth.reshape(-1), type_, ulps)
