"""Taking fusions apart: what is left computes the same. The forms are those of MIGraphX 7.1's fuse_* passes."""

import numpy as np
import pytest

from capture.fused import captured, fusion, names_of, random, scalar_body, shaped, standard, tuple_of
from iree_migraphx.capture.unfuse import unfuse
from iree_migraphx.errors import CaptureError
from programs import Builder, on_ref, recorded

LENS = (2, 3)


def results(program, inputs):
    unfused = unfuse(program)
    assert unfused.program.targets == unfused.program.contexts == ()
    return unfused, on_ref(recorded(unfused.program), inputs)


def test_pointwise_of_scalars():
    """max(x * 2 + y, 0): a scalar literal, an operand used twice, a broadcast operand."""
    inside, (x, y) = scalar_body("main:pointwise0", 2)
    product = inside.op("mul", x, inside.literal(2.0))
    body = inside.module("main:pointwise0", inside.op("relu", inside.op("add", product, y)))
    main = Builder()
    x, y = main.param("x", LENS), main.param("y", (3,))
    value = fusion(
        main, "pointwise", body, x, shaped(main, main.spread(y, LENS), standard(*LENS)), shape=standard(*LENS)
    )
    inputs = random({"x": LENS, "y": (3,)})
    unfused, (actual,) = results(captured(main, value, modules=[body]), inputs)
    np.testing.assert_allclose(actual, np.maximum(inputs["x"] * 2 + inputs["y"], 0), rtol=1e-6)
    assert names_of(unfused, value) == ["@literal", "multibroadcast", "mul", "add", "relu"]
    assert len(unfused.results[value]) == 1


def test_operands_are_bound_in_the_order_of_the_parameters_names():
    """Twelve operands, whose parameters are written down in another order: x0 … x9, x:00010, x:00011."""
    inside, names = scalar_body("p", 12)
    total = names[0]
    for name in names[1:]:
        total = inside.op("add", inside.op("mul", total, inside.literal(2.0)), name)
    body = inside.module("p", total)
    parameters = [i for i in body.instructions if i.name == "@param"]
    rest = [i for i in body.instructions if i.name != "@param"]
    body = type(body)("p", (*reversed(parameters), *rest))
    main = Builder()
    operands = [main.param(f"a{number:02}", LENS) for number in range(12)]
    value = fusion(main, "pointwise", body, *operands, shape=standard(*LENS))
    inputs = random({f"a{number:02}": LENS for number in range(12)})
    _, (actual,) = results(captured(main, value, modules=[body]), inputs)
    wanted = inputs["a00"]
    for number in range(1, 12):
        wanted = wanted * 2 + inputs[f"a{number:02}"]
    np.testing.assert_allclose(actual, wanted, rtol=1e-5)


def test_several_results():
    """A pointwise with two results, read in both orders, one of them the program's own result."""
    inside, (x, y) = scalar_body("p", 2)
    body = inside.module("p", inside.op("add", x, y), inside.op("sub", x, y))
    main = Builder()
    x, y = main.param("x", LENS), main.param("y", LENS)
    pair = fusion(main, "pointwise", body, x, y, shape=tuple_of(standard(*LENS), standard(*LENS)))
    second = shaped(main, main.op("get_tuple_elem", pair, index=1), standard(*LENS))
    first = shaped(main, main.op("get_tuple_elem", pair, index=0), standard(*LENS))
    product = shaped(main, main.op("mul", first, second), standard(*LENS))
    inputs = random({"x": LENS, "y": LENS})
    unfused, actual = results(captured(main, product, second, modules=[body]), inputs)
    total, difference = inputs["x"] + inputs["y"], inputs["x"] - inputs["y"]
    np.testing.assert_allclose(actual[0], total * difference, rtol=1e-6)
    np.testing.assert_allclose(actual[1], difference, rtol=1e-6)
    assert len(unfused.results[pair]) == 2
    assert "get_tuple_elem" not in [i.name for i in unfused.program.main.instructions]


