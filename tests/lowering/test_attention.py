"""Attention in every form, as one operation of IREE and step by step, against MIGraphX."""

import numpy as np
import pytest

from capture.fused import captured, fusion, standard
from iree_migraphx.capture.unfuse import unfuse
from iree_migraphx.errors import Refusal
from iree_migraphx.kernels.model import GpuKernel, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.emit import lower
from iree_migraphx.partition.partition import take_whole
from programs import LAYOUTS, Builder, kernels_of, on_iree, on_ref, operands_of, parameters, recorded, subgraphs_of

HALF, FLOAT = "half_type", "float_type"


def softmax_in_steps(b, scores, lens, type_, wide=False):
    """What MIGraphX's gpu target makes of a softmax: in float, its sum over powers that are computed once more."""
    if wide and type_ != FLOAT:
        scores = b.op("convert", scores, target_type=2)
    largest = b.spread(b.op("reduce_max", scores, axes=[len(lens) - 1]), lens)
    powers = b.op("exp", b.op("sub", scores, largest))
    again = b.op("exp", b.op("sub", scores, largest)) if wide else powers
    total = b.spread(b.op("reduce_sum", again, axes=[len(lens) - 1]), lens)
    weights = b.op("div", powers, total)
    return b.op("convert", weights, target_type=1) if wide and type_ != FLOAT else weights


def program(
    batch=(2, 3), m=5, d=4, k=7, n=6, type_=FLOAT, before=None, steps=None, behind=None, strides=(None, None, None)
):
    """softmax(before(q k)) v; queries and keys as transposes where `strides` say so."""
    b = Builder()
    q = b.param("q", (*batch, m, d), type_, strides[0])
    keys = b.param("k", (*batch, d, k), type_, strides[1])
    v = b.param("v", (*batch, k, n), type_, strides[2])
    lens = (*batch, m, k)
    scores = b.op("dot", q, keys)
    if before is not None:
        scores = before(b, scores, lens, type_)
    rank = len(lens)
    weights = b.op("softmax", scores, axis=rank - 1) if steps is None else steps(b, scores, lens, type_)
    result = b.op("dot", weights, v)
    return b.build(behind(b, result, (*batch, m, n), type_) if behind is not None else result)


def scaled(b, scores, lens, type_, by=0.5):
    return b.op("mul", scores, b.spread(b.literal(by, type_), lens))


def divided_and_masked(b, scores, lens, type_):
    scores = b.op("div", scores, b.spread(b.literal(2.0, type_), lens))
    return b.op("add", scores, b.spread(b.param("mask", (lens[0], 1, 1, lens[-1]), type_), lens))


def subtracted(b, scores, lens, type_):
    return b.op("sub", scaled(b, scores, lens, type_), b.spread(b.param("bias", lens[1:], type_), lens))


def selected(value, inverted=False):
    def where(b, scores, lens, type_):
        condition = b.spread(b.param("where", lens[-2:], "bool_type"), lens)
        other = b.spread(b.literal(value, type_), lens)
        values = (other, scores) if inverted else (scores, other)
        return b.op("where", condition, *values)

    return where


def causal(b, scores, lens, type_):
    """As in GPT-2, with what is cached before the first query."""
    m, k = lens[-2:]
    hidden = b.literal(np.arange(k) > np.arange(m).reshape(m, 1) + k - m, "bool_type")
    other = b.spread(b.literal(-65504.0, type_), lens)
    return b.op("where", b.spread(hidden, lens), other, scaled(b, scores, lens, type_))


def bias_and_mask(b, scores, lens, type_):
    scores = b.op("add", b.spread(b.param("bias", lens[1:], type_), lens), scaled(b, scores, lens, type_, 0.7))
    return selected(-np.inf)(b, scores, lens, type_)


def behind(masked, by=0.5):
    """A factor of masked scores, as in ONNX Runtime's Attention (onnx/parse_attention.cpp)."""
    return lambda b, scores, lens, type_: scaled(b, masked(b, scores, lens, type_), lens, type_, by)


