"""A cache among processes that die, disks that refuse, clocks that jump and bits that flip."""

import builtins
import contextlib
import errno
import io
import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.cache import KernelCache, Maker
from iree_migraphx.kernels.entry import cache_key
from iree_migraphx.kernels.model import GpuKernel
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.kernels.upkeep import items, keep_within, prune, verify
from iree_migraphx.options import Options

from .sources import EXP, counting_compiler, elementwise
from .test_cache import ENTRIES, GPU, KEY, REQUEST, store
from .test_invoke import is_running, wait_until

ROOT = Path(__file__).parents[2]
DAY = 86400.0
GFX942 = parse_target("gfx942")
REQUESTS = [elementwise(EXP, f"iree_exp_{n}") for n in range(6)]

SCRIPT = """
import json, sys
from pathlib import Path
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.options import Options
from tests.kernels.test_faults import GFX942, REQUESTS, digest

folder = Path(sys.argv[1])
options = Options(
    iree_bin=folder / "counting", cache_dir=folder / "cache", workers=2, quiet=True, kernels_per_process=1
)
print("ready", flush=True)
sys.stdin.readline()
outcomes = compile_kernels(REQUESTS, GFX942, options)
print(json.dumps([digest(each.kernel) for each in outcomes]))
"""


def digest(kernel):
    """What tells a kernel from any other."""
    assert isinstance(kernel, GpuKernel), kernel
    return cache_key({"symbol": kernel.symbol, "bytes": kernel.code_object.hex(), "grid": str(kernel.workgroups)})


@pytest.fixture(scope="module")
def right():
    """What the kernels have to be."""
    outcomes = compile_kernels(REQUESTS, GFX942, Options(cache=False, quiet=True))
    return [digest(each.kernel) for each in outcomes]


def start(folder):
    command = [sys.executable, "-c", SCRIPT, str(folder)]
    return subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def go(process):
    assert process.stdout.readline() == "ready\n", process.stderr.read()
    process.stdin.write("go\n")
    process.stdin.flush()


def test_eight_processes_and_one_empty_cache(tmp_path, right):
    _, log = counting_compiler(tmp_path / "counting")
    running = [start(tmp_path) for _ in range(8)]
    for process in running:
        go(process)
    for process in running:
        output, errors = process.communicate(timeout=100)
        assert process.returncode == 0, errors
        assert json.loads(output) == right
        assert errors == ""
    runs = [name for name in log.read_text().split() if name != "--version"]
    assert sorted(runs) == [f"@{request.symbol}" for request in REQUESTS], "each was compiled once"
    assert not list((tmp_path / "cache").glob(".claim-*"))


def test_kill_at_random_points(tmp_path, right, pytestconfig):
    """The parent or one of its compilers; 6 times, or as often as --examples says. It resumes where it was."""
    counting_compiler(tmp_path / "counting")
    randomly = random.Random(5)
    finished = 0
    for number in range(pytestconfig.getoption("--examples") or 6):
        if finished == len(REQUESTS):
            for item in items(tmp_path / "cache"):
                KernelCache(tmp_path / "cache").remove(item.path)
        process = start(tmp_path)
        go(process)
        time.sleep(randomly.uniform(0.0, 1.2))
        children = [int(line) for line in descendants(process.pid)]
        if number % 3 == 2 and children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(randomly.choice(children), signal.SIGKILL)
            output, errors = process.communicate(timeout=100)
            assert process.returncode == 0, errors
            kept = json.loads(output) if output else []
            assert kept == right, "a compiler that was killed was tried again"
        else:
            process.kill()
            process.communicate()
            wait_until(lambda gone=children: not any(map(is_running, gone)), 2.0)
        cache = KernelCache(tmp_path / "cache")
        assert list(verify(cache)) == []
        finished = len(list((tmp_path / "cache").glob("??/*")))
        served = compile_cached(tmp_path)
        assert all(one in (None, other) for one, other in zip(served, right, strict=True))
    process = start(tmp_path)
    go(process)
    output, errors = process.communicate(timeout=100)
    assert (json.loads(output), errors) == (right, "")


