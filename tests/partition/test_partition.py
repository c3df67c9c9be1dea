"""Which instructions make one subgraph, what it reads, and when two are equal."""

from dataclasses import replace

import numpy as np
import pytest

from iree_migraphx.ir.model import Program, Shape
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.partition.grow import HORIZON
from iree_migraphx.partition.partition import has_dynamic_shapes, partition, take_whole
from programs import (
    Builder,
    assert_equal,
    body_of,
    inputs_of,
    on_ref,
    operands_of,
    subgraphs_of,
)


@pytest.fixture
def b():
    return Builder()


def dot(b, number=0, m=4, k=4, n=4):
    return b.op("dot", b.param(f"a{number}", (m, k)), b.param(f"b{number}", (k, n)))


def operators(program, **how):
    return [subgraph.operators for subgraph in subgraphs_of(program, **how)]


def same_alone(program):
    """The body of the program's only subgraph, run as a program, gives what the program gives."""
    (subgraph,) = subgraphs_of(program)
    inputs = inputs_of(program)
    (alone,) = on_ref(body_of(subgraph), operands_of(subgraph, program, inputs))
    assert_equal(alone, on_ref(program, inputs)[0])


def test_a_chain_behind_the_anchor(b):
    program = b.build(b.op("tanh", b.op("add", b.op("relu", dot(b)), b.param("c", (4, 4)))))
    assert operators(program) == [("dot", "relu", "add", "tanh")]
    same_alone(program)


def test_a_value_times_its_sigmoid(b):
    d = dot(b)
    program = b.build(b.op("mul", d, b.op("sigmoid", d)))
    assert operators(program) == [("dot", "sigmoid", "mul")]
    same_alone(program)


def test_hard_swish(b):
    d = dot(b)
    three, zero, six = (b.spread(b.literal(value), (4, 4)) for value in (3.0, 0.0, 6.0))
    clipped = b.op("clip", b.op("add", d, three), zero, six)
    program = b.build(b.op("div", b.op("mul", d, clipped), six))
    (subgraph,) = subgraphs_of(program)
    assert len(subgraph.operands) == 2
    assert [o for o in subgraph.operators if o != "multibroadcast"] == ["dot", "add", "clip", "mul", "div"]
    same_alone(program)


def test_what_follows_two_anchors_goes_to_the_first_that_can_have_it(b):
    """The sum reads both dots; it must be behind one of them and read the other's result."""
    program = b.build(b.op("relu", b.op("add", dot(b, 0), dot(b, 1))))
    found = subgraphs_of(program)
    assert sorted(s.operators for s in found) == [("dot",), ("dot", "add", "relu")]
    (alone,) = (s for s in found if len(s.operators) == 1)
    (other,) = (s for s in found if len(s.operators) > 1)
    assert alone.result in other.operands


def test_residual(b):
    """The second convolution takes the sum; the first one's result is read twice."""
    x, w = b.param("x", (1, 3, 5, 5)), b.param("w", (3, 3, 1, 1))
    first = b.conv(x, w)
    second = b.conv(b.op("relu", first), b.param("v", (3, 3, 1, 1)))
    found = subgraphs_of(b.build(b.op("add", second, first)))
    assert [s.operators for s in found] == [("convolution",), ("convolution", "add")]
    assert found[0].result in found[1].operands


def test_a_sum_over_a_way_round_is_not_convex(b):
    """The softmax stands between the dot and the addition, so they can't be one kernel."""
    d = dot(b)
    assert operators(b.build(b.op("add", b.op("softmax", d, axis=1), d))) == [("dot",)]


def test_two_readers_of_a_value_inside(b):
    r = b.op("relu", dot(b))
    found = subgraphs_of(b.build(b.op("softmax", b.op("neg", r), axis=1), b.op("softmax", b.op("exp", r), axis=0)))
    assert [s.operators for s in found] == [("dot", "relu")]


def test_readers_that_meet_again(b):
    r = b.op("relu", dot(b))
    assert operators(b.build(b.op("add", b.op("neg", r), b.op("exp", r)))) == [("dot", "relu", "neg", "exp", "add")]


def test_a_returned_value_stays(b):
    r = b.op("relu", dot(b))
    assert operators(b.build(b.op("neg", r), r)) == [("dot", "relu")]


def test_a_returned_anchor_stays(b):
    d = dot(b)
    assert operators(b.build(d, b.op("neg", d))) == [("dot",)]


def test_a_trailing_reshaper_stays_outside(b):
    """A mere view of the result is none of the kernel's business."""
    assert operators(b.build(b.op("transpose", b.op("relu", dot(b)), permutation=[1, 0]))) == [("dot", "relu")]


def test_a_reshaper_between_needs_a_pointwise_behind_it(b):
    t = b.op("transpose", dot(b), permutation=[1, 0])
    assert operators(b.build(b.op("relu", t))) == [("dot", "transpose", "relu")]


