import json
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.cache import MAKERS, KernelCache
from iree_migraphx.kernels.entry import cache_key
from iree_migraphx.kernels.model import Copy, Fill, GpuKernel, GpuSequence, HostKernel, Launch, Region, Request
from iree_migraphx.report import KernelResources

REQUEST = Request("iree_dot", "module {}\n", 3, "dot")
ENTRIES = {"compiler": "1.0", "mlir": REQUEST.mlir}
KEY = cache_key(ENTRIES)
GPU = GpuKernel("k", b"\x7fELF" + bytes(2000), 7, 64, KernelResources("k", 7, 64, 0, 8, 0, 16, 0, 64), (1, 0, 2))
PLACE = Region(3, 16, 64)
STEPS = (Fill(PLACE), Launch("k", 7, 64, GPU.resources, (Region(0, 0, 8), PLACE)), Copy(PLACE, Region(2, 0, 64)))
SEQUENCE = GpuSequence("iree_dot", GPU.code_object, STEPS, 3, 1, (80,))
RESULTS = [
    GPU,
    SEQUENCE,
    HostKernel("iree_dot", b"PK" + bytes(2000)),
    Refusal(Reason.BLOCK_NOT_1D, "32 x 8 x 1 – work-items"),
]


def store(cache, result=GPU, key=KEY):
    cache.store(key, ENTRIES, REQUEST, ["/bin/iree compile", "input.mlir"], result)


def equal(one, other):
    if isinstance(one, Refusal):
        return isinstance(other, Refusal) and (one.reason, one.detail) == (other.reason, other.detail)
    return one == other


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "new" / "cache"


@pytest.fixture
def warnings(caplog):
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def names(folder):
    return sorted(path.name for path in folder.iterdir() if path.name != MAKERS)


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_what_is_stored_comes_back(result, folder, warnings):
    assert KernelCache(folder).load(KEY) is None
    store(KernelCache(folder), result)
    assert equal(KernelCache(folder).load(KEY), result)
    assert warnings() == []


def test_an_entry_can_be_read_by_a_person(folder):
    store(KernelCache(folder))
    entry = folder / KEY[:2] / KEY
    assert names(entry) == ["command.txt", "input.mlir", "kernel.hsaco", "meta.json"]
    assert (entry / "input.mlir").read_text() == REQUEST.mlir
    assert (entry / "command.txt").read_text() == "'/bin/iree compile' input.mlir\n"
    assert (entry / "kernel.hsaco").read_bytes() == GPU.code_object
    meta = json.loads((entry / "meta.json").read_text())
    assert (meta["symbol"], meta["workgroups"], meta["operands"]) == ("k", 7, [1, 0, 2])
    assert meta["made_of"] == {"compiler": "1.0"}
    assert names(folder) == [KEY[:2]], "nothing unfinished is left"


def test_the_folder_is_for_its_owner_alone(folder):
    store(KernelCache(folder))
    for path in (folder, folder / KEY[:2], folder / KEY[:2] / KEY):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700


def test_a_folder_that_everybody_may_write_to_is_not_used(folder, warnings):
    store(KernelCache(folder))
    folder.chmod(0o777)
    cache = KernelCache(folder)
    assert not cache.writable
    assert cache.load(KEY) is None
    assert len(warnings()) == 1
    assert "everybody may write to it" in warnings()[0]


