"""Operators over whole tensors, each by itself as a kernel, against MIGraphX, at the values where rules change."""

from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import DTYPES
from iree_migraphx.kernels.model import GpuKernel, GpuSequence, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.emit import TENSOR_OPERATORS, lower
from iree_migraphx.lowering.float8 import FORMATS
from iree_migraphx.lowering.packed import PACKED
from iree_migraphx.lowering.types import TYPES, is_float, is_unsigned, limits
from programs import (
    LAYOUTS,
    Builder,
    extra_of,
    inputs_of,
    kernels_of,
    on_iree,
    on_ref,
    operands_of,
    parameters,
    strided,
)
from random_programs.gpus import gpu_kernels


@dataclass(frozen=True)
class Row:
    """One operator.

    Attributes:
        lens: lengths of each operand.
        fields: the operator's fields.
        depth: roundings behind an element, in steps of float; 0 where results must be equal.
        types: of the operands.
        strides: of the first operand, where it is not row-major.
        indices: the operand that says places; it is operand `at`.
        edges: NaN and infinities are among the values.
        scale: what the values are multiplied by.
        batches: the third operand is of numbers of pictures.
    """

    name: str
    lens: tuple
    fields: dict = field(default_factory=dict)
    depth: int = 0
    types: tuple = ()
    strides: tuple | None = None
    indices: tuple | None = None
    edges: bool = False
    scale: float = 1.0
    at: int = 1
    batches: bool = False


def reduce_(name, lens, *axes, **more):
    return Row(name, (lens,), {"axes": list(axes)}, **more)


def along(name, lens, axis, **more):
    fields = {"select_last_index": True} if more.pop("last", False) else {}
    return Row(name, (lens,), {"axis": axis, **fields}, **more)


def pool(lens, mode, lengths, stride, padding, depth=0, strides=None, edges=False, types=(), **fields):
    given = {"mode": mode, "lengths": lengths, "stride": stride, "padding": padding, "padding_mode": 0}
    given |= {"dilations": [1] * len(lengths), "ceil_mode": False, "lp_order": 2, "dyn_global": False}
    given |= {"count_include_pad": False}
    return Row("pooling", (lens,), given | fields, depth, types, strides, edges=edges)


