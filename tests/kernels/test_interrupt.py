"""Ctrl-C and sudden death while compilers run, seen from outside of the process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from .sources import counting_compiler, fake_compiler, real_compiler
from .test_invoke import is_running, wait_until

ROOT = Path(__file__).parents[2]

# Four kernels: the first is finished before the others, which never end.
SCRIPT = """
import sys, tempfile
from pathlib import Path
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.options import Options
from tests.kernels.sources import EXP, elementwise

folder = Path(sys.argv[1])
tempfile.tempdir = str(folder / "temporary")
options = Options(iree_bin=folder / "fake", cache_dir=folder / "cache", workers=3, kernels_per_process=1, quiet=True)
requests = [elementwise(EXP, name) for name in ("iree_quick", "iree_b", "iree_c", "iree_d")]
try:
    compile_kernels(requests, parse_target("gfx942"), options)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    raise
"""


@pytest.fixture
def compiling(tmp_path):
    """The process with one result in its cache and three compilers hanging, and everything it has started."""
    (tmp_path / "temporary").mkdir()
    hang = f"""
if grep -q iree_quick "$1"; then exec {real_compiler()} "$@"; fi
echo half >"$3"
sleep 66 &
echo $! $$ >>{tmp_path}/pids
wait
"""
    fake_compiler(tmp_path / "fake", hang)
    command = [sys.executable, "-c", SCRIPT, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    pids = tmp_path / "pids"
    wait_until(lambda: pids.exists() and len(pids.read_text().splitlines()) == 3, 20)
    wait_until(lambda: list((tmp_path / "cache").glob("??/*/meta.json")), 20)
    started = [int(number) for number in pids.read_text().split()]
    assert all(is_running(each) for each in started)
    yield process, started
    process.kill()
    process.wait()


def nothing_is_left(folder, started, claims=0):
    assert not any(is_running(each) for each in started)
    assert list((folder / "temporary").iterdir()) == []
    entries = [path.name for path in (folder / "cache").glob("??/*/*")]
    assert sorted(entries) == ["command.txt", "input.mlir", "kernel.hsaco", "meta.json"]
    # A killed process can't remove its claims; nobody heeds them any more.
    left = [path.name.partition("-")[0] for path in (folder / "cache").glob(".*")]
    assert [name for name in left if name != ".looked"] == [".claim"] * claims


def test_ctrl_c(compiling, tmp_path):
    process, started = compiling
    before = time.monotonic()
    process.send_signal(signal.SIGINT)
    output, errors = process.communicate(timeout=10)
    assert time.monotonic() - before < 1.0
    assert process.returncode == -signal.SIGINT
    assert output == "interrupted\n"
    assert errors.rstrip().endswith("KeyboardInterrupt")
    nothing_is_left(tmp_path, started)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_sudden_death(number, compiling, tmp_path):
    process, started = compiling
    process.send_signal(number)
    process.wait(10)
    wait_until(lambda: not any(is_running(each) for each in started), 1.0)
    wait_until(lambda: not list((tmp_path / "temporary").iterdir()), 1.0)
    nothing_is_left(tmp_path, started, claims=3)


def test_ctrl_c_in_the_middle_of_real_compiles(tmp_path):
    """What was finished is in the cache, and only that: the next time goes on from there."""
    _, log = counting_compiler(tmp_path / "fake")
    (tmp_path / "temporary").mkdir()
    names = [f"iree_exp_{n}" for n in range(12)]
    script = SCRIPT.replace('("iree_quick", "iree_b", "iree_c", "iree_d")', repr(names))
    command = [sys.executable, "-c", script, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_until(lambda: len(list((tmp_path / "cache").glob("??/*/meta.json"))) >= 3, 30)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=10)
    assert process.returncode == -signal.SIGINT
    assert list((tmp_path / "temporary").iterdir()) == []
    begun = len(log.read_text().splitlines())
    kept = len(list((tmp_path / "cache").glob("??/*/meta.json")))
    assert 3 <= kept <= begun < len(names)
    log.write_text("")
    subprocess.run(command, cwd=ROOT, check=True)
    assert len(log.read_text().splitlines()) == len(names) - kept
    assert os.listdir(tmp_path / "temporary") == []


def test_an_interrupt_from_a_terminal_reaches_only_us(compiling):
    """A terminal sends its signal to the whole foreground group, in which the compilers must not be."""
    process, started = compiling
    ours = os.getpgid(process.pid)
    assert all(os.getpgid(each) != ours for each in started)
