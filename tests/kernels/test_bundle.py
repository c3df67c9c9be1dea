import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from iree_migraphx.config import Flags
from iree_migraphx.errors import Reason
from iree_migraphx.kernels import bundle
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target

from .sources import CRASHING, INVALID, TWO_DOTS, dot, fake_compiler, real_compiler

GFX942 = parse_target("gfx942")
DOT = dot()


def bundles(folder):
    return {path.name: path for path in folder.iterdir()} if folder.exists() else {}


def rerun(folder, **environment):
    command = [str(folder / "rerun.sh")]
    return subprocess.run(command, env={**os.environ, **environment}, capture_output=True, text=True)


def test_a_crash_always_leaves_one_that_crashes_again(options, caplog):
    compile_kernels([CRASHING], GFX942, options)
    ((name, folder),) = bundles(options.cache_dir / "failures").items()
    assert name == "compile-compiler-crash-iree_crash-gfx942"
    assert str(folder) in caplog.text
    files = {path.name: path.read_text() for path in folder.iterdir()}
    assert sorted(files) == ["command.txt", "failure.txt", "input.mlir", "rerun.sh", "stderr.txt", "versions.txt"]
    assert files["input.mlir"] == CRASHING.mlir
    assert files["command.txt"].startswith(str(real_compiler()))
    assert files["failure.txt"].startswith("class: compile\nreason: compiler-crash (")
    assert "target: gfx942" in files["failure.txt"]
    assert "foo.bar" in files["stderr.txt"] or "Stack dump" in files["stderr.txt"]
    assert find_compiler(options).version in files["versions.txt"]
    assert rerun(folder, IREE_COMPILE=str(real_compiler())).returncode != 0
    assert "IREE_COMPILE" in rerun(folder).stderr or rerun(folder, PATH="/bin:/usr/bin").returncode == 127


def test_the_script_compiles_what_can_be_compiled(options, tmp_path):
    spec = tmp_path / "spec.mlir"
    spec.write_text("module {}\n")
    folder = tmp_path / "failures"
    options = replace(
        options,
        failures=folder,
        iree_bin=fake_compiler(tmp_path / "fake", "kill -SEGV $$"),
        flags=Flags(anchors={"dot": (f"--iree-some-file={spec}", "--iree-opt-level=O2")}),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iree_migraphx.kernels.service.check_flags", lambda *arguments: None)
        compile_kernels([DOT], GFX942, options)
    (bundle_folder,) = bundles(folder).values()
    assert (bundle_folder / "spec.mlir").read_text() == "module {}\n"
    script = bundle_folder / "rerun.sh"
    assert "--iree-some-file=spec.mlir" in script.read_text()
    script.write_text(script.read_text().replace("--iree-some-file=spec.mlir", ""))
    assert rerun(bundle_folder, IREE_COMPILE=str(real_compiler())).returncode == 0
    assert b"hal.executable" in (bundle_folder / "output").read_bytes()


@pytest.mark.parametrize(
    ("how", "where"), [({"debug": 2}, "cache/failures"), ({"failures": Path("mine")}, "mine"), ({}, None)]
)
def test_other_failures_leave_one_where_it_is_asked_for(how, where, options, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    slow = replace(options, iree_bin=fake_compiler(tmp_path / "slow", "sleep 9"), timeout=0.2, **how)
    compile_kernels([INVALID, TWO_DOTS], GFX942, replace(options, **how))
    compile_kernels([DOT], GFX942, slow)
    found = bundles(tmp_path / where) if where else bundles(options.cache_dir / "failures")
    wanted = ["compile-compile-error-iree_invalid-gfx942", "compile-timeout-iree_dot_add-gfx942"] if where else []
    assert sorted(found) == wanted
    if where:
        assert "exec timeout 0.2 " in (found[wanted[1]] / "rerun.sh").read_text()
        assert "undeclared SSA value" in (found[wanted[0]] / "stderr.txt").read_text()


def test_a_cached_refusal_is_compiled_again_for_its_bundle(options):
    compile_kernels([INVALID], GFX942, options)
    (outcome,) = compile_kernels([INVALID], GFX942, replace(options, debug=2))
    assert (outcome.kernel.reason, outcome.cache) == (Reason.COMPILE_ERROR, "miss")
    assert bundles(options.cache_dir / "failures")
    (outcome,) = compile_kernels([INVALID], GFX942, options)
    assert outcome.cache == "hit"


def test_the_same_failure_has_one_and_the_oldest_of_many_go(options, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle, "_MOST_BUNDLES", 2)
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", "kill -SEGV $$"), workers=1)
    for name in ("iree_a", "iree_a", "iree_b", "iree_c"):
        compile_kernels([replace(DOT, symbol=name)], GFX942, options)
    left = sorted(name.split("-")[3] for name in bundles(options.cache_dir / "failures"))
    assert left == ["iree_b", "iree_c"]


def test_a_folder_that_can_not_be_written_to_is_a_warning(options, tmp_path, caplog):
    (tmp_path / "file").touch()
    (outcome,) = compile_kernels([CRASHING], GFX942, replace(options, failures=tmp_path / "file"))
    assert outcome.kernel.reason is Reason.COMPILER_CRASH
    assert "can't be kept in" in caplog.text
