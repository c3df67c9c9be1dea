"""The models of benchmarks/zoo, made small: IREE computes what it should, and the results are onnxruntime's."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from iree_migraphx import binding, pipeline

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))

from zoo.catalogue import ZOO, inputs_of  # noqa: E402 -- no part of the package


def session_of(model):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("name", ZOO)
def test_small(name, kernel_options):
    model = ZOO[name].small.build()
    program = binding.parse_onnx_buffer(model.SerializeToString())
    program = pipeline.compile(program, binding.get_target("ref"), options=kernel_options)
    report = program.iree_report
    assert [(s.operators, s.reason, s.detail) for s in report.subgraphs if s.provider != "iree"] == []
    assert report.swapped >= 1
    session, seen = session_of(model), []
    for seed in (0, 1):
        feed = inputs_of(model, seed)
        results, wanted = program.run(feed), session.run(None, feed)
        for actual, expected in zip(map(np.asarray, results), wanted, strict=True):
            assert actual.shape == expected.shape
            largest = np.abs(expected).max()
            # Weights and inputs decide what comes out, and it is neither nothing nor too large.
            assert 0.1 < largest < 1e4
            np.testing.assert_allclose(actual, expected, rtol=0, atol=1000 * np.finfo(np.float32).eps * largest)
        seen.append(wanted[0])
    assert np.abs(seen[0] - seen[1]).max() > 0.01 * np.abs(seen[0]).max()


@pytest.mark.parametrize("name", ["resnet50", "bert_base"])
@pytest.mark.parametrize("precision", ["half", "int8"])
def test_quantized(name, precision, kernel_options):
    """What MIGraphX's ref target makes of the quantized model, and that it is still the model."""
    model = ZOO[name].small.build()
    feeds = [inputs_of(model, seed) for seed in (0, 1)]
    program = binding.parse_onnx_buffer(model.SerializeToString())
    if precision == "half":
        binding.quantize_fp16(program)
    else:
        binding.quantize_int8(program, binding.get_target("ref"), feeds)
    alone = program.copy()
    alone.compile(binding.get_target("ref"))
    ours = pipeline.compile(program, binding.get_target("ref"), options=kernel_options)
    assert [(s.operators, s.reason, s.detail) for s in ours.iree_report.subgraphs if s.provider != "iree"] == []
    steps = 2.0**-10 if precision == "half" else 1 / 127
    session = session_of(model)
    for feed in feeds:
        for actual, plain, exact in zip(ours.run(feed), alone.run(feed), session.run(None, feed), strict=True):
            largest = np.abs(exact).max()
            np.testing.assert_allclose(np.asarray(actual), np.asarray(plain), rtol=0, atol=10 * steps * largest)
            np.testing.assert_allclose(np.asarray(actual), exact, rtol=0, atol=20 * steps * largest)


def test_the_command(tmp_path):
    words = ["--small", "--models", "tagger", "--place", "host", "gfx942", "--cache", tmp_path / "cache"]
    files = ["--json", tmp_path / "zoo.json", "--markdown", tmp_path / "models.md"]
    command = [sys.executable, BENCHMARKS / "model_zoo.py", *words, *files]
    ended = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=200, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "zoo.json").read_text())
    assert [(each["precision"], each["place"]) for each in found] == [
        ("float", "host"), ("float", "gfx942"), ("half", "host"), ("half", "gfx942"),
    ]  # fmt: skip
    assert all(each["accepted"] == each["eligible"] > 0 for each in found)
    rows = [line for line in (tmp_path / "models.md").read_text().splitlines() if line.startswith("| tagger")]
    assert len(rows) == 2
