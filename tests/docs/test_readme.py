"""What README tells people to type works."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from iree_migraphx import options
from iree_migraphx.errors import OptionError
from iree_migraphx.options import Options

from .snippets import parse

REPOSITORY = Path(__file__).resolve().parents[2]
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
ROOT = Path(sys.prefix).parent  # setup.sh's ROOT_DIR


def blocks(language: str) -> list[str]:
    return [each.text for each in parse("README.md", README) if each.language == language and each.mark != "not run"]


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """A folder that looks like a clone after `./setup.sh all`, and gets what the commands write."""
    assert (ROOT / "env.sh").exists(), "run ./setup.sh all first"
    for path in {*REPOSITORY.iterdir(), ROOT}:
        if path.name.startswith(".") and path != ROOT:
            continue
        (tmp_path / (".root" if path == ROOT else path.name)).symlink_to(path)
    return tmp_path


def bash(script: str, folder: Path) -> str:
    environment = {name: text for name, text in os.environ.items() if not name.startswith("IREE_")}
    ended = subprocess.run(
        ["bash", "-euc", script], cwd=folder, env=environment, capture_output=True, text=True, timeout=600, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


@pytest.mark.timeout(900)
def test_the_commands(clone: Path) -> None:
    out = bash("".join(blocks("bash")), clone)
    assert "can be launched on mi300x" in out
    assert json.loads((clone / "report.json").read_text())["checks"][0]["arch"] == "mi300x"
    assert "check sigmoid_0.tmp_0: ok" in out
    assert "exit codes:" in out


def test_the_arguments_of_every_command() -> None:
    sys.path.insert(0, str(REPOSITORY / "examples"))
    import run_onnx

    commands = [shlex.split(line) for line in "".join(blocks("bash")).splitlines() if "run_onnx.py" in line]
    assert len(commands) == 3
    for words in commands:
        if "--help" not in words:
            run_onnx._parser().parse_args(words[2:])


def test_the_script(clone: Path) -> None:
    (code,) = blocks("python")
    (clone / "script.py").write_text(code)
    out = bash(". .root/env.sh; python script.py", clone)
    assert re.search(r"^iree_migraphx: (\d+) of \1 subgraphs on IREE \(host\)", out, re.M)
    assert out.endswith("(1, 1, 320, 320)\n")


def test_the_steps_of_setup() -> None:
    known = re.findall(r"^#: ([a-z_]+)", (REPOSITORY / "setup.sh").read_text(encoding="utf-8"), re.M)
    named = re.findall(r"\./setup\.sh (\w+)", README)
    assert {"run", "test", "all", "help"} <= set(named) <= set(known)


def test_the_links() -> None:
    for link in re.findall(r"\]\((?!https)([^)#]+)", README):
        assert (REPOSITORY / link).exists(), link


def test_every_setting_that_is_named_is_one() -> None:
    named = set(re.findall(r"\bIREE_[A-Z_]+", README))
    assert {"IREE_DISABLE", "IREE_CONFIG"} <= named <= set(options._VARIABLES)


def test_each_variable_sets_its_option(tmp_path: Path) -> None:
    (tmp_path / "flags.yaml").write_text("- --iree-opt-level=O2\n")
    values = {"flags": str(tmp_path / "flags.yaml"), "cache": "0", "eligible": "all", "log": "kernels=1"}
    fields = [field.name for field in dataclasses.fields(Options)]
    assert {option for option, _ in options._VARIABLES.values()} | {"executor"} == set(fields)
    for name, (option, _) in options._VARIABLES.items():
        settings = Options.resolve({name: values.get(option, "1")})
        assert [field for field in fields if getattr(settings, field) != getattr(Options(), field)] == [option]
    with pytest.raises(OptionError):
        Options.resolve({"IREE_MIGRAPHX_NO_SUCH": "1"})
