"""Small models with weights of their own, and what they compute."""

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from iree_migraphx import binding, pipeline

X = np.random.default_rng(7).standard_normal((1, 4, 12, 12)).astype(np.float32)


def convolutions(seed=0, count=1, channels=4):
    """An ONNX model: `count` padded convolutions with bias and relu, all of one shape, one after the other."""
    random = np.random.default_rng(seed)
    nodes, weights, value = [], [], "x"
    for number in range(count):
        w = random.standard_normal((channels, channels, 3, 3)).astype(np.float32) / 6
        b = random.standard_normal(channels).astype(np.float32)
        weights += [numpy_helper.from_array(w, f"w{number}"), numpy_helper.from_array(b, f"b{number}")]
        nodes.append(helper.make_node("Conv", [value, f"w{number}", f"b{number}"], [f"c{number}"], pads=[1] * 4))
        nodes.append(helper.make_node("Relu", [f"c{number}"], [f"r{number}"]))
        value = f"r{number}"
    return model(nodes, {"x": (1, channels, 12, 12)}, [value], weights)


def model(nodes, inputs, outputs, weights=(), types=None):
    """A serialized ONNX model. f32 wherever `types` does not say otherwise."""
    types = types or {}

    def info(name, lens):
        return helper.make_tensor_value_info(name, types.get(name, TensorProto.FLOAT), lens)

    graph = helper.make_graph(
        nodes, "g", [info(*item) for item in inputs.items()], [info(name, None) for name in outputs], list(weights)
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return made.SerializeToString()


def compiled(onnx, options, **how):
    """The model with IREE's kernels in it."""
    return pipeline.compile(binding.parse_onnx_buffer(onnx), binding.get_target("ref"), options=options, **how)


def expected(onnx, inputs):
    """What onnxruntime computes."""
    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def assert_right(program, onnx, inputs):
    """The program's results are onnxruntime's, to f32's precision."""
    for actual, wanted in zip(program.run(inputs), expected(onnx, inputs), strict=True):
        np.testing.assert_allclose(np.asarray(actual), wanted, rtol=1e-4, atol=1e-5)
