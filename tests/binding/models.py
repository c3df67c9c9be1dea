"""Small ONNX models, and what MIGraphX's ref target computes for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

import iree_migraphx.binding as mx

TYPES = {np.dtype(np.float32): TensorProto.FLOAT, np.dtype(np.float16): TensorProto.FLOAT16}


def model(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int | str]],
    weights: Mapping[str, Any] | None = None,
    output: str = "y",
    dtype: Any = np.float32,
) -> onnx.ModelProto:
    kind = TYPES[np.dtype(dtype)]
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, kind, lens) for name, lens in inputs.items()],
        [helper.make_empty_tensor_value_info(output)],
        initializer=[numpy_helper.from_array(np.asarray(value), name) for name, value in (weights or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def relu(lens: Sequence[int | str] = (2, 3)) -> onnx.ModelProto:
    return model([helper.make_node("Relu", ["x"], ["y"])], {"x": lens})


def convolution() -> onnx.ModelProto:
    """A padded convolution, bias, relu, and a matrix multiplication over its channels."""
    rng = np.random.default_rng(0)
    return model(
        [
            helper.make_node("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
            helper.make_node("Relu", ["c"], ["r"]),
            helper.make_node("Transpose", ["r"], ["t"], perm=[0, 2, 3, 1]),
            helper.make_node("MatMul", ["t", "m"], ["y"]),
        ],
        {"x": [1, 4, 6, 6]},
        {
            "w": rng.standard_normal((8, 4, 3, 3), np.float32),
            "b": rng.standard_normal(8, np.float32),
            "m": rng.standard_normal((8, 5), np.float32),
        },
    )


def parsed(of: onnx.ModelProto, **options: Any) -> mx.program:
    return mx.parse_onnx_buffer(of.SerializeToString(), **options)


def compiled(of: onnx.ModelProto, **options: Any) -> mx.program:
    program = parsed(of, **options)
    program.compile(mx.get_target("ref"))
    return program


def built(name: str, inputs: Sequence[mx.shape], **fields: Any) -> mx.program:
    """A compiled program of one operator over parameters x0, x1, ..."""
    program = mx.program()
    main = program.get_main_module()
    parameters = [main.add_parameter(f"x{index}", of) for index, of in enumerate(inputs)]
    main.add_return([main.add_instruction(mx.op(name, **fields), parameters)])
    program.compile(mx.get_target("ref"))
    return program
