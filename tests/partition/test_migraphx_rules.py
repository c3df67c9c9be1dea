"""The rules of MIGraphX's fuse_mlir pass (release 7.1.1): one row a condition."""

from dataclasses import replace

import pytest

from capture.fused import captured, fusion, scalar_body, shaped, standard, tuple_of
from iree_migraphx.options import MlirSettings, mlir_settings
from iree_migraphx.partition.migraphx_rules import Mode, Pair, accepts, choose, fuses, mode
from programs import Builder

FAST = "gfx942"
NOTHING_SAID = MlirSettings()


@pytest.mark.parametrize(
    ("option", "gfx", "text", "wanted"),
    [
        ("convolution", "gfx942", "", Mode.FAST),
        ("convolution", "gfx90a", "", Mode.FAST),
        ("convolution", "", "", Mode.FAST),
        ("convolution", "gfx1100", "", Mode.ALL),
        ("fused_dot", "gfx1201", "", Mode.ALL),
        ("convolution_backwards", "gfx942", "", Mode.NONE),
        ("convolution_backwards", "gfx1100", "", Mode.ALL),
        ("convolution", "gfx942", "convolution", Mode.ALL),
        ("dot", "gfx942", "convolution", Mode.FAST),
        ("fused_dot", "gfx942", "fused", Mode.ALL),
        ("dot", "gfx942", "fused", Mode.FAST),
        ("dot", "gfx1100", "!dot", Mode.NONE),
        ("dot", "gfx1100", "convolution,~dot", Mode.NONE),
        ("fused_convolution", "gfx942", "~fused", Mode.NONE),
        ("dot", "gfx942", "dot,!dot", Mode.NONE),
    ],
)
def test_modes(option, gfx, text, wanted):
    settings = mlir_settings({"MIGRAPHX_MLIR_USE_SPECIFIC_OPS": text})
    assert mode(option, gfx, settings) is wanted


@pytest.mark.parametrize(
    ("text", "disabled"), [("1", True), ("true", True), ("TRUE", False), ("0", False), ("", False)]
)
def test_disable(text, disabled):
    assert mlir_settings({"MIGRAPHX_DISABLE_MLIR": text}).disabled is disabled


@pytest.mark.parametrize(("text", "pairs"), [("1", True), ("yes", True), ("on", False), ("0", False), ("", False)])
def test_pairs_are_asked_for(text, pairs):
    assert mlir_settings({"MIGRAPHX_ENABLE_MLIR_GEG_FUSION": text}).pairs is pairs
    assert not mlir_settings({}).pairs


def anchor(name, *operands, type_="float_type", result=None, **fields):
    builder = Builder()
    values = [builder.param(f"a{number}", lens, type_) for number, lens in enumerate(operands)]
    value = shaped(builder, builder.op(name, *values, **fields), result or standard(1, 1, 1, 1, type_=type_))
    instructions = {i.id: i for i in builder._instructions}
    return instructions[value], instructions


X = (1, 4, 8, 8)


@pytest.mark.parametrize(
    ("weights", "fields", "how", "wanted"),
    [
        ((8, 4, 3, 3), {}, Mode.FAST, False),
        ((8, 4, 3, 3), {}, Mode.ALL, True),
        ((8, 4, 1, 1), {}, Mode.FAST, True),
        ((8, 4, 1, 1), {}, Mode.NONE, False),
        ((8, 4, 6, 6), {}, Mode.FAST, False),
        ((8, 4, 5, 5), {}, Mode.FAST, True),
        ((8, 4, 1, 3), {}, Mode.FAST, True),
        ((4, 1, 3, 3), {"group": 4}, Mode.FAST, True),
    ],
)
def test_convolutions(weights, fields, how, wanted):
    assert accepts(*anchor("convolution", X, weights, **fields), how) is wanted


