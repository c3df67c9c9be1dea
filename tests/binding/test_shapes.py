import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import iree_migraphx.binding as mx
from iree_migraphx.binding import capi
from iree_migraphx.binding.datatypes import TYPES
from iree_migraphx.errors import InputError, MigraphxError
from tests.binding.models import built


def through_c(shape):
    """The shape as the C interface gives it back, kept alive by its handle."""
    return mx.shape.from_pointer(shape.handle())


@pytest.mark.parametrize("name", TYPES)
def test_every_type_goes_through_c(name):
    shape = through_c(mx.shape(type=name, lens=[2, 3]))
    assert (shape.type_string(), shape.type().name) == (name, name)
    assert shape.bytes() == 6 * shape.dtype.itemsize == capi.size("shape_bytes", shape.handle())


@pytest.mark.parametrize("cpp, name", [("float", "float_type"), ("uint8_t", "uint8_type"), ("bf16", "bf16_type")])
def test_types_have_their_cpp_names_too(cpp, name):
    assert mx.shape(type=cpp) == mx.shape(type=name) == mx.shape(type=mx.shape.type_t[name])


def test_default_is_one_element():
    shape = mx.shape()
    assert (shape.type_string(), shape.lens(), shape.strides(), shape.scalar()) == ("float_type", [1], [1], False)


def test_strings_are_migraphx_s():
    assert repr(mx.shape(type="half", lens=[2, 3])) == "half_type, {2, 3}, {3, 1}"
    assert repr(mx.shape(dyn_dims=[mx.dynamic_dimension(1, 4, {2})])) == "dynamic, float_type, {[ 1, 4, {2} ]}"
    assert str(mx.shape().type()) == "type_t.float_type"


def test_permutation_is_the_order_in_memory():
    assert mx.shape(lens=[2, 3, 4, 5], permutation=[0, 2, 3, 1]).strides() == [60, 1, 15, 3]


@pytest.mark.parametrize(
    "kwargs, message",
    [
        ({"type": "flaot"}, "no element type 'flaot'; did you mean 'float'"),
        ({"lens": [2], "strides": [1, 1]}, "as many strides as lengths"),
        ({"lens": [-1]}, "can't be negative"),
        ({"lens": [2, 3], "permutation": [0, 0]}, "does not name each of the 2 axes once"),
    ],
)
def test_impossible_shapes(kwargs, message):
    with pytest.raises(InputError, match=message):
        mx.shape(**kwargs)


def dims():
    return st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=4)


@given(dims())
def test_rules_are_c_s(pairs):
    shape = mx.shape(lens=[a for a, _ in pairs], strides=[b for _, b in pairs])
    assert through_c(shape) == shape
    assert hash(through_c(shape)) == hash(shape)
    if 0 not in shape.lens():  # C++ computes (0 - 1) * stride there
        assert shape.standard() == capi.truth("shape_standard", shape.handle())
        assert shape.bytes() == capi.size("shape_bytes", shape.handle())
        assert shape.elements() == capi.size("shape_elements", shape.handle())


@pytest.mark.parametrize(
    "lens, strides, packed, standard, transposed, broadcasted, scalar",
    [
        ([2, 3], [3, 1], True, True, False, False, False),
        ([2, 3], [1, 2], True, False, True, False, False),
        ([2, 3], [0, 1], False, False, False, True, False),
        ([2, 3], [6, 2], False, False, False, False, False),
        ([2, 1, 3], [3, 7, 1], True, True, True, False, False),
        ([1, 1], [0, 0], True, True, False, True, True),
        ([2, 3], [1, 0], False, False, False, True, False),
    ],
)
def test_layout_words(lens, strides, packed, standard, transposed, broadcasted, scalar):
    shape = mx.shape(lens=lens, strides=strides)
    assert (shape.packed(), shape.standard(), shape.transposed()) == (packed, standard, transposed)
    assert (shape.broadcasted(), shape.scalar()) == (broadcasted, scalar)


def test_dynamic_shape_goes_through_c():
    shape = mx.shape(type="half", dyn_dims=[mx.dynamic_dimension(1, 8, {2, 4}), mx.dynamic_dimension(3, 3)])
    again = through_c(shape)
    assert again == shape
    assert (again.dynamic(), again.ndim(), again.bytes()) == (True, 2, 48)
    assert [(d.min, d.max, d.optimals) for d in again.dyn_dims()] == [(1, 8, {2, 4}), (3, 3, set())]
    for method in ("lens", "strides", "elements"):
        with pytest.raises(MigraphxError, match="dynamic shape"):
            getattr(again, method)()
    with pytest.raises(MigraphxError, match="not dynamic"):
        mx.shape().dyn_dims()


def test_dynamic_dimensions_compare_as_migraphx_s():
    assert mx.dynamic_dimension(2, 2, {2}) == mx.dynamic_dimension(2, 2)
    assert mx.dynamic_dimension(1, 4, {2}) != mx.dynamic_dimension(1, 4)
    assert mx.shape.dynamic_dimension(2, 2).is_fixed()
    assert not mx.dynamic_dimension(1, 2).is_fixed()


def test_tuple_shape_has_its_members():
    topk = built("topk", [mx.shape(lens=[2, 8])], k=3, axis=1)
    (shape,) = topk.get_output_shapes()
    assert shape.type_string() == "tuple_type"
    assert [each.type_string() for each in shape.sub_shapes()] == ["float_type", "int64_type"]
    assert shape.bytes() == 6 * 4 + 6 * 8
    assert through_c(shape) == shape


def test_no_dtype_for_two_elements_in_a_byte():
    shape = through_c(mx.shape(type="fp4x2_type", lens=[4]))
    assert shape.type_size() == 1
    with pytest.raises(InputError, match="no dtype for MIGraphX's fp4x2_type"):
        _ = shape.dtype


def test_numpy_numbers_are_lengths():
    assert mx.shape(lens=np.array([2, 3])).lens() == [2, 3]