AVERAGE, MAX, NORM = 0, 1, 2
HALF, INT32, INT64 = ("half_type",), "int32_type", "int64_type"
TABLE = {
    "sum": reduce_("reduce_sum", (2, 5, 7), 1, depth=5),
    "sum-last": reduce_("reduce_sum", (3, 70), -1, depth=70),
    "sum-all": reduce_("reduce_sum", (4, 9), 0, 1, depth=36),
    "sum-one": reduce_("reduce_sum", (4, 1, 3), 1),
    "sum-half": reduce_("reduce_sum", (4, 300), 1, types=HALF, depth=300),
    "sum-repeated": reduce_("reduce_sum", (4, 5, 6), 1, 2, strides=(6, 0, 1), depth=30),
    "mean": reduce_("reduce_mean", (2, 3, 4, 5), 2, 3, depth=20),
    "mean-channels-last": reduce_("reduce_mean", (2, 8, 4, 5), 2, 3, strides=(160, 1, 40, 8), depth=20),
    "mean-half": reduce_("reduce_mean", (3, 40), 1, types=HALF, depth=40),
    "product": reduce_("reduce_prod", (5, 6), 0, depth=5),
    "max": reduce_("reduce_max", (5, 17), 1, edges=True),
    "max-half": reduce_("reduce_max", (5, 17), 1, types=HALF, edges=True),
    "min": reduce_("reduce_min", (5, 17), 0, edges=True),
    "argmax": along("argmax", (6, 17), 1, edges=True),
    "argmax-ties": along("argmax", (6, 40), -1),
    "argmax-inside": along("argmax", (3, 5, 4), 1),
    "argmax-int8": along("argmax", (6, 40), 1, types=("int8_type",)),
    "argmax-unsigned": along("argmax", (6, 40), 1, types=("uint32_type",)),
    "argmax-last": along("argmax", (6, 40), 1, last=True, edges=True),
    "argmax-last-int": along("argmax", (6, 40), 1, last=True, types=(INT64,)),
    "argmin": along("argmin", (17, 6), 0, edges=True),
    "argmin-fp8": along("argmin", (6, 40), 1, types=("fp8e4m3fn_type",)),
    "argmin-last-half": along("argmin", (6, 40), 1, last=True, types=HALF),
    "softmax": along("softmax", (3, 4, 17), 2, depth=24),
    "softmax-edges": along("softmax", (7, 5), 1, edges=True, depth=16),
    "softmax-inside": along("softmax", (3, 17, 4), 1, depth=24),
    "softmax-half": along("softmax", (3, 17), 1, types=HALF, depth=24),
    "softmax-double": along("softmax", (3, 17), 1, types=("double_type",), depth=24),
    "logsoftmax-double": along("logsoftmax", (3, 17), 1, types=("double_type",), depth=24),
    "logsoftmax": along("logsoftmax", (4, 11), 1, depth=24),
    "max-pool": pool((1, 3, 9, 11), MAX, [3, 3], [2, 2], [1, 1, 1, 1]),
    "max-pool-edges": pool((1, 2, 8, 8), MAX, [3, 2], [1, 2], [1, 0, 1, 0], edges=True),
    "max-pool-channels-last": pool((2, 8, 9, 9), MAX, [3, 3], [2, 2], [1, 1, 1, 1], strides=(648, 1, 72, 8)),
    "max-pool-ceil": pool((1, 2, 8, 9), MAX, [3, 3], [2, 2], [0, 0, 0, 0], ceil_mode=True),
    "max-pool-dilated": pool((1, 2, 9, 11), MAX, [3, 2], [1, 2], [1, 1, 1, 1], dilations=[2, 3]),
    "max-pool-asymmetric": pool((1, 2, 6, 6), MAX, [3, 3], [1, 1], [0, 1, 2, 1]),
    "max-pool-unread": pool((1, 2, 8, 7), MAX, [2, 2], [3, 3], [0, 0, 0, 0]),
    "max-pool-1d": pool((2, 3, 13), MAX, [4], [3], [1, 1]),
    "max-pool-3d": pool((1, 2, 4, 5, 6), MAX, [2, 2, 3], [1, 2, 1], [0, 1, 1, 0, 1, 1]),
    "max-pool-global": pool((1, 5, 6, 7), MAX, [6, 7], [1, 1], [0, 0, 0, 0], edges=True),
    "max-pool-int8": pool((1, 2, 8, 8), MAX, [3, 2], [1, 2], [1, 0, 1, 0], types=("int8_type",)),
    "max-pool-unsigned": pool((1, 2, 8, 8), MAX, [3, 2], [1, 2], [1, 0, 1, 0], types=("uint8_type",)),
    "max-pool-double": pool((1, 2, 8, 8), MAX, [8, 8], [1, 1], [0] * 4, types=("double_type",), edges=True),
    "average-pool-double": pool((1, 3, 9, 11), AVERAGE, [3, 3], [2, 2], [1] * 4, depth=10, types=("double_type",)),
    "average-pool": pool((1, 3, 9, 11), AVERAGE, [3, 3], [2, 2], [1, 1, 1, 1], depth=10),
    "average-pool-plain": pool((1, 4, 8, 8), AVERAGE, [2, 2], [2, 2], [0, 0, 0, 0], depth=4),
    "average-pool-counted": pool(
        (1, 3, 8, 9), AVERAGE, [3, 3], [2, 2], [1, 1, 1, 1], depth=10, count_include_pad=True, ceil_mode=True
    ),
    "average-pool-ceil": pool((1, 2, 8, 9), AVERAGE, [3, 3], [2, 2], [1, 0, 1, 0], depth=10, ceil_mode=True),
    "average-pool-dilated": pool((1, 2, 9, 9), AVERAGE, [3, 2], [1, 2], [1, 1, 1, 1], depth=8, dilations=[2, 2]),
    "average-pool-dilated-beyond": pool((1, 2, 3), AVERAGE, [3], [1], [0, 2], depth=8, dilations=[2]),
    "average-pool-global": pool((2, 5, 6, 7), AVERAGE, [6, 7], [1, 1], [0, 0, 0, 0], depth=42),
    "norm-pool": pool((1, 3, 8, 9), NORM, [3, 2], [2, 1], [1, 1, 1, 1], depth=16),
    "norm-pool-1": pool((1, 3, 8, 9), NORM, [3, 2], [2, 1], [0, 0, 0, 0], depth=8, lp_order=1),
    "norm-pool-channels-last": pool((1, 8, 8, 9), NORM, [3, 2], [2, 1], [1] * 4, depth=16, strides=(576, 1, 72, 8)),
    "norm-pool-3": pool((1, 3, 6, 6), NORM, [2, 2], [2, 2], [0, 0, 0, 0], depth=64, lp_order=3),
    "concat": along("concat", (2, 3, 4), 1),
    "concat-last": Row("concat", ((2, 3), (2, 1), (2, 4)), {"axis": -1}),
    "concat-channels-last": Row("concat", ((1, 4, 3, 3), (1, 8, 3, 3)), {"axis": 1}, strides=(36, 1, 12, 4)),
    "concat-strided": Row("concat", ((2, 3), (2, 1), (2, 4)), {"axis": -1}, strides=(1, 2)),
    "concat-int": Row("concat", ((2, 3), (5, 3)), {"axis": 0}, types=(INT64, INT64)),
    "pad": Row("pad", ((2, 3, 4),), {"pads": [0, 1, 2, 1, 0, 3], "value": 1.5, "mode": 0}),
    "pad-strided": Row("pad", ((2, 3, 4),), {"pads": [0, 1, 2, 1, 0, 3], "value": 1.5, "mode": 0}, strides=(12, 1, 3)),
    "pad-repeated": Row("pad", ((2, 3, 4),), {"pads": [0, 1, 2, 1, 0, 0], "value": -2, "mode": 0}, strides=(4, 0, 1)),
    "reverse": reduce_("reverse", (3, 4, 5), 0, 2),
    "step": Row("step", ((7, 5, 4),), {"axes": [0, 2], "steps": [3, 2]}),
    "gather": Row("gather", ((5, 4), (3, 2)), {"axis": 0}, types=("float_type", INT64), indices=(0, -1, 4, -5, 2, 2)),
    "gather-inside": Row("gather", ((2, 5, 3), (4,)), {"axis": 1}, types=("half_type", INT32), indices=(4, -2, 0, 1)),
    "gather-flat": Row("gather", ((12,), (2, 2, 2)), {"axis": 0}, types=("float_type", INT32), indices=range(8)),
    "gather-int": Row("gather", ((5, 3), (1,)), {"axis": 0}, types=(INT32, INT32), indices=(-2,)),
    "gathernd": Row("gathernd", ((4, 3, 2), (3, 2)), types=("float_type", INT64), indices=(0, -1, 3, 2, -4, 1)),
    "gathernd-batch": Row(
        "gathernd", ((2, 4, 3), (2, 2, 1)), {"batch_dims": 1}, types=("float_type", INT32), indices=(0, -1, 3, 1)
    ),
}
FLOAT = "float_type"
UNSIGNED8, FP8 = "uint8_type", "fp8e4m3fn_type"


