import threading
import time
from dataclasses import replace

import pytest

from iree_migraphx.kernels import batch, memory
from iree_migraphx.kernels.memory import MemoryGate, available_memory
from iree_migraphx.kernels.model import GpuKernel
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target

from .sources import EXP, elementwise, fake_compiler, real_compiler

GB = 1 << 30
NEVER = threading.Event()


def most_at_once(gate, count=4):
    """How many of several threads were inside at the same time."""
    inside, most, lock = 0, 0, threading.Lock()

    def work():
        nonlocal inside, most
        with gate.room(NEVER):
            with lock:
                inside += 1
                most = max(most, inside)
            time.sleep(0.1)
            with lock:
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return most


@pytest.mark.parametrize(("available", "most"), [(0, 1), (GB, 2), (3 * GB // 2, 3), (9 * GB, 4), (None, 4)])
def test_as_many_run_as_there_is_memory_for(available, most):
    assert most_at_once(MemoryGate(lambda: available)) == most


def test_what_one_has_needed_the_next_may_need():
    gate = MemoryGate(lambda: 3 * GB)
    assert most_at_once(gate) == 4
    gate.learn(GB)
    assert most_at_once(gate) == 2
    gate.learn(100)
    assert most_at_once(gate) == 2


def test_a_wait_ends_when_there_is_memory_again_or_when_it_is_stopped():
    amount, stop = 0, threading.Event()
    gate = MemoryGate(lambda: amount)
    for end in (lambda: None, stop.set):
        entered = threading.Event()

        def second(entered=entered):
            with gate.room(stop):
                entered.set()

        with gate.room(NEVER):
            thread = threading.Thread(target=second)
            thread.start()
            assert not entered.wait(0.3)
            amount = 9 * GB if end is not stop.set else 0
            end()
            assert entered.wait(2)
        thread.join()
        amount = 0


def test_alone_is_alone():
    gate = MemoryGate(lambda: 99 * GB)
    inside = threading.Event()

    def alone():
        with gate.room(NEVER, alone=True):
            inside.set()
            time.sleep(0.3)
            inside.clear()

    with gate.room(NEVER):
        thread = threading.Thread(target=alone)
        thread.start()
        assert not inside.wait(0.3), "somebody else still runs"
    assert inside.wait(2)
    with gate.room(NEVER):
        assert not inside.is_set(), "nobody else starts"
    thread.join()


@pytest.mark.parametrize(
    ("files", "wanted"),
    [
        ({}, None),
        ({"proc/meminfo": "MemTotal: 9 kB\nMemAvailable: 5 kB\n"}, 5 * 1024),
        ({"proc/meminfo": "MemAvailable: 5 kB\n", "proc/self/cgroup": "0::/\n"}, 5 * 1024),
        (
            {
                "proc/meminfo": "MemAvailable: 5 kB\n",
                "proc/self/cgroup": "0::/a/b\n",
                "sys/fs/cgroup/a/memory.max": "4000\n",
                "sys/fs/cgroup/a/memory.current": "3000\n",
                "sys/fs/cgroup/a/memory.stat": "anon 7\ninactive_file 500\n",
                "sys/fs/cgroup/a/b/memory.max": "max\n",
                "sys/fs/cgroup/a/b/memory.current": "3000\n",
            },
            1500,
        ),
        (
            {
                "proc/self/cgroup": "3:cpu:/x\n4:memory:/a\n",
                "sys/fs/cgroup/memory/a/memory.limit_in_bytes": "4000\n",
                "sys/fs/cgroup/memory/a/memory.usage_in_bytes": "3000\n",
                "sys/fs/cgroup/memory/a/memory.stat": "total_inactive_file 100\n",
            },
            1100,
        ),
    ],
)
def test_the_systems_files(files, wanted, tmp_path):
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert available_memory(tmp_path) == wanted


def test_this_machine():
    assert available_memory() > 100 << 20


def test_a_compiler_that_the_system_kills_is_tried_once_more_alone(options, tmp_path):
    """As the out-of-memory killer does where several run."""
    body = f"""
mkdir {tmp_path}/running-$$
sleep 0.5
if [ "$(ls -d {tmp_path}/running-* | wc -l)" -gt 1 ]; then
  sleep 0.3
  rmdir {tmp_path}/running-$$
  grep -q iree_exp_0 "$1" && kill -KILL $$
else
  rmdir {tmp_path}/running-$$
fi
echo run >>{tmp_path}/runs
exec {real_compiler()} "$@"
"""
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", body), workers=2)
    requests = [elementwise(EXP, f"iree_exp_{n}") for n in range(2)]
    outcomes = compile_kernels(requests, parse_target("gfx942"), options)
    assert all(isinstance(each.kernel, GpuKernel) for each in outcomes)


def test_compilers_wait_for_memory(options, tmp_path, monkeypatch):
    monkeypatch.setattr(batch, "available_memory", lambda: 0)
    body = f'mkdir {tmp_path}/one || touch {tmp_path}/two; {real_compiler()} "$@"; rmdir {tmp_path}/one'
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", body), workers=4)
    outcomes = compile_kernels([elementwise(EXP, f"iree_exp_{n}") for n in range(3)], parse_target("gfx942"), options)
    assert all(isinstance(each.kernel, GpuKernel) for each in outcomes)
    assert not (tmp_path / "two").exists()


@pytest.mark.parametrize(("available", "short"), [(None, False), (GB, False), (GB // 8, True)])
def test_when_memory_is_short(available, short, monkeypatch):
    monkeypatch.setattr(memory, "available_memory", lambda: available)
    assert memory.is_short() is short