def test_a_reduction_with_a_pointwise_inside():
    """sum((x - y)²) over axis 1, as fuse_reduce writes it: a pointwise module within the reduction's."""
    inner, (a, b) = scalar_body("main:pointwise0", 2)
    pointwise = inner.module("main:pointwise0", inner.op("sqdiff", a, b))
    outer = Builder("main:reduce0:")
    a, b = outer.param("x0", LENS), outer.param("x1", LENS)
    squares = fusion(outer, "pointwise", pointwise, a, b, shape=standard(*LENS))
    body = outer.module("main:reduce0", shaped(outer, outer.op("reduce_sum", squares, axes=[1]), standard(2, 1)))
    main = Builder()
    x, y = main.param("x", LENS), main.param("y", LENS)
    value = fusion(main, "fused_reduce", body, x, y, shape=standard(2, 1), axes=[1])
    inputs = random({"x": LENS, "y": LENS})
    unfused, (actual,) = results(captured(main, value, modules=[body, pointwise]), inputs)
    wanted = ((inputs["x"] - inputs["y"]) ** 2).sum(1, keepdims=True)
    np.testing.assert_allclose(actual, wanted, rtol=1e-5)
    assert names_of(unfused, value) == ["sqdiff", "reduce_sum"]


def test_mlir_op():
    """MIGraphX's worked example: transpose, dot, reshape, add and relu in one gpu::mlir_op."""
    inside = Builder("mlir_main:pointwise0:")
    x, w, b = inside.param("x0", (4, 2)), inside.param("x1", (4, 6)), inside.param("x2", (3, 4))
    product = inside.op("dot", inside.op("transpose", x, permutation=[1, 0]), w)
    total = inside.op("add", inside.op("reshape", product, dims=[3, 4]), b)
    body = inside.module("mlir_main:pointwise0", inside.op("relu", total))
    main = Builder()
    x, w, b = main.param("x", (4, 2)), main.param("w", (4, 6)), main.param("b", (3, 4))
    anchor = {"name": "dot", "operator": []}
    value = fusion(main, "gpu::mlir_op", body, x, w, b, shape=standard(3, 4), op=anchor)
    inputs = random({"x": (4, 2), "w": (4, 6), "b": (3, 4)})
    unfused, (actual,) = results(captured(main, value, modules=[body]), inputs)
    wanted = np.maximum((inputs["x"].T @ inputs["w"]).reshape(3, 4) + inputs["b"], 0)
    np.testing.assert_allclose(actual, wanted, rtol=1e-5)
    assert names_of(unfused, value) == ["transpose", "dot", "reshape", "add", "relu"]


