"""Programs whose damage would end the process if MIGraphX saw them: found by mutating programs at random."""

import copy
import json

import msgpack
import numpy as np
import pytest

import iree_migraphx.binding as mx
from iree_migraphx.binding import checks, serialized
from iree_migraphx.errors import FormatError
from tests.binding.models import compiled, convolution, parsed

GONE = object()


@pytest.fixture(scope="module")
def program():
    return msgpack.unpackb(mx.save_buffer(parsed(convolution())))


def damaged(value, path, new):
    """A copy with one entry replaced, or taken out."""
    value = copy.deepcopy(value)
    target = value
    for key in path[:-1]:
        target = target[key]
    if new is GONE:
        del target[path[-1]]
    else:
        target[path[-1]] = new
    return value


def index_of(program, name):
    return next(i for i, node in enumerate(program["modules"]["main"]["nodes"]) if node["name"] == name)


@pytest.mark.parametrize(
    "path, new, message",
    [
        (["version"], GONE, "not a program"),
        (["version"], 6, r"has version 6 of the file format, and this MIGraphX reads version \d only"),
        (["version"], "7", "not a program"),
        (["migraphx_version"], GONE, "which MIGraphX wrote it"),
        (["targets"], {"name": 1}, "targets are damaged"),
        (["targets"], [{"name": "ref"}], None),
        (["modules"], [], "no main module"),
        (["modules", "main"], GONE, "no main module"),
        (["modules", ""], {"nodes": []}, "no main module"),
        (["modules", "main", "nodes"], GONE, "module 'main' has no list of nodes"),
        (["modules", "main", "nodes"], 5, "module 'main' has no list of nodes"),
    ],
)
def test_damaged_program(program, path, new, message):
    value = damaged(program, path, new)
    if message is None:
        value["contexts"] = []
        message = "contexts of its targets are missing"
    with pytest.raises(FormatError, match=message):
        mx.load_buffer(msgpack.packb(value))


@pytest.mark.parametrize(
    "operator, path, new, message",
    [
        ("relu", ["name"], GONE, "has no name"),
        ("relu", ["name"], 5, "has no name"),
        ("relu", ["name"], "@outline", "is not an operator"),
        ("relu", ["output"], 5, "has no name"),
        ("relu", ["normalized"], GONE, "whether it is normalized"),
        ("relu", ["operator"], None, "has no fields"),
        ("relu", ["operator"], [1], "has no fields"),
        ("relu", ["inputs"], GONE, "no list of inputs"),
        ("relu", ["inputs"], [5], "no list of inputs"),
        ("relu", ["inputs"], ["nobody"], r"\(relu\) reads 'nobody', which nothing before it defines"),
        ("convolution", ["operator", ""], 1, "a field without a name"),
        ("convolution", ["operator", "padding", 0], b"zz", "a damaged list"),
        ("relu", ["shape", "lens", 0], b"zz", "a damaged list"),
        ("relu", ["module_inputs"], ["nobody"], "wants the submodule 'nobody'"),
        ("relu", ["module_inputs"], ["main"], "wants the submodule 'main', which does not exist or contains it"),
        ("relu", ["module_inputs"], 5, "no list of submodules"),
        ("@param", ["operator", "parameter"], GONE, "a parameter without a name"),
        ("@param", ["shape"], GONE, "no element type that is known here: None"),
        ("@param", ["shape", "type"], "float", "no element type that is known here: 'float'"),
        ("@param", ["shape", "strides"], [1], "lengths and strides that don't belong together"),
        ("@param", ["shape", "lens", 0], -1, "lengths and strides that don't belong together"),
        ("@param", ["shape", "lens", 0], "1", "lengths and strides that don't belong together"),
        ("@param", ["shape", "dynamic_dimensions"], [{"min": 1}], "damaged dynamic dimensions"),
        ("@param", ["shape", "type"], "tuple_type", None),
        ("@literal", ["literal"], GONE, "has no data"),
        ("@literal", ["literal", "data"], GONE, "has no data"),
        ("@literal", ["literal", "data"], [b"short"], "has 5 bytes of data, and its shape needs"),
        ("@literal", ["literal", "data"], 5, "has no bytes of data"),
        ("@literal", ["literal", "shape", "lens", 0], 1 << 40, "bytes of data, and its shape needs"),
        ("@literal", ["literal", "shape", "lens"], [1], "lengths and strides that don't belong together"),
    ],
)
def test_damaged_node(program, operator, path, new, message):
    value = damaged(program, ["modules", "main", "nodes", index_of(program, operator), *path], new)
    if message is None:
        value["modules"]["main"]["nodes"][index_of(program, operator)]["shape"]["sub_shapes"] = None
        message = "a tuple's shape without members"
    with pytest.raises(FormatError, match=message) as error:
        mx.load_buffer(msgpack.packb(value))
    assert "\n" not in str(error.value)


def test_module_that_contains_itself_through_another(program):
    value = copy.deepcopy(program)
    node = value["modules"]["main"]["nodes"][index_of(value, "relu")]
    node["module_inputs"] = ["a"]
    inner = {"name": "neg", "output": "a:n", "normalized": True, "operator": {}, "inputs": [], "module_inputs": ["a"]}
    value["modules"]["a"] = {"name": "a", "nodes": [inner]}
    with pytest.raises(FormatError, match="wants the submodule 'a', which does not exist or contains it"):
        mx.load_buffer(msgpack.packb(value))


def test_json_is_checked_too(tmp_path):
    mx.save(parsed(convolution()), tmp_path / "program", format="json")
    value = json.loads((tmp_path / "program").read_text())
    value["modules"]["main"]["nodes"][index_of(value, "@literal")]["literal"]["data"]["bytes"].pop()
    (tmp_path / "program").write_text(json.dumps(value))
    with pytest.raises(FormatError, match=r"program: .* bytes of data, and its shape needs"):
        mx.load(tmp_path / "program", "json")


@pytest.mark.parametrize("make", [parsed, compiled])
def test_what_migraphx_writes_passes(make):
    checks.check_program(serialized.read(mx.save_buffer(make(convolution()))), serialized.version())


def test_every_kind_of_parameter_and_literal_passes():
    program = mx.program()
    main = program.get_main_module()
    main.add_parameter("dynamic", mx.shape(dyn_dims=[mx.dynamic_dimension(1, 4, {2})]))
    main.add_parameter("scalar", mx.shape())
    main.add_parameter("rank0", mx.shape(lens=[]))
    x = main.add_parameter("x", mx.shape(lens=[2, 8]))
    topk = main.add_instruction(mx.op("topk", k=3, axis=1), [x])
    main.add_parameter("tuple", topk.shape())
    literal = main.add_literal(np.broadcast_to(np.float32([1, 2]), (3, 2)))
    main.add_return([main.add_instruction(mx.op("get_tuple_elem", index=0), [topk]), literal])
    loaded = mx.load_buffer(mx.save_buffer(program))
    assert loaded == program
    assert loaded.get_parameter_shapes() == program.get_parameter_shapes()


def test_tuple_argument_passes(tmp_path):
    value = {"shape": {"type": "tuple_type", "sub_shapes": []}, "sub": [{"data": b"1234"}]}
    with pytest.raises(FormatError, match="no element type"):
        checks.check_argument(value)
    floats = {"type": "float_type", "lens": [1], "strides": [0], "dynamic_dimensions": [], "sub_shapes": []}
    value["sub"][0]["shape"] = floats
    checks.check_argument(value)
    with pytest.raises(FormatError, match="no single value"):
        checks.check_argument({"shape": {"type": "tuple_type", "sub_shapes": []}, "data": b""})
