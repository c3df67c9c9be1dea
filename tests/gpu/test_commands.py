"""The commands for the target gpu, on the virtual one; the kernels are real, but launches compute nothing."""

import json

import pytest

from iree_migraphx import parse_onnx
from iree_migraphx.cli import doctor
from iree_migraphx.cli.main import main
from iree_migraphx.ir.read import read_program
from iree_migraphx.study import study
from splice.models import convolutions
from tests.gpu.nets import mlp


@pytest.fixture
def model(tmp_path, monkeypatch, kernel_options, virtual_device):
    monkeypatch.setenv("IREE_MIGRAPHX_ELIGIBLE", "all")
    monkeypatch.setenv("IREE_MIGRAPHX_CACHE_DIR", str(kernel_options.cache_dir))
    (tmp_path / "model.onnx").write_bytes(convolutions(count=2))
    return tmp_path / "model.onnx"


def test_compile_saves_what_run_and_perf_load(model, capsys):
    saved, report = model.with_suffix(".mxr"), model.with_suffix(".json")
    words = ["compile", str(model), "--gpu", "--enable-offload-copy", "-o", str(saved), "--report", str(report)]
    assert main([*words, "--strict"]) == 0
    assert "2 of 2 subgraphs on IREE (mi300x:sramecc+:xnack-)" in capsys.readouterr().err
    names = [i.operator.get("symbol_name", "") for i in read_program(saved.read_bytes()).instructions()]
    assert sum(name.startswith("iree_") for name in names) == 2
    assert all(each["kernel"]["vgprs"] for each in json.loads(report.read_text())["subgraphs"])
    assert main(["run", str(saved), "--gpu"]) == 0
    assert "already compiled" in capsys.readouterr().err
    assert main(["perf", str(saved), "--gpu", "-n", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["migraphx"]["runs"] == 2


def test_perf_says_what_is_in_its_times(model, capsys):
    assert main(["perf", str(model), "--gpu", "-n", "2", "--json"]) == 0
    measured = json.loads(capsys.readouterr().out)
    assert measured["iree"]["runs"] == measured["migraphx"]["runs"] == 2
    assert "copies" in measured["note"]
    kernels = [each for each in measured["iree"]["groups"] if each["name"].startswith("gpu::code_object::iree_")]
    assert sum(each["count"] for each in kernels) == 2
    assert any(each["name"].startswith("gpu::") for each in measured["migraphx"]["groups"])
    assert main(["perf", str(model), "--gpu", "--kernels"]) == 2


def test_verify_notices_kernels_that_do_nothing(model, capsys, virtual_device):
    # The virtual device launches without computing unless it is told what.
    assert main(["verify", str(model), "--gpu", "--seeds", "1", "--json"]) == 4
    compared = json.loads(capsys.readouterr().out)["comparisons"]
    assert {each["provider"] for each in compared} == {"iree"}
    assert all(each["problem"] for each in compared)


def test_dry_run_and_inspect(model, capsys):
    assert main(["compile", str(model), "--gpu", "--dry-run"]) == 0
    assert "2 subgraphs for IREE (mi300x:sramecc+:xnack-)" in capsys.readouterr().err
    assert main(["inspect", str(model), "--gpu", "--subgraph", "0", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["resources"]["roof"]["chip"] == "mi300x"


def test_inspect_and_verify_look_at_what_is_compiled(model, capsys, monkeypatch):
    """At the subgraphs of the program that MIGraphX made of the model, as compile does."""
    model.write_bytes(mlp())
    assert main(["compile", str(model), "--gpu", "--report", "-"]) == 0
    compiled = json.loads(capsys.readouterr().out)["subgraphs"]
    assert main(["inspect", str(model), "--gpu", "--json"]) == 0
    (shown,) = json.loads(capsys.readouterr().out)
    assert shown["arch"] == "mi300x:sramecc+:xnack-"
    assert [each["key"] for each in shown["subgraphs"]] == [each["key"] for each in compiled]
    main(["verify", str(model), "--gpu", "--seeds", "1", "--json"])
    checked = json.loads(capsys.readouterr().out)["reports"][0]["subgraphs"]
    assert [each["key"] for each in checked] == [each["key"] for each in compiled]
    assert study(parse_onnx(model), None).plan.captured


def test_verify_what_was_compiled_before(model, capsys):
    saved = model.with_suffix(".mxr")
    assert main(["compile", str(model), "--gpu", "--no-iree", "--enable-offload-copy", "-o", str(saved)]) == 0
    capsys.readouterr()
    # The virtual device computes nothing, so that the results are wrong.
    assert main(["verify", str(model), "--gpu", "--compiled-model", str(saved), "--seeds", "1", "--json"]) == 4
    (compared,) = json.loads(capsys.readouterr().out)["comparisons"]
    assert (compared["name"], compared["provider"]) == ("output_0", "the file")


def test_doctor_sees_the_device(virtual_device, monkeypatch, tmp_path):
    monkeypatch.setattr(doctor, "_KFD", tmp_path / "kfd")
    (tmp_path / "kfd").touch()
    monkeypatch.setattr(doctor, "_trial", lambda options: iter(()))
    found = [each for each in doctor.examine() if each.subject == "gpu"]
    assert found[0].text.startswith("gfx942:sramecc+:xnack- ")
    assert found[0].text.endswith("compiled for as mi300x:sramecc+:xnack-")
    assert "without MLIR" in found[1].text
