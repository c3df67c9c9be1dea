"""What is read, and every way in which a model or its lengths may be wrong."""

import json
import re

import numpy as np
import pytest
from onnx import TensorProto, helper

import iree_migraphx as migraphx
from iree_migraphx.binding.onnx_model import Face, model_face
from iree_migraphx.cli.lengths import parse_dims, read_face
from iree_migraphx.errors import OptionError
from splice.models import convolutions


@pytest.fixture(scope="session")
def open_model(tmp_path_factory):
    """relu(x) with x of ?x3."""
    info = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [info], [out])
    path = tmp_path_factory.mktemp("open") / "open.onnx"
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(made.SerializeToString())
    return path


def test_text_is_migraphxs(command, model):
    out, err = command("read", model)
    assert out == f"{migraphx.parse_onnx(model)!r}\n"
    assert err == ""


def test_the_binary_form_is_read_again(command, model, tmp_path):
    command("read", model, "-o", tmp_path / "model.mxr")
    assert migraphx.load(tmp_path / "model.mxr") == migraphx.parse_onnx(model)
    assert command("read", tmp_path / "model.mxr")[0] == command("read", model)[0]
    (tmp_path / "plain").write_bytes((tmp_path / "model.mxr").read_bytes())
    assert command("read", "--migraphx", tmp_path / "plain")[0] == command("read", model)[0]
    (tmp_path / "named").write_bytes(model.read_bytes())
    assert command("read", "--onnx", tmp_path / "named")[0] == command("read", model)[0]


def test_json(command, model, tmp_path):
    out, _ = command("read", model, "--json")
    assert "main" in json.loads(out)["modules"]
    (tmp_path / "model.json").write_text(out)
    assert command("read", tmp_path / "model.json")[0] == command("read", model)[0]


def test_lengths_that_are_left_open(command, open_model):
    out, err = command("read", open_model)
    assert "{1, 3}" in out
    assert 'each was taken as 1: 1 3. Set them with --input-dim "@x 1 3"' in err
    assert "each was taken as 5" in command("read", open_model, "--batch", 5)[1]
    out, err = command("read", open_model, "--input-dim", "@x", 4, 3)
    assert "{4, 3}" in out
    assert err == ""
    for form in (
        ["--dyn-input-dim", "@x", "[{min:1,max:8,optimals:[2]},3]"],
        ["--default-dyn-dim", "{min: 1, max: 8}"],
    ):
        assert "[ 1, 8" in command("read", open_model, *form)[0]


def test_dimensions_that_have_a_name(command, open_model):
    assert "x = @param:x -> float_type, {4, 3}" in command("read", open_model, "--dim-param", "@n", 4)[0]
    assert "{4, 3}" in command("read", open_model, "--dim-param", "@n 4")[0]
    out, err = command("read", open_model, "--dim-param", "@n", "{min:1, max:8}")
    assert "[ 1, 8" in out
    assert err == ""
    # What names the input itself says more.
    assert "{2, 3}" in command("read", open_model, "--dim-param", "@n", 4, "--input-dim", "@x 2 3")[0]


def test_a_trimmed_model_computes_what_the_whole_one_does_there(command, model, tmp_path):
    x = np.random.default_rng(0).standard_normal((1, 4, 12, 12)).astype(np.float32)

    def run(*words, **inputs):
        command("read", model, *words, "-o", tmp_path / "part.mxr")
        program = migraphx.load(tmp_path / "part.mxr")
        program.compile(migraphx.get_target("ref"))
        return np.array(program.run(inputs)[0])

    # Each of the three convolutions is convolution, broadcast, add and relu; then comes the return.
    first = run("--trim", 9, x=x)
    assert run("--trim", 10, x=x).min() < 0 <= first.min()
    rest = run("--trim", 1, "--trim-size", 8, x1=first)
    np.testing.assert_allclose(rest, run(x=x), rtol=1e-4, atol=1e-5)
    # A broadcast comes along with what reads it, and constants stay constants.
    assert "@param" not in command("read", model, "--trim", 3, "--trim-size", 1)[0]
    (out, _) = command("read", model, "-t", 2, "-s", 1)
    assert [line.split(" = ")[1].partition("[")[0].partition("(")[0] for line in out.splitlines()[1:6] if line] == [
        "@param:x1 -> float_type, {1, 4, 12, 12}, {576, 144, 12, 1}",
        "@literal{0.749174, 1.0599, 0.769795, 1.9995} -> float_type, {4}, {1}",
        "broadcast",
        "add",
    ]