def compile_cached(folder):
    """What the cache serves: for what it lacks there is a compiler that can't be used."""
    from iree_migraphx.kernels.compiler import find_compiler
    from iree_migraphx.kernels.flags import compile_flags
    from iree_migraphx.kernels.lookup import Lookup, key_entries

    options = Options(iree_bin=folder / "counting", cache_dir=folder / "cache", quiet=True)
    found, lookup = find_compiler(options), Lookup(GFX942, options)
    flags = compile_flags(GFX942, options)
    kept = [lookup.kept(cache_key(key_entries(each, found, GFX942, flags)), each) for each in REQUESTS]
    return [None if each is None else digest(each) for each in kept]


def descendants(process):
    """The compilers of a process; not the guards, which are shells that clean up after it."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")
            if fields[2].split()[1] == str(process) and "iree-compile" in fields[0]:
                found.append(path.parent.name)
    return found


class FailingDisk:
    """Lets operations that change a folder fail from the one with this number on, or just that one."""

    def __init__(self, folder, number, error, lasting, patch):
        self.folder, self.number, self.error, self.lasting = str(folder), number, error, lasting
        self.count = 0
        for name in ("mkdir", "rename", "replace", "open", "utime", "unlink"):
            patch.setattr(os, name, self._wrap(getattr(os, name)))
        opener = self._wrap(io.open, lambda arguments: any(sign in "".join(map(str, arguments[1:2])) for sign in "wa"))
        patch.setattr(io, "open", opener)
        patch.setattr(builtins, "open", opener)

    def _wrap(self, function, counts=lambda arguments: True):
        def wrapper(path, *arguments, **named):
            if str(path).startswith(self.folder) and counts((path, *arguments)):
                self.count += 1
                if self.count == self.number or (self.lasting and self.count > self.number):
                    raise OSError(self.error, os.strerror(self.error), str(path))
            return function(path, *arguments, **named)

        return wrapper


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES, errno.EROFS, errno.EDQUOT, errno.EIO])
@pytest.mark.parametrize("lasting", [False, True], ids=["once", "from then on"])
def test_a_disk_that_refuses_at_any_write(error, lasting, tmp_path, caplog):
    for number in itertools.count(1):
        folder = tmp_path / str(number)
        caplog.clear()
        with pytest.MonkeyPatch.context() as patch:
            disk = FailingDisk(folder, number, error, lasting, patch)
            cache = KernelCache(folder)
            with cache.claim(KEY) as mine:
                assert mine
                store(cache)
            cache.write(folder / "lowered" / "x.json", b"{}")
            keep_within(cache, 1)
            loaded = cache.load(KEY)
            cache.remove(cache.entry(KEY))
        assert loaded in (None, GPU)
        assert len([record for record in caplog.records if record.levelname == "WARNING"]) <= 1
        if disk.count < number:
            break
        # With room again everything works, and nothing half-written is taken.
        cache = KernelCache(folder)
        assert cache.load(KEY) in (None, GPU)
        store(cache)
        assert cache.load(KEY) == GPU
        assert [item.path for item, _ in verify(cache) if item.path.name == KEY] == []
    assert number > 10


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EACCES])
def test_a_compile_on_a_disk_that_refuses(error, options, right, caplog, monkeypatch):
    FailingDisk(options.cache_dir, 1, error, True, monkeypatch)
    outcomes = compile_kernels(REQUESTS[:2], GFX942, options)
    assert [digest(each.kernel) for each in outcomes] == right[:2]
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


@pytest.mark.parametrize("result", [GPU, Refusal(Reason.GRID_NOT_1D, "2 x 3")], ids=["kernel", "refusal"])
def test_no_bit_of_an_entry_can_change(result, tmp_path):
    small = replace(result, code_object=b"\x7fELF" + bytes(60)) if isinstance(result, GpuKernel) else result
    store(KernelCache(tmp_path / "cache"), small)
    # It is read-only, so that it stays where it is.
    cache = KernelCache(tmp_path / "cache", readonly=True)
    for path in [*cache.entry(KEY).glob("meta.json"), *cache.entry(KEY).glob("kernel.*")]:
        data = path.read_bytes()
        served = 0
        for bit in range(8 * len(data)):
            flipped = bytearray(data)
            flipped[bit // 8] ^= 1 << bit % 8
            path.write_bytes(flipped)
            loaded = cache.load(KEY)
            if loaded is not None:
                served += 1
                same = loaded == small if isinstance(small, GpuKernel) else str(loaded) == str(small)
                assert same, bytes(flipped)
        # Blanks between the values may be other blanks.
        assert served < len(data) / 4
        path.write_bytes(data)


def test_a_flipped_bit_of_the_mlir_is_found_by_verify(tmp_path):
    cache = KernelCache(tmp_path / "cache")
    store(cache)
    path = cache.entry(KEY) / "input.mlir"
    data = path.read_bytes()
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert len(list(verify(cache))) == 1, bytes(flipped)


@pytest.mark.parametrize("jump", [-400 * DAY, 400 * DAY])
def test_a_clock_that_jumps(jump, tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    cache = KernelCache(folder)
    store(cache)
    with cache.claim(KEY):
        now = time.time()
        monkeypatch.setattr("time.time", lambda: now + jump)
        jumped = KernelCache(folder)
        assert jumped.load(KEY) == GPU
        entries = {"n": "1", "mlir": REQUEST.mlir}
        key = cache_key(entries)
        jumped.store(key, entries, REQUEST, [], GPU)
        assert jumped.load(key) == GPU
        keep_within(jumped, 1)
        assert set(jumped.makers()) == {Maker("", ""), Maker("1.0", "")}
    monkeypatch.setattr("time.time", lambda: now)
    assert cache.load(KEY) == cache.load(key) == GPU
    assert list(verify(cache)) == []


def at(path, seconds):
    os.utime(path, (seconds, seconds))


def test_what_was_used_longest_ago_goes_first_and_the_future_before_it(tmp_path):
    cache = KernelCache(tmp_path / "cache")
    now = time.time()
    keys = {age: cache_key({"age": str(age)}) for age in (0, 5, 50, -400)}
    for age, key in keys.items():
        cache.store(key, ENTRIES, REQUEST, [], GPU)
        at(cache.entry(key), now - age * DAY)
    size = next(items(cache.folder)).size
    order = []
    for _ in keys:
        order += [item.path.name for item in prune(cache, len(list(items(cache.folder))) * size - 1)]
    assert order[:3] == [keys[-400], keys[50], keys[5]]


def test_an_entry_that_is_used_stays(tmp_path):
    cache = KernelCache(tmp_path / "cache")
    store(cache)
    at(cache.entry(KEY), time.time() - 50 * DAY)
    assert prune(cache, 1 << 30) == []
    cache.load(KEY)
    assert prune(cache, 1 << 30, time.time() - DAY) == []
    at(cache.entry(KEY), time.time() - 50 * DAY)
    assert [item.path.name for item in prune(cache, 1 << 30, time.time() - DAY)] == [KEY]


def test_the_size_is_kept_within_its_limit_but_not_looked_at_each_time(options, monkeypatch):
    cache = KernelCache(options.cache_dir)
    big = replace(GPU, code_object=b"\x7fELF" + bytes(300_000))

    def fill(first, count):
        for number in range(first, first + count):
            cache.store(cache_key({"n": str(number)}), ENTRIES, REQUEST, [], big)
            at(cache.entry(cache_key({"n": str(number)})), time.time() - 10000 + number)
        keep_within(cache, 1)
        return sorted(int(n) for n in range(20) if cache.entry(cache_key({"n": str(n)})).exists())

    assert fill(0, 5) == [3, 4] or fill(0, 5) == [2, 3, 4]
    left = fill(5, 5)
    assert left[-5:] == [5, 6, 7, 8, 9], "it was looked at just before"
    now = time.time()
    monkeypatch.setattr("time.time", lambda: now + 700)
    assert fill(10, 1)[-1] == 10
    assert sum(item.size for item in items(cache.folder)) < 1 << 20
    keep_within(cache, 0)


def test_a_claim_is_given_back_however_its_process_ends(tmp_path):
    cache = KernelCache(tmp_path)
    script = f"""
import sys, time
from pathlib import Path
from iree_migraphx.kernels.cache import KernelCache
with KernelCache(Path({str(tmp_path)!r})).claim({KEY!r}) as mine:
    print(mine, flush=True)
    time.sleep(60)
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "True\n"
    with cache.claim(KEY) as mine:
        assert not mine
    process.kill()
    process.communicate()
    for _ in range(2):
        with cache.claim(KEY) as mine:
            assert mine
            with cache.claim(KEY) as again:
                assert not again
            with cache.claim(cache_key({})) as other:
                assert other
    assert not list(tmp_path.glob(".claim-*"))


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def flock(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with KernelCache(tmp_path).claim(KEY) as one, KernelCache(tmp_path).claim(KEY) as other:
        assert one
        assert other
