import struct

import numpy as np
import onnx
import pytest
from onnx import helper

import iree_migraphx.binding as mx
from iree_migraphx.errors import MigraphxError, OptionError
from tests.binding.models import compiled, convolution, model, parsed, relu

OPEN = relu(["batch", 3])


def lens(program):
    return program.get_parameter_shapes()["x"].lens()


def test_file_and_buffer_give_the_same(tmp_path):
    onnx.save(convolution(), tmp_path / "model.onnx")
    assert (
        mx.parse_onnx(str(tmp_path / "model.onnx")) == mx.parse_onnx(tmp_path / "model.onnx") == parsed(convolution())
    )


def test_open_dimensions():
    assert lens(parsed(OPEN)) == [1, 3]
    assert lens(parsed(OPEN, default_dim_value=4)) == [4, 3]
    assert lens(parsed(OPEN, map_input_dims={"x": [5, 3]})) == [5, 3]
    dynamic = mx.dynamic_dimension(1, 8, {4})
    for options in (
        {"default_dyn_dim_value": dynamic},
        {"map_dyn_input_dims": {"x": [dynamic, mx.dynamic_dimension(3, 3)]}},
    ):
        shape = parsed(OPEN, **options).get_parameter_shapes()["x"]
        assert shape.dyn_dims() == [dynamic, mx.dynamic_dimension(3, 3)]


def loop(iterations):
    """y = x added up `iterations` times, as far as MIGraphX runs the loop."""
    boolean = onnx.TensorProto.BOOL
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["cond"], ["cond_out"]),
            helper.make_node("Add", ["sum", "x"], ["sum_out"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", onnx.TensorProto.INT64, []),
            helper.make_tensor_value_info("cond", boolean, []),
            helper.make_tensor_value_info("sum", onnx.TensorProto.FLOAT, [1]),
        ],
        [
            helper.make_tensor_value_info("cond_out", boolean, []),
            helper.make_tensor_value_info("sum_out", onnx.TensorProto.FLOAT, [1]),
        ],
    )
    weights = {"n": np.int64(iterations), "c": np.array(True), "zero": np.zeros(1, np.float32)}
    return model([helper.make_node("Loop", ["n", "c", "zero"], ["y"], body=body)], {"x": [1]}, weights)


def test_loop_options(tmp_path, capfd):
    onnx.save(loop(7), tmp_path / "loop.onnx")
    mx.parse_onnx(tmp_path / "loop.onnx", limit_max_iterations=2)
    assert "it will be changed from 7 to 2" in capfd.readouterr().err
    endless = loop(7)
    endless.graph.node[0].input[0] = ""
    onnx.save(endless, tmp_path / "loop.onnx")
    program = mx.parse_onnx(tmp_path / "loop.onnx", max_loop_iterations=3)
    program.compile(mx.get_target("ref"))
    assert program.run({"x": np.float32([1])})[0].tolist() == [3]


def test_external_data(tmp_path):
    onnx.save(convolution(), tmp_path / "model.onnx", save_as_external_data=True, location="weights", size_threshold=0)
    data = (tmp_path / "model.onnx").read_bytes()
    assert mx.parse_onnx(tmp_path / "model.onnx") == parsed(convolution())
    assert mx.parse_onnx_buffer(data, external_data_path=str(tmp_path)) == parsed(convolution())
    (tmp_path / "weights").unlink()
    with pytest.raises(MigraphxError, match=r"can't read the ONNX model .*model\.onnx: .*weights"):
        mx.parse_onnx(tmp_path / "model.onnx")


def test_dim_params_are_not_ignored():
    with pytest.raises(OptionError, match=r"dim_params=.* can't be had"):
        mx.parse_onnx("model.onnx", dim_params={"batch": mx.dynamic_dimension(1, 4)})


@pytest.mark.parametrize("option", ["skip_unknown_operators", "print_program_on_error"])
def test_options_that_c_lacks_are_not_ignored(option):
    with pytest.raises(OptionError, match=f"{option}=True can't be had: MIGraphX's C interface"):
        mx.parse_onnx("model.onnx", **{option: True})
    with pytest.raises(OptionError, match=option):
        parsed(relu(), **{option: True})


def test_unknown_operator():
    with pytest.raises(MigraphxError, match="can't read the ONNX model in memory: Unknown operator: Frobnicate"):
        parsed(model([helper.make_node("Frobnicate", ["x"], ["y"])], {"x": [1]}))


