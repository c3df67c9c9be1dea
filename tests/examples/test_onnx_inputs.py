"""Values that are made up for a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx_inputs
import pytest
from onnx import TensorProto, helper

import iree_migraphx as migraphx

from .conftest import Command, save


@pytest.mark.parametrize("lens", [(2, 3, 40, 50), (1, 1, 7, 5), (1, 33, 21, 3), (1, 3, 1, 1)])
def test_pictures_have_the_shape_and_range_asked_for(lens: tuple[int, ...]) -> None:
    value = onnx_inputs.generate(migraphx.shape(type="half", lens=lens), np.random.default_rng(0))
    assert (value.shape, value.dtype) == (lens, np.float16)
    assert -1 <= value.min() <= value.max() <= 1


def test_a_batch_has_different_pictures() -> None:
    first, second = onnx_inputs.generate(migraphx.shape(lens=[2, 3, 40, 40]), np.random.default_rng(0))
    assert not np.array_equal(first, second)
    assert first.std() > 0.2


@pytest.mark.parametrize(
    ("kind", "values"), [("bool", {0, 1}), ("int64_t", {0, 1}), ("uint8_t", {0, 1}), ("int32_t", {0, 1})]
)
def test_integers_are_0_and_1(kind: str, values: set[int]) -> None:
    shape = migraphx.shape(type=kind, lens=[100])
    value = onnx_inputs.generate(shape, np.random.default_rng(0))
    assert set(value.tolist()) == values
    assert value.dtype == shape.dtype


def test_other_floats_are_uniform() -> None:
    value = onnx_inputs.generate(migraphx.shape(lens=[1000]), np.random.default_rng(0))
    assert -1 <= value.min() < -0.9
    assert 0.9 < value.max() <= 1


def test_weights_are_not_inputs(tmp_path: Path) -> None:
    nodes = [helper.make_node("Add", ["x", "w"], ["y"])]
    inputs: dict[str, tuple[int, list[object]]] = {"x": (TensorProto.FLOAT, ["n"]), "w": (TensorProto.FLOAT, [1])}
    model = onnx_inputs.read_model(save(tmp_path / "old.onnx", nodes, inputs, w=np.ones(1, np.float32)))
    assert [(tensor.name, tensor.dims) for tensor in model.inputs] == [("x", (None,))]


def test_lengths_below_1_are_open(command: Command, tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["y"])]
    model = save(tmp_path / "minus.onnx", nodes, {"x": (TensorProto.FLOAT, [-1, 3])})
    assert "each was taken as 1: 1 3." in command(model).out
    assert "output y: float32 2x3" in command(model, "--input-dim", "@x 2 3").out
