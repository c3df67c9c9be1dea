"""Models of grouped-query attention, an operator of ONNX Runtime."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

SIZE, MOST = 8, 12


def grouped(
    queries: int,
    heads: int = 4,
    shared: int = 2,
    batch: int = 2,
    type_: type[np.floating] = np.float16,
    packed: bool = True,
    **attributes: float,
) -> bytes:
    """GroupQueryAttention over a cache of 12 keys of 8 numbers, as a model's only node.

    Args:
        queries: of each sequence; several are a prompt.
        heads: of the queries.
        shared: heads of keys and values.
        batch: sequences.
        type_: of all but lengths.
        packed: queries, keys and values are one input.
        attributes: of the node.
    """
    lengths = {"past": (batch, 1), "total": (1,)}
    onnx_type = helper.np_dtype_to_tensor_dtype(np.dtype(type_))
    cache, width = (batch, shared, MOST, SIZE), (heads + 2 * shared) * SIZE
    lens = {"q": (batch, queries, width if packed else heads * SIZE)}
    if not packed:
        lens |= dict.fromkeys("kv", (batch, queries, shared * SIZE))
    lens |= {"past_k": cache, "past_v": cache}
    inputs = [helper.make_tensor_value_info(name, onnx_type, each) for name, each in lens.items()]
    inputs += [helper.make_tensor_value_info(name, TensorProto.INT32, each) for name, each in lengths.items()]
    angles = np.arange(MOST * SIZE // 2).reshape(MOST, -1)
    constants = {"cos": np.cos(angles), "sin": np.sin(angles)}
    names = ["q", "", ""] if packed else ["q", "k", "v"]
    node = helper.make_node(
        "GroupQueryAttention",
        [*names, "past_k", "past_v", *lengths, *constants],
        ["y", "key", "value"],
        domain="com.microsoft",
        num_heads=heads,
        kv_num_heads=shared,
        **attributes,
    )
    results = {"y": (batch, queries, heads * SIZE), "key": cache, "value": cache}
    graph = helper.make_graph(
        [node],
        "grouped",
        inputs,
        [helper.make_tensor_value_info(name, onnx_type, each) for name, each in results.items()],
        [onnx.numpy_helper.from_array(value.astype(type_), name) for name, value in constants.items()],
    )
    domains = [helper.make_opsetid("", 17), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=domains, ir_version=8).SerializeToString()