def stacked(n=2, heads=3, m=5, d=4):
    """Queries, keys and values side by side in one tensor, as one product gives them."""
    b = Builder()
    whole, width = b.param("x", (n, m, 3 * heads * d), HALF), heads * d
    parts = []
    for place in range(3):
        part = b.op("slice", whole, axes=[2], starts=[place * width], ends=[(place + 1) * width])
        part = b.op("reshape", part, dims=[n, m, heads, d])
        parts.append(b.op("transpose", part, permutation=[0, 2, 1, 3]))
    q, k, v = parts
    scores = b.op("dot", q, b.op("transpose", k, permutation=[0, 1, 3, 2]))
    weights = b.op("softmax", scaled(b, scores, (n, heads, m, m), HALF), axis=3)
    return b.build(heads_together(b, b.op("dot", weights, v), (n, heads, m, d), HALF))


def one_number(b, scores, lens, type_):
    return b.op("add", scores, b.spread(b.param("bias", (1,) * len(lens), type_), lens))


def heads_together(b, value, lens, type_):
    """What transformers do behind attention."""
    value = b.op("contiguous", b.op("transpose", value, permutation=[0, 2, 1, 3]))
    value = b.op("reshape", value, dims=[lens[0], lens[2], lens[1] * lens[3]])
    return b.op("relu", value)


def grouped(heads=4, shared=2, m=3, d=4, k=7, type_=HALF, extra=0, layout="keys"):
    """Keys and values of fewer heads than the queries have (prefuse_ops.cpp), masked by lengths and positions.

    Args:
        extra: heads in front of and behind the queries', in the tensor that holds both.
        layout: "keys" are transposed behind the repetition of heads, or "before" it.
    """
    b = Builder()
    group, n = heads // shared, 2
    q = b.param("q", (n, heads + 2 * extra, m, d), type_)
    if extra:
        q = b.op("slice", q, axes=[1], starts=[extra], ends=[extra + heads])
    keys, v = (b.param(name, (n, shared, k, d), type_) for name in "kv")

    def repeated(value, *last):
        wide = b.spread(b.op("unsqueeze", value, axes=[2], steps=[]), (n, shared, group, *last))
        return b.op("reshape", wide, dims=[n, heads, *last])

    if layout == "keys":
        keys = b.op("transpose", repeated(keys, k, d), permutation=[0, 1, 3, 2])
    else:
        keys = repeated(b.op("transpose", keys, permutation=[0, 1, 3, 2]), d, k)
    lens = (n, heads, m, k)
    scores = scaled(b, b.op("dot", q, keys), lens, type_)
    places = b.spread(b.literal(np.arange(k), "int32_type"), lens)
    rows = b.spread(b.literal(np.arange(m).reshape(m, 1), "int32_type"), lens)
    ends = b.spread(b.op("reshape", b.param("ends", (n, 1), "int32_type"), dims=[n, 1, 1, 1]), lens)
    for limit in (rows, ends):
        hidden = b.op("convert", b.op("greater", places, limit), target_type=0)
        scores = b.op("where", hidden, b.spread(b.literal(-np.inf, type_), lens), scores)
    result = b.op("dot", b.op("softmax", scores, axis=3), repeated(v, k, d))
    return b.build(heads_together(b, result, (n, heads, m, d), type_))