def test_a_graph_for_graphviz(command, model):
    out, _ = command("read", model, "--graphviz", "--brief")
    lines = [line.strip() for line in out.splitlines()]
    assert (lines[0], lines[-1]) == ("digraph {", "}")
    assert '"x" [label="@param:x"];' in lines
    nodes = [line for line in lines if "[label=" in line]
    edges = [line for line in lines if "->" in line]
    assert sum('[label="convolution"]' in line for line in nodes) == 3
    assert len(edges) == 3 * (2 + 1 + 2 + 1) + 1
    out, _ = command("compile", model, "--ref", "--graphviz")
    kernels = re.findall(r'label="iree_convolution_add_relu_\w{8}\\n[\dx]+ float", style=filled', out)
    assert len(kernels) == 3


def test_tensorflow(command, tmp_path):
    (tmp_path / "graph.pb").write_bytes(b"not a graph")
    assert "TensorFlow" in command("read", tmp_path / "graph.pb", status=1)[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--input-dim", "@y 1 3"], "the model has no input 'y'; it has x"),
        (["--input-dim", "@x 1 3 4"], "the model says @x ? 3"),
        (["--input-dim", "@x 1 4"], "the model says @x ? 3"),
        (["--input-dim", "x 1 4"], "--input-dim has 'x'"),
        (["--input-dim", "@x 0 3"], "with lengths above 0"),
        (["--dyn-input-dim", "@y", "[1,3]"], "the model has no input 'y'"),
        (["--dyn-input-dim", "@x", "[{least:1},3]"], "which is neither a length nor"),
        (["--dyn-input-dim", "@x", "[{min"], "is not of the form"),
        (["--dim-param", "@m", "1"], "the model has no dimension named 'm'; it has n"),
        (["--dim-param", "n", "1"], '--dim-param has \'n\'; write it like "@name" "{min:1,max:64}"'),
        (["--dim-param", "@n", "[1,2]"], "--dim-param gives @n 2 lengths; it is one dimension"),
        (["--trim-size", "2"], "--trim-size is how much --trim leaves"),
        (["--brief"], "--brief is for --graphviz"),
        (["--output", "/no/such/folder/out"], "can't write /no/such/folder/out: No such file"),
        (["--batch", "0"], "0 is not a whole number from 1 up"),
        (["--onnx", "--tf"], "not allowed with"),
    ],
)
def test_wrong_arguments(words, message, command, open_model):
    assert message in command("read", open_model, *words, status=2)[1]


def test_no_model(command, tmp_path, model):
    assert "can't read the model nowhere.onnx: No such file" in command("read", "nowhere.onnx", status=2)[1]
    (tmp_path / "empty.onnx").touch()
    assert "is empty" in command("read", tmp_path / "empty.onnx", status=2)[1]
    (tmp_path / "short.mxr").write_bytes(b"\x85")
    assert "short.mxr" in command("read", tmp_path / "short.mxr", status=2)[1]
    command("read", model, "-o", tmp_path / "model.mxr")
    error = command("read", tmp_path / "model.mxr", "--input-dim", "@x 1 4 12 12", status=2)[1]
    assert "the lengths of" in error


def test_python_code_needs_rocms_module(command, model):
    assert "ROCm's Python module" in command("read", model, "--py", status=2)[1]


def test_lengths_in_one_word_or_several():
    assert parse_dims(["@a 1 2", "3", "@b", "4"]) == {"a": [1, 2, 3], "b": [4]}
    with pytest.raises(OptionError):
        parse_dims(["@a", "1.5"])


def test_the_face_of_a_model(model, open_model):
    assert model_face(open_model.read_bytes()) == Face({"x": ("n", 3)}, ("y",))
    assert model_face(convolutions()) == Face({"x": (1, 4, 12, 12)}, ("r0",))
    assert np.prod(read_face(model).inputs["x"]) == 576


def test_what_is_no_whole_model(command, model, tmp_path):
    for data in (model.read_bytes()[:-1], b"this is not a model", b"\x08\x08"):
        (tmp_path / "part.onnx").write_bytes(data)
        assert "is not an ONNX model, or only a part of one" in command("read", tmp_path / "part.onnx", status=2)[1]
