"""A MIGraphX that has patches/ launches what a stock one can't; built where MIGRAPHX_SOURCES names the release."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gpu import patched
from iree_migraphx import binding

SOURCES = os.environ.get("MIGRAPHX_SOURCES")
TESTS = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    binding.get_target("gpu")
    return patched.build(Path(SOURCES), tmp_path_factory.mktemp("patched"))


@pytest.mark.skipif(not SOURCES, reason="MIGRAPHX_SOURCES names no checkout of MIGraphX")
@pytest.mark.parametrize("scenario", patched.SCENARIOS)
def test_scenario(library, kernel_options, scenario):
    paths = [str(TESTS), str(TESTS.parent), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    command = [sys.executable, "-m", "gpu.patched", scenario, str(library), str(kernel_options.cache_dir)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(command, env=environment, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
