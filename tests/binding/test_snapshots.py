"""Programs saved by a fork of the process, and what may go wrong with one."""

import mmap
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from iree_migraphx import binding
from iree_migraphx.binding import messages, official, snapshots
from tests.binding.models import convolution


@pytest.fixture
def forks(monkeypatch):
    """Every program is large; the processes that were forked."""
    monkeypatch.setattr(snapshots, "LARGE", 0)
    fork, children = os.fork, []

    def noted():
        child = fork()
        children.append(child)
        return child

    monkeypatch.setattr(os, "fork", noted)
    return children


@pytest.fixture(scope="module")
def program():
    return binding.parse_onnx_buffer(convolution().SerializeToString())


def taken(write_in_fork, text=b"by the parent"):
    return bytes(snapshots.snapshot(lambda path: Path(path).write_bytes(text) and None, write_in_fork))


def by_the_fork(path):
    Path(path).write_bytes(b"by the fork")
    return True


def gone(process):
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)
    return True


def test_a_fork_saves_what_the_process_itself_would(program, forks):
    assert bytes(binding.snapshot(program)) == binding.save_buffer(program)
    (child,) = forks
    assert gone(child)


def test_a_small_program_is_saved_without(program, monkeypatch):
    monkeypatch.setattr(snapshots, "LARGE", 1 << 50)
    monkeypatch.setattr(os, "fork", None)
    assert bytes(binding.snapshot(program)) == binding.save_buffer(program)


@pytest.mark.parametrize("library", ["libamdhip64", "libhsa-runtime64"])
def test_hip_is_never_forked(library, program, monkeypatch):
    monkeypatch.setattr(snapshots, "LARGE", 0)
    monkeypatch.setattr(snapshots.library, "mapped_files", lambda name: ["/x.so"] if name == library else [])
    monkeypatch.setattr(os, "fork", None)
    assert bytes(binding.snapshot(program)) == binding.save_buffer(program)


def crash(path):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(path):
    Path(path).write_bytes(b"half of it, and longer than what comes next")
    raise MemoryError


@pytest.mark.parametrize("write", [crash, fail, lambda path: False])
def test_a_fork_that_fails(write, forks, capfd):
    assert taken(write) == b"by the parent"
    assert gone(forks[0])
    assert capfd.readouterr() == ("", "")


def test_a_fork_that_waits_for_ever(forks, monkeypatch):
    """As for a lock of another thread's, which is not there to open it."""
    monkeypatch.setattr(snapshots, "STALLED_SECONDS", 0.6)
    assert taken(lambda path: time.sleep(60)) == b"by the parent"
    assert gone(forks[0])


def test_a_fork_that_works_for_longer_is_waited_for(forks, monkeypatch):
    monkeypatch.setattr(snapshots, "STALLED_SECONDS", 0.6)

    def work(path):
        while time.process_time() < 1.5:
            pass
        return by_the_fork(path)

    assert taken(work) == b"by the fork"


def test_where_there_is_no_room_for_a_fork(monkeypatch):
    def refuse():
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(snapshots, "LARGE", 0)
    monkeypatch.setattr(os, "fork", refuse)
    before = len(os.listdir("/proc/self/fd"))
    assert taken(by_the_fork) == b"by the parent"
    assert len(os.listdir("/proc/self/fd")) == before


def test_no_warning_about_threads_reaches_the_user(forks, monkeypatch, program):
    fork = os.fork

    def warning():
        child = fork()
        if child:
            warnings.warn("This process is multi-threaded, use of fork() may lead to deadlocks", DeprecationWarning, 2)
        return child

    monkeypatch.setattr(os, "fork", warning)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert taken(by_the_fork) == b"by the fork"
    assert gone(forks[0])


def test_the_application_ignores_sigchld(forks):
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        assert taken(by_the_fork) == b"by the fork"
        assert taken(lambda path: False) == b"by the parent"
    finally:
        signal.signal(signal.SIGCHLD, before)


def test_ctrl_c_ends_the_fork(forks):
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        taken(lambda path: time.sleep(60))
    assert gone(forks[0])


def test_threads_that_hold_locks_are_no_matter(program, forks):
    """The fork has none of these threads: it must not wait for what they hold."""
    stop, ready = threading.Event(), threading.Barrier(4)

    def hold(lock):
        with lock:
            ready.wait()
            stop.wait()

    def compute():
        ready.wait()
        while not stop.is_set():
            np.ones((64, 64)) @ np.ones((64, 64))

    threads = [threading.Thread(target=hold, args=(messages._LOCK,)), threading.Thread(target=compute)]
    threads.append(threading.Thread(target=hold, args=(threading.Lock(),)))
    for thread in threads:
        thread.start()
    ready.wait()
    try:
        started = time.monotonic()
        data = bytes(binding.snapshot(program))
        assert time.monotonic() - started < snapshots.STALLED_SECONDS
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert data == binding.save_buffer(program)


def test_a_fork_ends_with_its_process(tmp_path):
    script = f"""
    import os, time
    from pathlib import Path
    from iree_migraphx.binding import snapshots
    snapshots.LARGE = 0
    def sleep(path):
        Path({str(tmp_path / "new")!r}).write_text(str(os.getpid()))
        os.rename({str(tmp_path / "new")!r}, {str(tmp_path / "child")!r})
        time.sleep(60)
    snapshots.snapshot(None, sleep)
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    try:
        while not (tmp_path / "child").exists():
            assert process.poll() is None
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    child = int((tmp_path / "child").read_text())
    for _ in range(100):
        # Where nobody waits for orphans it stays as a zombie.
        status = Path(f"/proc/{child}/status")
        if not status.exists() or "State:\tZ" in status.read_text():
            return
        time.sleep(0.02)
    pytest.fail("the fork lives on")


class Theirs:
    """ROCm's module, as far as saving goes."""

    @staticmethod
    def save(program, path):
        binding.save(program, path)


def test_a_program_of_rocms_module(program, forks, monkeypatch):
    monkeypatch.setattr(official, "module", lambda: Theirs)
    assert bytes(official.view(program)) == binding.save_buffer(program)
    assert len(forks) == 1


def resident(field):
    return int(re.search(rf"^{field}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)[1]) * 1024


def test_what_a_large_program_takes():
    """Less than a copy of it, where MIGraphX's own save takes three."""
    size = 160 << 20
    large = binding.program()
    main = large.get_main_module()
    main.add_return([main.add_literal(np.ones(size // 4, np.float32))])
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    data = binding.snapshot(large)
    assert len(data) > size
    assert resident("VmHWM") - before < size / 4
    assert sum(data[:: mmap.PAGESIZE]) > 0
    assert resident("VmRSS") - before > size / 2
    snapshots.let_go(data)
    assert resident("VmRSS") - before < size / 4
    assert data[:1] == binding.snapshot(large)[:1]


def test_letting_go_of_other_memory_changes_nothing():
    data = b"bytes of ours"
    snapshots.let_go(data)
    snapshots.let_go(memoryview(data))
    assert data == b"bytes of ours"
