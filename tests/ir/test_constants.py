import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.backend.test
import pytest
from onnx import TensorProto, helper

from iree_migraphx import binding
from iree_migraphx.errors import MigraphxError
from iree_migraphx.ir import constants
from iree_migraphx.ir.constants import fold_constants
from iree_migraphx.ir.evaluate import evaluate_with_ref
from iree_migraphx.ir.model import DTYPES, Instruction, Program, Shape
from iree_migraphx.ir.read import read_program

from .build import literal, names, op, param, program, recorded, result, run, strided

MODELS = Path(onnx.backend.test.__file__).parent / "data" / "light"
X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)


class Calls:
    """evaluate_with_ref that counts."""

    def __init__(self) -> None:
        self.programs: list[bytes] = []

    def __call__(self, data: bytes) -> Sequence[npt.NDArray[Any]]:
        self.programs.append(data)
        return evaluate_with_ref(data)


def never(data: bytes) -> Sequence[npt.NDArray[Any]]:
    raise AssertionError("nothing had to be computed")


def the_literal(folded: Program) -> Instruction:
    (found,) = (instruction for instruction in folded.main.instructions if instruction.name == "@literal")
    return found


def value(instruction: Instruction) -> npt.NDArray[Any]:
    assert instruction.literal is not None
    return instruction.literal.array()


def same_bits(left: Program, right: Program, **inputs: Any) -> None:
    for ours, theirs in zip(run(left, **inputs), run(right, **inputs), strict=True):
        assert (ours.dtype, ours.shape, ours.tobytes()) == (theirs.dtype, theirs.shape, theirs.tobytes())


def test_a_batch_norm_becomes_two_constants_in_one_evaluation() -> None:
    whole = recorded(
        program(
            param("x"),
            literal("eps", 1e-5),
            literal("variance", [0.5, 2]),
            literal("scale", [3, -1]),
            literal("mean", [0.25, 4]),
            op("v", "unsqueeze", "variance", axes=[1]),
            op("e", "multibroadcast", "eps", out_lens=[2, 1]),
            op("ve", "add", "v", "e"),
            op("r", "rsqrt", "ve"),
            op("s", "unsqueeze", "scale", axes=[1]),
            op("f", "mul", "s", "r"),
            op("m", "unsqueeze", "mean", axes=[1]),
            op("mm", "multibroadcast", "m", out_lens=[2, 3]),
            op("fm", "multibroadcast", "f", out_lens=[2, 3]),
            op("d", "sub", "x", "mm"),
            op("y", "mul", "d", "fm"),
            result("y"),
        )
    )
    evaluate = Calls()
    folded = fold_constants(whole, evaluate)
    assert names(folded) == sorted(["@param", "@return", "sub", "mul"] + 2 * ["@literal", "multibroadcast"])
    assert len(evaluate.programs) == 1
    same_bits(folded, whole, x=X)
    assert fold_constants(folded, never) is folded


