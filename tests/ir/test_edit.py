import itertools
import time
from dataclasses import replace

import numpy as np
import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.edit import Splice, remove_dead, replace_values, splice, splice_all, together, unique_ids
from iree_migraphx.ir.model import Instruction, Module, Program, Shape

from .build import literal, op, param, program, result, run

X = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
Y = np.array([[9, 1, -7], [2, -8, 4]], np.float32)


def ids(module: Module) -> list[str]:
    return [instruction.id for instruction in module.instructions]


def chain() -> Program:
    return program(
        param("x"),
        op("a", "add", "x", "x"),
        param("y"),
        op("n", "neg", "y"),
        op("m", "mul", "a", "y"),
        op("r", "relu", "m"),
        op("s", "sub", "r", "n"),
        result("s"),
    )


def test_new_instructions_stand_where_the_last_member_stood() -> None:
    before = chain()
    new = [op("k0", "max", "x", "y"), op("k1", "tanh", "k0")]
    after = before.with_module(splice(before.main, ["a", "m", "r"], "r", new))
    assert ids(after.main) == ["x", "y", "n", "k0", "r", "s", "@return"]
    assert after.main.by_id()["r"].name == "tanh"
    np.testing.assert_allclose(run(after, x=X, y=Y)[0], np.tanh(np.maximum(X, Y)) + Y, rtol=1e-6)
    assert ids(before.main) == ["x", "a", "y", "n", "m", "r", "s", "@return"]


def test_readers_in_submodules_read_the_new_value() -> None:
    before = program(
        param("c", Shape("bool_type", (1,), (1,))),
        param("x"),
        op("a", "abs", "x"),
        op("i", "if", "c", modules=("t", "e")),
        op("g", "get_tuple_elem", "i", index=0),
        result("g"),
        t=[op("t0", "neg", "a"), result("t0", id_="rt")],
        e=[op("e0", "exp", "a"), result("e0", id_="re")],
    )
    after = before.with_module(splice(before.main, ["a"], "a", [op("k", "ceil", "x")]))
    assert run(after, c=np.array([True]), x=X)[0].tolist() == (-X).tolist()


def test_several_edits_in_one_pass() -> None:
    edits = [
        Splice(["m", "r"], "r", [op("k", "max", "a", "y")]),
        Splice({"a"}, "a", [op("l", "neg", "x")]),
        Splice(("s",), "s", [op("j", "add", "r", "n")]),
    ]
    after = chain().with_module(splice_all(chain().main, edits))
    assert [(i.id, i.name) for i in after.main.instructions if i.name[0] != "@"] == [
        ("a", "neg"),
        ("n", "neg"),
        ("r", "max"),
        ("s", "add"),
    ]
    assert run(after, x=X, y=Y)[0].tolist() == (np.maximum(-X, Y) - Y).tolist()


@pytest.mark.parametrize(
    ("edits", "cause"),
    [
        ([Splice(["m"], "m", [])], "nothing would define 'm'"),
        ([Splice(["m"], "r", [op("k", "neg", "x")])], "nothing would define 'r'"),
        ([Splice(["a", "m"], "m", [op("k", "neg", "x")]), Splice(["m"], "m", [op("l", "neg", "x")])], "two subgraphs"),
        ([Splice(["a", "gone"], "a", [op("k", "neg", "x")])], "not in module 'main': gone"),
        ([Splice(["a"], "a", [op("k", "neg", "y")])], r"'a' \(neg\) reads 'y'"),
        ([Splice(["a", "n", "m"], "a", [op("k", "neg", "y")])], r"'r' \(relu\) reads 'm'"),
        ([Splice(["a", "m", "s"], "m", [op("k", "neg", "y")])], r"'r' \(relu\) reads 'm'"),
        ([Splice(["a"], "a", [op("x", "neg", "x"), op("k", "neg", "x")])], "two values 'x'"),
        ([Splice(["a"], "a", [op("s", "neg", "x"), op("k", "neg", "x")])], "two values 's'"),
    ],
)
def test_an_edit_that_would_leave_a_value_undefined_is_refused(edits: list[Splice], cause: str) -> None:
    with pytest.raises(Refusal, match=cause) as refusal:
        splice_all(chain().main, edits)
    assert refusal.value.reason is Reason.SPLICE_ERROR


