"""Subgraphs without an anchor: what goes together, and what is not worth a kernel."""

import numpy as np
import pytest
from hypothesis import given

import iree_migraphx
from iree_migraphx import binding
from iree_migraphx.ir.edit import remove_dead
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.partition.partition import partition
from programs import Builder, extra_of, loaded, on_ref, subgraphs_of

from .test_graphs import FORMULAS, acyclic, graphs, meanings


@pytest.fixture
def b():
    return Builder()


def operators(program):
    return [subgraph.operators for subgraph in extra_of(program)]


def layer_norm(b, x, lens):
    """As exporters write it: mean, difference, square, mean, square root, quotient, scale and shift."""
    mean = b.spread(b.op("reduce_mean", x, axes=[-1]), lens)
    difference = b.op("sub", x, mean)
    variance = b.op("reduce_mean", b.op("mul", difference, difference), axes=[-1])
    shifted = b.op("add", variance, b.spread(b.literal(1e-5), (*lens[:-1], 1)))
    quotient = b.op("div", difference, b.spread(b.op("sqrt", shifted), lens))
    scaled = b.op("mul", quotient, b.spread(b.param("scale", lens[-1:]), lens))
    return b.op("add", scaled, b.spread(b.param("shift", lens[-1:]), lens))


def test_a_layer_norm_is_one_subgraph(b):
    program = b.build(layer_norm(b, b.param("x", (2, 3, 8)), (2, 3, 8)))
    (subgraph,) = extra_of(program)
    assert subgraph.anchor == "reduce_mean"
    assert len(subgraph.operands) == 3
    assert sorted(set(subgraph.operators)) == ["add", "div", "mul", "multibroadcast", "reduce_mean", "sqrt", "sub"]


def test_off_by_default_and_anchors_come_first(b):
    d = b.op("dot", b.param("a", (4, 4)), b.param("c", (4, 4)))
    program = b.build(b.op("softmax", b.op("relu", d), axis=1))
    (alone,) = subgraphs_of(program)
    assert alone.operators == ("dot", "relu")
    first, second = extra_of(program, Form.OPERANDS, standard_operands=False)
    assert (first, second.operators) == (alone, ("softmax",))


def test_a_value_that_others_read_ends_a_subgraph(b):
    shared = b.op("exp", b.param("x", (4, 4)))
    program = b.build(b.op("softmax", b.op("relu", shared), axis=1), b.op("tanh", shared))
    assert sorted(operators(program)) == [("exp",), ("relu", "softmax"), ("tanh",)]


def test_both_sides_of_a_diamond_go_together(b):
    shared = b.op("exp", b.param("x", (4, 4)))
    program = b.build(b.op("add", b.op("relu", shared), b.op("tanh", shared)))
    assert operators(program) == [("exp", "relu", "tanh", "add")]


def test_a_mere_view_is_no_reason_for_a_kernel(b):
    program = b.build(b.op("transpose", b.op("squeeze", b.param("x", (4, 1, 4)), axes=[1]), permutation=[1, 0]))
    assert operators(program) == []


def test_what_an_anchor_took_along_is_not_computed_again(b):
    copied = b.op("contiguous", b.op("transpose", b.param("x", (5, 4)), permutation=[1, 0]))
    program = b.build(b.op("dot", copied, b.param("y", (5, 6))))
    assert operators(program) == [("transpose", "contiguous", "dot")]


def test_what_no_kernel_takes_is_left_out(b):
    refused = b.op("softmax", b.param("x", (4, 4), "fp8e5m2_type"), axis=1)
    program = b.build(b.op("nonzero", refused), b.op("relu", b.param("y", (4,))))
    assert operators(program) == [("relu",)]


@pytest.mark.parametrize(
    "name, rows, taken", [("relu", 64, True), ("relu", 63, False), ("softmax", 11, True), ("softmax", 10, False)]
)
def test_small_subgraphs_are_left_to_migraphx(b, name, rows, taken):
    """What takes MIGraphX longer is worth a kernel sooner."""
    assert forms.LEAST_WORK == 64 * 64 and forms.PRICES["softmax"] == 6
    program = b.build(b.op(name, b.param("x", (rows, 64)), **({"axis": 1} if name == "softmax" else {})))
    found = partition(program, forms.rules(Form.CHANNELS_LAST, standard_operands=True, extra=True))
    assert [subgraph.operators for subgraph in found] == [(name,)] * taken


def test_any_graph(examples):
    """No value is computed twice, only results are read from outside, and nothing waits for itself."""

    @examples(200)
    @given(graphs())
    def run(program):
        program = remove_dead(program)
        instructions, users = program.main.by_id(), program.main.users()
        returned = set(program.main.instructions[-1].inputs)
        found = partition(program, forms.rules(Form.OPERANDS, False, extra=True, least_work=0))
        parameters = [i.id for i in instructions.values() if i.name == "@param"]
        values = meanings(
            instructions.values(), {value: FORMULAS.setdefault(value, len(FORMULAS)) for value in parameters}
        )
        results = {subgraph.result for subgraph in found}
        assert len(results) == len(found)
        needed = {*returned, *(value for subgraph in found for value in subgraph.operands)}
        for subgraph in found:
            members = set(subgraph.members)
            for value in members - {subgraph.result}:
                outside = [user.id for user in users[value] if user.id not in members]
                assert value not in needed or instructions[value].name == "transpose"
                assert instructions[value].name == "transpose" or not outside or value in results
            operands = {
                p.id: values[operand] for p, operand in zip(subgraph.parameters, subgraph.operands, strict=True)
            }
            body = meanings(subgraph.body.instructions, operands)
            assert body[subgraph.body.instructions[-1].inputs[0]] == values[subgraph.result]
        acyclic(program, found)

    run()


@pytest.mark.parametrize("extra", [None, True, False])
def test_the_option(b, kernel_options, extra):
    lens = (4, 16, 64)
    program = b.build(layer_norm(b, b.param("x", lens), lens))
    options = iree_migraphx.Options(cache_dir=kernel_options.cache_dir, quiet=True, extra=extra)
    compiled = iree_migraphx.compile(loaded(program), binding.get_target("ref"), options=options)
    assert compiled.iree_report.swapped == (0 if extra is False else 1)
    random = np.random.default_rng(0)
    inputs = {"x": random.standard_normal(lens), "scale": random.standard_normal(64), "shift": np.ones(64)}
    inputs = {name: value.astype(np.float32) for name, value in inputs.items()}
    np.testing.assert_allclose(
        np.asarray(compiled.run(inputs)[0]), on_ref(program, inputs)[0], rtol=0, atol=64 * np.finfo(np.float32).eps
    )


def test_off_for_a_gpu(b):
    lens = (4, 16, 64)
    program = loaded(b.build(layer_norm(b, b.param("x", lens), lens)))
    options = iree_migraphx.Options(cache=False, quiet=True)
    assert iree_migraphx.check(program, "gfx942", options).eligible == 0