PROGRAMS = {
    "plain": program(),
    "half": program(type_=HALF, before=scaled),
    "steps": program(before=scaled, steps=softmax_in_steps),
    "steps-half": program(
        type_=HALF, before=scaled, steps=lambda b, s, lens, type_: softmax_in_steps(b, s, lens, type_, wide=True)
    ),
    "steps-again": program(steps=lambda b, s, lens, type_: softmax_in_steps(b, s, lens, type_, wide=True)),
    "mask": program(before=divided_and_masked),
    "mask-half": program(type_=HALF, before=divided_and_masked),
    "subtracted": program(before=subtracted),
    "where-inf": program(before=selected(-np.inf)),
    "where-far": program(before=selected(-1e9)),
    "where-far-half": program(type_=HALF, before=selected(-65504.0, inverted=True)),
    "causal": program(m=4, k=4, before=causal),
    "causal-cache": program(m=1, k=9, type_=HALF, before=causal),
    "several-masks": program(before=bias_and_mask),
    "scale-behind-mask": program(before=behind(divided_and_masked)),
    "scale-behind-bias": program(type_=HALF, before=behind(subtracted)),
    "scale-behind-where": program(before=behind(selected(-1e9), by=0.125)),
    "mask-of-one-number": program(before=one_number),
    "one-head": program(batch=(1, 1)),
    "no-batch": program(batch=()),
    "one-batch": program(batch=(1, 4), before=divided_and_masked),
    "rank-5": program(batch=(2, 1, 3)),
    "long": program(batch=(1, 2), m=65, d=16, k=129, n=16, type_=HALF, before=scaled),
    "eight-queries": program(batch=(2,), m=8, d=64, k=64, type_=HALF, before=scaled),
    "one-key": program(k=1),
    "transposed": program(strides=((60, 4, 12, 1), (84, 28, 1, 4), (126, 6, 18, 1))),
    "heads-together": program(before=scaled, behind=heads_together),
    "grouped": grouped(),
    "grouped-float": grouped(type_=FLOAT, layout="before"),
    "grouped-sliced": grouped(extra=2),
    "grouped-sliced-apart": grouped(heads=6, shared=2, extra=2),
    "grouped-token": grouped(m=1, d=64, k=64, heads=16, shared=2),
    "one-for-all": grouped(shared=1, m=1),
    "each-its-own": grouped(shared=4),
    "stacked": stacked(),
}


def assert_close(subgraph, kernel, program):
    """Against MIGraphX, which rounds the scores (some 5) and the weights; IREE the scaled queries and the weights."""
    inputs = inputs_of(program)
    actual = on_iree(subgraph, kernel, operands_of(subgraph, program, inputs)).astype(np.float64)
    (expected,) = on_ref(program, inputs)
    np.testing.assert_allclose(actual, expected.astype(np.float64), rtol=0, atol=16 * np.finfo(expected.dtype).eps)
    return expected


CASES = [(name, form) for name in PROGRAMS for form in LAYOUTS if (name, form) != ("one-key", Form.OPERANDS)]


def inputs_of(program):
    """Random numbers; of conditions one row is false everywhere, and a mask hides some keys."""
    random = np.random.default_rng(3)
    inputs = {}
    for name, shape in parameters(program).items():
        value = random.standard_normal(shape.lens)
        if name == "ends":
            value = np.array([[2], [5]])
        elif name == "where":
            value = random.random(shape.lens) < 0.6
            value[0, :], value[-1, :] = False, True
        elif name == "mask":
            value = np.where(random.random(shape.lens) < 0.3, -np.inf, value)
            value[-1] = value[-1] if len(value) == 1 else -np.inf
        inputs[name] = value.astype(shape.dtype)
    return inputs


def only(program, form=Form.OPERANDS):
    (subgraph,) = subgraphs_of(program, form, standard_operands=form is Form.CHANNELS_LAST)
    return subgraph


def whole(program):
    """All of a program that is one attention, whatever can be made of it."""
    core = [i.id for i in program.main.instructions if not i.name.startswith("@")]
    (subgraph,) = take_whole(program, forms.rules(Form.OPERANDS, standard_operands=False), [(core, core[-1:])])
    return subgraph


@pytest.fixture(scope="module")
def kernels(kernel_options):
    return {
        form: kernels_of([only(PROGRAMS[name], form) for name, each in CASES if each is form], form, kernel_options)
        for form in LAYOUTS
    }


@pytest.mark.parametrize("name, form", CASES, ids=lambda value: getattr(value, "value", value))
def test_attention(kernels, name, form):
    program = PROGRAMS[name]
    subgraph = only(program, form)
    assert subgraph.operators.count("dot") == 2
    kernel = kernels[form][subgraph.key].kernel
    assert not isinstance(kernel, Refusal), kernel
    expected = assert_close(subgraph, kernel, program)
    if name in ("mask", "where-inf"):
        assert np.isnan(expected).any()
    assert not np.isnan(expected).all()


