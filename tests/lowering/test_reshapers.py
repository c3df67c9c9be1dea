"""Every reshaper in front of an anchor, behind one and on a pointwise operand, over operands of any layout."""

from dataclasses import dataclass

import numpy as np
import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Shape
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.emit import lower
from iree_migraphx.lowering.reshapers import RESHAPERS
from programs import (
    LAYOUTS,
    Builder,
    assert_equal,
    inputs_of,
    kernels_of,
    on_iree,
    on_ref,
    operands_of,
    subgraphs_of,
)


@dataclass(frozen=True)
class Row:
    """One reshaper: lengths in, lengths out, fields."""

    name: str
    lens: tuple
    result: tuple
    fields: dict


def row(name, lens, result, **fields):
    return Row(name, lens, result, fields)


TABLE = {
    "transpose": row("transpose", (3, 4), (4, 3), permutation=[1, 0]),
    "transpose-4d": row("transpose", (2, 3, 4, 5), (3, 5, 2, 4), permutation=[1, 3, 0, 2]),
    "transpose-ones": row("transpose", (1, 3, 1, 4), (1, 4, 3, 1), permutation=[0, 3, 1, 2]),
    "multibroadcast": row("multibroadcast", (4,), (3, 4), out_lens=[3, 4], out_dyn_dims=[]),
    "multibroadcast-ones": row("multibroadcast", (3, 1, 4), (2, 3, 5, 4), out_lens=[2, 3, 5, 4], out_dyn_dims=[]),
    "multibroadcast-kept": row("multibroadcast", (1, 4), (1, 4), out_lens=[1, 4], out_dyn_dims=[]),
    "multibroadcast-scalar": row("multibroadcast", (1,), (3, 4), out_lens=[3, 4], out_dyn_dims=[]),
    "broadcast": row("broadcast", (3,), (2, 3, 4), axis=1, out_lens=[2, 3, 4]),
    "broadcast-2d": row("broadcast", (3, 4), (3, 4, 5), axis=0, out_lens=[3, 4, 5]),
    "reshape-merge": row("reshape", (2, 3, 4), (6, 4), dims=[6, 4]),
    "reshape-split": row("reshape", (6, 4), (2, 3, 4), dims=[2, -1, 4]),
    "reshape-both": row("reshape", (4, 6), (8, 3), dims=[8, 3]),
    "reshape-copied": row("reshape", (2, 6), (2, 3, 2), dims=[0, 3, 2]),
    "reshape-to-ones": row("reshape", (3, 4), (1, 3, 1, 4, 1), dims=[1, 3, 1, 4, 1]),
    "reshape-off-ones": row("reshape", (1, 3, 1, 4, 1), (3, 4), dims=[3, 4]),
    "reshape-moved-ones": row("reshape", (3, 1, 4), (1, 3, 4), dims=[1, 3, 4]),
    "reshape-all-ones": row("reshape", (1, 1), (1, 1, 1), dims=[1, 1, 1]),
    "reshape_lazy": row("reshape_lazy", (2, 3, 4), (6, 4), dims=[6, 4]),
    "flatten": row("flatten", (2, 3, 4), (2, 12), axis=1),
    "flatten-0": row("flatten", (2, 3), (1, 6), axis=0),
    "flatten-negative": row("flatten", (2, 3, 4), (6, 4), axis=-1),
    "contiguous": row("contiguous", (3, 4), (3, 4)),
    "identity": row("identity", (2, 3, 4), (2, 3, 4)),
    "scalar": row("scalar", (1,), (3, 4), scalar_bcst_dims=[3, 4]),
    "squeeze": row("squeeze", (3, 1, 4, 1), (3, 4), axes=[1, 3]),
    "squeeze-one": row("squeeze", (3, 1, 4, 1), (3, 1, 4), axes=[-1]),
    "squeeze-all": row("squeeze", (1, 1), (1,), axes=[]),
    "unsqueeze": row("unsqueeze", (3, 4), (3, 1, 4), axes=[1], steps=[]),
    "unsqueeze-ends": row("unsqueeze", (3, 4), (1, 3, 4, 1), axes=[0, -1], steps=[]),
    "unsqueeze-steps": row("unsqueeze", (3, 8), (3, 2, 4), axes=[1], steps=[2]),
    "slice": row("slice", (5, 6), (3, 6), axes=[0], starts=[1], ends=[4]),
    "slice-negative": row("slice", (5, 6), (4, 2), axes=[0, 1], starts=[-4, -3], ends=[1000, -1]),
    "slice-to-one": row("slice", (2, 5, 6), (2, 1, 6), axes=[1], starts=[4], ends=[5]),
}
#: A view can't always be reshaped without a copy.
DENSE_ONLY = {"reshape_lazy", "unsqueeze-steps"}
#: Both ways of taking operands: each as it lies in memory, and all row-major (the host's).
STRIDED, ROW_MAJOR = False, True
#: Kernels that the row-major rules give are among those of the strided ones; these few show that the rules work.
ALSO_ROW_MAJOR = ("transpose-4d", "multibroadcast-ones", "slice-negative", "reshape-both", "squeeze-all")


