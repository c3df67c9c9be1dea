"""Compilers that go wrong, a cache that can't be written, Ctrl-C: the run's result is right, or nothing is left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import Command, script_command

DIMS = ("--input-dim", "@x 1 3 8 8")


def compiler(folder: Path, does: str) -> Path:
    """A program that answers to --version like iree-compile, and else does this; it should write the file $out."""
    path = folder / "iree-compile"
    text = f"""#!/bin/sh
[ "$1" = --version ] && echo "IREE compiler version 0 (test)" && exit
while [ $# -gt 1 ]; do [ "$1" = -o ] && out=$2; shift; done
{does}
"""
    path.write_text(text)
    path.chmod(0o755)
    return path


@pytest.mark.parametrize(
    ("does", "reason", "detail"),
    [
        ("echo 'input.mlir:1:1: error: no idea' >&2; exit 1", "compile-error", "no idea"),
        ("kill -SEGV $$", "compiler-crash", "SIGSEGV"),
        ("kill -KILL $$", "compiler-crash", "SIGKILL"),
        ("sleep 1000", "timeout", "IREE_MIGRAPHX_TIMEOUT"),
        ("head -c 5000 /dev/urandom > $out", "bad-compiler-output", ""),
        ("exit 0", "bad-compiler-output", "wrote nothing"),
    ],
)
def test_the_result_is_right(
    command: Command,
    conv_model: Path,
    settings: pytest.MonkeyPatch,
    tmp_path: Path,
    does: str,
    reason: str,
    detail: str,
) -> None:
    settings.setenv("IREE_BIN", str(compiler(tmp_path, does)))
    settings.setenv("IREE_MIGRAPHX_TIMEOUT", "1")
    ended = command(conv_model, *DIMS, "--check", "--report", tmp_path / "report.json")
    assert ended.code == 0, ended
    assert "check y: ok" in ended.out
    assert "MIGraphX's target ref computes everything" in ended.out
    assert f"1 left to MIGraphX (1 {reason})" in ended.err
    (subgraph,) = json.loads((tmp_path / "report.json").read_text())["subgraphs"]
    assert (subgraph["provider"], subgraph["reason"], subgraph["kernel"]) == ("migraphx", reason, None)
    assert detail in subgraph["detail"]


def test_a_cache_that_cannot_be_written(script: Command, settings: pytest.MonkeyPatch, conv_model: Path) -> None:
    settings.setenv("IREE_MIGRAPHX_CACHE_DIR", "/dev/full/cache")
    ended = script(conv_model, *DIMS, "--check")
    assert ended.code == 0, ended.err
    assert "computes 1 of 1 subgraphs" in ended.out
    assert ended.err.count("the kernel cache /dev/full/cache can't be used") == 1
    assert "Traceback" not in ended.err


def test_interrupted_while_compiling(settings: pytest.MonkeyPatch, conv_model: Path, tmp_path: Path) -> None:
    mark = tmp_path / "started"
    settings.setenv("IREE_BIN", str(compiler(tmp_path, f"echo $$ > {mark}; sleep 1000")))
    cache, temporary, out = (tmp_path / name for name in ("cache", "temporary", "out"))
    temporary.mkdir()
    out.mkdir()
    settings.setenv("IREE_MIGRAPHX_CACHE_DIR", str(cache))
    settings.setenv("TMPDIR", str(temporary))
    words = script_command([conv_model, *DIMS, "--output", out / "y.npz", "--report", out / "report.json"])
    process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        wait_for(lambda: mark.exists() and mark.read_text().strip())
        worker = int(mark.read_text())
        process.send_signal(signal.SIGINT)
        started = time.monotonic()
        errors = process.communicate(timeout=20)[1]
    finally:
        process.kill()
    assert time.monotonic() - started < 5
    assert process.returncode == 130
    assert errors.endswith("run_onnx.py: interrupted\n")
    assert "Traceback" not in errors
    wait_for(lambda: not is_running(worker))
    # What was lowered before is whole, and no compile has left anything.
    kept = [path for folder in (cache, temporary, out) for path in folder.rglob("*") if path.is_file()]
    assert {path.parent for path in kept} <= {cache / "lowered"}
    assert all(json.loads(path.read_text()) for path in kept)
    assert os.listdir(temporary) == os.listdir(out) == []


def wait_for(what: object, seconds: float = 20) -> None:
    end = time.monotonic() + seconds
    while not what():  # type: ignore[operator]
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


def is_running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