def lrn(lens, size, beta=0.75, bias=1.0, **more):
    """With a factor so small that what MIGraphX's ref carries from channel to channel is lost (docs/facts.md)."""
    fields = {"alpha": 1e-9, "beta": beta, "bias": bias, "size": size}
    return Row("lrn", (lens,), fields, more.pop("depth", 16), scale=2000.0, **more)


def onehot(places, lens, depth, axis, index, type_=FLOAT, **more):
    fields = {"axis": axis, "depth": depth}
    return Row("onehot", (lens, (2,)), fields, types=(index, type_), indices=places, at=0, **more)


def align(places, *, mode=AVERAGE, half=True, ratio=2, bins=(3, 2), scale=1.0, x=(2, 3, 7, 9), types=(FLOAT,), **more):
    fields = {"mode": mode, "coordinate_transformation_mode": "half_pixel" if half else "output_half_pixel"}
    fields |= {"output_height": bins[0], "output_width": bins[1], "sampling_ratio": ratio, "spatial_scale": scale}
    lens = (x, (len(places), 4), (len(places),))
    return Row(
        "roialign", lens, fields, more.pop("depth", 16), (*types, *types, INT64), indices=places, batches=True, **more
    )


#: Within the picture, over its edges, outside, turned around, and smaller than a pixel.
REGIONS = ((0, 0, 8, 6), (-3.5, -2, 4.25, 9), (20, 20, 30, 30), (5, 5, 2, 1), (3.25, 2.5, 3.5, 2.75))
TABLE |= {
    "lrn": lrn((2, 7, 3, 4), 3),
    "lrn-even": lrn((1, 6, 3, 5), 4, beta=0.5, bias=2.0),
    "lrn-wide": lrn((2, 3, 4, 4), 9, beta=1.0),
    "lrn-one": lrn((1, 4, 3, 3), 1, beta=0.25),
    "lrn-power": lrn((1, 5, 4, 4), 5, beta=0.6),
    "lrn-edges": lrn((2, 1, 4, 4), 3, edges=True),
    "lrn-half": lrn((1, 6, 4, 5), 5, types=HALF),
    "lrn-bf16": lrn((1, 6, 4, 5), 5, types=("bf16_type",)),
    "lrn-double": lrn((1, 6, 4, 5), 5, beta=1.5, types=("double_type",)),
    "lrn-channels-last": lrn((2, 8, 3, 4), 5, strides=(96, 1, 32, 8)),
    "onehot": onehot((0, 3, -1, -4, 4, -5), (2, 3), 4, -1, INT64),
    "onehot-first": onehot((0, 3, -1, -4, 9, -9), (2, 3), 4, 0, INT32, "half_type"),
    "onehot-inside": onehot((0, 3, -1, -4, 9, -9), (2, 3), 4, 1, "int16_type", INT64),
    "onehot-wraps": onehot((0, 127, -1, -100, -128, 5), (6,), 200, 0, "int8_type"),
    "onehot-unsigned": onehot((0, 199, 200, 255, 128, 5), (3, 2), 200, -1, UNSIGNED8, "bool_type"),
    "onehot-largest": onehot((0, 2**64 - 1, 2**63, 3, 2**32, 1), (6,), 4, -1, "uint64_type", UNSIGNED8),
    "onehot-float": onehot((0.9, -0.5, np.nan, np.inf, -3.999, -4.5, 3.5, -np.inf), (2, 4), 4, -1, FLOAT),
    "onehot-double": onehot((0.9, -0.5, np.nan, 1e300, -3.999, -4.5, 3.5, -1e300), (8,), 4, 0, "double_type"),
    "onehot-half": onehot((0.9, -0.0001, np.nan, np.inf, -3.999, -4.5, 3.5, 4), (2, 4), 4, -1, "half_type"),
    "onehot-bf16": onehot((0.9, -0.0001, -1, -2, -3, -299, -301, 299), (8,), 300, -1, "bf16_type", "bf16_type"),
    "onehot-fp8": onehot((0.9, -0.01, -1, -2, -3, -17, -18, 15), (8,), 17, -1, FP8, FP8),
    "roialign": align(REGIONS),
    "roialign-output": align(REGIONS, half=False, scale=0.5, ratio=3),
    "roialign-max": align(REGIONS, mode=MAX, bins=(2, 4)),
    "roialign-one": align(REGIONS, ratio=1, bins=(1, 1), x=(1, 1, 5, 1)),
    "roialign-max-edges": align(REGIONS, mode=MAX, half=False, edges=True),
    "roialign-edges": align(REGIONS, edges=True),
    "roialign-half": align(REGIONS, types=HALF),
    "roialign-max-bf16": align(REGIONS, mode=MAX, types=("bf16_type",)),
    "roialign-double": align(REGIONS, scale=0.3, types=("double_type",)),
    "roialign-max-double": align(REGIONS, mode=MAX, types=("double_type",), edges=True),
    "roialign-channels-last": align(REGIONS, strides=(189, 1, 27, 3)),
    "gathernd-float": Row("gathernd", ((4, 3, 2), (3, 2)), types=(FLOAT, FLOAT), indices=(0, -1, 3.75, 2, -4, 0.5)),
    "gathernd-unsigned": Row("gathernd", ((4, 3), (3, 1)), types=(INT32, UNSIGNED8), indices=(3, 0, 2)),
}
PLACES = (0, -1, 2, 2, 0, 1)
TABLE |= {
    "sums": along("prefix_scan_sum", (3, 7), 1),
    "sums-before": Row("prefix_scan_sum", ((4, 5),), {"axis": 0, "exclusive": True}),
    "sums-behind": Row("prefix_scan_sum", ((2, 5, 3),), {"axis": 1, "reverse": True}, types=("int32_type",)),
    "sums-behind-excluded": Row("prefix_scan_sum", ((3, 6),), {"axis": 1, "reverse": True, "exclusive": True}),
    "sums-fp8": along("prefix_scan_sum", (3, 7), 1, types=("fp8e4m3fn_type",)),
    **{
        f"scatter-{name}": Row(
            f"scatter_{name}", ((3, 4), (2, 3), (2, 3)), {"axis": 0}, types=(FLOAT, INT64, FLOAT), indices=PLACES
        )
        for name in ("none", "add", "mul", "max", "min")
    },
    "scatter-fewer": Row(
        "scatter_add", ((5, 4), (2, 3), (3, 5)), {"axis": 0}, types=(FLOAT, INT64, FLOAT), indices=PLACES
    ),
    "scatter-last": Row(
        "scatter_none", ((2, 3, 4), (2, 3, 1), (2, 3, 1)), {"axis": 2}, types=(INT64, INT32, INT64), indices=PLACES
    ),
    "scatter-one-row": Row(
        "scatter_none", ((1, 4), (1, 3), (1, 3)), {"axis": 1}, types=(FLOAT, INT64, FLOAT), indices=(2, 0, 1)
    ),
    "scatter-edges": Row(
        "scatter_max", ((3, 4), (2, 3), (2, 3)), {"axis": 0}, types=(FLOAT, INT64, FLOAT), indices=PLACES, edges=True
    ),
    **{
        f"scatternd-{name}": Row(
            f"scatternd_{name}", ((3, 4, 2), (3, 2), (3, 2)), types=(FLOAT, INT64, FLOAT), indices=(0, 3, 2, 1, 0, 3)
        )
        for name in ("none", "add", "mul", "max", "min")
    },
    "scatternd-rows": Row(
        "scatternd_none", ((4, 3), (2, 2, 1), (2, 2, 3)), types=("half_type", INT32, "half_type"), indices=(3, 0, 1, 3)
    ),
}
SPECIAL = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0])


