"""docs/errors.md: each error in it is raised here for real, with the message that it has there."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import iree_migraphx as migraphx
from iree_migraphx import binding, errors, pipeline
from iree_migraphx.binding import library
from iree_migraphx.cli.main import main
from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.model import HostKernel
from iree_migraphx.options import Options
from iree_migraphx.splice.runtime import LoadedKernel, device
from kernels.sources import fake_compiler
from splice.models import convolutions

DOCS = Path(__file__).resolve().parents[2] / "docs"
ROWS = re.findall(r"^\| (\w+) \| `(.+?)` \| (.+?) \|$", (DOCS / "errors.md").read_text(encoding="utf-8"), re.M)

#: Raised by stages, and turned into lines of the report.
INTERNAL = {"IreeMigraphxError", "Refusal", "CaptureError", "HelperError"}


def program() -> migraphx.program:
    return migraphx.parse_onnx_buffer(convolutions())


def compiled() -> migraphx.program:
    own = program()
    binding.program.compile(own, binding.get_target("ref"))
    return own


def x(**changes: Any) -> np.ndarray:
    return np.zeros(**{"shape": (1, 4, 12, 12), "dtype": np.float32, **changes})


def resolve(**environment: str) -> Options:
    return Options.resolve(environment)


def config(folder: Path, text: str) -> Options:
    (folder / "config.yaml").write_text(text)
    return Options.resolve({"IREE_CONFIG": str(folder / "config.yaml")})


def check(given: Options) -> None:
    pipeline.check(program(), "gfx942", given)


def no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "_candidates", lambda: ["/no/such/libmigraphx_c.so.3"])
    library._load.__wrapped__()


def command(*words: str) -> Callable[..., None]:
    """A command line, whose message is the error's."""

    def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (tmp_path / "model.onnx").write_bytes(convolutions())
        status = main([word.replace("MODEL", str(tmp_path / "model.onnx")) for word in words])
        assert status == 2
        raise errors.OptionError(capsys.readouterr().err.removeprefix("iree-migraphx: ").rstrip("\n"))

    return run


def saved(tmp_path: Path, data: bytes) -> migraphx.program:
    (tmp_path / "program.mxr").write_bytes(data)
    return migraphx.load(tmp_path / "program.mxr")


#: What raises each row of the table, in its order.
CAUSES: list[Callable[..., Any]] = [
    lambda: resolve(IREE_MIGRAPHX_CACHEDIR="x"),
    lambda: resolve(IREE_DEBUG="much"),
    lambda: resolve(IREE_DEBUG="3"),
    lambda: resolve(IREE_DISABLE="maybe"),
    lambda: resolve(IREE_MIGRAPHX_LOG="kernel=debug"),
    lambda: Options.resolve({}, tiemout=3),
    lambda: resolve(IREE_CONFIG="/no/such/file.yaml"),
    lambda tmp_path: config(tmp_path, "flags: ["),
    lambda tmp_path: check(config(tmp_path, "- --iree-no-such-flag")),
    lambda tmp_path: check(config(tmp_path, "- --iree-hal-target-device=local")),
    lambda tmp_path: check(config(tmp_path, "anchors: {convolutoin: [--iree-opt-level=O1]}")),
    lambda: pipeline.compile(program(), binding.get_target("ref"), options=Options(arch="gfx942")),
    command("compil"),
    command("run", "MODEL", "--fp61"),
    command("read", "MODEL", "--netron"),
    command("run", "MODEL", "--input-dim", "@x 1 3 12 12"),
    command("compile", "MODEL", "--ref", "--output", "out.mxr"),
    command("run", "MODEL", "--fill0", "y"),
    lambda: migraphx.get_target("gpuu"),
    lambda: pipeline.check(program(), "gfx924"),
    lambda: pipeline.check(program(), "gfx1100:xnack+"),
    lambda monkeypatch: no_library(monkeypatch),
    lambda tmp_path: find_compiler(Options(iree_bin=Path("/no/such/folder"))),
    lambda tmp_path: find_compiler(Options(iree_bin=fake_compiler(tmp_path / "fake", "exit 1", version="exit 3"))),
    lambda: migraphx.parse_onnx("/no/such/model.onnx"),
    lambda: migraphx.op("convoluton"),
    lambda: compiled().compile(migraphx.get_target("ref")),
    lambda: migraphx.quantize_fp16(compiled()),
    lambda tmp_path: saved(tmp_path, b"junk"),
    lambda tmp_path: saved(tmp_path, migraphx.save_buffer(program())[:-20]),
    lambda: compiled().run({"x0": x()}),
    lambda: compiled().run({}),
    lambda: compiled().run({"x": x(dtype=np.float64)}),
    lambda: LoadedKernel(device(1), HostKernel("f", b"junk"), [], Shape.standard_of("float_type", (1,))),
]


def test_every_error_has_a_row() -> None:
    known = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, Exception)}
    assert {name for name, *_ in ROWS} == known - INTERNAL
    assert len(ROWS) == len(CAUSES)
    assert all(advice for *_, advice in ROWS)


@pytest.mark.parametrize("number", range(len(CAUSES)))
def test_it_is_raised_with_its_message(number: int, request: pytest.FixtureRequest) -> None:
    name, message, _ = ROWS[number]
    cause = CAUSES[number]
    needed = {each: request.getfixturevalue(each) for each in inspect.signature(cause).parameters}
    with pytest.raises(errors.IreeMigraphxError) as raised:
        cause(**needed)
    assert type(raised.value).__name__ == name
    pattern = ".*?".join(re.escape(part) for part in message.replace("\\|", "|").split("…"))
    assert re.fullmatch(pattern, str(raised.value), re.S), str(raised.value)