def test_readers_of_a_group_come_behind_it() -> None:
    """Those of any of its values, of submodules too; what feeds the group stays in front."""
    before = program(
        param("c", Shape("bool_type", (1,), (1,))),
        param("x"),
        op("g1", "neg", "x"),
        op("r1", "exp", "g1"),
        op("if", "if", "c", modules=("t", "e")),
        op("r2", "tanh", "r1"),
        op("o", "abs", "x"),
        op("g2", "add", "g1", "o"),
        op("h1", "sin", "g2"),
        op("r3", "cos", "h1"),
        op("h2", "mul", "h1", "r2"),
        result("g1", "h2", "r3"),
        t=[op("t0", "neg", "g1"), result("t0", id_="rt")],
        e=[op("e0", "exp", "x"), result("e0", id_="re")],
    )
    wanted = ["c", "x", "g1", "o", "g2", "r1", "if", "r2", "h1", "h2", "r3", "@return"]
    assert ids(together(before, "main", [{"g1", "g2"}, ["h1", "h2"]])) == wanted
    assert together(before, "main", []) == before.main


def test_a_group_that_waits_for_itself_is_refused() -> None:
    with pytest.raises(Refusal, match=r"'m' \(mul\) reads a subgraph's value and feeds the subgraph"):
        together(chain(), "main", [["a", "r"]])


def test_uses_are_renamed_one_step() -> None:
    after = replace_values(chain().main, {"m": "n", "n": "x"})
    inputs = {instruction.id: instruction.inputs for instruction in after.instructions}
    assert (inputs["r"], inputs["s"], inputs["m"]) == (("n",), ("r", "x"), ("a", "y"))
    untouched = chain().main
    assert replace_values(untouched, {"gone": "x"}) == untouched


def test_dead_instructions_and_submodules_go() -> None:
    whole = program(
        param("unused"),
        param("x"),
        literal("w", [1.0]),
        op("dead1", "neg", "w"),
        op("dead2", "if", "dead1", modules=("t",)),
        op("only_in_submodule", "neg", "x"),
        op("live", "if", "x", modules=("u",)),
        result("live"),
        t=[op("t0", "neg", "x")],
        u=[op("u0", "abs", "x"), op("u1", "neg", "only_in_submodule"), result("u1", id_="ru")],
    )
    after = remove_dead(whole)
    assert ids(after.main) == ["unused", "x", "only_in_submodule", "live", "@return"]
    assert list(after.modules) == ["main", "u"]
    assert ids(after.modules["u"]) == ["u1", "ru"]


def test_instructions_with_an_effect_stay() -> None:
    nothing = Shape("float_type", (0,), (1,))
    effect = replace(op("effect", "print", "x"), shape=nothing)
    empty_view = replace(op("view", "identity", "x"), shape=nothing)
    tuple_ = replace(op("tuple", "topk", "x"), shape=Shape("tuple_type", sub_shapes=(nothing,)))
    whole = program(param("x"), effect, empty_view, tuple_, op("last", "neg", "x"))
    assert ids(remove_dead(whole).main) == ["x", "effect", "last"]


def test_ids_are_unique_in_the_whole_program() -> None:
    whole = program(param("k_0"), op("i", "if", "k_0", modules=("t",)), t=[op("k_2", "neg", "k_0")])
    assert list(itertools.islice(unique_ids(whole, "k"), 3)) == ["k_1", "k_3", "k_4"]


def test_many_edits_of_a_large_program_take_milliseconds() -> None:
    instructions: list[Instruction] = [param("x")]
    instructions += [op(f"v{n}", "neg", f"v{n - 1}" if n else "x") for n in range(1500)]
    module = Module("main", (*instructions, result("v1499")))
    edits = [
        Splice([f"v{n}", f"v{n + 1}"], f"v{n + 1}", [op(f"k{n}", "abs", f"v{n - 1}")]) for n in range(10, 1400, 28)
    ]
    started = time.perf_counter()
    after = remove_dead(Program(7, "2.14.0", {"main": splice_all(module, edits)}))
    assert time.perf_counter() - started < 0.2
    assert len(after.main.instructions) == 1502 - len(edits)
    assert len(edits) == 50