def test_the_table_is_complete():
    assert {row.name for row in TABLE.values()} == set(RESHAPERS)


def strides(lens, layout):
    """A row-major tensor, one with the axes in memory the other way round, or one that every second axis repeats."""
    if layout == "permuted":
        return tuple(reversed(Shape.standard_of("float_type", tuple(reversed(lens))).strides))
    repeated = {axis for axis in range(len(lens)) if layout == "broadcast" and axis % 2 == 0}
    held = tuple(1 if axis in repeated else length for axis, length in enumerate(lens))
    steps = Shape.standard_of("float_type", held).strides
    return tuple(0 if axis in repeated else step for axis, step in enumerate(steps))


def product(builder, lens):
    """A dot with a result of these lengths, of which there are at least two."""
    batch, (m, n) = lens[:-2], lens[-2:]
    return builder.op("dot", builder.param("a", (*batch, m, 2)), builder.param("b", (*batch, 2, n)))


def before(name, layouts):
    """The reshaper in front of an anchor, and on the operands of two additions behind it."""
    case, builder, reshaped = TABLE[name], Builder(), []
    lens = case.result if len(case.result) > 1 else (1, *case.result)
    for operand, layout in zip("xyz", layouts, strict=True):
        value = builder.op(
            case.name, builder.param(operand, case.lens, strides=strides(case.lens, layout)), **case.fields
        )
        reshaped.append(value if lens == case.result else builder.op("reshape", value, dims=list(lens)))
    value = builder.op("dot", reshaped[0], builder.param("w", (*lens[:-2], lens[-1], lens[-1])))
    for operand in reshaped[1:]:
        value = builder.op("add", value, operand)
    return builder.build(value)


def between(name):
    """The reshaper between an anchor and a multiplication."""
    case, builder = TABLE[name], Builder()
    if len(case.lens) > 1:
        value = product(builder, case.lens)
    else:
        value = builder.op("squeeze", product(builder, (*case.lens, 1)), axes=[1])
    value = builder.op(case.name, value, **case.fields)
    return builder.build(builder.op("mul", value, builder.param("z", case.result)))


def programs():
    made = {}
    for name in TABLE:
        views = ("standard",) * 3 if name in DENSE_ONLY else ("permuted", "broadcast", "standard")
        made[name, "before", STRIDED] = before(name, views)
        made[name, "between", ROW_MAJOR] = between(name)
        if name in ALSO_ROW_MAJOR:
            made[name, "swapped", STRIDED] = before(name, ("broadcast", "standard", "permuted"))
            made[name, "before", ROW_MAJOR] = made[name, "before", STRIDED]
    return made


CASES = [
    (name, place, standard)
    for name in TABLE
    for place, standard in (("before", STRIDED), ("between", ROW_MAJOR), ("swapped", STRIDED), ("before", ROW_MAJOR))
    if name in ALSO_ROW_MAJOR or (place, standard) in (("before", STRIDED), ("between", ROW_MAJOR))
]


@pytest.fixture(scope="module")
def computed(kernel_options):
    """Everything compiled at once: programs, their subgraphs, and the kernels by key."""
    made = programs()
    subgraphs = {case: subgraphs_of(program, Form.OPERANDS, case[-1]) for case, program in made.items()}
    kernels = kernels_of([s for found in subgraphs.values() for s in found], Form.OPERANDS, kernel_options)
    return made, subgraphs, kernels