def test_other_convolutions():
    three = standard(1, 1, 1)
    assert accepts(*anchor("convolution", (1, 4, 8), (8, 4, 3), result=three), Mode.FAST)
    assert not accepts(*anchor("convolution", (1, 4, 8), (4, 1, 3), result=three, group=4), Mode.ALL)
    assert accepts(*anchor("quant_convolution", X, (8, 4, 3, 3), type_="int8_type"), Mode.FAST)
    assert accepts(*anchor("convolution_backwards", X, (4, 8, 3, 3)), Mode.ALL)
    assert not accepts(*anchor("convolution_backwards", X, (4, 2, 3, 3), group=2), Mode.ALL)
    assert not accepts(*anchor("convolution_backwards", X, (4, 8, 3, 3), type_="int8_type"), Mode.ALL)
    assert not accepts(*anchor("convolution_backwards", (1, 4, 8), (4, 8, 3)), Mode.ALL)
    assert not accepts(*anchor("relu", X), Mode.ALL)


@pytest.mark.parametrize(
    ("batch", "m", "k", "n", "wanted"),
    [
        ((), 4096, 1023, 4096, True),
        ((), 4096, 1024, 4096, False),
        ((), 383, 1024, 384, True),
        ((), 384, 1024, 384, False),
        ((2,), 200, 1535, 384, False),
        ((2,), 190, 1535, 384, True),
        ((), 4, 1536, 4, False),
    ],
)
def test_dots(batch, m, k, n, wanted):
    dot = anchor("dot", (*batch, m, k), (*batch, k, n))
    assert accepts(*dot, Mode.FAST) is wanted
    assert accepts(*dot, Mode.ALL)


def test_dots_of_fp8_are_left_to_the_libraries():
    fp8 = "fp8e4m3fn_type"
    assert not accepts(*anchor("dot", (4, 4), (4, 4), type_=fp8), Mode.ALL)
    assert accepts(*anchor("quant_dot", (4, 4), (4, 4), type_=fp8, result=standard(4, 4)), Mode.ALL)


@pytest.mark.parametrize(
    ("name", "given", "result", "wanted"),
    [
        ("add", "float_type", "float_type", True),
        ("add", "int32_type", "int32_type", True),
        ("add", "int64_type", "int64_type", False),
        ("add", "bool_type", "bool_type", False),
        ("exp", "half_type", "half_type", True),
        ("exp", "int8_type", "int8_type", False),
        ("convert", "half_type", "float_type", True),
        ("convert", "int8_type", "float_type", False),
        ("convert", "float_type", "int8_type", False),
        ("convert", "float_type", "fp8e4m3fn_type", False),
        ("dequantizelinear", "int8_type", "float_type", True),
        ("max", "float_type", "float_type", False),
        ("leaky_relu", "float_type", "float_type", False),
        ("@literal", "float_type", "bool_type", True),
    ],
)
def test_what_fuses(name, given, result, wanted):
    assert fuses(*anchor(name, (1,), type_=given, result=standard(1, type_=result))) is wanted


def chosen(*results, modules, main, gfx=FAST, settings=NOTHING_SAID):
    return choose(captured(main, *results, modules=modules), gfx, settings).behind


def dot(main, x, w, lens=(2, 6)):
    return shaped(main, main.op("dot", x, w), standard(*lens))


def add(prefix="p", *more):
    inside, (x, y) = scalar_body(prefix, 2)
    value = inside.op("add", x, y)
    for name in more:
        value = inside.op(name, value)
    return inside.module(prefix, value)


def operands(main):
    return main.param("x", (2, 4)), main.param("w", (4, 6)), main.param("b", (2, 6))


def test_a_pointwise_behind_reshapers():
    main, body = Builder(), add()
    x, w, _ = operands(main)
    product = dot(main, x, w)
    view = shaped(main, main.op("reshape", product, dims=[3, 4]), standard(3, 4))
    value = fusion(main, "pointwise", body, view, main.param("c", (3, 4)), shape=standard(3, 4))
    assert chosen(value, modules=[body], main=main) == {product: (view, value)}


