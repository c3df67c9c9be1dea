"""Values that are made up for a run."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import helper, numpy_helper

import iree_migraphx as migraphx
from iree_migraphx.binding.onnx_model import Face, model_face
from iree_migraphx.cli.values import generate
from splice.models import model


@pytest.mark.parametrize("lens", [(2, 3, 40, 50), (1, 1, 7, 5), (1, 33, 21, 3), (1, 3, 1, 1)])
def test_pictures_have_the_shape_and_range_asked_for(lens: tuple[int, ...]) -> None:
    value = generate(migraphx.shape(type="half", lens=lens), np.random.default_rng(0))
    assert (value.shape, value.dtype) == (lens, np.float16)
    assert -1 <= value.min() <= value.max() <= 1


def test_a_batch_has_different_pictures() -> None:
    first, second = generate(migraphx.shape(lens=[2, 3, 40, 40]), np.random.default_rng(0))
    assert not np.array_equal(first, second)
    assert first.std() > 0.2


@pytest.mark.parametrize(
    ("kind", "values"), [("bool", {0, 1}), ("int64_t", {0, 1}), ("uint8_t", {0, 1}), ("int32_t", {0, 1})]
)
def test_integers_are_0_and_1(kind: str, values: set[int]) -> None:
    shape = migraphx.shape(type=kind, lens=[100])
    value = generate(shape, np.random.default_rng(0))
    assert set(value.tolist()) == values
    assert value.dtype == shape.dtype


def test_other_floats_are_uniform() -> None:
    value = generate(migraphx.shape(lens=[1000]), np.random.default_rng(0))
    assert -1 <= value.min() < -0.9
    assert 0.9 < value.max() <= 1


def test_weights_are_not_inputs() -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    weights = [numpy_helper.from_array(np.ones(1, np.float32), "w")]
    assert model_face(model(nodes, {"x": ["n"], "w": [1]}, ["y"], weights)) == Face({"x": ("n",)}, ("y",))


def test_lengths_below_1_are_open() -> None:
    face = model_face(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [-1, 3]}, ["y"]))
    assert face == Face({"x": (None, 3)}, ("y",))
