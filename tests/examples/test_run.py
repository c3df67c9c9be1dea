"""Runs that go well: what is printed and written, and whether it is right."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import run_onnx

from iree_migraphx.cli.onnx_reference import in_onnxruntime

from .conftest import Command

DIMS = ("--input-dim", "@x 1 3 8 8")


def test_prints_what_happened(command: Command, conv_model: Path) -> None:
    ended = command(conv_model, *DIMS, "--check", "--iterations", 3)
    assert ended.code == 0, ended.err
    assert re.search(r"^MIGraphX [\d.]+, IREE compiler version \S+ @ \w+; target ref$", ended.out, re.M)
    assert re.search(r"^ +1 +convolution relu +1x4x8x8 float +iree *$", ended.out, re.M)
    assert "IREE (host) computes 1 of 1 subgraphs, MIGraphX's target ref the rest" in ended.out
    assert "output y: float32 1x4x8x8" in ended.out
    assert re.search(r"^3 runs after a warm-up: median [\d.]+ m?s, min [\d.]+ m?s, max [\d.]+ m?s$", ended.out, re.M)
    assert re.search(r"^check y: ok, max. difference \S+, relative \S+ \(tolerance 0.000976562\)$", ended.out, re.M)
    assert ended.err.count("1 of 1 subgraphs on IREE (host)") == 1


def test_takes_lengths_in_one_word_or_several(command: Command, lookup_model: Path, conv_model: Path) -> None:
    assert "1x4x5x7" in command(conv_model, "--input-dim", "@x", "1", "3", "5", "7").out
    assert command(lookup_model, "--input-dim", "@ids", "2", "@bias", "4").code == 0
    assert command(lookup_model, "--input-dim", "@ids 2 @bias 4").code == 0
    assert command(lookup_model, "--input-dim", "@ids 2", "--input-dim", "@bias 4").code == 0


def test_says_which_lengths_were_taken_as_1(command: Command, conv_model: Path) -> None:
    ended = command(conv_model)
    assert ended.code == 0
    assert "note: x has dimensions that the model leaves open; each was taken as 1: 1 3 1 1." in ended.out
    assert '--input-dim "@x 1 3 1 1"' in ended.out
    assert "note:" not in command(conv_model, *DIMS).out


def test_writes_outputs_and_report(command: Command, conv_model: Path, tmp_path: Path) -> None:
    given = np.random.default_rng(1).normal(size=(1, 3, 8, 8)).astype(np.float32)
    np.save(tmp_path / "x.npy", given)
    files = ("--output", tmp_path / "out.npz", "--report", tmp_path / "report.json")
    assert command(conv_model, *DIMS, "--input", f"x={tmp_path / 'x.npy'}", *files).code == 0
    (expected,) = in_onnxruntime(conv_model, {"x": given})
    np.testing.assert_allclose(np.load(tmp_path / "out.npz")["y"], expected, rtol=1e-5, atol=1e-5)
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["format"] == 1
    assert report["summary"] == {"eligible": 1, "distinct": 1, "iree": 1, "migraphx": 0, "undecided": 0}
    assert report["checks"] == []
    assert sorted(os.listdir(tmp_path)) == ["out.npz", "report.json", "x.npy"]


def test_checks_kernels_for_devices(command: Command, conv_model: Path, tmp_path: Path) -> None:
    archs = ("--arch", "gfx942", "--arch", "gfx1100")
    ended = command(conv_model, *DIMS, *archs, "--report", tmp_path / "report.json")
    assert ended.code == 0
    assert "1 of 1 subgraphs can be launched on gfx942" in ended.out
    assert re.search(r"convolution relu +1x4x8x8 float +accepted +\d+ x \d+, \d+ B lds, .* vgpr \d+ sgpr", ended.out)
    checks = json.loads((tmp_path / "report.json").read_text())["checks"]
    assert [(check["arch"], check["checked_only"]) for check in checks] == [("gfx942", True), ("gfx1100", True)]
    assert [check["subgraphs"][0]["kernel"]["wavefront"] for check in checks] == [64, 32]


def test_without_iree(command: Command, conv_model: Path, settings: pytest.MonkeyPatch) -> None:
    settings.setenv("IREE_BIN", "/nonexistent")  # not even looked at
    ended = command(conv_model, *DIMS, "--no-iree", "--check")
    assert ended.code == 0
    assert "no IREE; target ref" in ended.out
    assert "MIGraphX's target ref computes everything: IREE is switched off" in ended.out


def test_the_seed_decides_the_inputs(command: Command, conv_model: Path, tmp_path: Path) -> None:
    def output(seed: int) -> bytes:
        assert command(conv_model, *DIMS, "--seed", seed, "--output", tmp_path / "out.npz").code == 0
        return np.load(tmp_path / "out.npz")["y"].tobytes()

    assert output(1) == output(1) != output(2)


def test_made_up_integers_are_valid_indices(command: Command, lookup_model: Path) -> None:
    for seed in range(4):
        ended = command(lookup_model, "--check", "--seed", seed)
        assert ended.code == 0, ended
        assert "check y: ok" in ended.out


def test_another_answer_fails_the_check(command: Command, conv_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = in_onnxruntime
    monkeypatch.setattr(run_onnx, "in_onnxruntime", lambda *given: [1.01 * value for value in right(*given)])
    ended = command(conv_model, *DIMS, "--check")
    assert ended.code == 1
    assert re.search(r"^check y: FAILED, max. difference \S+, relative 0.0099", ended.out, re.M)
    assert "check with --no-iree too" in ended.out
    assert "check with --no-iree too" not in command(conv_model, *DIMS, "--check", "--no-iree").out


def test_a_full_disk_under_the_report(command: Command, conv_model: Path) -> None:
    ended = command(conv_model, *DIMS, "--report", "/dev/full")
    assert ended.code == 1
    assert ended.err.endswith("run_onnx.py: can't write /dev/full: No space left on device\n")


def test_the_gpu_or_why_not(command: Command, conv_model: Path) -> None:
    ended = command(conv_model, *DIMS, "--target", "gpu")
    if ended.code:
        assert ended.code == 2
        assert "the gpu target needs ROCm" in ended.err
    else:
        assert "target gpu" in ended.out
