import json
from pathlib import Path

import msgpack
import numpy as np
import pytest

import iree_migraphx.binding as mx
from iree_migraphx.errors import FormatError, MigraphxError, OptionError
from tests.binding.models import compiled, convolution, parsed, relu


@pytest.mark.parametrize("form", ["msgpack", "json"])
@pytest.mark.parametrize("make", [parsed, compiled])
def test_save_and_load(tmp_path, form, make):
    program = make(convolution())
    mx.save(program, tmp_path / "program", format=form)
    loaded = mx.load(tmp_path / "program", format=form)
    assert loaded == program
    assert loaded.is_compiled() == program.is_compiled() == (make is compiled)


def test_buffer_is_the_file(tmp_path):
    program = compiled(convolution())
    mx.save(program, str(tmp_path / "program"))
    data = (tmp_path / "program").read_bytes()
    assert mx.save_buffer(program) == data
    for given in (data, bytearray(data), memoryview(data)):
        assert mx.load_buffer(given) == program


def test_loaded_program_runs():
    x = np.random.default_rng(0).standard_normal((1, 4, 6, 6), np.float32)
    program = compiled(convolution())
    assert mx.load_buffer(mx.save_buffer(program)).run({"x": x})[0] == program.run({"x": x})[0]


def test_program_of_several_chunks():
    """More than a pipe or one write takes at once."""
    program = mx.program()
    main = program.get_main_module()
    weights = np.arange(3_000_000, dtype=np.float32)
    main.add_return([main.add_literal(weights)])
    (result,) = mx.load_buffer(mx.save_buffer(program)).run({})
    np.testing.assert_array_equal(np.asarray(result), weights)


def test_unknown_format(tmp_path):
    with pytest.raises(OptionError, match=r"no file format 'yaml'; it has 'msgpack' and 'json'"):
        mx.save(mx.program(), tmp_path / "program", format="yaml")
    with pytest.raises(OptionError, match="no file format"):
        mx.load(tmp_path / "program", "yaml")


def test_files_that_can_t_be_read_or_written(tmp_path):
    with pytest.raises(MigraphxError, match=r"can't read .*none: No such file or directory"):
        mx.load(tmp_path / "none")
    with pytest.raises(MigraphxError, match=r"can't write .*none/program: No such file or directory"):
        mx.save(mx.program(), tmp_path / "none/program")
    if Path("/dev/full").exists():
        with pytest.raises(MigraphxError, match="No space left on device"):
            mx.save(mx.program(), "/dev/full")


@pytest.mark.parametrize("data", [b"garbage", b"\x7fELF" * 50, b"\xc1", b"\x93", bytes(range(256))])
@pytest.mark.parametrize("form", ["msgpack", "json"])
def test_files_of_something_else(tmp_path, data, form):
    (tmp_path / "program").write_bytes(data)
    with pytest.raises(FormatError, match=r"program: MIGraphX can't read this") as error:
        mx.load(tmp_path / "program", form)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("part", [0.01, 0.3, 0.9, 0.9999])
def test_truncated_programs(part):
    data = mx.save_buffer(parsed(convolution()))
    with pytest.raises(FormatError, match="no whole msgpack document"):
        mx.load_buffer(data[: int(len(data) * part)])


def test_unknown_operator_is_migraphx_s_to_refuse():
    value = msgpack.unpackb(mx.save_buffer(parsed(relu())))
    value["modules"]["main"]["nodes"][1]["name"] = "frobnicate"
    with pytest.raises(MigraphxError, match=r"can't load the program: .*frobnicate"):
        mx.load_buffer(msgpack.packb(value))


def test_json_is_json(tmp_path):
    mx.save(parsed(relu()), tmp_path / "program.json", format="json")
    assert json.loads((tmp_path / "program.json").read_text())["modules"]["main"]["nodes"][1]["name"] == "relu"
