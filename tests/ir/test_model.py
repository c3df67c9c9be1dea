import ctypes
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from iree_migraphx import binding
from iree_migraphx.binding import library
from iree_migraphx.errors import FormatError
from iree_migraphx.ir.model import DTYPES, Literal, Program, Shape

from .build import literal, op, param, program, result

AXES = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 30)), min_size=1, max_size=4)


@given(st.sampled_from(sorted(DTYPES)), AXES)
def test_shape_has_the_properties_that_migraphx_gives_it(type_: str, axes: list[tuple[int, int]]) -> None:
    lens, strides = (tuple(values) for values in zip(*axes, strict=True))
    shape = Shape(type_, lens, strides)
    theirs = binding.shape(type=type_, lens=list(lens), strides=list(strides)).handle()

    def ask(function: str, answer: Any) -> Any:
        assert (
            getattr(library.load(), f"migraphx_shape_{function}")(ctypes.byref(answer), ctypes.c_void_p(theirs.pointer))
            == 0
        )
        return answer.value

    assert shape.standard == ask("standard", ctypes.c_bool())
    assert shape.elements == ask("elements", ctypes.c_size_t())
    assert shape.nbytes == ask("bytes", ctypes.c_size_t())


@given(st.lists(st.integers(1, 5), min_size=1, max_size=4))
def test_standard_shape_has_migraphx_strides(lens: list[int]) -> None:
    theirs = binding.shape(type="float_type", lens=lens)
    assert Shape.standard_of("float_type", tuple(lens)).strides == tuple(theirs.strides())


@pytest.mark.parametrize(
    ("lens", "strides", "packed", "standard"),
    [
        ((2, 3), (3, 1), True, True),
        ((2, 1, 3), (3, 7, 1), True, True),
        ((2, 3), (1, 2), True, False),
        ((2, 3), (4, 1), False, False),
        ((2, 3), (0, 1), False, False),
        ((1,), (0,), True, True),
    ],
)
def test_packed_and_standard(lens: tuple[int, ...], strides: tuple[int, ...], packed: bool, standard: bool) -> None:
    shape = Shape("float_type", lens, strides)
    assert (shape.packed, shape.standard) == (packed, standard)


def test_a_tuple_is_as_large_as_its_parts() -> None:
    parts = (Shape.standard_of("float_type", (2, 3)), Shape.standard_of("int64_type", (3,)))
    shape = Shape("tuple_type", sub_shapes=parts)
    assert (shape.nbytes, shape.packed, shape.dynamic) == (48, False, False)


def test_equal_shapes_are_equal_whatever_the_file_says_beside() -> None:
    assert Shape("float_type", (2,), (1,), extra={"dyn_strides": []}) == Shape("float_type", (2,), (1,))


def test_array_of_a_literal_has_its_strides_and_no_copy() -> None:
    data = np.arange(6, dtype=np.int32).tobytes()
    array = Literal(Shape("int32_type", (3, 2), (1, 3)), data).array()
    assert array.tolist() == [[0, 3], [1, 4], [2, 5]]
    assert array.__array_interface__["data"][0] == np.frombuffer(data, np.uint8).__array_interface__["data"][0]
    assert not array.flags.writeable
    assert Literal(Shape("float_type", (2, 1000), (0, 0)), b"\0\0\x80\x3f").array().sum() == 2000


def test_array_of_an_unaligned_literal() -> None:
    view = memoryview(b"x" + np.float32(1.5).tobytes())[1:]
    assert Literal(Shape("float_type", (1,), (1,)), view).array().tolist() == [1.5]


@pytest.mark.parametrize("shape", [Shape("float_type"), Shape("float_type", (0, 3), (3, 1))])
def test_array_of_nothing_is_empty(shape: Shape) -> None:
    assert Literal(shape, b"").array().size == 0


@pytest.mark.parametrize("size", [0, 23, 25])
def test_a_literal_of_the_wrong_size_is_refused(size: int) -> None:
    with pytest.raises(FormatError, match=rf"needs 24 bytes, not {size}"):
        Literal(Shape.standard_of("float_type", (2, 3)), bytes(size))


@pytest.mark.parametrize(
    "shape",
    [
        Shape("tuple_type", sub_shapes=(Shape("float_type", (1,), (0,)),)),
        Shape("float_type", dynamic_dimensions=({"min": 1, "max": 2, "optimals": []},)),
        Shape("quaternion_type", (1,), (0,)),
    ],
)
def test_a_literal_is_a_tensor_of_a_known_type(shape: Shape) -> None:
    with pytest.raises(FormatError, match="literal can't be"):
        Literal(shape, bytes(4))


def test_walk_goes_into_submodules_right_before_their_owner() -> None:
    whole = program(
        param("c"),
        op("i", "if", "c", modules=("then", "else")),
        result("i"),
        **{"else": [literal("e", 1.0)], "then": [literal("t", 1.0)]},
    )
    assert [instruction.id for _, instruction in whole.walk()] == ["c", "t", "e", "i", "@return"]


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        (program(op("r", "relu", "x"), param("x"), result("r")), "'r'.*reads 'x', which is not defined"),
        (program(param("x"), param("x"), result("x")), "two values of the program have the id 'x'"),
        (program(op("i", "if", modules=("gone",)), result("i")), "no module 'gone'"),
    ],
)
def test_check_names_what_migraphx_could_not_load(broken: Program, cause: str) -> None:
    with pytest.raises(FormatError, match=cause):
        broken.check()
