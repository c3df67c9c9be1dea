"""What counts as the same answer."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_check
import pytest


def compare(ours: object, theirs: object, dtype: object = np.float32) -> onnx_check.Difference:
    (difference,) = onnx_check.compare(["y"], [np.array(ours, dtype)], [np.array(theirs, dtype)])
    return difference


def test_relative_to_the_largest_value() -> None:
    tiny = compare([1e-8, 2e-8], [1e-8, 4e-8])
    assert not tiny.passes
    assert tiny.relative == pytest.approx(0.5)
    assert compare([1000.0, 0.1], [1000.0, 0.2]).passes


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float16, 1 / 64), (np.float32, 1 / 1024), (np.float64, 2**-39)])
def test_the_tolerance_follows_from_the_dtype(dtype: object, tolerance: float) -> None:
    assert compare([1.0], [1.0], dtype).tolerance == tolerance
    assert not compare([1 + 4 * tolerance], [1.0], dtype).passes
    assert compare([1 + tolerance / 4], [1.0], dtype).passes


def test_short_floats() -> None:
    assert onnx_check.tolerance_of(np.dtype(ml_dtypes.bfloat16)) == 1 / 8
    assert onnx_check.tolerance_of(np.dtype(ml_dtypes.float8_e4m3fn)) == 1 / 4


def test_integers_must_be_equal() -> None:
    assert compare([1, 2], [1, 2], np.int64).passes
    assert compare([1, 2, 3], [1, 3, 4], np.int64).problem == "2 of 3 elements are not equal"


@pytest.mark.parametrize(
    ("ours", "theirs"), [([np.nan], [1.0]), ([1.0], [np.nan]), ([np.inf], [-np.inf]), ([np.inf], [1.0])]
)
def test_not_finite(ours: list[float], theirs: list[float]) -> None:
    assert not compare(ours, theirs).passes


def test_not_finite_on_both_sides() -> None:
    assert compare([np.nan, np.inf, 1.0], [np.nan, np.inf, 1.0]).passes
    assert compare([np.nan], [np.nan]).passes


def test_all_zero() -> None:
    assert compare([0.0], [0.0]).passes
    assert not compare([0.1], [0.0]).passes


def test_shapes_and_dtypes() -> None:
    (difference,) = onnx_check.compare(["y"], [np.zeros((2, 3))], [np.zeros((3, 2))])
    assert difference.problem == "float64 (2, 3) is not onnxruntime's float64 (3, 2)"
    (difference,) = onnx_check.compare(["y"], [np.zeros(1)], [np.zeros(1, np.float32)])
    assert not difference.passes
    assert onnx_check.compare(["y"], [np.zeros(1)], [np.float64(0)])[0].passes, "a scalar"
    assert onnx_check.compare(["y"], [np.zeros((0, 2))], [np.zeros((0, 2))])[0].passes, "no elements"