def program(row):
    builder = Builder()
    types = row.types or ("float_type",)
    operands = []
    for number, lens in enumerate(row.lens):
        strides = row.strides if number == 0 else None
        operands.append(builder.param(f"x{number}", lens, types[min(number, len(types) - 1)], strides))
    return builder.build(builder.op(row.name, *operands, **row.fields))


def values(row, made):
    random, found = np.random.default_rng(11), {}
    for number, (name, shape) in enumerate(sorted(parameters(made).items())):
        if row.indices is not None and number == row.at:
            # As objects: numpy makes doubles of integers beyond 2**63.
            found[name] = np.array(list(row.indices), object).astype(shape.dtype).reshape(shape.lens)
            continue
        if row.batches and number == 2:
            found[name] = np.arange(shape.elements, dtype=shape.dtype) % parameters(made)["x0"].lens[0]
            continue
        # Fractions of four: ties are frequent, and sums of some are exact.
        whole = random.integers(-24, 24, max(shape.element_space, 1)) / (1 if "int" in shape.type else 4)
        memory = (whole * row.scale).astype(shape.dtype)
        if row.edges:
            memory[: len(SPECIAL)] = SPECIAL
            memory[len(memory) // 2 :: 5] = SPECIAL[np.arange(len(memory[len(memory) // 2 :: 5])) % len(SPECIAL)]
            # A whole row of each that nothing else can hide.
            memory[-shape.lens[-1] :] = -np.inf
            memory[-2 * shape.lens[-1] : -shape.lens[-1]] = np.nan
        found[name] = strided(memory, shape)
    return found


def only(made, form):
    (subgraph,) = extra_of(made, form, standard_operands=form is Form.CHANNELS_LAST)
    return subgraph


FORMS = {name: Form.OPERANDS if row.strides else Form.CHANNELS_LAST for name, row in TABLE.items()}


@pytest.fixture(scope="module")
def computed(kernel_options):
    made = {name: program(row) for name, row in TABLE.items()}
    kernels = {}
    for form in LAYOUTS:
        chosen = [only(made[name], form) for name in TABLE if FORMS[name] is form]
        kernels |= kernels_of(chosen, form, kernel_options)
    return made, kernels


def test_the_table_is_complete():
    elsewhere = {*PACKED, *REDUCTIONS}  # test_packed.py, and below
    assert {row.name for row in TABLE.values()} | elsewhere == {*TENSOR_OPERATORS}


@pytest.mark.parametrize("name", TABLE)
def test_operator(computed, name):
    row = TABLE[name]
    made, kernels = computed[0][name], computed[1]
    subgraph = only(made, FORMS[name])
    assert subgraph.operators == (row.name,)
    kernel = kernels[subgraph.key].kernel
    assert not isinstance(kernel, Refusal), kernel
    inputs = values(row, made)
    actual = on_iree(subgraph, kernel, operands_of(subgraph, made, inputs))
    (expected,) = on_ref(made, inputs)
    assert actual.dtype == expected.dtype
    if row.depth == 0:
        np.testing.assert_array_equal(actual, expected)
        return
    # Sums are in float here and in double there; then each is rounded, halves by MIGraphX toward zero.
    scale = max((np.abs(value[np.isfinite(value)]).max() for value in inputs.values()), default=1.0)
    atol = row.depth * np.finfo(np.float32).eps * max(1.0, scale if row.name.startswith("reduce") else 1.0)
    ulp = float(ml_dtypes.finfo(DTYPES[row.types[0] if row.types else "float_type"]).eps)
    rtol = row.depth * np.finfo(np.float32).eps + 2 * ulp
    np.testing.assert_allclose(actual.astype(np.float64), expected.astype(np.float64), rtol=rtol, atol=atol)


REDUCTIONS = sorted(name for name in TENSOR_OPERATORS if name.startswith("reduce_"))


def reductions_of(type_):
    """Every reduction of one type, side by side."""
    builder = Builder()
    x = builder.param("x", (6, 5), type_)
    return builder.build(builder.op("concat", *(builder.op(name, x, axes=[1]) for name in REDUCTIONS), axis=1))


def reduced_values(type_):
    random, dtype = np.random.default_rng(5), np.dtype(DTYPES[type_])
    if type_ == "bool_type":
        return random.integers(0, 2, (6, 5)).astype(dtype)
    if not is_float(type_):
        values = random.integers(0 if is_unsigned(type_) else -9, 10, (6, 5)).astype(dtype)
        values[0], values[1], values[2, :3] = limits(type_)[0], limits(type_)[1], 0
        return values
    values = (random.integers(-8, 9, (6, 5)) / 4).astype(dtype)
    values[0, 1:3], values[1], values[2, 3] = np.nan, np.nan, 0
    if type_ not in FORMATS:
        values[3, 0], values[4] = np.inf, -np.inf
    return values


@pytest.fixture(scope="module")
def reductions(kernel_options):
    made = {type_: reductions_of(type_) for type_ in TYPES}
    subgraphs = {type_: only(made[type_], Form.CHANNELS_LAST) for type_ in TYPES}
    return made, subgraphs, kernels_of(list(subgraphs.values()), Form.CHANNELS_LAST, kernel_options)


@pytest.mark.parametrize("type_", TYPES)
def test_reductions_of_every_type(reductions, type_):
    made, subgraph, kernel = reductions[0][type_], reductions[1][type_], reductions[2][reductions[1][type_].key].kernel
    assert set(subgraph.operators) == {*REDUCTIONS, "concat"}
    assert not isinstance(kernel, Refusal), kernel
    inputs = {"x": reduced_values(type_)}
    actual, (expected,) = on_iree(subgraph, kernel, operands_of(subgraph, made, inputs)), on_ref(made, inputs)
    # Sums and products of a few quarters are exact; what is divided is rounded, halves by MIGraphX toward zero.
    ulp = ml_dtypes.finfo(DTYPES[type_]).eps if type_ in ("half_type", "bf16_type", "float_type") else 0
    np.testing.assert_allclose(actual.astype(np.float64), expected.astype(np.float64), rtol=float(ulp))


def test_what_is_not_supported_is_left_out():
    """Nothing is tried that could not be lowered: it would take its whole subgraph down."""
    refused = [
        pool((1, 2, 6, 6), AVERAGE, [3, 3], [1, 1], [0, 0, 0, 0], padding_mode=1),
        pool((1, 2, 6, 6), NORM, [3, 3], [1, 1], [0, 0, 0, 0], lp_order=0),
        Row("softmax", ((3, 4),), {"axis": 1}, types=("fp8e4m3fn_type",)),
        Row("lrn", ((1, 4, 3),), {"alpha": 1e-9, "beta": 0.75, "bias": 1.0, "size": 3}),
        lrn((1, 4, 3, 3), 3, bias=-1.0),
        align(REGIONS, ratio=0),
    ]
    for row in refused:
        assert extra_of(program(row)) == ()


def test_a_norm_of_embeddings(kernel_options):
    """With the gather in the reductions' loops, a tile of 768 columns was more than IREE allows on the stack."""
    b, lens = Builder(), (1, 16, 768)
    words = b.op("gather", b.param("w", (20, 768)), b.param("ids", (1, 16), "int64_type"), axis=0)
    x = b.op("add", words, b.op("gather", b.param("v", (9, 768)), b.param("kinds", (1, 16), "int64_type"), axis=0))
    centred = b.op("sub", x, b.spread(b.op("reduce_mean", x, axes=[2]), lens))
    spread = b.op("reduce_mean", b.op("mul", centred, centred), axes=[2])
    made = b.build(b.op("div", centred, b.spread(b.op("sqrt", spread), lens)))
    subgraph = only(made, Form.CHANNELS_LAST)
    kernel = kernels_of([subgraph], Form.CHANNELS_LAST, kernel_options)[subgraph.key].kernel
    assert not isinstance(kernel, Refusal), kernel
    random = np.random.default_rng(0)
    inputs = {"w": random.standard_normal((20, 768)), "v": random.standard_normal((9, 768))}
    inputs = {name: value.astype(np.float32) for name, value in inputs.items()}
    inputs |= {name: random.integers(0, 9, (1, 16)) for name in ("ids", "kinds")}
    actual = on_iree(subgraph, kernel, operands_of(subgraph, made, inputs))
    np.testing.assert_allclose(actual, on_ref(made, inputs)[0], rtol=0, atol=768 * np.finfo(np.float32).eps)


@pytest.mark.parametrize("name", ["gather", "softmax"])
def test_one_submission_for_a_gpu(name, kernel_options):
    """What CPUs want apart must not be so on a GPU: MIGraphX can't launch what IREE submits in two."""
    b, lens = Builder(), (1, 8, 4, 4)
    x = b.param("x", (1, 8, 2, 2))
    if name == "gather":
        flat = b.op("reshape", x, dims=[32])
        value = b.op("gather", flat, b.param("places", lens, "int32_type"), axis=0)
    else:
        value = b.op("softmax", b.param("y", lens), axis=3)
    made = b.build(b.op("add", b.op("relu", value), b.param("z", lens)))
    subgraph = only(made, Form.OPERANDS)
    operands = len(subgraph.parameters) + len(subgraph.results)
    forms = (Form.OPERANDS, Form.CHANNELS_LAST)
    requests = [Request("kernel", lower(subgraph, "kernel", form), operands, "") for form in forms]
    one, two = compile_kernels(requests, parse_target("gfx942"), kernel_options)
    assert not isinstance(one.kernel, Refusal), one.kernel
    assert two.kernel.reason is Reason.MULTI_DISPATCH, two.kernel


@pytest.mark.parametrize("gpu", ["gfx942", "gfx1100"])
def test_on_gpus(gpu, kernel_options):
    """Odd lengths and few elements are what IREE's GPU code has trouble with."""
    kernels = gpu_kernels([program(row) for row in TABLE.values()], gpu, kernel_options)
    named = zip(TABLE, kernels, strict=True)
    assert not {name: kernel for name, kernel in named if isinstance(kernel, Refusal)}


@pytest.mark.parametrize("gpu", ["gfx942", "gfx1100"])
def test_one_launch_on_gpus(gpu, kernel_options):
    names = ("lrn", "lrn-power", "onehot", "onehot-half", "roialign", "roialign-max-bf16", "gathernd-float")
    requests = []
    for name in names:
        subgraph = only(program(TABLE[name]), Form.OPERANDS)
        text = lower(subgraph, "kernel", Form.OPERANDS)
        requests.append(Request("kernel", text, len(subgraph.parameters) + 1, ""))
    for name, outcome in zip(names, compile_kernels(requests, parse_target(gpu), kernel_options), strict=True):
        assert isinstance(outcome.kernel, GpuKernel), (name, outcome.kernel)


@pytest.mark.parametrize("name", ["concat-last", "pad", "norm-pool"])
def test_one_launch_on_a_gpu(name, kernel_options):
    """IREE would make copies of a concat, and of a pad a fill with another value than zero: MIGraphX has none."""
    subgraph = only(program(TABLE[name]), Form.OPERANDS)
    request = Request("kernel", lower(subgraph, "kernel", Form.OPERANDS), len(subgraph.operands) + 1, "")
    (outcome,) = compile_kernels([request], parse_target("gfx942"), kernel_options)
    assert isinstance(outcome.kernel, GpuKernel), outcome.kernel


@pytest.mark.parametrize("what", ["relu", "concat", "gather"])
def test_steps_through_an_image_on_a_gpu(what, kernel_options):
    """What reads places of a slice with steps failed to compile."""
    b = Builder()
    x = b.op("step", b.param("x", (1, 16, 56, 56), strides=(50176, 1, 896, 16)), axes=[2, 3], steps=[2, 2])
    if what == "relu":
        x = b.op("relu", x)
    elif what == "concat":
        x = b.op("concat", b.param("y", (1, 8, 28, 28)), x, axis=1)
    else:
        x = b.op("gather", x, b.param("y", (5,), "int64_type"), axis=1)
    made = b.build(x)
    subgraph = only(made, Form.OPERANDS)
    request = Request("kernel", lower(subgraph, "kernel", Form.OPERANDS), len(subgraph.operands) + 1, "")
    (outcome,) = compile_kernels([request], parse_target("gfx942"), kernel_options)
    assert not isinstance(outcome.kernel, Refusal), outcome.kernel
    assert len(getattr(outcome.kernel, "launches", (None,))) == (1 if what == "relu" else 2)
    inputs = inputs_of(made)
    kernel = kernels_of([subgraph], Form.OPERANDS, kernel_options)[subgraph.key].kernel
    actual = on_iree(subgraph, kernel, operands_of(subgraph, made, inputs))
    np.testing.assert_array_equal(actual, on_ref(made, inputs)[0])


@pytest.mark.parametrize("operator", ["scatter_add", "scatternd_none"])
@pytest.mark.parametrize("what", ["permuted", "repeated", "sliced", "computed"])
def test_updates_of_any_layout_on_gpus(operator, what, kernel_options):
    """IREE failed at a scatter that what computes its updates was fused with, a mere permutation even."""
    b = Builder()
    lens = {"permuted": (3, 64), "repeated": (3, 64), "sliced": (5, 64), "computed": (3, 64)}[what]
    strides = {"permuted": (1, 3), "repeated": (1, 0)}.get(what)
    updates = b.param("u", lens, strides=strides)
    if what == "sliced":
        updates = b.op("slice", updates, axes=[0], starts=[1], ends=[4])
    if what == "computed":
        updates = b.op("mul", b.op("relu", updates), b.param("v", lens, strides=(1, 3)))
    indices = b.param("i", (3, 64) if operator == "scatter_add" else (3, 1), "int32_type")
    fields = {"axis": 0, "skip_out_of_bounds": 0} if operator == "scatter_add" else {}
    made = b.build(b.op(operator, b.param("x", (8, 64)), indices, updates, **fields))
    subgraph = only(made, Form.OPERANDS)
    request = Request("kernel", lower(subgraph, "kernel", Form.OPERANDS), len(subgraph.operands) + 1, "")
    for gpu in ("gfx942", "gfx1100"):
        (outcome,) = compile_kernels([request], parse_target(gpu), kernel_options)
        assert isinstance(outcome.kernel, GpuSequence), outcome.kernel
    inputs = inputs_of(made)
    inputs["i"] = np.arange(inputs["i"].size, dtype=np.int32).reshape(inputs["i"].shape) % 8
    kernel = kernels_of([subgraph], Form.OPERANDS, kernel_options)[subgraph.key].kernel
    actual = on_iree(subgraph, kernel, operands_of(subgraph, made, inputs))
    np.testing.assert_array_equal(actual, on_ref(made, inputs)[0])