def test_shared_reshapers_are_computed_in_each(b):
    t = b.op("transpose", b.param("w", (4, 4)), permutation=[1, 0])
    first = b.op("dot", b.param("x", (4, 4)), t)
    second = b.op("dot", b.param("y", (4, 4)), t)
    found = subgraphs_of(b.build(first, second, t))
    assert [s.operators for s in found] == [("transpose", "dot")] * 2
    assert [s.operands for s in found] == [("x", "w"), ("y", "w")]
    assert found[0].key == found[1].key


def test_the_anchors_operands_come_first(b):
    x, c = b.param("x", (4, 4)), b.param("c", (4, 4))
    d = b.op("dot", x, b.op("transpose", b.param("w", (4, 4)), permutation=[1, 0]))
    (subgraph,) = subgraphs_of(b.build(b.op("sub", c, d)))
    assert subgraph.operands == ("x", "w", "c")
    assert [p.id for p in subgraph.parameters] == ["x0", "x1", "x2"]


def test_an_operand_is_taken_once(b):
    x = b.param("x", (4, 4))
    program = b.build(b.op("add", b.op("dot", x, x), x))
    (subgraph,) = subgraphs_of(program)
    assert subgraph.operands == ("x",)
    same_alone(program)


def test_a_constant_of_one_element_is_in_the_body(b):
    factor = b.spread(b.literal(2.5), (4, 4))
    program = b.build(b.op("add", b.op("mul", dot(b), factor), b.literal(np.eye(4))))
    (subgraph,) = subgraphs_of(program)
    assert len(subgraph.operands) == 3
    inside = [i.literal.array().tolist() for i in subgraph.body.instructions if i.literal]
    assert inside == [[2.5]]
    same_alone(program)


def test_operands_row_major_or_as_they_are(b):
    strided = b.param("a", (2, 3, 4), strides=(1, 2, 6))
    program = b.build(b.op("dot", strided, b.param("b", (2, 4, 5), strides=(0, 5, 1))))
    (as_they_are,) = subgraphs_of(program, standard_operands=False)
    (row_major,) = subgraphs_of(program, standard_operands=True)
    assert [p.shape.strides for p in as_they_are.parameters] == [(1, 2, 6), (0, 5, 1)]
    assert [p.shape.strides for p in row_major.parameters] == [(12, 4, 1), (20, 5, 1)]
    assert as_they_are.key != row_major.key


def test_constant_filters_lie_as_the_form_wants_them(b):
    w = b.literal(np.ones((5, 4, 3, 2), np.float32))
    program = b.build(b.conv(b.param("x", (1, 4, 6, 6)), w))
    (nchw,) = subgraphs_of(program, form=Form.OPERANDS, standard_operands=True)
    (nhwc,) = subgraphs_of(program, form=Form.CHANNELS_LAST, standard_operands=True)
    assert nchw.parameters[1].shape.strides == (24, 6, 2, 1)
    assert nhwc.parameters[1].shape.strides == (1, 5, 40, 20)


def variants():
    """Programs that differ in one thing each; one kernel can serve none but equal ones."""

    def padded(padding, type_="float_type", value=1.0, strides=None, operator="add"):
        b = Builder()
        c = b.conv(b.param("x", (1, 2, 5, 5), type_, strides), b.param("w", (3, 2, 3, 3), type_), padding=padding)
        lens = (1, 3, 3 + 2 * padding[0], 3 + 2 * padding[1])
        return b.build(b.op(operator, c, b.spread(b.literal(value, type_), lens)))

    return {
        "base": padded([1, 1]),
        "padding": padded([0, 0]),
        "type": padded([1, 1], type_="half_type"),
        "scalar": padded([1, 1], value=2.0),
        "strides": padded([1, 1], strides=(50, 1, 10, 2)),
        "operator": padded([1, 1], operator="sub"),
    }


def test_keys_differ_where_kernels_do():
    keys = {name: subgraphs_of(program)[0].key for name, program in variants().items()}
    assert len(set(keys.values())) == len(keys)
    assert subgraphs_of(variants()["base"])[0].key == keys["base"]


def test_equal_subgraphs_have_one_key(b):
    """Wherever they stand, whatever their values are called, whoever reads them."""
    w = b.literal(np.arange(16).reshape(4, 4))
    first = b.op("relu", b.op("dot", b.param("x", (4, 4)), w))
    second = b.op("relu", b.op("dot", b.op("softmax", first, axis=1), b.literal(np.eye(4))))
    found = subgraphs_of(b.build(second, first))
    assert len(found) == 2
    assert found[0].key == found[1].key
    assert [s.name for s in found] == ["dot_relu_1", "dot_relu_2"]


def test_long_chains_are_cut(b):
    value = dot(b)
    for _ in range(HORIZON + 10):
        value = b.op("neg", value)
    (subgraph,) = subgraphs_of(b.build(value))
    assert len(subgraph.members) == HORIZON + 1


def test_nothing_eligible(b):
    assert subgraphs_of(b.build(b.op("relu", b.param("x", (4, 4))))) == ()


