"""Small models in which IREE can take every operator, so that whatever is launched can be computed."""

from __future__ import annotations

import importlib.util
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, TensorProto, helper, numpy_helper

from splice.models import model

OPSET = [helper.make_opsetid("", 17)]


class Net:
    """A model written node by node, with weights of its own."""

    def __init__(self, seed: int = 0, dtype: Any = np.float32) -> None:
        self.random = np.random.default_rng(seed)
        self.dtype = np.dtype(dtype)
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []
        self._names = (f"v{seed}_{number}" for number in itertools.count())

    def weight(self, *lens: int) -> str:
        fan = np.prod(lens[1:]) if len(lens) > 1 else 1
        return self.constant((self.random.standard_normal(lens) / np.sqrt(fan)).astype(self.dtype))

    def constant(self, value: Any) -> str:
        name = next(self._names)
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, name: str, *inputs: str, **fields: Any) -> str:
        output = next(self._names)
        self.nodes.append(helper.make_node(name, list(inputs), [output], **fields))
        return output

    def conv(self, x: str, channels: tuple[int, int], kernel: int, relu: bool = True, **fields: Any) -> str:
        w, b = self.weight(channels[1], channels[0], kernel, kernel), self.weight(channels[1])
        y = self.op("Conv", x, w, b, pads=[kernel // 2] * 4, **fields)
        return self.op("Relu", y) if relu else y

    def dense(self, x: str, lens: tuple[int, int], relu: bool = True) -> str:
        y = self.op("Add", self.op("MatMul", x, self.weight(*lens)), self.weight(lens[1]))
        return self.op("Relu", y) if relu else y

    def build(self, inputs: dict[str, Sequence[int]], *outputs: str) -> bytes:
        type_ = helper.np_dtype_to_tensor_dtype(self.dtype)
        types = dict.fromkeys([*inputs, *outputs], type_)
        made: bytes = model(self.nodes, inputs, list(outputs), self.weights, types)
        return made

    def body(self, name: str, inputs: Sequence[Any], outputs: Sequence[Any]) -> GraphProto:
        """The nodes as the body of an If or Loop."""
        return helper.make_graph(self.nodes, name, inputs, outputs, self.weights)


def mlp(dtype: Any = np.float32) -> bytes:
    net = Net(1, dtype)
    return net.build({"x": (8, 32)}, net.dense(net.dense("x", (32, 64)), (64, 16), relu=False))


def residual(dtype: Any = np.float32, size: int = 12, width: int = 8) -> bytes:
    net = Net(2, dtype)
    first = net.conv("x", (4, width), 3)
    second = net.conv(net.conv(first, (width, width), 3), (width, width), 3, relu=False)
    total = net.op("Relu", net.op("Add", second, first))
    return net.build({"x": (1, 4, size, size)}, net.conv(total, (width, 4), 1, relu=False))


def shared_results() -> bytes:
    """One result read by two kernels and the caller."""
    net = Net(3)
    first = net.conv("x", (4, 8), 3)
    return net.build({"x": (1, 4, 12, 12)}, first, net.conv(first, (8, 8), 3), net.conv(first, (8, 8), 1))


def twice() -> bytes:
    """One result given back twice."""
    net = Net(4)
    first = net.conv("x", (4, 8), 3)
    return net.build({"x": (1, 4, 12, 12)}, first, net.op("Identity", first))


def channels_last() -> bytes:
    """A transpose between two kernels."""
    net = Net(5)
    y = net.op("Transpose", net.conv("x", (4, 8), 3), perm=[0, 2, 3, 1])
    return net.build({"x": (1, 4, 12, 12)}, net.op("MatMul", y, net.weight(8, 6)))


def sliced() -> bytes:
    """A kernel that reads a part of another's result."""
    net = Net(6)
    begin, end, axis = (net.constant(np.array([number])) for number in (2, 6, 1))
    return net.build(
        {"x": (1, 4, 12, 12)}, net.conv(net.op("Slice", net.conv("x", (4, 8), 3), begin, end, axis), (4, 4), 3)
    )


def joined() -> bytes:
    """Results side by side in one buffer."""
    net = Net(7)
    whole = net.op("Concat", net.conv("x", (4, 8), 3, relu=False), net.conv("x", (4, 5), 1, relu=False), axis=1)
    return net.build({"x": (1, 4, 7, 7)}, net.conv(whole, (13, 4), 3))


def branches() -> bytes:
    """An If whose branches have a kernel each, over a value of the outside and over a parameter."""
    main, then, otherwise = Net(8), Net(9), Net(10)
    outside = main.dense("x", (32, 32))
    graphs = {}
    for name, net, source, operator in (("then", then, outside, "Relu"), ("else", otherwise, "z", "Tanh")):
        result = net.op(operator, net.dense(source, (32, 16), relu=False))
        graphs[f"{name}_branch"] = net.body(name, [], [info(result, (8, 16))])
    chosen = main.op("If", "c", **graphs)
    result = main.dense(chosen, (16, 8))
    inputs = [info("x", (8, 32)), info("z", (8, 32)), info("c", (), TensorProto.BOOL)]
    return whole(main, inputs, [info(result, (8, 8))])


def loop() -> bytes:
    """Three times the same kernel over a state that a kernel before it makes."""
    main, body = Net(11), Net(12)
    state = body.dense("s", (8, 8))
    again = body.op("Identity", "again")
    inputs = [info("i", (), TensorProto.INT64), info("again", (), TensorProto.BOOL), info("s", (8, 8))]
    graph = body.body("body", inputs, [info(again, (), TensorProto.BOOL), info(state, (8, 8))])
    count, yes = main.constant(np.array(3, np.int64)), main.constant(np.array(True))
    last = main.op("Loop", count, yes, main.dense("x", (24, 8)), body=graph)
    result = main.dense(last, (8, 8), relu=False)
    return whole(main, [info("x", (8, 24))], [info(result, (8, 8))])


def backbone() -> bytes:
    """PP-OCRv4's detector for 32 x 32 pixels, up to its first pooling."""
    package = importlib.util.find_spec("rapidocr_onnxruntime")
    (path,) = (Path(package.submodule_search_locations[0]) / "models").glob("*_det_*.onnx")
    whole_model = onnx.load(path)
    graph = whole_model.graph
    nodes = list(graph.node)
    last = next(at for at, node in enumerate(nodes) if node.op_type == "GlobalAveragePool") - 1
    result = nodes[last].output[0]
    kept = nodes[: last + 1]
    read = {name for node in kept for name in node.input}
    weights = [each for each in graph.initializer if each.name in read]
    part = helper.make_graph(kept, "backbone", [info("x", (1, 3, 32, 32))], [info(result, None)], weights)
    opsets, version = whole_model.opset_import, whole_model.ir_version
    made: bytes = helper.make_model(part, opset_imports=opsets, ir_version=version).SerializeToString()
    return made


def info(name: str, lens: Sequence[int] | None, type_: int = TensorProto.FLOAT) -> Any:
    return helper.make_tensor_value_info(name, type_, lens)


def whole(net: Net, inputs: Sequence[Any], outputs: Sequence[Any]) -> bytes:
    graph = helper.make_graph(net.nodes, "g", inputs, outputs, net.weights)
    made: bytes = helper.make_model(graph, opset_imports=OPSET, ir_version=8).SerializeToString()
    return made
