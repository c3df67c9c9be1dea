import numpy as np
import pytest

from iree_migraphx import binding
from iree_migraphx.errors import FormatError
from iree_migraphx.ir import write
from iree_migraphx.ir.model import Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program

from .build import literal, op, param, program, result, run, strided


def test_what_we_write_is_what_migraphx_writes() -> None:
    written = program(param("x"), literal("w", [2.0, 3, 4]), op("b", "broadcast", "w", axis=1, out_lens=[2, 3]))
    theirs = binding.save_buffer(binding.load_buffer(write_program(written)))
    assert write_program(read_program(theirs)) == theirs


def test_a_program_with_submodules_runs() -> None:
    written = program(
        param("c", Shape("bool_type", (1,), (1,))),
        param("x"),
        op("i", "if", "c", modules=("then", "else")),
        op("r", "get_tuple_elem", "i", index=0),
        result("r"),
        then=[op("t", "relu", "x"), result("t", id_="@return then")],
        **{"else": [op("e", "neg", "x"), result("e", id_="@return else")]},
    )
    x = np.array([[1, -2, 3], [-4, 5, -6]], np.float32)
    (yes,) = run(written, c=np.array([True]), x=x)
    (no,) = run(written, c=np.array([False]), x=x)
    assert yes.tolist() == np.maximum(x, 0).tolist()
    assert no.tolist() == (-x).tolist()


def test_long_literals_are_cut_into_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(7, dtype=np.float32)
    whole = program(literal("w", values), op("n", "neg", "w"), result("n"))
    monkeypatch.setattr(write, "CHUNK_BYTES", 10)
    data = write_program(whole)
    assert b"\xa4data\x93\xc4\x0a" in data
    assert read_program(data) == whole
    assert run(whole)[0].tolist() == (-values).tolist()


@pytest.mark.parametrize(
    ("size", "header"), [(0, "c400"), (255, "c4ff"), (256, "c50100"), (65535, "c5ffff"), (65536, "c600010000")]
)
def test_the_shortest_header_of_a_binary(size: int, header: str) -> None:
    shape = Shape.standard_of("uint8_type", (size,))
    data = write_program(program(strided("w", shape, bytes(size))))
    assert b"\xa4data\x91" + bytes.fromhex(header) in data


def test_a_literal_with_strides_of_zero_is_small_and_runs() -> None:
    shape = Shape("float_type", (64, 1000), (0, 0))
    whole = program(strided("w", shape, np.float32(2.5).tobytes()), op("n", "neg", "w"), result("n"))
    assert len(write_program(whole)) < 1000
    assert (run(whole)[0] == -2.5).all()


@pytest.mark.parametrize(
    ("broken", "cause"),
    [
        (program(op("r", "clip", alpha=np.float32(1))), r"'r' \(clip\).*numpy.float32"),
        (program(op("r", "relu", "x")), "reads 'x', which is not defined"),
    ],
)
def test_what_can_not_be_written(broken: Program, cause: str) -> None:
    with pytest.raises(FormatError, match=cause):
        write_program(broken)
