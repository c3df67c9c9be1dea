"""What file systems on a network do otherwise than local ones; each is played by a system call that does it."""

import contextlib
import errno
import os
from dataclasses import replace
from pathlib import Path

import pytest

from iree_migraphx.kernels import cache as cache_module
from iree_migraphx.kernels.cache import KernelCache
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.kernels.upkeep import items

from .sources import EXP, counting_compiler, elementwise
from .test_cache import GPU, KEY, store

GFX942 = parse_target("gfx942")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


@pytest.fixture
def warnings(caplog):
    return lambda: [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def failing(function, number, error, after=False):
    """A system call that fails the first time on a path of interest, having done its work or not."""
    count = iter(range(1000))

    def call(path, *arguments, **named):
        fails = next(count) == number
        if fails and not after:
            raise OSError(error, os.strerror(error), str(path))
        result = function(path, *arguments, **named)
        if fails:
            raise OSError(error, os.strerror(error), str(path))
        return result

    return call


def test_a_rename_that_is_asked_for_twice(folder, warnings, monkeypatch):
    """The answer to the first was lost: the second finds nothing to rename, for the entry is in its place."""
    cache = KernelCache(folder)
    monkeypatch.setattr(os, "replace", failing(os.replace, 0, errno.ENOENT, after=True))
    store(cache)
    assert cache.load(KEY) == GPU
    assert cache.writable
    assert warnings() == []


def test_a_rename_that_finds_nothing_and_left_nothing(folder, warnings, monkeypatch):
    cache = KernelCache(folder)
    monkeypatch.setattr(os, "replace", failing(os.replace, 0, errno.ENOENT))
    store(cache)
    assert cache.load(KEY) is None
    assert len(warnings()) == 1


def test_a_rename_onto_an_entry_that_is_not_seen_yet(folder, warnings, monkeypatch):
    """Another machine has just made it; this one's view of the folder is some seconds old."""
    store(KernelCache(folder))
    cache = KernelCache(folder)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", lambda path: False)
        assert cache.load(KEY) is None
        store(cache)
    assert cache.load(KEY) == GPU
    assert (cache.writable, warnings()) == (True, [])


@pytest.mark.parametrize("call", ["exists", "read_bytes"])
def test_a_folder_that_is_stale_is_a_miss(call, folder, warnings, monkeypatch):
    store(KernelCache(folder))
    cache = KernelCache(folder)
    original, stale = Path.exists, iter([False, True])

    def gone(path):
        raise OSError(errno.ESTALE, "Stale file handle", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, gone)
        if call == "read_bytes":
            # It is there at first, and the whole folder is stale once it is read.
            patch.setattr(Path, "exists", lambda path: gone(path) if next(stale) else original(path))
        assert cache.load(KEY) is None
    assert cache.load(KEY) == GPU
    assert (cache.writable, warnings()) == (True, [])


@pytest.mark.parametrize("error", [errno.ESTALE, errno.EIO])
def test_an_entry_that_another_machine_replaces_while_it_is_read(error, folder, warnings, monkeypatch):
    store(KernelCache(folder))
    cache = KernelCache(folder)
    monkeypatch.setattr(Path, "read_bytes", failing(Path.read_bytes, 0, error))
    assert cache.load(KEY) == GPU
    assert warnings() == []


@pytest.mark.parametrize("call", ["fcntl.flock", "os.fstat"])
def test_a_claim_that_is_stale(call, folder, monkeypatch):
    """Another machine has removed it since it was opened. Then there is none, and a kernel may be compiled twice."""
    cache = KernelCache(folder)

    def stale(*arguments):
        raise OSError(errno.ESTALE, "Stale file handle")

    with monkeypatch.context() as patch:
        patch.setattr(call, stale)
        with cache.claim(KEY) as mine:
            assert mine
    with cache.claim(KEY) as mine:
        assert mine


def test_a_folder_that_can_not_be_removed_while_a_file_in_it_is_open(folder, warnings, monkeypatch):
    """NFS keeps such a file, under another name: what is left is not taken for an entry, and is swept after a day."""
    real = cache_module.scratch_folder

    def keeping(where=None, prefix=""):
        with real(where, prefix) as made:
            (where / f"{prefix}kept").mkdir(exist_ok=True)
            (where / f"{prefix}kept" / ".nfs0001").touch()
            yield made

    monkeypatch.setattr(cache_module, "scratch_folder", contextlib.contextmanager(keeping))
    cache = KernelCache(folder)
    store(cache)
    assert cache.load(KEY) == GPU
    assert [item.path.name for item in items(folder)] == [KEY]
    left = folder / ".unfinished-kept"
    os.utime(left, (0, 0))
    KernelCache(folder)
    assert not left.exists()
    assert warnings() == []


def test_without_hard_links_and_locks_all_kernels_are_right(options, tmp_path, monkeypatch):
    def unsupported(*arguments, **named):
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    for call in ("os.link", "os.symlink", "fcntl.flock", "fcntl.lockf"):
        monkeypatch.setattr(call, unsupported)
    path, log = counting_compiler(tmp_path / "counting")
    requests = [elementwise(EXP, f"iree_exp_{n}") for n in range(2)]
    options = replace(options, iree_bin=path)
    first = compile_kernels(requests, GFX942, options)
    again = compile_kernels(requests, GFX942, options)
    assert [each.kernel for each in again] == [each.kernel for each in first]
    assert [each.cache for each in again] == ["hit", "hit"]
    assert len(log.read_text().split()) == 2
