import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from iree_migraphx.kernels import invoke
from iree_migraphx.kernels.invoke import Run, StoppedError, run

NEVER = threading.Event()


def sh(script, folder, timeout=20.0, stop=NEVER):
    return run(["/bin/sh", "-c", script], folder, timeout, stop)


def is_running(process):
    """Whether a process is there and not just waiting for somebody to ask for its status."""
    try:
        with open(f"/proc/{process}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def children():
    return "".join(path.read_text() for path in Path("/proc/self/task").glob("*/children"))


def read_pid(path):
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"))
    return int(path.read_text())


def test_streams_and_status(tmp_path):
    ended = sh("echo out; echo err >&2; exit 3", tmp_path)
    assert (ended.status, ended.output, ended.errors) == (3, "out\n", "err\n")


def test_an_end_is_noticed_at_once(tmp_path):
    times = [sh("exit 0", tmp_path).seconds for _ in range(5)]
    assert min(times) < 0.03


def test_the_environment(tmp_path, monkeypatch):
    """Temporary files in the folder; no symbols in LLVM's stack dumps, which cost more than a compile."""
    monkeypatch.setenv("MINE", "here")
    assert sh("echo $TMPDIR $LLVM_DISABLE_SYMBOLIZATION $MINE", tmp_path).output == f"{tmp_path} 1 here\n"


@pytest.mark.parametrize("number", [signal.SIGSEGV, signal.SIGKILL, signal.SIGABRT])
def test_death_by_signal(number, tmp_path):
    assert sh(f"kill -{int(number)} $$", tmp_path).status == -number


@pytest.mark.parametrize("short", [True, False])
def test_a_program_that_takes_the_last_memory_is_ended(short, tmp_path, monkeypatch):
    monkeypatch.setattr(invoke, "_LARGE", 50_000_000)
    monkeypatch.setattr(invoke, "is_short", lambda: short)
    script = "import time; kept = bytearray(100_000_000); time.sleep(0.5)"
    ended = run([sys.executable, "-c", script], tmp_path, 20.0, NEVER)
    assert ended.status == (-signal.SIGKILL if short else 0)
    assert ("stopped at 0." in ended.diagnosis) is short
    assert ended.peak > 50_000_000


def test_the_time_limit(tmp_path):
    ended = sh("sleep 60", tmp_path, timeout=0.3)
    assert ended.status is None
    assert 0.25 < ended.seconds < 1.0


def test_the_time_limit_holds_for_a_program_that_ignores_signals_and_closed_its_streams(tmp_path):
    started = time.monotonic()
    ended = sh("trap '' TERM INT HUP; exec >&- 2>&-; while :; do sleep 1; done", tmp_path, timeout=0.3)
    assert ended.status is None
    assert time.monotonic() - started < 1.0


def test_children_die_with_the_time_limit(tmp_path):
    ended = sh(f"sleep 60 & echo $! >{tmp_path}/child; wait", tmp_path, timeout=0.3)
    assert ended.status is None
    child = read_pid(tmp_path / "child")
    wait_until(lambda: not is_running(child))


def test_children_die_with_the_program_and_do_not_keep_us_waiting(tmp_path):
    ended = sh(f"sleep 60 & echo $! >{tmp_path}/child; echo done", tmp_path)
    assert (ended.status, ended.output) == (0, "done\n")
    assert ended.seconds < 1.0, "the child had our pipes"
    child = read_pid(tmp_path / "child")
    wait_until(lambda: not is_running(child))


def test_a_child_outside_of_the_group_does_not_keep_us_waiting(tmp_path):
    ended = sh(f"setsid sh -c 'echo $$ >{tmp_path}/child; exec yes' & sleep 0.2; echo done >&2", tmp_path)
    os.kill(read_pid(tmp_path / "child"), signal.SIGKILL)
    assert (ended.status, ended.errors) == (0, "done\n")
    assert ended.seconds < 2.0


def test_a_gigabyte_of_output_is_read_and_dropped(tmp_path):
    script = f"""
import resource, threading
from pathlib import Path
from iree_migraphx.kernels import invoke
from iree_migraphx.kernels.invoke import run
run(["/bin/true"], Path("{tmp_path}"), 9, threading.Event())
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
command = ["/bin/sh", "-c", "echo first; head -c 1000000000 /dev/zero >&2; exit 5"]
ended = run(command, Path("{tmp_path}"), 60, threading.Event())
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(ended.status, ended.output.strip(), len(ended.errors), after - before)
"""
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    status, output, kept, kilobytes = result.stdout.split()
    assert (status, output, int(kept)) == ("5", "first", 256 * 1024)
    assert int(kilobytes) < 10_000


def test_stop(tmp_path):
    stop = threading.Event()
    timer = threading.Timer(0.3, stop.set)
    timer.start()
    started = time.monotonic()
    with pytest.raises(StoppedError):
        sh(f"echo $$ >{tmp_path}/pid; sleep 60", tmp_path, stop=stop)
    assert time.monotonic() - started < 0.8
    assert not is_running(read_pid(tmp_path / "pid"))


def test_a_program_that_is_not_there(tmp_path):
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(FileNotFoundError):
        run([str(tmp_path / "nothing")], tmp_path, 9, NEVER)
    assert len(os.listdir("/proc/self/fd")) == before


def test_nothing_is_left_open_and_no_zombie(tmp_path):
    sh("true", tmp_path)
    before = len(os.listdir("/proc/self/fd")), children()
    for _ in range(20):
        sh("sleep 5 & exit 1", tmp_path)
    assert (len(os.listdir("/proc/self/fd")), children()) == before


def test_an_application_that_ignores_sigchld(tmp_path):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert sh("echo here", tmp_path).output == "here\n"
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_the_program_and_its_folder_go_when_our_process_is_killed(tmp_path):
    folder = tmp_path / "work"
    folder.mkdir()
    script = f"""
import threading
from pathlib import Path
from iree_migraphx.kernels import invoke
from iree_migraphx.kernels.invoke import run
command = ["/bin/sh", "-c", "sleep 77 & echo $! >{tmp_path}/child; echo $$ >{tmp_path}/pid; wait"]
run(command, Path("{folder}"), 60, threading.Event())
"""
    ours = subprocess.Popen([sys.executable, "-c", script])
    program, child = read_pid(tmp_path / "pid"), read_pid(tmp_path / "child")
    assert is_running(program)
    ours.kill()
    ours.wait()
    wait_until(lambda: not is_running(program) and not is_running(child) and not folder.exists(), 1.0)


@pytest.mark.parametrize(
    ("errors", "diagnosis"),
    [
        (
            "/tmp/x/input.mlir:5:8: error: 'func.func' op failed to distribute\n  %m = …\n",
            "'func.func' op failed to distribute",
        ),
        ("warning: w\n<unknown>:0: error: Unknown ROCM target 'gfx1'\nx: error: second", "Unknown ROCM target 'gfx1'"),
        ("iree-compile: Unknown command line argument '--x'.", "iree-compile: Unknown command line argument '--x'."),
        ("Stack dump:\nLLVM ERROR: out of memory", "LLVM ERROR: out of memory"),
        ("c.cpp:5: f: Assertion `a' failed.\nStack dump:", "c.cpp:5: f: Assertion `a' failed."),
        ("Please report issues to …\nStack dump:\n 0. Program arguments", ""),
        ("", ""),
    ],
)
def test_diagnosis(errors, diagnosis):
    assert Run(1, "", errors, 0.0).diagnosis == diagnosis


def test_explanation_without_a_diagnosis():
    assert Run(1, "", "one\ntwo\n", 0.0).explanation == "two"
    assert "status 4" in Run(4, "", "\n", 0.0).explanation


def test_the_peak_of_its_memory(tmp_path):
    script = "import time; block = bytearray(300 << 20); del block; time.sleep(0.2)"
    ended = run([sys.executable, "-c", script], tmp_path, 20, NEVER)
    assert 300 << 20 < ended.peak < 400 << 20
