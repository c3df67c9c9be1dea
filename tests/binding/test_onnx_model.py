"""Models that would end the process if MIGraphX saw them: found by mutating models of single operators at random."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import iree_migraphx.binding as mx
from iree_migraphx.binding.onnx_model import check_model
from iree_migraphx.errors import MigraphxError
from tests.binding.models import convolution, model, parsed

IMAGE = {"x": [1, 4, 8, 8]}


@pytest.mark.parametrize(
    "node, inputs, message",
    [
        (helper.make_node("MaxPool", [], ["y"], kernel_shape=[2, 2]), IMAGE, r"\(MaxPool\) has the inputs \[\]"),
        (helper.make_node("AveragePool", [""], ["y"], kernel_shape=[2, 2]), IMAGE, "needs at least 1"),
        (
            helper.make_node("MatMul", ["x"], ["y"], name="the one"),
            {"x": [2, 2]},
            r"node 'the one' \(MatMul\).*least 2",
        ),
        (helper.make_node("Expand", ["x", ""], ["y"]), {"x": [1, 2]}, "needs at least 2"),
        (helper.make_node("GRU", ["x", "x"], ["y"]), {"x": [2, 1, 3]}, "needs at least 3"),
        (
            helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[0, 2]),
            IMAGE,
            r"has strides = \[0, 2\], which must be 1 or more",
        ),
        (helper.make_node("SpaceToDepth", ["x"], ["y"], blocksize=0), IMAGE, r"has blocksize = \[0\]"),
        (helper.make_node("AveragePool", ["x"], ["y"], kernel_shape=[2, -5]), IMAGE, r"kernel_shape = \[2, -5\]"),
    ],
)
def test_nodes(node, inputs, message):
    with pytest.raises(MigraphxError, match=f"can't read the ONNX model in memory: .*{message}"):
        parsed(model([node], inputs))


def weight(name="w", **fields):
    """A model that adds a weight, after its tensor's fields were changed."""
    made = model([helper.make_node("Add", ["x", "w"], ["y"])], {"x": [4]}, {"w": np.ones(4, np.float32)})
    tensor = made.graph.initializer[0]
    for field, value in fields.items():
        if field == "dims":
            del tensor.dims[:]
            tensor.dims.extend(value)
        elif field == "float_data":
            tensor.ClearField("raw_data")
            tensor.float_data.extend(value)
        else:
            setattr(tensor, field, value)
    return made


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"dims": [1000]}, r"weight 'w' has 16 bytes for its 1000 elements \[1000\] of 32 bits"),
        ({"dims": [1 << 40, 1 << 40]}, "has 16 bytes"),
        ({"dims": [-1]}, r"negative dimension: \[-1\]"),
        ({"raw_data": b"123"}, "has 3 bytes for its 4 elements"),
        ({"data_type": onnx.TensorProto.DOUBLE}, "of 64 bits"),
        ({"float_data": [1, 2, 3]}, r"has 3 elements for its dimensions \[4\]"),
    ],
)
def test_weights(fields, message):
    with pytest.raises(MigraphxError, match=message):
        parsed(weight(**fields))


def test_weights_in_attributes_and_subgraphs():
    bad = weight(dims=[1000]).graph.initializer[0]
    for node in (
        helper.make_node("Constant", [], ["y"], value=bad),
        helper.make_node("If", ["x"], ["y"], then_branch=weight(dims=[9]).graph, else_branch=weight().graph),
    ):
        with pytest.raises(MigraphxError, match="weight 'w' has 16 bytes"):
            parsed(model([node], {"x": [1]}))


def test_external_weights_that_are_too_short(tmp_path):
    onnx.save(convolution(), tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    made = onnx.load(tmp_path / "model.onnx", load_external_data=False)
    entries = {entry.key: entry for entry in made.graph.initializer[0].external_data}
    entries["length"].value = "4"
    onnx.save(made, tmp_path / "model.onnx")
    with pytest.raises(MigraphxError, match="has 4 bytes for its"):
        mx.parse_onnx(tmp_path / "model.onnx")


@pytest.mark.parametrize(
    "dtype", ["float32", "float64", "int8", "uint8", "int32", "int64", "uint64", "bool", "float16"]
)
@pytest.mark.parametrize("raw", [True, False])
def test_good_weights_of_every_kind_pass(dtype, raw):
    array = np.array([[1, 0], [200, 77]]).astype(dtype)
    kind = helper.np_dtype_to_tensor_dtype(array.dtype)
    values = array.tobytes() if raw else array.reshape(-1).tolist()
    tensor = helper.make_tensor("c", kind, array.shape, values, raw=raw)
    made = model([helper.make_node("Constant", [], ["y"], value=tensor)], {"x": [1]})
    check_model(made.SerializeToString(), "model")
    (result,) = parsed(made).run({"x": np.zeros(1, np.float32)})
    np.testing.assert_array_equal(np.asarray(result), array)


def test_negative_numbers_are_read():
    """A varint of 10 bytes."""
    made = model([helper.make_node("Softmax", ["x"], ["y"], axis=-1)], {"x": [2, 3]})
    check_model(made.SerializeToString(), "model")
    assert parsed(made).get_output_shapes()[0].lens() == [2, 3]


def test_empty_and_scalar_weights_pass():
    for value in (np.zeros((0, 3), np.float32), np.float32(3)):
        made = model(
            [helper.make_node("Constant", [], ["y"], value=numpy_helper.from_array(np.asarray(value)))], {"x": [1]}
        )
        check_model(made.SerializeToString(), "model")


def test_what_is_no_protobuf_is_left_to_migraphx():
    rng = np.random.default_rng(0)
    for size in (0, 1, 10, 1000):
        check_model(rng.bytes(size), "model")
    check_model(b"\x3a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", "model")  # a length that never ends


def test_operators_of_other_domains_have_other_inputs():
    made = model([helper.make_node("MatMul", ["x"], ["y"], domain="com.example")], {"x": [1]})
    check_model(made.SerializeToString(), "model")