def test_not_behind_a_broadcast():
    main, body = Builder(), add()
    x, w, _ = operands(main)
    product = dot(main, x, w)
    wide = shaped(main, main.spread(product, (5, 2, 6)), standard(5, 2, 6))
    value = fusion(main, "pointwise", body, wide, main.param("c", (5, 2, 6)), shape=standard(5, 2, 6))
    assert chosen(value, modules=[body], main=main) == {product: ()}


def test_one_operator_blocks_all_of_a_pointwise():
    main, body = Builder(), add("p", "sign")
    x, w, b = operands(main)
    product = dot(main, x, w)
    value = fusion(main, "pointwise", body, product, b, shape=standard(2, 6))
    assert chosen(value, modules=[body], main=main) == {product: ()}


def test_the_first_anchor_wins():
    """Both operands are dots: the first is fused, the other is its operand."""
    main, body = Builder(), add()
    x, w, _ = operands(main)
    one, two = dot(main, x, w), dot(main, main.param("y", (2, 4)), w)
    value = fusion(main, "pointwise", body, two, one, shape=standard(2, 6))
    assert chosen(value, modules=[body], main=main) == {two: (value,), one: ()}


def test_not_where_another_operand_depends_on_the_anchor():
    main, inner, body = Builder(), add("i", "sign"), add()
    x, w, b = operands(main)
    product = dot(main, x, w)
    middle = fusion(main, "pointwise", inner, product, b, shape=standard(2, 6))
    value = fusion(main, "pointwise", body, product, middle, shape=standard(2, 6))
    assert chosen(value, modules=[inner, body], main=main) == {product: ()}


def test_several_results_where_others_read_the_anchor_too():
    main, body = Builder(), add()
    x, w, b = operands(main)
    product = dot(main, x, w)
    value = fusion(main, "pointwise", body, product, b, shape=standard(2, 6))
    found = choose(captured(main, value, product, modules=[body]), FAST, NOTHING_SAID)
    assert (found.behind, found.several) == ({}, {product: (value,)})


def test_of_two_readers_the_first_is_fused():
    main, bodies = Builder(), [add("p"), add("q")]
    x, w, b = operands(main)
    product = dot(main, x, w)
    first, second = (fusion(main, "pointwise", body, product, b, shape=standard(2, 6)) for body in bodies)
    found = choose(captured(main, second, first, modules=bodies), FAST, NOTHING_SAID)
    assert (found.behind, found.several) == ({}, {product: (first,)})


def test_fusions_that_would_wait_for_each_other():
    """Each pointwise reads the other one's dot: only the first is fused with its own."""
    main, bodies = Builder(), [add("p"), add("q")]
    x, w, _ = operands(main)
    a, c = dot(main, x, w), dot(main, main.param("y", (2, 4)), main.param("v", (4, 6)))
    first, second = (
        fusion(main, "pointwise", body, *pair, shape=standard(2, 6))
        for body, pair in zip(bodies, ((a, c), (c, a)), strict=True)
    )
    found = choose(captured(main, first, second, modules=bodies), FAST, NOTHING_SAID)
    assert (found.behind, found.several) == ({c: ()}, {a: (first,)})


def test_several_results_of_the_pointwise():
    main = Builder()
    inside, (x, y) = scalar_body("p", 2)
    body = inside.module("p", inside.op("add", x, y), inside.op("mul", x, y))
    x, w, b = operands(main)
    product = dot(main, x, w)
    pair = fusion(main, "pointwise", body, product, b, shape=tuple_of(standard(2, 6), standard(2, 6)))
    value = shaped(main, main.op("get_tuple_elem", pair, index=0), standard(2, 6))
    found = choose(captured(main, value, modules=[body]), FAST, NOTHING_SAID)
    assert (found.behind, found.several) == ({}, {product: (pair,)})


def test_the_types_of_an_anchor_alone():
    """MIGraphX checks them only there."""
    main = Builder()
    value = shaped(
        main,
        main.op("dot", main.param("x", (2, 4), "int32_type"), main.param("w", (4, 6), "int32_type")),
        standard(2, 6, type_="int32_type"),
    )
    assert chosen(value, modules=[], main=main) == {}