@pytest.mark.parametrize("name", ["meta.json", "kernel.hsaco"])
@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "remove", "folder"])
def test_damage_is_a_warning_and_the_entry_is_written_anew(name, damage, folder, warnings):
    cache = KernelCache(folder)
    store(cache)
    path = folder / KEY[:2] / KEY / name
    data = path.read_bytes()
    path.unlink()
    match damage:
        case "flip":
            path.write_bytes(
                data.replace(b'"workgroups": 7', b'"workgroups": 8') if name == "meta.json" else b"\0" + data[1:]
            )
        case "cut":
            path.write_bytes(data[: len(data) // 2])
        case "empty":
            path.touch()
        case "folder":
            path.mkdir()
    assert cache.load(KEY) is None
    assert len(warnings()) == 1
    assert f"{KEY} can't be used and is compiled again" in warnings()[0]
    assert cache.load(KEY) is None
    assert len(warnings()) == 1, "it is gone"
    store(cache)
    assert cache.load(KEY) == GPU
    assert names(folder) == [KEY[:2]]


@pytest.mark.parametrize(
    "text", ["[]", "{}", "null", '{"checksum": 1, "kind": "gpu"}', '{"checksum": 1, "kind": []}', "\xff"]
)
def test_a_description_of_something_else(text, folder, warnings):
    cache = KernelCache(folder)
    store(cache)
    (folder / KEY[:2] / KEY / "meta.json").write_text(text, encoding="latin-1")
    assert cache.load(KEY) is None
    assert len(warnings()) == 1


def test_an_entry_under_another_key_is_not_taken(folder, warnings):
    cache = KernelCache(folder)
    store(cache)
    other = KEY[:2] + KEY[2:][::-1]
    (folder / KEY[:2] / KEY).rename(folder / KEY[:2] / other)
    assert cache.load(other) is None
    assert len(warnings()) == 1


def test_the_second_of_two_equal_entries_is_dropped(folder, warnings):
    cache = KernelCache(folder)
    store(cache)
    store(cache)
    assert cache.load(KEY) == GPU
    assert cache.writable
    assert names(folder) == [KEY[:2]]
    assert warnings() == []


def test_a_file_in_the_folders_place_is_one_warning(folder, warnings):
    folder.parent.mkdir()
    folder.touch()
    cache = KernelCache(folder)
    for _ in range(3):
        assert cache.load(KEY) is None
        store(cache)
    assert len(warnings()) == 1
    assert str(folder) in warnings()[0]
    assert "IREE_MIGRAPHX_CACHE_DIR" in warnings()[0]


def test_a_disk_that_refuses_is_one_warning_and_leaves_nothing_half_written(folder, warnings):
    cache = KernelCache(folder)
    store(cache)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        threads = [threading.Thread(target=store, args=(cache, GPU, cache_key({"n": str(n)}))) for n in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not cache.writable
    assert len(warnings()) == 1
    assert "kernels are not kept" in warnings()[0]
    assert cache.load(KEY) == GPU, "what is there can still be used"
    assert [path.name for path in folder.glob("??/*")] == [KEY]


def test_what_a_killed_process_left_is_swept_after_a_day(folder):
    cache = KernelCache(folder)
    old, new = folder / ".unfinished-old", folder / ".unfinished-new"
    for path in (old, new):
        path.mkdir()
        (path / "meta.json").write_text("{")
    os.utime(old, (1, 1))
    assert cache.writable
    KernelCache(folder)
    assert not old.exists()
    assert new.exists()


def test_many_processes_share_one_cache(folder):
    script = f"""
import logging, sys
logging.basicConfig(level="WARNING")
from dataclasses import replace
from pathlib import Path
from tests.kernels.test_cache import *
cache = KernelCache(Path({str(folder)!r}))
good = 0
for turn in range(150):
    key = cache_key({{"turn": str(turn % 5)}})
    kept = cache.load(key)
    assert kept is None or kept == replace(GPU, workgroups=turn % 5)
    good += kept is not None
    store(cache, replace(GPU, workgroups=turn % 5), key)
    if turn % 10 == 9:
        cache.discard(key, "on purpose")
assert cache.writable
print(good)
"""
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", script]
    running = [subprocess.Popen(command, cwd=root, stdout=-1, stderr=-1, text=True) for _ in range(3)]
    for process in running:
        output, errors = process.communicate()
        assert process.returncode == 0, errors
        assert int(output) > 0
        assert [line for line in errors.splitlines() if "on purpose" not in line] == []
    assert not list(folder.glob(".unfinished-*"))


def test_keys_do_not_run_together():
    keys = [
        {"a": "b", "c": "d"},
        {"c": "d", "a": "b"},
        {"a": "bc", "": "d"},
        {"ab": "", "c": "d"},
        {"a": "b"},
        {},
        {"a": "b", "c": ""},
    ]
    assert len({cache_key(key) for key in keys}) == len(keys)