def test_one_operation_of_iree():
    assert "iree_linalg_ext.attention" in lower(only(PROGRAMS["steps-half"]), "kernel")
    assert "iree_linalg_ext" not in lower(only(PROGRAMS["half"], Form.CHANNELS_LAST), "kernel", Form.CHANNELS_LAST)


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942", "gfx950"])
def test_eight_queries_on_gpus(kernel_options, arch):
    """IREE chooses sparse MFMA for them in half, and fails at it."""
    subgraph = only(PROGRAMS["eight-queries"])
    request = Request("kernel", lower(subgraph, "kernel"), 4, "dot")
    (outcome,) = compile_kernels([request], parse_target(arch), kernel_options)
    assert isinstance(outcome.kernel, GpuKernel), outcome.kernel


@pytest.mark.parametrize("arch", ["gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201"])
def test_heads_that_share_keys_on_gpus(kernel_options, arch):
    """One launch, also of as many heads as IREE chooses sparse MFMA for."""
    subgraphs = [only(PROGRAMS[name]) for name in ("grouped-sliced", "grouped-token", "one-for-all", "stacked")]
    requests = [Request("kernel", lower(one, "kernel"), len(one.operands) + 1, "dot") for one in subgraphs]
    outcomes = compile_kernels(requests, parse_target(arch), kernel_options)
    assert all(isinstance(outcome.kernel, GpuKernel) for outcome in outcomes), outcomes


def test_what_migraphx_has_fused():
    """A gpu::mlir_op around an attention, softmax in steps (fuse_attention.cpp, fuse_mlir.cpp)."""
    inside, main = Builder("m:"), Builder()
    lens = {"x0": (2, 5, 4), "x1": (2, 7, 4), "x2": (2, 7, 6), "x3": (2, 5, 7)}
    q, k, v, mask = (inside.param(name, each, HALF) for name, each in lens.items())
    scores = inside.op("dot", q, inside.op("transpose", k, permutation=[0, 2, 1]))
    scores = inside.op("add", scaled(inside, scores, (2, 5, 7), HALF), mask)
    result = inside.op("dot", softmax_in_steps(inside, scores, (2, 5, 7), HALF, wide=True), v)
    module = inside.module("m", inside.op("transpose", result, permutation=[1, 0, 2]))
    operands = [main.param(name, each, HALF) for name, each in lens.items()]
    op = {"name": "dot", "operator": []}
    value = fusion(main, "gpu::mlir_op", module, *operands, shape=standard(5, 2, 6, type_=HALF), op=op)
    program = recorded(unfuse(captured(main, value, modules=[module])).program)
    assert "iree_linalg_ext.attention" in lower(whole(program), "kernel")


#: What IREE's operation has no place for.
APART = {
    "no-place": program(before=lambda b, s, lens, type_: b.op("tanh", s)),
    "near": program(before=selected(-5.0)),
    "negative-behind-mask": program(before=behind(divided_and_masked, by=-1.0)),
    "small-behind-mask": program(before=behind(selected(-1e4), by=1e-3)),
    "subtracted-from": program(before=lambda b, s, lens, type_: b.op("sub", b.param("bias", lens, type_), s)),
    "one-key": PROGRAMS["one-key"],
}


@pytest.mark.parametrize("name", APART)
def test_what_gpus_compute_in_steps(kernel_options, name):
    """Each dot is a subgraph then; where MIGraphX has fused them, they are one in single steps."""
    program = APART[name]
    assert len(subgraphs_of(program)) == 2
    subgraph = whole(program)
    assert "iree_linalg_ext" not in lower(subgraph, "kernel")
    kernel = kernels_of([subgraph], Form.OPERANDS, kernel_options)[subgraph.key].kernel
    assert_close(subgraph, kernel, program)


def test_scores_that_others_read_are_no_attention():
    b = Builder()
    scores = b.op("dot", b.param("q", (3, 4)), b.param("k", (4, 5)))
    result = b.op("dot", b.op("softmax", scores, axis=1), b.param("v", (5, 6)))
    program = b.build(scores, result)
    assert all(subgraph.operators.count("dot") == 1 for subgraph in subgraphs_of(program))


def test_softmax_over_another_axis_is_no_attention():
    b = Builder()
    scores = b.op("dot", b.param("q", (3, 4)), b.param("k", (4, 5)))
    program = b.build(b.op("dot", b.op("softmax", scores, axis=0), b.param("v", (5, 6))))
    assert all(subgraph.operators.count("dot") == 1 for subgraph in subgraphs_of(program))
