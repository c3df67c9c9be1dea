"""The ONNX backend node tests: none that MIGraphX alone passes fails with IREE's kernels. suite.py runs all of them."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from .suite import Result, summary

SUITE = Path(__file__).with_name("suite.py")
SAMPLE = 12


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> list[Result]:
    """A sample of the tests, always the same."""
    file = tmp_path_factory.mktemp("onnx_backend") / "results.json"
    command = [sys.executable, str(SUITE), "--every", str(SAMPLE), "--json", str(file)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert file.exists(), ended.stderr[-4000:]
    return [Result(**result) for result in json.loads(file.read_text())]


def test_nothing_that_migraphx_passes_fails(results: list[Result], request: pytest.FixtureRequest) -> None:
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        print(f"\n{summary(results)}")
    assert [result for result in results if result.worse] == []
    assert sum(result.ours == "passes" for result in results) > 900 // SAMPLE


def test_iree_computes_some_of_it(results: list[Result]) -> None:
    assert sum(result.iree for result in results) >= 200 // SAMPLE
    assert all(result.iree <= result.eligible for result in results)


def test_what_is_worse_is_said() -> None:
    good = Result("test_a", "passes", "passes", 1, 1)
    bad = replace(good, name="test_b", ours="wrong: AssertionError: 1 is not 2")
    mended = replace(good, name="test_c", plain="wrong: AssertionError: 1 is not 2")
    text = summary([good, bad, mended])
    assert "plain: 2 passes, 1 wrong, 0 fails, 0 died" in text
    assert " ours: 2 passes, 1 wrong, 0 fails, 0 died" in text
    assert [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("worse")] == ["test_b"]
    assert [line.split(":")[1].strip() for line in text.splitlines() if line.startswith("better")] == ["test_c"]


def test_results_are_compared_with_what_the_test_expects() -> None:
    code = """
import sys; sys.path.insert(0, "tests")
from onnx_backend import suite
(case,) = suite.tests("test_matmul_2d")
((given, expected),) = case.data_sets
wrong = suite.TestCase(**{**vars(case), "name": "wrong", "data_sets": [(given, [-expected[0]])]})
for result in suite.run([case, wrong], suite.Options(quiet=True)):
    print(result.name, result.plain.partition(":")[0], result.ours.partition(":")[0], result.iree)
"""
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=SUITE.parents[2], capture_output=True, text=True, timeout=100, check=False)
    assert ended.stdout.split("\n")[:2] == ["test_matmul_2d passes passes 1", "wrong wrong wrong 1"], ended.stderr