def test_inside_of_fusions_and_branches():
    """An anchor in a branch is one; the dots of an attention group are that fusion's."""
    main, attention, branch = Builder(), Builder("g:"), Builder("t:")
    x, w, b = operands(main)
    body = attention.module("g", dot(attention, attention.param("x0", (2, 4)), attention.param("x1", (4, 6))))
    group = fusion(main, "group", body, x, w, shape=standard(2, 6), tag="attention")
    inner = dot(branch, x, w)
    then, otherwise = branch.module("t", inner), Builder("e:").module("e", b)
    pair = main.op("if", main.param("c", (1,), "bool_type"), modules=["t", "e"])
    assert chosen(group, pair, modules=[body, then, otherwise], main=main) == {inner: ()}


@pytest.mark.parametrize(
    ("operators", "read_twice", "fused"), [((), False, True), ((), True, False), (("sign",), False, False)]
)
def test_attention_groups(operators, read_twice, fused):
    """As a whole, with the pointwise behind them if it is the only reader; that is behind no other anchor then."""
    main, attention, body = Builder(), Builder("g:"), add("p", *operators)
    x, w, _ = operands(main)
    inside = attention.module("g", dot(attention, attention.param("x0", (2, 4)), attention.param("x1", (4, 6))))
    group = fusion(main, "group", inside, x, w, shape=standard(2, 6), tag="attention")
    product = dot(main, x, w)
    value = fusion(main, "pointwise", body, group, product, shape=standard(2, 6))
    program = captured(main, value, *([group] if read_twice else []), modules=[inside, body])
    found = choose(program, FAST, NOTHING_SAID)
    assert found.groups == {group: value if fused else None}
    assert found.behind == {product: (value,) if read_twice else ()}
    assert not choose(program, FAST, MlirSettings(disabled=True)).groups


def test_nothing_where_mlir_is_disabled():
    main = Builder()
    x, w, _ = operands(main)
    assert chosen(dot(main, x, w), modules=[], main=main, settings=MlirSettings(disabled=True)) == {}


PAIRS = MlirSettings(pairs=True)


class Chain:
    """A dot, a pointwise over it and a second operand, and a dot behind that; some of it made otherwise."""

    def __init__(self, *operators):
        self.main = Builder()
        self.modules = [add("p", *operators)]
        self.x, self.w, self.b = operands(self.main)
        self.v = self.main.param("v", (6, 2))
        self.first = dot(self.main, self.x, self.w)

    def pointwise(self, *values, lens=(2, 6), body=0):
        return fusion(self.main, "pointwise", self.modules[body], *values, shape=standard(*lens))

    def second(self, *values):
        return dot(self.main, *values, (2, 2))

    def chosen(self, *results, gfx=FAST, settings=PAIRS):
        return choose(captured(self.main, *results, modules=self.modules), gfx, settings)


def test_a_pair():
    """In front of what may be fused otherwise, and only where the user wants it."""
    c = Chain()
    between = c.pointwise(c.b, c.first)
    last = c.second(between, c.v)
    inside, (x, y) = scalar_body("q", 2)
    c.modules.append(inside.module("q", inside.op("mul", x, y)))
    behind = c.pointwise(last, c.main.param("c", (2, 2)), lens=(2, 2), body=1)
    assert c.chosen(behind).pairs == (Pair(c.first, between, last),)
    assert not c.chosen(behind).behind
    assert not c.chosen(behind, settings=replace(PAIRS, disabled=True)).pairs
    without = c.chosen(behind, settings=NOTHING_SAID)
    assert (without.pairs, without.behind) == ((), {c.first: (between,), last: (behind,)})


def test_a_pair_by_the_second_operand_of_the_second_dot():
    c = Chain()
    between = c.pointwise(c.first, c.b)
    last = dot(c.main, c.main.param("u", (3, 2)), between, (3, 6))
    assert c.chosen(last).pairs == (Pair(c.first, between, last),)


