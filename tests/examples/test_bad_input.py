"""What a person can get wrong: one clear line, exit code 2, and no long work before it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from .conftest import Command, save

DIMS = ("--input-dim", "@x 1 3 8 8")


def fails(command: Command, *words: object) -> str:
    """The message that the command fails with."""
    ended = command(*words)
    assert ended.code == 2, ended
    assert "Traceback" not in ended.err
    assert "subgraphs" not in ended.out + ended.err, "it compiled first"
    _, mark, message = ended.err.partition("run_onnx.py: ")
    assert mark
    return message.rstrip("\n")


def test_no_such_model(command: Command, tmp_path: Path) -> None:
    assert "can't read the model" in fails(command, tmp_path / "nosuch.onnx")
    assert "No such file" in fails(command, tmp_path / "nosuch.onnx")


def test_a_folder(command: Command, tmp_path: Path) -> None:
    assert "Is a directory" in fails(command, tmp_path)


def test_an_empty_file(command: Command, tmp_path: Path) -> None:
    (tmp_path / "empty.onnx").touch()
    assert "empty.onnx is empty" in fails(command, tmp_path / "empty.onnx")


def test_not_onnx(command: Command, tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("this is not a model, whatever its name says\n")
    assert "text.onnx is not an ONNX model" in fails(command, tmp_path / "text.onnx")


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.99])
def test_truncated(command: Command, conv_model: Path, tmp_path: Path, kept: float) -> None:
    data = conv_model.read_bytes()
    (tmp_path / "part.onnx").write_bytes(data[: int(len(data) * kept)])
    assert "part.onnx is not an ONNX model, or only a part of one" in fails(command, tmp_path / "part.onnx")


def test_unknown_operator(command: Command, tmp_path: Path) -> None:
    nodes = [helper.make_node("Frobnicate", ["x"], ["y"], domain="acme")]
    model = save(tmp_path / "op.onnx", nodes, {"x": (TensorProto.FLOAT, [1, 3])})
    assert "Frobnicate" in fails(command, model)


def test_lengths_that_contradict_each_other(command: Command, tmp_path: Path) -> None:
    nodes = [helper.make_node("MatMul", ["x", "z"], ["y"])]
    model = save(tmp_path / "dot.onnx", nodes, {"x": (1, [2, "k"]), "z": (1, ["k", 5])})
    line = fails(command, model, "--input-dim", "@x 2 3")
    assert "z" in line
    assert line.endswith("were taken as 1; --input-dim sets them")


@pytest.mark.parametrize(
    ("dims", "message"),
    [
        ("x 1 3 8 8", "'x', which is not of the form"),
        ("@ 1 3 8 8", "'@', which is not of the form"),
        ("1 3 8 8", "'1', which is not of the form"),
        ("@x 1,3,8,8", "'1,3,8,8', which is not of the form"),
        ("@x 1 3 8 -8", "'-8', which is not of the form"),
        ("@x 1 3 0 8", "'0', which is not of the form"),
        ("@x 1 3", "x the lengths [1, 3], but the model says @x ? 3 ? ?"),
        ("@x 1 4 8 8", "x the lengths [1, 4, 8, 8], but the model says @x ? 3 ? ?"),
        ("@xx 1 3 8 8", "no input 'xx'; did you mean x?"),
        ("@image 1 3 8 8", "no input 'image'; it has x"),
    ],
)
def test_input_dim(command: Command, conv_model: Path, dims: str, message: str) -> None:
    assert message in fails(command, conv_model, "--input-dim", dims)


def test_input_form(command: Command, conv_model: Path) -> None:
    assert "name=file.npy" in fails(command, conv_model, *DIMS, "--input", "x.npy")


def test_input_name(command: Command, conv_model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(1))
    assert "no input 'image'; it has x" in fails(command, conv_model, *DIMS, "--input", f"image={tmp_path / 'x.npy'}")


@pytest.mark.parametrize("value", [np.zeros((1, 3, 8, 9), np.float32), np.zeros((1, 3, 8, 8), np.float64)])
def test_input_shape_and_dtype(command: Command, conv_model: Path, tmp_path: Path, value: np.ndarray) -> None:
    np.save(tmp_path / "x.npy", value)
    line = fails(command, conv_model, *DIMS, "--input", f"x={tmp_path / 'x.npy'}")
    assert "'x' takes float32 (1, 3, 8, 8)" in line
    assert f"{value.dtype} {value.shape}" in line


def test_input_file_is_missing(command: Command, conv_model: Path, tmp_path: Path) -> None:
    line = fails(command, conv_model, *DIMS, "--input", f"x={tmp_path / 'x.npy'}")
    assert "x.npy, the value of x: No such file" in line


@pytest.mark.parametrize("kept", [0, 4, 60, 200])
def test_input_file_is_not_numpy(command: Command, conv_model: Path, tmp_path: Path, kept: int) -> None:
    np.save(tmp_path / "whole.npy", np.zeros((1, 3, 8, 8), np.float32))
    (tmp_path / "x.npy").write_bytes((tmp_path / "whole.npy").read_bytes()[:kept])
    line = fails(command, conv_model, *DIMS, "--input", f"x={tmp_path / 'x.npy'}")
    assert "x.npy, the value of x, is neither a .npy file nor MIGraphX's" in line


def test_input_file_with_python_objects(command: Command, conv_model: Path, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object))
    assert "is neither a .npy file nor MIGraphX's" in fails(
        command, conv_model, *DIMS, "--input", f"x={tmp_path / 'x.npy'}"
    )


def test_target(command: Command, conv_model: Path) -> None:
    assert "did you mean 'ref'?" in fails(command, conv_model, "--target", "reff")


def test_arch(command: Command, conv_model: Path) -> None:
    line = fails(command, conv_model, *DIMS, "--arch", "gfx942", "--arch", "gfx941")
    assert "can't compile for 'gfx941'; did you mean" in line
    assert "gfx942" in line


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("IREE_BIN", "/nonexistent", "IREE_BIN is /nonexistent"),
        ("IREE_BIN", "/bin/false", "/bin/false does not answer to --version"),
        ("IREE_CONFIG", "/nonexistent.yaml", "IREE_CONFIG names /nonexistent.yaml"),
        ("IREE_DEBUG", "7", "IREE_DEBUG"),
        ("IREE_DEBUG", "much", "IREE_DEBUG='much' is not a whole number"),
        ("IREE_MIGRAPHX_WORKRES", "1", "did you mean IREE_MIGRAPHX_WORKERS?"),
    ],
)
def test_settings(
    command: Command, conv_model: Path, settings: pytest.MonkeyPatch, name: str, value: str, message: str
) -> None:
    settings.setenv(name, value)
    assert message in fails(command, conv_model, *DIMS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid YAML"),
        ("flags: 1", "a YAML list"),
        ("- --iree-no-such-flag", "--iree-no-such-flag"),
        ("- --iree-rocm-target=gfx942", "IREE_MIGRAPHX_ARCH"),
    ],
)
def test_config(
    command: Command, conv_model: Path, settings: pytest.MonkeyPatch, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "flags.yaml").write_text(text)
    settings.setenv("IREE_CONFIG", str(tmp_path / "flags.yaml"))
    assert message in fails(command, conv_model, *DIMS)


@pytest.mark.parametrize("option", ["--output", "--report"])
def test_unwritable_files(command: Command, conv_model: Path, tmp_path: Path, option: str) -> None:
    line = fails(command, conv_model, *DIMS, option, tmp_path / "nosuch" / "file")
    assert "nosuch/file: No such file or directory" in line
    assert f"can't write {tmp_path}: Is a directory" in fails(command, conv_model, *DIMS, option, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_failure_leaves_the_old_files(command: Command, conv_model: Path, tmp_path: Path) -> None:
    (tmp_path / "out.npz").write_text("old")
    fails(command, conv_model, "--input-dim", "@q 1", "--output", tmp_path / "out.npz")
    assert (tmp_path / "out.npz").read_text() == "old"
    assert os.listdir(tmp_path) == ["out.npz"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--seed", "-1"), "'-1' is not a whole number from 0 up"),
        (("--seed", "x"), "'x' is not a whole number from 0 up"),
        (("--iterations", "2.5"), "'2.5' is not a whole number from 0 up"),
        (("--nosuch",), "--nosuch"),
    ],
)
def test_usage(command: Command, conv_model: Path, words: tuple[str, ...], message: str) -> None:
    ended = command(*words, conv_model)
    assert ended.code == 2
    assert "run_onnx.py: error: " in ended.err
    assert message in ended.err


def test_no_model(command: Command) -> None:
    ended = command()
    assert ended.code == 2
    assert "MODEL" in ended.err


def test_help_tells_the_exit_codes(command: Command) -> None:
    ended = command("--help")
    assert ended.code == 0
    assert "130  ended by Ctrl-C" in ended.out
