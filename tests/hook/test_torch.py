"""torch_migraphx, unchanged, under the hook: the script of docs/drop-in.md."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.snippets import REPOSITORY, snippets

#: Where `./setup.sh install_torch` puts torch: not into the virtual environment, which does without.
TORCH = Path(sys.prefix).parent / "torch"


def test_a_module_compiles_through_torch_migraphx(tmp_path, kernel_options):
    if not (TORCH / ".complete").exists():
        pytest.skip("torch is not installed: ./setup.sh install_torch")
    (script,) = [each.text for each in snippets(REPOSITORY / "docs/drop-in.md") if each.mark == "torch"]
    (tmp_path / "script.py").write_text(script)
    settings = {"IREE_MIGRAPHX_CACHE_DIR": str(kernel_options.cache_dir), "IREE_MIGRAPHX_QUIET": "1"}
    ended = subprocess.run(
        [sys.executable, tmp_path / "script.py"],
        env={**os.environ, **settings, "PYTHONPATH": f"{REPOSITORY}{os.pathsep}{TORCH}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    swapped, eligible, difference = re.fullmatch(
        r"(\d) of (\d) subgraphs on IREE\ndifference to torch: (\S+)\n", ended.stdout
    ).groups()
    assert (swapped, eligible) == ("2", "2")
    assert float(difference) < 1e-6