def test_large_constants_are_computed_a_part_at_a_time_and_nothing_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of y, a, b and c the first two have s in common; all but c read the literal u."""
    lines = [literal("u", 1.5 * X), literal("w", X**2), param("x")]
    lines += [op("s", "sqrt", "w"), op("a", "mul", "s", "u"), op("b", "add", "u", "u"), op("c", "neg", "w")]
    lines += [op("y", "add", "s", "u"), op("r", "mul", "x", "b"), *(op(f"r{v}", "mul", "x", v) for v in "acy")]
    whole = recorded(program(*lines, result("r", "ra", "rc", "ry")))
    monkeypatch.setattr(constants, "BATCH_BYTES", 1)
    evaluate = Calls()
    folded = fold_constants(whole, evaluate)
    computed = [
        [i.name for i in read_program(each).main.instructions if i.name[0] != "@"] for each in evaluate.programs
    ]
    assert sorted(map(sorted, computed)) == [["add"], ["add", "mul", "sqrt"], ["neg"]]
    assert set(names(folded)) == {"@literal", "@param", "mul", "@return"}
    same_bits(folded, whole, x=X)


def test_a_broadcast_scalar_stays_a_scalar() -> None:
    whole = recorded(
        program(
            param("x"),
            literal("one", 1),
            op("two", "add", "one", "one"),
            op("all", "multibroadcast", "two", out_lens=[2, 3]),
            op("y", "mul", "x", "all"),
            result("y"),
        )
    )
    folded = fold_constants(whole, evaluate_with_ref)
    assert names(folded) == ["@literal", "@param", "@return", "mul", "multibroadcast"]
    assert the_literal(folded).shape == Shape("float_type", (1,), (0,))
    assert value(the_literal(folded)).tolist() == [2]


def test_reshaping_a_literal_needs_no_evaluation_and_copies_nothing() -> None:
    w = literal("w", np.arange(6).reshape(2, 3))
    whole = recorded(
        program(
            param("x"),
            w,
            op("t", "transpose", "w", permutation=[1, 0]),
            op("u", "unsqueeze", "t", axes=[0]),
            op("s", "squeeze", "u", axes=[0]),
            op("y", "dot", "x", "s"),
            result("y"),
        )
    )
    folded = fold_constants(whole, never)
    assert names(folded) == ["@literal", "@param", "@return", "dot"]
    assert the_literal(folded).shape == Shape("float_type", (3, 2), (1, 3))
    assert the_literal(folded).literal.data is the_literal(whole).literal.data  # type: ignore[union-attr]
    same_bits(folded, whole, x=X)


@pytest.mark.parametrize(("layout", "evaluations"), [((0, 1), 0), ((1, 0), 1)])
def test_reshape_copies_keep_the_bytes_of_a_standard_literal_only(layout: tuple[int, int], evaluations: int) -> None:
    """A transposed literal's reshape has its elements in another order."""
    strides = (3, 1) if layout == (0, 1) else (1, 2)
    w = strided("w", Shape("float_type", (2, 3), strides), np.arange(6, dtype=np.float32).tobytes())
    whole = recorded(program(param("x"), w, op("r", "reshape", "w", dims=[6]), result("r", "x")))
    evaluate = Calls()
    folded = fold_constants(whole, evaluate)
    assert len(evaluate.programs) == evaluations
    assert names(folded) == ["@literal", "@param", "@return"]
    same_bits(folded, whole, x=X)