def test_mlir_op_whose_anchor_has_other_readers():
    """Results are the pointwise's, then the anchor's."""
    inside = Builder("m:")
    x, w, b = inside.param("x0", (2, 4)), inside.param("x1", (4, 3)), inside.param("x2", LENS)
    product = inside.op("dot", x, w)
    body = inside.module("m", inside.op("add", product, b), product)
    main = Builder()
    x, w, b = main.param("x", (2, 4)), main.param("w", (4, 3)), main.param("b", LENS)
    shape = tuple_of(standard(*LENS), standard(*LENS))
    value = fusion(main, "gpu::mlir_op", body, x, w, b, shape=shape, op={"name": "dot", "operator": []})
    one, two = (shaped(main, main.op("get_tuple_elem", value, index=index), standard(*LENS)) for index in (0, 1))
    inputs = random({"x": (2, 4), "w": (4, 3), "b": LENS})
    _, actual = results(captured(main, one, two, modules=[body]), inputs)
    product = inputs["x"] @ inputs["w"]
    np.testing.assert_allclose(actual[0], product + inputs["b"], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(actual[1], product, rtol=1e-5, atol=1e-6)


def test_attention_group():
    """softmax in parts between two dots, with constants of several elements inside."""
    inside = Builder("attn0:")
    q, k, v = inside.param("x0", (4, 8)), inside.param("x1", (8, 4)), inside.param("x2", (4, 8))
    scores = inside.op("mul", inside.op("dot", q, k), inside.literal(np.full((4, 4), 0.25, np.float32)))
    top = inside.spread(inside.op("reduce_max", scores, axes=[1]), (4, 4))
    powers = inside.op("exp", inside.op("sub", scores, top))
    weights = inside.op("div", powers, inside.spread(inside.op("reduce_sum", powers, axes=[1]), (4, 4)))
    body = inside.module("attn0", inside.op("dot", weights, v))
    main = Builder()
    operands = [main.param(name, lens) for name, lens in {"q": (4, 8), "k": (8, 4), "v": (4, 8)}.items()]
    value = fusion(main, "group", body, *operands, shape=standard(4, 8), tag="attention")
    inputs = random({"q": (4, 8), "k": (8, 4), "v": (4, 8)})
    _, (actual,) = results(captured(main, value, modules=[body]), inputs)
    scores = inputs["q"] @ inputs["k"] / 4
    powers = np.exp(scores - scores.max(1, keepdims=True))
    np.testing.assert_allclose(actual, powers / powers.sum(1, keepdims=True) @ inputs["v"], rtol=1e-4, atol=1e-6)


def test_fusions_inside_an_if_read_values_of_the_outside():
    """Each branch has a pointwise of its own, over a value that a pointwise of main computes."""
    modules = []
    inside, (x,) = scalar_body("main:pointwise0", 1)
    modules.append(inside.module("main:pointwise0", inside.op("neg", x)))
    main = Builder()
    x = main.param("x", LENS)
    condition = main.param("c", (1,), "bool_type")
    value = fusion(main, "pointwise", modules[0], x, shape=standard(*LENS))
    for branch, operator in {"then": "relu", "else": "abs"}.items():
        inside, (a,) = scalar_body(f"{branch}:pointwise0", 1)
        modules.append(inside.module(f"{branch}:pointwise0", inside.op(operator, a)))
        outer = Builder(f"{branch}:")
        modules.append(outer.module(branch, fusion(outer, "pointwise", modules[-1], value, shape=standard(*LENS))))
    pair = main.op("if", condition, modules=["then", "else"])
    result = main.op("get_tuple_elem", pair, index=0)
    program = captured(main, result, modules=modules)
    x = random({"x": LENS})["x"]
    for flag, wanted in {True: np.maximum(-x, 0), False: np.abs(x)}.items():
        _, (actual,) = results(program, {"x": x, "c": np.array([flag])})
        np.testing.assert_allclose(actual, wanted)


def test_bool_and_converted_elements_keep_their_types():
    inside, (flag, x) = scalar_body("p", 2, ["bool_type", "float_type"])
    chosen = inside.op("where", flag, x, inside.literal(7.0))
    body = inside.module("p", inside.op("convert", chosen, target_type=1))
    main = Builder()
    operands = main.param("c", LENS, "bool_type"), main.param("x", LENS)
    value = fusion(main, "pointwise", body, *operands, shape=standard(*LENS, type_="half_type"))
    inputs = {"c": np.array([[1, 0, 1], [0, 1, 0]], bool), "x": np.arange(6, dtype=np.float32).reshape(LENS)}
    _, (actual,) = results(captured(main, value, modules=[body]), inputs)
    assert actual.dtype == np.float16
    np.testing.assert_array_equal(actual, np.where(inputs["c"], inputs["x"], 7))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("gpu::precompile_op", "can't be compiled again"), ("hip::allocate", "can't be compiled again")],
)
def test_lowered_programs_are_refused(name, reason):
    main = Builder()
    value = shaped(main, main.op(name, main.param("x", LENS)), standard(*LENS))
    with pytest.raises(CaptureError, match=reason):
        unfuse(captured(main, value, modules=[]))


def test_unknown_fusions_are_refused():
    inside, (x,) = scalar_body("p", 1)
    body = inside.module("p", inside.op("neg", x))
    main = Builder()
    value = fusion(main, "fused_concat", body, main.param("x", LENS), shape=standard(*LENS))
    with pytest.raises(CaptureError, match="fused_concat"):
        unfuse(captured(main, value, modules=[body]))


def test_a_tuple_that_is_read_as_a_whole_is_refused():
    inside, (x,) = scalar_body("p", 1)
    body = inside.module("p", inside.op("neg", x), x)
    main = Builder()
    x = main.param("x", LENS)
    pair = fusion(main, "pointwise", body, x, shape=tuple_of(standard(*LENS), standard(*LENS)))
    with pytest.raises(CaptureError, match="as a whole"):
        unfuse(captured(main, pair, modules=[body]))


def test_another_number_of_operands_is_refused():
    inside, (x, _) = scalar_body("p", 2)
    body = inside.module("p", inside.op("neg", x))
    main = Builder()
    value = fusion(main, "pointwise", body, main.param("x", LENS), shape=standard(*LENS))
    with pytest.raises(CaptureError, match="1 operands for 2 parameters"):
        unfuse(captured(main, value, modules=[body]))