def test_a_pair_with_a_convolution():
    """One that the mode takes; a convolution is never the second."""
    for size, behind, taken in ((1, "dot", True), (3, "dot", False), (1, "convolution", False)):
        c = Chain()
        first = c.main.conv(c.main.param("i", (1, 4, size + 1, 6)), c.main.param("f", (4, 4, size, size)))
        first = shaped(c.main, first, standard(1, 4, 2, 6))
        between = c.pointwise(first, c.main.param("c", (1, 4, 2, 6)), lens=(1, 4, 2, 6))
        if behind == "dot":
            last = dot(c.main, between, c.main.param("u", (1, 4, 6, 2)), (1, 4, 2, 2))
        else:
            last = shaped(c.main, c.main.conv(between, c.main.param("g", (4, 4, 1, 1))), standard(1, 4, 2, 6))
        assert bool(c.chosen(last).pairs) is taken


def test_the_modes_of_fused_anchors_decide_on_pairs():
    c = Chain()
    between = c.pointwise(c.first, c.b)
    last = c.second(between, c.v)
    assert not c.chosen(last, settings=replace(PAIRS, rejected=frozenset({"fused_dot"}))).pairs
    assert c.chosen(last, settings=replace(PAIRS, rejected=frozenset({"dot"}))).pairs


def test_no_pair_behind_a_reshaper():
    c = Chain()
    view = shaped(c.main, c.main.op("reshape", c.first, dims=[2, 6]), standard(2, 6))
    between = c.pointwise(view, c.b)
    last = c.second(between, c.v)
    found = c.chosen(last)
    assert (found.pairs, found.behind) == ((), {c.first: (view, between), last: ()})
    between = c.pointwise(c.first, c.b)
    assert not c.chosen(c.second(shaped(c.main, c.main.op("contiguous", between), standard(2, 6)), c.v)).pairs


def test_no_pair_around_an_operator_that_is_not_fused():
    c = Chain("sign")
    assert not c.chosen(c.second(c.pointwise(c.first, c.b), c.v)).pairs


def test_no_pair_where_another_operand_depends_on_it():
    """Of the pointwise on the first dot, of the second dot on either."""
    c = Chain()
    view = shaped(c.main, c.main.op("softmax", c.first, axis=1), standard(2, 6))
    assert not c.chosen(c.second(c.pointwise(c.first, view), c.v)).pairs
    turned = shaped(c.main, c.main.op("transpose", view, permutation=[1, 0]), standard(6, 2))
    between = c.pointwise(c.first, c.b)
    assert not c.chosen(c.second(between, turned)).pairs
    other = shaped(c.main, c.main.op("transpose", between, permutation=[1, 0]), standard(6, 2))
    assert not c.chosen(c.second(between, other)).pairs


def test_the_first_operands_make_a_pair():
    """Both operands of the pointwise are dots, and both of the second dot pointwise."""
    c = Chain()
    other = dot(c.main, c.main.param("y", (2, 4)), c.w)
    between = c.pointwise(other, c.first)
    last = c.second(between, c.v)
    found = c.chosen(last)
    assert (found.pairs, found.behind) == ((Pair(other, between, last),), {c.first: ()})


def test_pairs_share_nothing():
    """Of three dots in a row the first two; of two readers of a pointwise the first; values may have other readers."""
    c = Chain()
    between = c.pointwise(c.first, c.b)
    middle = c.second(between, c.v)
    again = c.pointwise(middle, c.main.param("c", (2, 2)), lens=(2, 2))
    last = dot(c.main, again, c.main.param("u", (2, 4)), (2, 4))
    beside = c.second(between, c.main.param("t", (6, 2)))
    found = c.chosen(last, beside, c.first)
    assert found.pairs == (Pair(c.first, between, middle),)
    assert found.behind == {last: (), beside: ()}


def test_a_pointwise_times_itself():
    c = Chain()
    square = shaped(c.main, c.main.op("dot", c.main.param("y", (6, 4)), c.w), standard(6, 6))
    between = c.pointwise(square, c.main.param("c", (6, 6)), lens=(6, 6))
    last = dot(c.main, between, between, (6, 6))
    assert c.chosen(last).pairs == (Pair(square, between, last),)