def test_a_large_shared_constant_is_not_doubled() -> None:
    size = constants.SMALL_BYTES // 4 + 2
    large, small = literal("w", np.arange(size).reshape(2, -1)), literal("v", np.arange(6).reshape(2, 3))
    shared = program(
        large,
        small,
        op("wt", "transpose", "w", permutation=[1, 0]),
        op("vt", "transpose", "v", permutation=[1, 0]),
        op("ws", "slice", "w", axes=[1], starts=[1], ends=[size // 2]),
        op("vs", "slice", "v", axes=[1], starts=[1], ends=[2]),
        param("x"),
        result("w", "wt", "v", "vt", "ws", "vs", "x"),
    )
    folded = fold_constants(recorded(shared), evaluate_with_ref)
    assert names(folded) == sorted(4 * ["@literal"] + ["transpose", "slice", "@param", "@return"])
    same_bits(folded, recorded(shared), x=X)
    alone = program(large, op("wt", "transpose", "w", permutation=[1, 0]), param("x"), result("wt", "x"))
    assert names(fold_constants(recorded(alone), never)) == ["@literal", "@param", "@return"]


@pytest.mark.parametrize("lens", [(2, 2), (2, 64)])
def test_a_large_constant_of_next_to_nothing_is_not_written_out(
    lens: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "EXPANDED_BYTES", 256)
    whole = recorded(
        program(
            literal("one", 1),
            op("two", "add", "one", "one"),
            op("b", "multibroadcast", "two", out_lens=list(lens)),
            op("c", "contiguous", "b"),
            op("e", "exp", "c"),
            param("x"),
            result("e", "x"),
        )
    )
    folded = fold_constants(whole, evaluate_with_ref)
    kept = [] if lens == (2, 2) else ["contiguous", "exp", "multibroadcast"]
    assert names(folded) == sorted(["@literal", "@param", "@return", *kept])
    same_bits(folded, whole, x=X)


def test_weights_of_the_size_of_what_they_are_made_of_are_written_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "EXPANDED_BYTES", 0)
    w = literal("w", np.arange(64), np.float16)
    whole = recorded(
        program(w, op("f", "convert", "w", target_type=2), op("g", "exp", "f"), param("x"), result("g", "x"))
    )
    assert names(fold_constants(whole, evaluate_with_ref)) == ["@literal", "@param", "@return"]


@pytest.mark.parametrize(("size", "kernel"), [(8, False), (128, True)])
def test_a_large_product_is_left_to_a_kernel(size: int, kernel: bool) -> None:
    a, b = literal("a", np.ones((size, size))), literal("b", np.ones((size, size)))
    whole = recorded(program(a, b, op("d", "dot", "a", "b"), param("x"), result("d", "x")))
    assert ("dot" in names(fold_constants(whole, evaluate_with_ref))) == kernel


def test_quantized_weights_stay_narrow_unless_asked() -> None:
    whole = recorded(
        program(
            param("x"),
            literal("q", np.arange(6).reshape(2, 3), np.int8),
            literal("scale", np.full((2, 3), 0.5)),
            op("w", "dequantizelinear", "q", "scale"),
            op("y", "mul", "x", "w"),
            result("y"),
        )
    )
    assert fold_constants(whole, never) is whole
    folded = fold_constants(whole, evaluate_with_ref, keep=())
    assert names(folded) == ["@literal", "@param", "@return", "mul"]
    same_bits(folded, whole, x=X)


@pytest.mark.parametrize(
    "instruction",
    [
        op("r", "random_uniform", "w", "w"),
        op("r", "random_seed"),
        op("r", "multinomial", "w", "w"),
        op("r", "fill", "w", "w"),
        op("r", "allocate", "w"),
        op("r", "undefined"),
        op("r", "some_custom_operator", "w"),
        op("r", "gpu::gemm", "w", "w"),
        replace(op("r", "slice", "w"), shape=Shape("float_type", dynamic_dimensions=({"min": 1, "max": 2},))),
    ],
    ids=lambda instruction: instruction.name,
)
def test_what_is_not_a_function_of_constants_is_never_computed(instruction: Instruction) -> None:
    whole = program(literal("w", [1.0]), instruction, op("n", "neg", "r"), result("n"))
    assert fold_constants(whole, never) is whole


def test_constants_in_submodules_fold_too() -> None:
    def branch(name: str, operator: str) -> Any:
        nodes = [
            helper.make_node("Mul", ["a", "b"], [f"{name}_ab"]),
            helper.make_node("Exp", [f"{name}_ab"], [f"{name}_e"]),
            helper.make_node(operator, ["x", f"{name}_e"], [f"{name}_y"]),
        ]
        return helper.make_graph(
            nodes, name, [], [helper.make_tensor_value_info(f"{name}_y", TensorProto.FLOAT, [2, 3])]
        )

    def constant(name: str, values: list[float]) -> Any:
        return helper.make_tensor(name, TensorProto.FLOAT, [2, 3], values)

    graph = helper.make_graph(
        [helper.make_node("If", ["c"], ["y"], then_branch=branch("t", "Add"), else_branch=branch("e", "Sub"))],
        "g",
        [
            helper.make_tensor_value_info("c", TensorProto.BOOL, [1]),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, [2, 3]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [2, 3])],
        [constant("a", [1, 2, 3, 4, 5, 6]), constant("b", [0.5] * 6)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    whole = read_program(binding.save_buffer(binding.parse_onnx_buffer(model.SerializeToString())))
    evaluate = Calls()
    folded = fold_constants(whole, evaluate)
    submodules = {name: module for name, module in folded.modules.items() if name != "main"}
    assert len(submodules) == 2
    for module in submodules.values():
        assert {instruction.name for instruction in module.instructions} <= {"@literal", "add", "sub", "@return"}
    assert "@literal" not in names(folded)
    assert len(evaluate.programs) == 1
    for condition in (True, False):
        same_bits(folded, whole, c=np.array([condition]), x=X)


def test_a_constant_of_the_parent_that_a_submodule_reads_folds_there() -> None:
    whole = recorded(
        program(
            param("c", Shape("bool_type", (1,), (1,))),
            param("x"),
            literal("w", X),
            op("e", "exp", "w"),
            op("i", "if", "c", modules=("t", "e_")),
            op("g", "get_tuple_elem", "i", index=0),
            result("g"),
            t=[op("t0", "add", "x", "e"), result("t0", id_="rt")],
            e_=[op("e0", "neg", "e"), result("e0", id_="re")],
        )
    )
    folded = fold_constants(whole, evaluate_with_ref)
    assert names(folded) == ["@literal", "@param", "@param", "@return", "get_tuple_elem", "if"]
    assert [i.name for i in folded.modules["e_"].instructions] == ["@literal", "@return"]
    for condition in (True, False):
        same_bits(folded, whole, c=np.array([condition]), x=X)


def test_fused_submodules_are_left_alone() -> None:
    inside = [literal("l", 1), op("n", "neg", "l"), result("n", id_="rp")]
    whole = program(param("x"), op("p", "pointwise", "x", modules=["sub"]), result("p"), sub=inside)
    assert fold_constants(whole, never) is whole


@pytest.mark.parametrize("type_", sorted(DTYPES))
def test_every_type(type_: str) -> None:
    dtype = DTYPES[type_]
    a, b = np.array([[0, 1]], np.float32).astype(dtype), np.array([[1, 1]], np.float32).astype(dtype)
    whole = recorded(
        program(
            literal("a", a, dtype),
            literal("b", b, dtype),
            op("c", "concat", "a", "b", axis=0),
            op("l", "layout", "c", permutation=[1, 0]),
            param("x"),
            result("l", "x"),
        )
    )
    folded = fold_constants(whole, evaluate_with_ref)
    assert names(folded) == ["@literal", "@param", "@return"]
    assert the_literal(folded).shape == Shape(type_, (2, 2), (1, 2))
    assert value(the_literal(folded)).tobytes() == a.tobytes() + b.tobytes()


def test_a_literal_without_elements_takes_no_part() -> None:
    whole = program(
        strided("w", Shape("float_type", (0, 3), (3, 1)), b""),
        literal("v", X),
        op("c", "concat", "w", "v", axis=0),
        param("x"),
        op("y", "add", "x", "c"),
        result("y"),
    )
    assert fold_constants(whole, never) is whole


def test_a_part_of_a_tuple_becomes_a_literal() -> None:
    whole = recorded(
        program(
            literal("w", [3.0, 9, 4]),
            op("t", "topk", "w", k=2, axis=0, largest=1),
            op("v", "get_tuple_elem", "t", index=0),
            param("x"),
            result("v", "x"),
        )
    )
    folded = fold_constants(whole, evaluate_with_ref)
    assert names(folded) == ["@literal", "@param", "@return"]
    assert value(the_literal(folded)).tolist() == [9, 4]


def test_the_recorded_strides_are_kept() -> None:
    """convert keeps the gaps of a slice and the zeros of a broadcast, a sum keeps the order of the axes."""
    whole = recorded(
        program(
            literal("w", np.arange(6).reshape(2, 3)),
            op("s", "slice", "w", axes=[1], starts=[1], ends=[3]),
            op("gaps", "convert", "s", target_type=3),
            op("b", "multibroadcast", "w", out_lens=[50, 2, 3]),
            op("zeros", "convert", "b", target_type=9),
            op("t", "transpose", "w", permutation=[1, 0]),
            op("order", "exp", "t"),
            param("x"),
            result("gaps", "zeros", "order", "x"),
        )
    )
    shapes = [whole.main.by_id()[id_].shape for id_ in whole.main.instructions[-1].inputs[:3]]
    assert [shape.strides for shape in shapes] == [(3, 1), (0, 3, 1), (1, 3)]
    folded = fold_constants(whole, evaluate_with_ref)
    assert names(folded) == ["@literal", "@literal", "@literal", "@param", "@return"]
    assert [folded.main.by_id()[id_].shape for id_ in folded.main.instructions[-1].inputs[:3]] == shapes
    assert [i.shape for i in recorded(folded).main.instructions if i.name == "@literal"] == [
        i.shape for i in folded.main.instructions if i.name == "@literal"
    ]
    same_bits(folded, whole, x=X)


def refuses(data: bytes) -> Sequence[npt.NDArray[Any]]:
    raise MigraphxError("no ref target today")


@pytest.mark.parametrize(
    ("evaluate", "cause"),
    [
        (refuses, "no ref target today"),
        (lambda data: [], "0 values for 1 constants"),
        (lambda data: [np.zeros((2, 3), np.float64)], "float64"),
        (lambda data: [np.zeros((3, 2), np.float32)], r"recorded float32 \[2, 3\]"),
    ],
)
def test_a_failed_evaluation_leaves_the_program_as_it_was(
    evaluate: Any, cause: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    warnings: list[str] = []
    monkeypatch.setattr(constants._log, "warning", lambda text, error: warnings.append(text % error))
    whole = recorded(program(literal("w", X), op("e", "exp", "w"), param("x"), result("e", "x")))
    assert fold_constants(whole, evaluate) is whole
    (warning,) = warnings
    assert re.search(cause, warning)


def test_light_resnet50() -> None:
    whole = read_program(binding.save_buffer(binding.parse_onnx(str(MODELS / "light_resnet50.onnx"))))
    evaluate = Calls()
    folded = fold_constants(whole, evaluate)
    assert len(evaluate.programs) == 1
    assert len(evaluate.programs[0]) < 1 << 20
    assert len(folded.main.instructions) < len(whole.main.instructions) / 2
    literals = {instruction.id for instruction in folded.main.instructions if instruction.name == "@literal"}
    for instruction in folded.main.instructions:
        if instruction.inputs and literals.issuperset(instruction.inputs):
            assert instruction.name == "multibroadcast"
        if instruction.name == "convolution":
            assert instruction.inputs[1] in literals
