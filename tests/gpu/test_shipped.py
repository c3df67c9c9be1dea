"""Kernels that were compiled ahead of time for a GPU: on it nothing is left to compile."""

import subprocess
import sys
from pathlib import Path

import pytest

from gpu import nets
from iree_migraphx import binding, pipeline
from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.main import main
from iree_migraphx.kernels import service
from iree_migraphx.options import Options

ROOT = Path(__file__).parents[2]
PLAIN = Path(sys.prefix) / "bin" / "python"

#: Two convolutions of one value, of which MIGraphX makes one; chains of dots.
NETS = {"shared_results": nets.shared_results(), "mlp": nets.mlp()}


@pytest.fixture(params=NETS)
def model(request, tmp_path, virtual_device, monkeypatch):
    monkeypatch.setenv("IREE_MIGRAPHX_ELIGIBLE", "all")
    (tmp_path / "model.onnx").write_bytes(NETS[request.param])
    return tmp_path / "model.onnx"


def on_the_device(model, shipped, monkeypatch, **how):
    """A compile on the machine with the GPU, which has no compiler."""

    def no_compiler(*arguments):
        raise AssertionError("a compiler was looked for")

    monkeypatch.setattr(service, "find_compiler", no_compiler)
    options = Options.resolve(cache_dir=model.parent / "own", cache_readonly=(shipped,), quiet=True)
    program = binding.parse_onnx(model)
    return pipeline.compile(program, binding.get_target("gpu"), options=options, **how).iree_report


def assert_all_hits(report):
    assert report.swapped == report.eligible >= 2, report.summary()
    assert report.arch == "mi300x:sramecc+:xnack-"
    assert {subgraph.cache for subgraph in report.subgraphs} <= {"hit", "shared"}


def test_compiled_for_this_machines_gpu(model, tmp_path, monkeypatch):
    assert main(["precompile", str(model), "--arch", "gpu", "--output", str(tmp_path / "kernels")]) == 0
    assert_all_hits(on_the_device(model, tmp_path / "kernels", monkeypatch, offload_copy=False))


def test_captured_on_the_gpu_and_compiled_where_none_is(model, tmp_path, monkeypatch, capsys):
    file, kernels = tmp_path / "model.subgraphs", tmp_path / "kernels"
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "iree.compiler", None)
        assert main(["capture", str(model), "--output", str(file)]) == 0
    assert f"subgraphs for mi300x:sramecc+:xnack- in {file}" in capsys.readouterr().err
    command = [str(PLAIN), "-m", "iree_migraphx.cli.main", "precompile", str(file), "--output", str(kernels)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "accepted for mi300x:sramecc+:xnack- (not run)" in done.stderr
    assert_all_hits(on_the_device(model, kernels, monkeypatch))


def test_the_file_has_no_weights(tmp_path, virtual_device):
    onnx = nets.residual(size=6, width=64)
    (tmp_path / "model.onnx").write_bytes(onnx)
    assert main(["capture", str(tmp_path / "model.onnx"), "--output", str(tmp_path / "model.subgraphs")]) == 0
    assert (tmp_path / "model.subgraphs").stat().st_size < len(onnx) / 10


def test_what_is_not_the_devices(virtual_device, tmp_path, capsys):
    (tmp_path / "model.onnx").write_bytes(nets.mlp())
    arguments = ["capture", str(tmp_path / "model.onnx"), "--output"]
    assert main([*arguments, str(tmp_path / "model.mxr")]) == 2
    assert "must end in .subgraphs" in capsys.readouterr().err
    assert main([*arguments, str(tmp_path / "nowhere" / "model.subgraphs")]) == 2
    assert "--output can't be written" in capsys.readouterr().err


def test_a_program_that_can_not_be_captured_is_said(virtual_device, tmp_path, capsys, monkeypatch):
    from iree_migraphx import gpu
    from iree_migraphx.errors import CaptureError

    def failing(*arguments):
        raise CaptureError("the process crashed")

    monkeypatch.setattr(gpu, "captured", failing)
    (tmp_path / "model.onnx").write_bytes(nets.mlp())
    assert main(["capture", str(tmp_path / "model.onnx"), "--output", str(tmp_path / "x.subgraphs")]) == ExitCode.FAILED
    assert "could not be had" in capsys.readouterr().err
    assert not (tmp_path / "x.subgraphs").exists()