@pytest.mark.parametrize("name, place, standard", CASES)
def test_reshaper(computed, name, place, standard):
    made, subgraphs, kernels = computed
    program = made[name, place, standard]
    (subgraph,) = subgraphs[name, place, standard]
    assert TABLE[name].name in subgraph.operators
    assert {p.shape.standard for p in subgraph.parameters} == {True} or not standard
    kernel = kernels[subgraph.key].kernel
    assert not isinstance(kernel, Refusal), kernel
    inputs = inputs_of(program)
    assert_equal(on_iree(subgraph, kernel, operands_of(subgraph, program, inputs)), on_ref(program, inputs)[0])


@pytest.mark.parametrize("name", ["multibroadcast-ones", "broadcast-2d", "slice"])
def test_gpu_kernels_keep_the_number_of_elements(name):
    """A slice or broadcast behind the anchor stays outside, and what follows it too."""
    (subgraph,) = subgraphs_of(between(name), Form.OPERANDS, STRIDED)
    assert subgraph.operators == ("dot",)


def test_a_slice_with_gaps_is_refused():
    builder = Builder()
    gaps = builder.param("x", (3, 4), strides=(8, 1))
    (subgraph,) = subgraphs_of(
        builder.build(builder.op("dot", gaps, builder.param("w", (4, 2)))), Form.OPERANDS, STRIDED
    )
    with pytest.raises(Refusal) as refusal:
        lower(subgraph, "kernel")
    assert refusal.value.reason is Reason.UNSUPPORTED_LAYOUT


def split(starts, strides=None, dims=(2, 2, 4), width=24, axis=1):
    """Parts of one tensor as the factors of a product; each is 8 wide, and its axis is split."""
    lens, builder = (2, width) if axis == 1 else (width, 2), Builder()
    whole, factors = builder.param("x", lens, strides=strides), []
    for start in starts:
        part = builder.op("slice", whole, axes=[axis], starts=[start], ends=[start + 8 if start != -8 else width])
        factors.append(builder.op("reshape", part, dims=list(dims)))
    permutation = [*range(len(dims) - 2), len(dims) - 1, len(dims) - 2]
    return builder.build(builder.op("dot", factors[0], builder.op("transpose", factors[1], permutation=permutation)))


SPLIT = {
    "aligned": (split((4, 16)), True),
    "from the end": (split((0, -8)), True),
    "permuted": (split((8, 0), strides=(1, 2)), True),
    "broadcast": (split((8, 4), strides=(0, 1)), True),
    "the first axis": (split((4, 12), dims=(2, 4, 2), axis=0), True),
    "in three": (split((8, 16), dims=(2, 1, 2, 4)), True),
    "begins between": (split((4, 6)), False),
    "ends between": (split((0, 4), width=22), False),
    "another split": (split((4, 16), dims=(4, 2, 2)), False),
}


@pytest.mark.parametrize("name", SPLIT)
def test_a_slice_that_is_split(kernel_options, name):
    """Its source is split, of which the slice is one then, where both begin and end between the parts."""
    program, slices_parts = SPLIT[name]
    (subgraph,) = subgraphs_of(program)
    mlir = lower(subgraph, "kernel")
    sliced = [line for line in mlir.splitlines() if "extract_slice" in line and "%arg0[" not in line]
    assert (len(sliced) == 2) is slices_parts, mlir
    kernel = kernels_of([subgraph], Form.OPERANDS, kernel_options)[subgraph.key].kernel
    inputs = inputs_of(program)
    assert_equal(on_iree(subgraph, kernel, operands_of(subgraph, program, inputs)), on_ref(program, inputs)[0])


@pytest.mark.parametrize("form", LAYOUTS)
def test_a_condition_with_one_element_chooses_for_all(kernel_options, form):
    """MIGraphX's where takes it; nothing else works on operands of different lengths (op/where.hpp)."""
    builder = Builder()
    condition = builder.param("c", (1,), "bool_type")
    program = builder.build(builder.op("where", condition, product(builder, (3, 4)), builder.param("y", (3, 4))))
    (subgraph,) = subgraphs_of(program, form)
    kernel = kernels_of([subgraph], form, kernel_options)[subgraph.key].kernel
    for chosen in (True, False):
        inputs = {**inputs_of(program), "c": np.array([chosen])}
        actual = on_iree(subgraph, kernel, operands_of(subgraph, program, inputs))
        assert_equal(actual, on_ref(program, inputs)[0])
