"""When the places in a gpu program's scratch memory are in use, and moving them: on programs written by hand."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iree_migraphx.ir.model import Instruction, Module, Program, Shape
from iree_migraphx.ir.write import shape_fields
from iree_migraphx.splice.gpu_lifetimes import lifetimes
from iree_migraphx.splice.gpu_memory import with_own_plan
from splice.scratch_memory import assert_nothing_is_overwritten, followed

BYTES = 64
SHAPE = Shape.standard_of("int8_type", (BYTES,))


def scratch(nbytes, id_="s"):
    shape = Shape.standard_of("int8_type", (nbytes,))
    return Instruction(id_, "hip::hip_allocate_memory", shape, {"shape": shape_fields(shape), "id": id_})


def load(id_, offset, root="s", nbytes=BYTES):
    shape = Shape.standard_of("int8_type", (nbytes,))
    return Instruction(id_, "load", shape, {"shape": shape_fields(shape), "offset": offset}, (root,))


def node(id_, name, *inputs, modules=(), **fields):
    return Instruction(id_, name, SHAPE, fields, inputs, modules)


def kernel(id_, *inputs):
    return node(id_, "gpu::code_object", *inputs, output_arg=len(inputs) - 1)


def program(*instructions, **modules):
    inside = {name: Module(name, tuple(own)) for name, own in modules.items()}
    return Program(7, "2.14.0", {"main": Module("main", instructions), **inside})


def spans(made, name="main", root="s"):
    """place -> names of the first and the last instruction that use it"""
    module = made.modules[name]
    return {
        place: tuple(module.instructions[index].id for index in (buffer.first, buffer.last))
        for place, buffer in lifetimes(made, module)[root].items()
    }


X = node("x", "@param", parameter="x")


def test_from_the_first_use_to_the_last():
    made = program(X, scratch(192), load("a", 0), load("b", 64), kernel("k", "x", "a"), kernel("l", "k", "b"), X)
    assert spans(made) == {"a": ("k", "l"), "b": ("l", "l")}


@pytest.mark.parametrize("view", ["slice", "identity", "transpose", "load", "get_tuple_elem", "hip::fill"])
def test_a_view_is_the_same_memory(view):
    given = [scratch(128), load("a", 0), load("b", 64), kernel("k", "x", "a"), node("v", view, "k", offset=0)]
    made = program(X, *given, kernel("l", "x", "b"), kernel("m", "v", "b"))
    assert spans(made)["a"] == ("k", "m")


def test_an_operator_that_nobody_knows_gives_its_operands_back():
    given = [scratch(128), load("a", 0), load("b", 64), kernel("k", "x", "a"), node("v", "new::op", "k", "b")]
    made = program(X, *given, kernel("l", "x", "x"), kernel("m", "v", "x"))
    assert spans(made) == {"a": ("k", "m"), "b": ("v", "m")}


@pytest.mark.parametrize("output", [0, 1])
def test_a_kernels_result_is_its_output_argument(output):
    launch = node("l", "gpu::code_object", "a", "b", output_arg=output)
    made = program(X, scratch(128), load("a", 0), load("b", 64), launch, kernel("m", "l", "x"))
    assert spans(made) == {("a", "b")[output]: ("l", "m"), ("b", "a")[output]: ("l", "l")}


@pytest.mark.parametrize("target", [(), ("y",)])
def test_what_is_copied_to_the_host_is_there(target):
    given = [scratch(64), load("a", 0), kernel("k", "x", "a"), node("c", "hip::copy_from_gpu", "k", *target)]
    made = program(X, node("y", "@param", parameter="y"), *given, node("r", "@return", "c"))
    assert spans(made) == {"a": ("k", "c")}


@pytest.mark.parametrize(("result", "last"), [("m", "f"), ("v", "n")], ids=["its own", "a view of what it reads"])
def test_submodules_use_the_memory_of_those_around_them(result, last):
    """As long as the result of the `if` is read, which may be in its operands, or in what the branch gives back."""
    inside = [scratch(64, "t"), load("d", 0, "t"), node("v", "identity", "a"), kernel("m", "v", "d")]
    given = [scratch(192), load("a", 0), load("b", 64), load("c", 128), kernel("k", "x", "a"), kernel("l", "x", "b")]
    chosen = [node("f", "if", "x", "b", modules=("then",)), node("e", "get_tuple_elem", "f", index=0)]
    then = [*inside, node("r", "@return", result)]
    assert spans(program(X, *given, *chosen, kernel("n", "e", "c"), then=then)) == {
        "a": ("k", last),
        "b": ("l", "n"),
        "c": ("n", "n"),
    }


def test_the_result_of_an_if_is_not_written_over():
    """MIGraphX takes the buffer of the result to be free behind the `if`."""
    given = [scratch(64), load("a", 0), load("b", 0), node("f", "if", "x", "a", modules=("then",))]
    then = [node("p", "@param", parameter="p"), node("r", "@return", "p")]
    made = program(X, *given, kernel("k", "f", "b"), node("e", "@return", "k"), then=then)
    assert followed(made).lost
    after = with_own_plan(made)
    assert_nothing_is_overwritten(after)
    assert followed(after).size == 128


def test_a_submodules_result_is_kept_for_its_next_round():
    inside = [scratch(128, "t"), load("d", 0, "t"), load("e", 64, "t"), kernel("m", "x", "d"), kernel("n", "m", "e")]
    made = program(X, node("l", "gpu::loop", "x", modules=("body",)), body=[*inside, node("r", "@return", "n")])
    assert spans(made, "body", "t") == {"d": ("m", "n"), "e": ("t", "r")}


def test_what_nothing_uses_is_in_use_all_the_time():
    made = program(X, scratch(128), load("a", 0), load("b", 64), kernel("k", "x", "a"))
    buffer = lifetimes(made, made.main)["s"]["b"]
    assert buffer.first == 0 and buffer.last >= 4


CHAIN = [scratch(192), load("a", 0), load("b", 64), load("c", 128), kernel("k", "x", "a"), kernel("l", "k", "b")]


def test_places_that_are_never_in_use_at_once_become_one():
    made = program(X, *CHAIN, kernel("m", "l", "c"), node("r", "@return", "m"))
    after = with_own_plan(made)
    root = after.main.by_id()["s"]
    assert root.shape.lens == tuple(root.operator["shape"]["lens"]) == (128,)
    assert {i: after.main.by_id()[i].operator["offset"] for i in "abc"} == {"a": 0, "b": 64, "c": 0}
    assert replace(after.main.by_id()["a"], operator=CHAIN[1].operator) == CHAIN[1]


@pytest.mark.parametrize(
    "more",
    [
        node("e", "gpu::set_stream", stream=1),
        node("e", "gpu::wait_event", event=0),
        node("e", "hip::copy", "x", "s"),
        node("e", "gpu::loop", "x", modules=("body",)),
    ],
    ids=["streams", "events", "the scratch memory itself", "the scratch memory inside of a loop"],
)
def test_what_is_not_known_stays_where_it_is(more):
    body = [node("v", "identity", "s"), node("z", "@return", "v")]
    inside = {"body": body} if more.modules else {}
    made = program(X, *CHAIN, kernel("m", "l", "c"), more, node("r", "@return", "m"), **inside)
    assert with_own_plan(made) == made


def test_a_plan_that_is_not_smaller_is_left_alone():
    given = [scratch(128), load("a", 64), load("b", 0), load("c", 64), *CHAIN[4:], kernel("m", "l", "c")]
    made = program(X, *given)
    assert with_own_plan(made) == made


@st.composite
def programs(draw):
    """Kernels that read values of others, or views of them, in a memory in which everything is apart."""
    sizes = draw(st.lists(st.integers(1, 2000), min_size=1, max_size=14))
    offsets = [16 * sum(-(-size // 16) for size in sizes[:index]) for index in range(len(sizes))]
    instructions = [X, scratch(offsets[-1] + sizes[-1])]
    instructions += [load(f"p{n}", at, nbytes=size) for n, (at, size) in enumerate(zip(offsets, sizes, strict=True))]
    values = ["x"]
    modules = {}
    for number in draw(st.permutations(range(len(sizes)))):
        read = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
        how = draw(st.sampled_from(["kernel", "view", "several", "if"]))
        name = f"v{number}"
        instructions.append(kernel(f"k{number}", *read, f"p{number}"))
        if how == "view":
            instructions.append(node(name, "slice", f"k{number}"))
        elif how == "several":
            instructions.append(node(name, "identity", f"p{number}"))
        elif how == "if":
            module, other = f"m{number}", draw(st.sampled_from(values))
            modules[module] = [kernel(f"i{number}", other, f"k{number}"), node(f"r{number}", "@return", f"i{number}")]
            instructions.append(node(name, "if", "x", modules=(module,)))
        else:
            name = f"k{number}"
        values.append(name)
    kept = draw(st.lists(st.sampled_from(values), min_size=1, max_size=3))
    return program(*instructions, node("r", "@return", *kept), **modules)


@settings(deadline=None, max_examples=150)
@given(programs())
def test_nothing_is_overwritten_while_somebody_reads_it(made):
    assert_nothing_is_overwritten(made)
    after = with_own_plan(made)
    assert_nothing_is_overwritten(after)
    assert followed(after).size <= followed(made).size
    assert with_own_plan(after) == after