@pytest.mark.parametrize(
    "data, message",
    [(b"", "the file is empty"), (b"garbage", "Failed reading"), (b"\x7fELF" * 100, "Failed reading")],
)
@pytest.mark.parametrize("parse", [mx.parse_onnx, mx.parse_tf])
def test_files_of_something_else(tmp_path, parse, data, message):
    (tmp_path / "model").write_bytes(data)
    with pytest.raises(MigraphxError, match=message) as error:
        parse(tmp_path / "model")
    assert "model" in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("parse", [mx.parse_onnx, mx.parse_tf])
def test_files_that_can_t_be_read(tmp_path, parse):
    with pytest.raises(MigraphxError, match=r"can't read .*none: No such file or directory"):
        parse(tmp_path / "none")
    with pytest.raises(MigraphxError, match="Is a directory"):
        parse(tmp_path)


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9, 0.999])
def test_truncated_models(tmp_path, part):
    data = convolution().SerializeToString()
    data = data[: int(len(data) * part)]
    (tmp_path / "model.onnx").write_bytes(data)
    with pytest.raises(MigraphxError, match=r"can't read the ONNX model .*model\.onnx"):
        mx.parse_onnx(tmp_path / "model.onnx")
    with pytest.raises(MigraphxError, match="can't read the ONNX model in memory"):
        mx.parse_onnx_buffer(data)


def field(number: int, value: bytes | int) -> bytes:
    """A field of a protobuf message, shorter than 128 bytes."""
    if isinstance(value, int):
        return struct.pack("BB", number << 3, value)
    return struct.pack("BB", number << 3 | 2, len(value)) + value


def tensorflow_graph(lens, operator=b"Tanh"):
    """GraphDef: t = tanh(r), r = relu(x), x a float placeholder."""
    kind = field(5, field(1, b"dtype") + field(2, field(6, 1)))
    shape = field(5, field(1, b"shape") + field(2, field(7, b"".join(field(2, field(1, each)) for each in lens))))
    x = field(1, b"x") + field(2, b"Placeholder") + kind + shape
    relu = field(1, b"r") + field(2, b"Relu") + field(3, b"x")
    last = field(1, b"t") + field(2, operator) + field(3, b"r")
    return field(1, x) + field(1, relu) + field(1, last)


def test_tensorflow(tmp_path):
    (tmp_path / "graph.pb").write_bytes(tensorflow_graph([2, 3]))
    program = mx.parse_tf(tmp_path / "graph.pb")
    program.compile(mx.get_target("ref"))
    x = np.float32([[-1, 2, -3], [4, -5, 6]])
    np.testing.assert_allclose(np.asarray(program.run({"x": x})[0]), np.tanh(np.maximum(x, 0)), rtol=1e-6)


def test_tensorflow_operator_that_migraphx_lacks(tmp_path):
    (tmp_path / "graph.pb").write_bytes(tensorflow_graph([2, 3], b"Frobnicate"))
    program = mx.parse_tf(tmp_path / "graph.pb")  # MIGraphX refuses it only when it is to be computed
    with pytest.raises(MigraphxError, match=r"can't run the program: .* unknown:Frobnicate"):
        program.run({"x": np.zeros((2, 3), np.float32)})


def test_tensorflow_options(tmp_path):
    (tmp_path / "graph.pb").write_bytes(tensorflow_graph([2, 3]))
    named = mx.parse_tf(tmp_path / "graph.pb", output_names=["r"])
    assert named.run({"x": np.full((2, 3), 2, np.float32)})[0].tolist() == [2] * 6
    mapped = mx.parse_tf(tmp_path / "graph.pb", map_input_dims={"x": [4, 3]})
    assert lens(mapped) == [4, 3]
    (tmp_path / "image.pb").write_bytes(tensorflow_graph([1, 2, 3, 4]))
    nchw = mx.parse_tf(tmp_path / "image.pb", is_nhwc=False)
    nhwc = mx.parse_tf(tmp_path / "image.pb")
    assert nhwc != nchw


def test_one_operator_of_float16():
    program = compiled(model([helper.make_node("Relu", ["x"], ["y"])], {"x": [3]}, dtype=np.float16))
    assert program.run({"x": np.float16([-1, 0, 2])})[0].tolist() == [0, 0, 2]
