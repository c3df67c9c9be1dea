import ml_dtypes
import numpy as np
import pytest

import iree_migraphx.binding as mx
from iree_migraphx.binding.inputs import convert
from iree_migraphx.errors import InputError
from tests.binding.models import built

X = mx.shape(lens=[2, 3])
GOOD = np.zeros((2, 3), np.float32)


@pytest.fixture(scope="module")
def add():
    return built("add", [X, X])


@pytest.mark.parametrize(
    "given, message",
    [
        ({"x0": 0}, r"no value given for 'x1'. The program takes x0 \(float32 \(2, 3\)\), x1 \(float32 \(2, 3\)\)"),
        ({}, "no value given for 'x0', 'x1'"),
        ({"x0": 0, "x11": 0, "mask": 0}, r"no value given for 'x1'; is 'x11' meant for 'x1'\? The program takes x0"),
        ({"x0": 0, "x1": np.zeros((2, 3))}, r"'x1' takes float32 \(2, 3\); given float64 \(2, 3\)"),
        ({"x0": 0, "x1": np.zeros((3, 2), "f")}, r"'x1' takes float32 \(2, 3\); given float32 \(3, 2\)"),
        ({"x0": 0, "x1": np.float32(1)}, r"'x1' takes float32 \(2, 3\); given float32 \(\)"),
        ({"x0": 0, "x1": [1, 2]}, r"'x1' takes float32 \(2, 3\); given int64 \(2,\)"),
        ({"x0": 0, "x1": mx.argument(np.zeros((2, 3)))}, r"'x1' takes float32 \(2, 3\); given an argument of double"),
        ({"x0": 0, "x1": mx.argument(np.zeros((3, 2), "f").T)}, r"'x1' takes .* given an argument of .*\{1, 2\}"),
    ],
)
def test_wrong_inputs(add, given, message):
    given = {name: GOOD if isinstance(value, int) else value for name, value in given.items()}
    with pytest.raises(InputError, match=message):
        add.run(given)


def test_values_for_no_parameter_are_left_aside(add):
    (result,) = add.run({"x0": GOOD, "x1": GOOD + 1, "mask": GOOD})
    assert result.tolist() == [1] * 6


def test_mistakes_are_what_scripts_for_rocm_s_module_catch(add):
    with pytest.raises(RuntimeError):
        add.run({})
    with pytest.raises(RuntimeError):
        mx.load_buffer(b"no program")
    with pytest.raises(RuntimeError):
        mx.get_target("rfe")


def test_matching_memory_is_not_copied():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert convert("x", X, array).data_ptr() == array.ctypes.data
    flipped = mx.shape(lens=[2, 3], strides=[1, 2])
    assert convert("x", flipped, np.asfortranarray(array)).data_ptr() != array.ctypes.data
    fortran = np.asfortranarray(array)
    assert convert("x", flipped, fortran).data_ptr() == fortran.ctypes.data


@pytest.mark.parametrize("strides", [[3, 1], [1, 2], [8, 2]])
@pytest.mark.parametrize("order", ["C", "F", "reversed", "unaligned"])
def test_any_memory_gets_the_parameter_s_strides(strides, order):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    given = {
        "C": array,
        "F": np.asfortranarray(array),
        "reversed": array[::-1, ::-1].copy()[::-1, ::-1],
        "unaligned": np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(np.float32).reshape(2, 3),
    }[order]
    wanted = mx.shape(lens=[2, 3], strides=strides)
    value = convert("x", wanted, given)
    assert value.get_shape() == wanted
    np.testing.assert_array_equal(np.asarray(value), array)
    (result,) = built("neg", [wanted]).run({"x0": given})
    np.testing.assert_array_equal(np.asarray(result), -array)


def test_lengths_of_1_need_no_particular_stride():
    array = np.arange(3, dtype=np.float32).reshape(1, 3)[:, None].transpose(2, 1, 0)
    assert convert("x", mx.shape(lens=[3, 1, 1]), array).data_ptr() == array.ctypes.data


def test_argument_of_another_but_compatible_shape_is_not_copied():
    value = mx.argument(np.arange(3, dtype=np.float32).reshape(3, 1).T)
    converted = convert("x", mx.shape(lens=[1, 3]), value)
    assert (converted.data_ptr(), converted.get_shape()) == (value.data_ptr(), mx.shape(lens=[1, 3]))


@pytest.mark.parametrize("given", [np.float32(3), np.float32([3]), 3 * np.ones((), np.float32)])
def test_scalars(given):
    (result,) = built("neg", [mx.shape()]).run({"x0": given})
    assert result.tolist() == [-3]


def test_broadcast_parameter_takes_what_really_is_broadcast():
    program = built("neg", [mx.shape(lens=[2, 3], strides=[0, 1])])
    row = np.float32([1, 2, 3])
    for given in (np.broadcast_to(row, (2, 3)), np.array([row, row])):
        np.testing.assert_array_equal(np.asarray(program.run({"x0": given})[0]), -given)
    with pytest.raises(InputError, match="'x0' is broadcast in memory"):
        program.run({"x0": np.arange(6, dtype=np.float32).reshape(2, 3)})


@pytest.mark.parametrize("dtype", [ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn, ml_dtypes.float8_e5m2, np.float16])
def test_narrow_floats(dtype):
    array = np.array([1, -2, 0.5]).astype(dtype)
    (result,) = built("neg", [mx.argument(array).get_shape()]).run({"x0": array})
    assert np.asarray(result).dtype == array.dtype
    np.testing.assert_array_equal(np.asarray(result), -array)


@pytest.mark.parametrize("dtype", [np.bool_, np.int8, np.uint8, np.int64, np.uint64, np.float64])
def test_other_types(dtype):
    array = np.array([1, 0, 1]).astype(dtype)
    (result,) = built("identity", [mx.argument(array).get_shape()]).run({"x0": array})
    assert np.asarray(result).dtype == array.dtype
    np.testing.assert_array_equal(np.asarray(result), array)


def test_dynamic_parameter_takes_its_range():
    wanted = mx.shape(dyn_dims=[mx.dynamic_dimension(1, 4), mx.dynamic_dimension(3, 3)])
    program = built("neg", [wanted])
    for rows in (1, 4):
        array = np.ones((3, rows), np.float32).T
        assert np.asarray(program.run({"x0": array})[0]).tolist() == (-array).tolist()
        assert program.run({"x0": mx.argument(np.ascontiguousarray(array))})[0].get_shape().lens() == [rows, 3]
    for lens in [(5, 3), (1, 2), (3,)]:
        with pytest.raises(InputError, match=r"takes float32 \(1\.\.4, 3\.\.3\); given the lengths"):
            program.run({"x0": np.ones(lens, np.float32)})


def test_no_elements():
    (result,) = built("neg", [mx.shape(lens=[0, 3])]).run({"x0": np.zeros((0, 3), np.float32)})
    assert np.asarray(result).shape == (0, 3)
