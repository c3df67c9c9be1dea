import tracemalloc
from dataclasses import replace
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iree_migraphx import binding
from iree_migraphx.errors import FormatError
from iree_migraphx.ir.model import Module, Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program

from .build import literal, op, param, program, result

SHAPE = {"type": "float_type", "sub_shapes": [], "lens": [2], "strides": [1], "dynamic_dimensions": []}
DATA = np.array([1.5, -2], np.float32).tobytes()


def node(**changes: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {"output": "@0", "name": "@literal", "shape": SHAPE, "normalized": False}
    fields |= {"literal": {"shape": SHAPE, "data": [DATA]}, "operator": [], "inputs": []}
    return {key: value for key, value in (fields | changes).items() if value is not ...}


def raw(*nodes: dict[str, Any], **changes: Any) -> bytes:
    fields: dict[str, Any] = {"version": 7, "migraphx_version": "2.14.0", "targets": [], "contexts": []}
    fields |= {"modules": {"main": {"name": "main", "nodes": list(nodes or [node()])}}}
    return msgpack.packb({key: value for key, value in (fields | changes).items() if value is not ...})


def test_a_program_of_migraphx_is_read_with_all_its_parts() -> None:
    written = program(
        param("x"), literal("w", [[1, 2, 3]]), op("m", "multibroadcast", "w", out_lens=[2, 3]), op("a", "add", "x", "m")
    )
    read = read_program(binding.save_buffer(binding.load_buffer(write_program(written))))
    by_name = {instruction.name: instruction for instruction in read.main.instructions}
    assert (read.version, read.targets, list(read.modules)) == (7, (), ["main"])
    assert by_name["@param"].operator == {"parameter": "x"}
    assert by_name["@literal"].literal is not None
    assert by_name["@literal"].literal.array().tolist() == [[1, 2, 3]]
    assert by_name["multibroadcast"].shape == Shape("float_type", (2, 3), (0, 1))
    assert by_name["multibroadcast"].operator["out_lens"] == [2, 3]
    assert by_name["add"].operator == {}
    assert by_name["add"].inputs == (by_name["@param"].id, by_name["multibroadcast"].id)


@pytest.mark.parametrize("wrap", [bytes, memoryview, lambda data: memoryview(bytearray(data))])
def test_any_bytes_like_input(wrap: Any) -> None:
    assert write_program(read_program(wrap(raw()))) == raw()


@pytest.mark.parametrize(
    "data",
    [
        raw(note="kept", more={"a": [1.5, None, b"x"]}),
        raw(node(debug_symbols=["conv1", "relu1"]), version=8),
        raw(node(shape={**SHAPE, "dyn_strides": []}, literal={"shape": {**SHAPE, "dyn_strides": []}, "data": [DATA]})),
        raw(modules={"main": {"name": "main", "nodes": [node()], "owner": "someone"}}),
        raw(targets=[{"name": "gpu"}], contexts=[{"events": 0, "streams": 1}]),
        raw(node(name="hip::hip_copy_literal", literal=..., operator={"id": "main:@literal:0", "blob": [DATA]})),
        raw(
            node(name="clip", literal=..., operator={"low": float("-inf"), "high": -0.0, "n": 2**64 - 1, "m": -(2**63)})
        ),
        raw(node(output="é")),
    ],
)
def test_what_is_not_known_survives(data: bytes) -> None:
    assert write_program(read_program(data)) == data


def test_names_that_are_not_utf8_survive() -> None:
    data = raw(node(output="weight")).replace(b"weight", b"w\xff\xfeght")
    assert write_program(read_program(data)) == data


def test_tuples_and_dynamic_shapes() -> None:
    dynamic = {**SHAPE, "lens": [], "strides": [], "dynamic_dimensions": [{"min": 1, "max": 4, "optimals": [2]}]}
    both = {**SHAPE, "type": "tuple_type", "lens": [], "strides": [], "sub_shapes": [SHAPE, dynamic]}
    data = raw(node(name="topk", literal=..., shape=both))
    (instruction,) = read_program(data).main.instructions
    assert instruction.shape.dynamic
    assert instruction.shape.sub_shapes[0] == Shape("float_type", (2,), (1,))
    assert instruction.shape.sub_shapes[1].dynamic_dimensions == ({"min": 1, "max": 4, "optimals": [2]},)
    assert write_program(read_program(data)) == data


@pytest.mark.parametrize("blob", [DATA, [DATA[:3], DATA[3:]], [b"", DATA]])
def test_every_form_of_a_literal_that_migraphx_accepts(blob: Any) -> None:
    (instruction,) = read_program(raw(node(literal={"shape": SHAPE, "data": blob}))).main.instructions
    assert instruction.literal is not None
    assert instruction.literal.array().tolist() == [1.5, -2]
    assert instruction.inputs == ()


@pytest.mark.parametrize(
    ("type_", "size"),
    [("bool_type", 1), ("half_type", 2), ("bf16_type", 2), ("fp8e4m3fn_type", 1), ("fp4x2_type", 1), ("int8_type", 1)],
)
def test_literals_of_small_types(type_: str, size: int) -> None:
    shape = {**SHAPE, "type": type_, "lens": [2, 3], "strides": [1, 2]}
    data = raw(node(literal={"shape": shape, "data": [bytes(range(6 * size))]}, shape=shape))
    (instruction,) = read_program(data).main.instructions
    assert instruction.literal is not None
    assert bytes(instruction.literal.data) == bytes(range(6 * size))
    assert write_program(read_program(data)) == data


@pytest.mark.parametrize("count", [b"\x91", b"\x93"], ids=["right", "as 7.1 writes it"])
def test_a_literal_without_elements_is_repaired(count: bytes) -> None:
    """MIGraphX up to 7.1 claims three chunks and writes one, and can't load that itself."""
    empty = {**SHAPE, "lens": [0, 3], "strides": [3, 1]}
    right = raw(
        node(literal={"shape": empty, "data": [b""]}, shape=empty), node(output="@1", name="@return", literal=...)
    )
    broken = right.replace(b"\xa4data\x91\xc4\x00", b"\xa4data" + count + b"\xc4\x00")
    read = read_program(broken)
    assert read.main.instructions[0].literal is not None
    assert read.main.instructions[0].literal.array().shape == (0, 3)
    assert write_program(read) == right
    binding.load_buffer(write_program(read))


def test_a_literal_of_rank_0_has_no_data_and_is_empty() -> None:
    empty = {**SHAPE, "lens": [], "strides": []}
    (instruction,) = read_program(raw(node(literal={"shape": empty}, shape=empty))).main.instructions
    assert instruction.literal is not None
    assert instruction.literal.data == b""


@pytest.mark.parametrize(
    ("data", "cause"),
    [
        (raw(version=6), "format version 6; only 7 and 8"),
        (raw(version="7"), "format version '7'"),
        (raw(version=...), "no 'version'"),
        (raw(migraphx_version=...), "no 'migraphx_version'"),
        (raw(modules=...), "no module 'main'"),
        (raw(modules={"other": {"name": "other", "nodes": []}}), "no module 'main'"),
        (raw(modules={"main": {"name": "other", "nodes": []}}), "another name"),
        (raw(modules=5), "not the msgpack file"),
        (raw(targets=5), "not the msgpack file"),
        (raw(node(normalized=...)), "lacks 'normalized'"),
        (raw(node(operator=...)), "lacks 'operator'"),
        (raw(node(operator=[1])), "operator are a list"),
        (raw(node(shape=[])), "shape is a list"),
        (raw(node(shape={**SHAPE, "strides": []})), "1 lengths and 0 strides"),
        (raw(node(literal={"shape": SHAPE, "data": [DATA[1:]]})), "needs 8 bytes, not 7"),
        (raw(node(literal={"shape": SHAPE})), "needs 8 bytes, not 0"),
        (raw(node(literal={"data": [DATA]})), "no shape"),
        (raw(node(literal={"shape": SHAPE, "data": ["text"]})), "not binary"),
        (raw(node(literal={"shape": SHAPE, "sub": []})), "unknown part 'sub'"),
        (raw() + b"\x00", "bytes after its end"),
        (b"", "0 bytes end too early"),
        (b"\x80", "no 'version'"),
        (b"ELF, or something else", "not the msgpack file"),
        (b'{"version": 7}', "not the msgpack file"),
        (b"\xdd\xff\xff\xff\xff", "not the msgpack file"),
        (b"\x81\xa7targets\xdd\x7f\xff\xff\xfe", "exceeds max_array_len"),
        (b"\x81\xa7targets\xdf\x7f\xff\xff\xfe", "exceeds max_map_len"),
    ],
)
def test_other_files_are_refused_with_the_cause(data: bytes, cause: str) -> None:
    with pytest.raises(FormatError, match="can't read the serialized MIGraphX program: .*" + cause):
        read_program(data)


def test_a_file_cut_off_anywhere_is_refused() -> None:
    data = raw(node(), node(output="@1", name="@return", literal=..., inputs=["@0"]))
    for size in range(len(data)):
        with pytest.raises(FormatError):
            read_program(data[:size])


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_is_read_or_refused_but_nothing_else(choice: st.DataObject) -> None:
    data = bytearray(raw(node(), node(output="@1", name="relu", literal=..., inputs=["@0"])))
    for _ in range(choice.draw(st.integers(1, 3))):
        data[choice.draw(st.integers(0, len(data) - 1))] = choice.draw(st.integers(0, 255))
    try:
        read = read_program(bytes(data))
    except FormatError:
        return
    assert isinstance(read, Program)


def test_weights_are_not_copied_on_reading_and_once_on_writing() -> None:
    megabytes = 16
    weights = [literal(f"w{i}", np.full((1 << 20,), i)) for i in range(megabytes // 4)]
    data = write_program(program(*weights, result("w0")))
    tracemalloc.start()
    try:
        read = read_program(data)
        after_read = tracemalloc.get_traced_memory()[1]
        tracemalloc.reset_peak()
        assert write_program(read) == data
        after_write = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert after_read < 1 << 20
    assert after_write < (megabytes + 1) << 20


def test_a_module_without_nodes() -> None:
    read = read_program(raw(modules={"main": {"name": "main", "nodes": []}}))
    assert read.main == Module("main", ())
    assert replace(read, extra={"a": 1}).extra == {"a": 1}
