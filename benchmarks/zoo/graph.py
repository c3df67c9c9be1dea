"""Builds ONNX graphs with random weights that keep activations in range."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

Array = npt.NDArray[Any]

#: Factors on the deviation of weights so that an activation behind them keeps that of its input.
GAINS = {"": 1.0, "Relu": 2.0**0.5, "Silu": 1.5, "HardSwish": 1.5, "Gelu": 1.5, "Sigmoid": 1.0}


class Graph:
    """An ONNX graph that grows node by node. Values are called by their names.

    Args:
        seed: of all weights; the same seed gives the same model.
    """

    def __init__(self, name: str, seed: int = 0, opset: int = 17) -> None:
        self.name, self.opset = name, opset
        self.random = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._constants: dict[tuple[str, tuple[int, ...], bytes], str] = {}

    def input(self, name: str, lens: Sequence[int], dtype: int = TensorProto.FLOAT) -> str:
        """An input with a fixed shape."""
        self._inputs.append(helper.make_tensor_value_info(name, dtype, lens))
        return name

    def output(self, value: str, name: str, dtype: int = TensorProto.FLOAT) -> None:
        """Make a value an output; ONNX infers its shape."""
        self._nodes.append(helper.make_node("Identity", [value], [name]))
        self._outputs.append(helper.make_tensor_value_info(name, dtype, None))

    def op(self, kind: str, *inputs: str, **attributes: Any) -> str:
        """A node with one result."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(self, kind: str, count: int, *inputs: str, **attributes: Any) -> list[str]:
        """A node with several results."""
        names = [f"{kind.lower()}_{len(self._nodes)}_{number}" for number in range(count)]
        self._nodes.append(helper.make_node(kind, list(inputs), names, **attributes))
        return names

    def weight(self, array: Array) -> str:
        """A tensor of the file."""
        name = f"weight_{len(self._weights)}"
        self._weights.append(numpy_helper.from_array(np.asarray(array, order="C"), name))
        return name

    def constant(self, value: Any, dtype: npt.DTypeLike = np.float32) -> str:
        """A tensor of the file that equal ones share: axes, shapes, scalars."""
        array = np.asarray(value, dtype)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(array)
        return self._constants[key]

    def ints(self, *values: int) -> str:
        """A one-dimensional int64 constant."""
        return self.constant(values, np.int64)

    def normal(self, lens: Sequence[int], deviation: float) -> Array:
        """Random float32 numbers around 0."""
        numbers: Array = self.random.standard_normal(lens, np.float32) * np.float32(deviation)
        return numbers

    def uniform(self, lens: Sequence[int], low: float, high: float) -> Array:
        """Random float32 numbers of an interval."""
        return self.random.uniform(low, high, lens).astype(np.float32)

    def activation(self, kind: str, x: str) -> str:
        """An activation as exporters write it; "" is none."""
        if not kind:
            return x
        if kind == "Silu":
            return self.op("Mul", x, self.op("Sigmoid", x))
        if kind == "Gelu":
            inner = self.op("Erf", self.op("Div", x, self.constant(2.0**0.5)))
            return self.op("Mul", self.op("Mul", x, self.op("Add", inner, self.constant(1.0))), self.constant(0.5))
        if kind == "GeluTanh":
            cube = self.op("Mul", self.op("Pow", x, self.constant(3.0)), self.constant(0.044715))
            inner = self.op("Mul", self.op("Add", x, cube), self.constant((2 / np.pi) ** 0.5))
            factor = self.op("Add", self.op("Tanh", inner), self.constant(1.0))
            return self.op("Mul", self.op("Mul", x, self.constant(0.5)), factor)
        if kind == "HardSigmoid":
            return self.op("HardSigmoid", x, alpha=1 / 6, beta=0.5)
        return self.op(kind, x)

    def conv(
        self, x: str, ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1, activation: str = "",
        bias: bool = True, padding: int | None = None, gain: float = 1.0,
    ) -> str:  # fmt: skip
        """A square convolution, padded to keep the size by default, and its activation."""
        fan = ins // groups * kernel * kernel
        weights = self.normal((outs, ins // groups, kernel, kernel), gain * GAINS.get(activation, 1.0) / fan**0.5)
        operands = [x, self.weight(weights)]
        if bias:
            operands.append(self.weight(self.normal((outs,), 0.1)))
        pad = kernel // 2 if padding is None else padding
        made = self.op("Conv", *operands, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, group=groups)
        return self.activation(activation, made)

    def batch_norm(self, x: str, channels: int, low: float = 0.8, high: float = 1.2) -> str:
        """Batch normalisation with statistics near what comes out of `conv`; scales between `low` and `high`."""
        scale, variance = self.uniform((channels,), low, high), self.uniform((channels,), 0.8, 1.2)
        bias, mean = self.normal((channels,), 0.1), self.normal((channels,), 0.1)
        return self.op("BatchNormalization", x, *map(self.weight, (scale, bias, mean, variance)), epsilon=1e-5)

    def conv_bn(
        self, x: str, ins: int, outs: int, kernel: int, stride: int = 1, groups: int = 1, activation: str = "",
        low: float = 0.8, high: float = 1.2,
    ) -> str:  # fmt: skip
        """Convolution without a bias, batch normalisation, activation."""
        gain = GAINS.get(activation, 1.0)
        made = self.conv(x, ins, outs, kernel, stride, groups, bias=False, gain=gain)
        return self.activation(activation, self.batch_norm(made, outs, low, high))

    def linear(self, x: str, ins: int, outs: int, activation: str = "", gain: float = 1.0) -> str:
        """Matrix product with a weight and a bias, on the last axis."""
        weights = self.normal((ins, outs), gain * GAINS.get(activation, 1.0) / ins**0.5)
        made = self.op("Add", self.op("MatMul", x, self.weight(weights)), self.weight(self.normal((outs,), 0.1)))
        return self.activation(activation, made)

    def layer_norm(self, x: str, width: int, epsilon: float = 1e-5, one_node: bool = True) -> str:
        """Layer normalisation over the last axis: ONNX's operator, or the chain that was exported before opset 17."""
        scale, bias = self.weight(self.uniform((width,), 0.8, 1.2)), self.weight(self.normal((width,), 0.1))
        if one_node:
            return self.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)
        centred = self.op("Sub", x, self.op("ReduceMean", x, axes=[-1], keepdims=1))
        variance = self.op("ReduceMean", self.op("Pow", centred, self.constant(2.0)), axes=[-1], keepdims=1)
        deviation = self.op("Sqrt", self.op("Add", variance, self.constant(epsilon)))
        return self.op("Add", self.op("Mul", self.op("Div", centred, deviation), scale), bias)

    def reshape(self, x: str, *lens: int) -> str:
        """The same elements with other lengths; 0 keeps one, -1 is what is left."""
        return self.op("Reshape", x, self.ints(*lens))

    def transpose(self, x: str, *axes: int) -> str:
        """Another order of the axes."""
        return self.op("Transpose", x, perm=axes)

    def model(self) -> onnx.ModelProto:
        """The finished model, checked by ONNX."""
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, self._weights)
        made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=8)
        made = onnx.shape_inference.infer_shapes(made, strict_mode=True, data_prop=True)
        onnx.checker.check_model(made)
        return made
