import json
import subprocess
import sys
from pathlib import Path

import pytest

from iree_migraphx.cli.main import main
from splice.models import convolutions

ROOT = Path(__file__).parents[2]

# On the machine that the folder was shipped to: there is no iree-compile, and no package that lowers.
TARGET_MACHINE = """
import json, os, sys
sys.modules["iree.compiler"] = None
os.environ["PATH"] = ""
import numpy as np
import iree_migraphx as migraphx
from iree_migraphx.options import Options

folder, model, arch = sys.argv[1:]
options = Options.resolve()
program = migraphx.parse_onnx(model)
if arch == "ref":
    program = migraphx.compile(program, migraphx.get_target("ref"), options=options)
    report = program.iree_report
    program.run({"x": np.zeros(program.get_parameter_shapes()["x"].lens(), np.float32)})
else:
    report = migraphx.check(program, arch, options)
assert not any(name.startswith("iree.compiler.") for name in sys.modules), "the compiler's bindings were imported"
print(json.dumps(report.to_json()))
"""


@pytest.fixture(scope="module")
def shipped(tmp_path_factory):
    """A model and the folder that was filled for it."""
    folder = tmp_path_factory.mktemp("shipped")
    (folder / "model.onnx").write_bytes(convolutions(count=2))
    arguments = [str(folder / "model.onnx"), "--output", str(folder / "kernels"), "--arch", "host", "--arch", "mi300x"]
    assert main(["precompile", *arguments]) == 0
    return folder


def on_the_target_machine(folder, tmp_path, arch, model="model.onnx"):
    environment = {"IREE_MIGRAPHX_CACHE_DIR": str(tmp_path / "own"), "IREE_MIGRAPHX_QUIET": "1"}
    environment["IREE_MIGRAPHX_CACHE_READONLY"] = str(folder / "kernels")
    command = [sys.executable, "-c", TARGET_MACHINE, str(folder), str(folder / model), arch]
    result = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("arch", ["ref", "mi300x"])
def test_no_compiler_is_needed_where_the_folder_is(arch, shipped, tmp_path):
    before = sorted(shipped.rglob("*"))
    report = on_the_target_machine(shipped, tmp_path, arch)
    assert [each["provider"] for each in report["subgraphs"]] == ["iree", "iree"]
    assert report["subgraphs"][0]["cache"] == "hit"
    assert sorted(shipped.rglob("*")) == before


def test_what_the_folder_lacks_is_left_to_migraphx(shipped, tmp_path):
    (shipped / "other.onnx").write_bytes(convolutions(count=1, channels=6))
    report = on_the_target_machine(shipped, tmp_path, "ref", "other.onnx")
    assert [each["reason"] for each in report["subgraphs"]] == ["no-compiler"]
    assert "it is in no cache" in report["subgraphs"][0]["detail"]


def test_another_device_than_it_was_filled_for(shipped, tmp_path):
    report = on_the_target_machine(shipped, tmp_path, "gfx1100")
    assert {each["reason"] for each in report["subgraphs"]} == {"no-compiler"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere.onnx", "--arch", "host"], "can't read the model nowhere.onnx: No such file"),
        (["nowhere.onnx", "--arch", "gfx924"], "did you mean gfx942"),
        ([__file__, "--arch", "host", "--input-dim", "1 2"], "is not of the form"),
    ],
)
def test_wrong_arguments(arguments, message, tmp_path, capsys):
    assert main(["precompile", *arguments, "--output", str(tmp_path / "kernels")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "kernels").exists()


def test_input_dimensions_and_a_saved_program(tmp_path, capsys):
    import iree_migraphx as migraphx

    (tmp_path / "model.onnx").write_bytes(convolutions(count=1))
    migraphx.save(migraphx.parse_onnx(tmp_path / "model.onnx"), tmp_path / "model.mxr")
    for model in (["model.onnx", "--input-dim", "@x 1 4", "12 12"], ["model.mxr"]):
        model[0] = str(tmp_path / model[0])
        assert main(["precompile", *model, "--arch", "gfx942", "--output", str(tmp_path / "kernels")]) == 0
    assert "1 compiled now, 0 from the cache" in capsys.readouterr().err
    assert len(list((tmp_path / "kernels").glob("??/*"))) == 1


def test_json_and_half_precision(tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(convolutions(count=1))
    folder = tmp_path / "kernels"
    words = ["--fp16", "--arch", "gfx942", "--output", str(folder), "--json"]
    assert main(["precompile", str(tmp_path / "model.onnx"), *words]) == 0
    said = json.loads(capsys.readouterr().out)
    assert (said["folder"], said["complete"]) == (str(folder), True)
    (report,) = said["reports"]
    assert "1x4x12x12 half" in report["subgraphs"][0]["inputs"]


def test_what_is_not_in_the_folder_is_said(tmp_path, monkeypatch, capsys):
    from kernels.sources import fake_compiler

    monkeypatch.setenv("IREE_BIN", str(fake_compiler(tmp_path / "fake", "kill -SEGV $$")))
    (tmp_path / "model.onnx").write_bytes(convolutions(count=1))
    arguments = [str(tmp_path / "model.onnx"), "--arch", "gfx942", "--output", str(tmp_path / "kernels")]
    assert main(["precompile", *arguments]) == 2
    assert "nothing was written" in capsys.readouterr().err
