import gc
import sys

import ml_dtypes
import numpy as np
import pytest

import iree_migraphx.binding as mx
from iree_migraphx.binding.datatypes import TYPES
from iree_migraphx.errors import FormatError, InputError, MigraphxError
from tests.binding.models import built


@pytest.mark.parametrize("name", TYPES)
def test_shares_memory_with_numpy(name):
    array = np.arange(6).astype(TYPES[name][1]).reshape(2, 3)
    value = mx.argument(array)
    assert repr(value.get_shape()) == f"{name}, {{2, 3}}, {{3, 1}}"
    assert value.data_ptr() == array.ctypes.data
    view = np.asarray(value)
    assert np.shares_memory(view, array)
    assert view.dtype == array.dtype
    assert view.tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "array",
    [
        np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
        np.arange(24, dtype=np.int8).reshape(4, 6)[:, ::2],
        np.broadcast_to(np.float32([1, 2, 3]), (4, 3)),
        np.asfortranarray(np.arange(6, dtype=np.float64).reshape(2, 3)),
    ],
    ids=["transposed", "sliced", "broadcast", "fortran"],
)
def test_strides_need_no_copy(array):
    value = mx.argument(array)
    assert value.data_ptr() == array.ctypes.data
    np.testing.assert_array_equal(np.asarray(value), array)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32)[::-1],
        np.arange(6, dtype=">f4"),
        np.zeros(6, dtype=[("a", "f4"), ("b", "i1")])["a"],
        np.frombuffer(b"\0" * 25, np.uint8)[1:].view(np.float32),
    ],
    ids=["reversed", "swapped", "packed struct", "unaligned"],
)
def test_what_migraphx_has_no_words_for_is_copied(array):
    value = mx.argument(array)
    assert value.data_ptr() != array.ctypes.data
    np.testing.assert_array_equal(np.asarray(value), array)


def test_scalar_is_migraphx_s():
    value = mx.argument(np.float32(3))
    assert (value.get_shape(), value.tolist()) == (mx.shape(lens=[1], strides=[0]), [3.0])


def test_dtype_that_migraphx_lacks():
    with pytest.raises(InputError, match=r"no element type for numpy's complex64; it has bool, float16"):
        mx.argument(np.zeros(3, np.complex64))


def test_array_keeps_the_argument_alive_and_the_argument_its_array():
    view = np.asarray(mx.argument(np.arange(1000.0)))
    value = mx.argument(np.arange(1000.0))
    gc.collect()
    junk = [np.full(1000, -1.0) for _ in range(50)]
    np.testing.assert_array_equal(view, np.arange(1000.0))
    assert value.tolist() == np.arange(1000.0).tolist()
    del junk


def test_array_protocol():
    value = mx.argument(np.float32([1, 2]))
    assert np.asarray(value, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(value, copy=True), np.asarray(value))
    with pytest.raises(ValueError, match="without a copy"):
        value.__array__(np.float64, copy=False)


def test_read_only_stays_read_only():
    array = np.arange(3.0)
    array.flags.writeable = False
    assert not np.asarray(mx.argument(array)).flags.writeable
    assert np.asarray(mx.argument(np.arange(3.0))).flags.writeable


def test_equality_is_of_shape_and_elements():
    one = mx.argument(np.float32([1, 2]))
    assert one == mx.argument(np.float32([1, 2]))
    assert one != mx.argument(np.float32([1, 3]))
    assert one != mx.argument(np.float64([1, 2]))
    assert one != [1, 2]


def test_tolist_is_in_logical_order():
    assert mx.argument(np.arange(6, dtype=np.int32).reshape(2, 3).T).tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize("dtype", [np.float32, np.int8, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn])
def test_save_and_load(tmp_path, dtype):
    value = mx.argument(np.arange(6).astype(dtype).reshape(2, 3).T)
    mx.argument.save(value, tmp_path / "value")
    assert mx.argument.load(tmp_path / "value") == value


@pytest.mark.parametrize(
    "data, error, message",
    [
        (b"", MigraphxError, "file is empty"),
        (b"\x81\xa1a\x01", FormatError, "the argument has no data"),
        (b"\x93abc"[:2], FormatError, "no whole msgpack document"),
    ],
)
def test_load_of_something_else(tmp_path, data, error, message):
    (tmp_path / "value").write_bytes(data)
    with pytest.raises(error, match=message):
        mx.argument.load(tmp_path / "value")


def test_load_and_save_where_there_is_nothing(tmp_path):
    with pytest.raises(MigraphxError, match=r"can't read .*none: No such file"):
        mx.argument.load(tmp_path / "none")
    with pytest.raises(MigraphxError, match=r"can't write .*none/value: No such file"):
        mx.argument.save(mx.argument(np.ones(1)), tmp_path / "none/value")


def test_from_pointer():
    array = np.arange(6, dtype=np.float32)
    value = mx.argument_from_pointer(mx.shape(lens=[2, 3], strides=[1, 2]), array.ctypes.data)
    assert value.tolist() == [0, 2, 4, 1, 3, 5]
    array[0] = 7
    assert value.tolist()[0] == 7


def test_made_arguments():
    value = mx.create_argument(mx.shape(type="int8_t", lens=[2, 2], strides=[1, 2]), [1, 2, 3, 4])
    assert (value.tolist(), np.asarray(value).strides) == ([1, 2, 3, 4], (1, 2))
    assert mx.fill_argument(mx.shape(type="bf16", lens=[3]), 2).tolist() == [2, 2, 2]
    with pytest.raises(InputError, match="3 values given for the 4 elements"):
        mx.create_argument(mx.shape(lens=[4]), [1, 2, 3])
    with pytest.raises(InputError, match="lengths that are known"):
        mx.fill_argument(mx.shape(dyn_dims=[mx.dynamic_dimension(1, 4)]), 1)
    with pytest.raises(MigraphxError, match="can't allocate"):
        mx.fill_argument(mx.shape(lens=[1 << 50]), 1)


def test_generated_arguments_depend_on_the_seed():
    shape = mx.shape(type="half", lens=[64])
    assert mx.generate_argument(shape, 1) == mx.generate_argument(shape, seed=1)
    assert mx.generate_argument(shape, 1) != mx.generate_argument(shape, 2)


def test_tuple_has_no_memory_of_its_own():
    (value,) = built("topk", [mx.shape(lens=[2, 8])], k=3, axis=1).run({"x0": np.zeros((2, 8), np.float32)})
    assert "int64_type" in repr(value)
    with pytest.raises(MigraphxError, match="a tuple has no memory"):
        value.data_ptr()


def test_no_elements():
    assert np.asarray(mx.argument(np.zeros((0, 3), np.float32))).shape == (0, 3)
    assert np.asarray(mx.fill_argument(mx.shape(lens=[]), 1)).size == 0  # rank 0 has no elements in MIGraphX


@pytest.mark.skipif(sys.version_info < (3, 12), reason="Python asks for it since 3.12")
def test_memoryview_shares_memory():
    value = mx.argument(np.arange(6, dtype=np.float32).reshape(2, 3))
    view = memoryview(value)
    assert (view.shape, view.format) == ((2, 3), "f")
    np.asarray(value)[1, 2] = 9
    assert view[1, 2] == 9