def test_dynamic_shapes(b):
    program = b.build(dot(b))
    assert not has_dynamic_shapes(program)
    shape = Shape("float_type", dynamic_dimensions=({"min": 1, "max": 8, "optimals": []},))
    first, *rest = program.main.instructions
    changed = program.with_module(replace(program.main, instructions=(replace(first, shape=shape), *rest)))
    assert has_dynamic_shapes(changed)


def branch(name, value_of, outer=()):
    inner = Builder(f"{name}:")
    return inner.module(name, value_of(inner, *outer))


def test_a_branch_reads_a_value(b):
    """What a submodule reads must stay a value of its own."""
    d = dot(b)
    r = b.op("relu", d)
    then = branch("then", lambda inner: inner.op("softmax", d, axis=1))
    other = branch("else", lambda inner: inner.op("softmax", r, axis=1))
    chosen = b.op("if", b.param("c", (1,), "bool_type"), modules=["then", "else"])
    program = b.build(b.op("get_tuple_elem", chosen, index=0), b.op("neg", r), submodules=[then, other])
    assert [(s.module, s.operators) for s in subgraphs_of(program)] == [("main", ("dot",))]


def test_subgraphs_inside_branches_end_there(b):
    """A branch has subgraphs of its own; values of its parent are operands, even an anchor that only it reads."""
    x, t = b.param("x", (4, 4)), b.op("transpose", b.param("y", (4, 4)), permutation=[1, 0])
    d = b.op("dot", x, x)
    then = branch("then", lambda inner: inner.op("relu", inner.op("dot", x, t)))
    other = branch("else", lambda inner: inner.op("relu", d))
    chosen = b.op("if", b.param("c", (1,), "bool_type"), modules=["then", "else"])
    program = b.build(b.op("get_tuple_elem", chosen, index=0), submodules=[then, other])
    found = {s.module: s for s in subgraphs_of(program)}
    assert {module: s.operators for module, s in found.items()} == {"main": ("dot",), "then": ("dot", "relu")}
    by_id = program.main.by_id()
    assert [by_id[value].name for value in found["then"].operands] == ["@param", "transpose"]


def test_rules_decide():
    """Nothing but what the rules let in; an anchor alone where nothing may follow."""
    b = Builder()
    program: Program = b.build(b.op("relu", b.op("transpose", dot(b), permutation=[1, 0])))
    rules = forms.rules(Form.OPERANDS, standard_operands=False)
    assert [s.operators for s in partition(program, replace(rules, pointwise=lambda i: False))] == [("dot",)]
    assert [s.operators for s in partition(program, replace(rules, reshaper_behind=lambda i: False))] == [("dot",)]
    assert partition(program, replace(rules, anchor=lambda i: False)) == ()


def test_fusions_come_first(b):
    """A dot behind a dot, with both results that others read; what is left is partitioned as ever."""
    first = dot(b)
    between = b.op("relu", first)
    second = b.op("dot", between, b.op("transpose", b.param("v", (4, 4)), permutation=[1, 0]))
    program = b.build(b.op("neg", second), b.op("softmax", first, axis=1), b.op("exp", dot(b, 1)))
    rules = forms.rules(Form.OPERANDS, standard_operands=False)
    parts, results = [first, between, second], [second, between, first]
    fused, other = partition(program, rules, fusions=[(parts, results)])
    assert (fused.operators, fused.results) == (("dot", "relu", "transpose", "dot"), (second, first))
    assert (fused.operands, fused.name) == (("a0", "b0", "v"), "dot_relu_1")
    assert other.operators == ("dot", "exp")
    (whole,) = take_whole(program, rules, [(parts, results)])
    assert whole == fused
    found = partition(program, rules, {}, [(parts, results)])
    assert [s.operators for s in found] == [fused.operators]


def attention(b, mask, number):
    """Over 5 keys, of which the mask hides some."""
    scores = b.op("dot", b.param(f"q{number}", (2, 3, 4)), b.param(f"k{number}", (2, 4, 5)))
    scores = b.op("where", mask, b.spread(b.literal(-np.inf), (2, 3, 5)), scores)
    return b.op("dot", b.op("softmax", scores, axis=2), b.param(f"v{number}", (2, 5, 4)))


def test_masks_made_of_little_are_computed_in_each_attention(b):
    places = b.spread(b.literal(np.arange(5), "int32_type"), (2, 3, 5))
    length = b.op("neg", b.param("length", (2, 1, 1), "int32_type"))
    hidden = b.op("convert", b.op("greater", places, b.spread(length, (2, 3, 5))), target_type=0)
    program = b.build(*(attention(b, hidden, number) for number in (0, 1)), hidden)
    found = subgraphs_of(program)
    assert [s.operators.count("greater") for s in found] == [1, 1]
    assert [s.operators.count("neg") for s in found] == [0, 0]
    assert all(length in s.operands and s.results != (hidden,) for s in found)
    assert found[0].key == found[1].key


def test_masks_made_of_as_much_are_operands(b):
    hidden = b.op("convert", b.op("greater", *(b.param(name, (2, 3, 5)) for name in "xy")), target_type=0)
    (found,) = subgraphs_of(b.build(attention(b, hidden, 0)))
    assert hidden in found.operands
