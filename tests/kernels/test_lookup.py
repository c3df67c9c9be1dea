"""Read-only caches, and what is said of a kernel that is in none."""

import shutil
from dataclasses import replace

import pytest

from iree_migraphx.errors import CompilerNotFoundError, OptionError, Reason, Refusal
from iree_migraphx.kernels import compiler
from iree_migraphx.kernels.cache import KernelCache
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.model import GpuKernel
from iree_migraphx.kernels.service import compile_kernels, prepare
from iree_migraphx.kernels.targets import parse_target

from .sources import EXP, INVALID, counting_compiler, dot, elementwise, real_compiler

GFX942 = parse_target("gfx942")
DOT = dot()
OTHER = elementwise(EXP, "iree_exp")


@pytest.fixture
def shipped(options, tmp_path):
    """Options with a read-only cache, which has DOT and the refusal of INVALID, and an empty one of one's own."""
    compile_kernels([DOT, INVALID], GFX942, replace(options, cache_dir=tmp_path / "shipped"))
    return replace(options, cache_readonly=(tmp_path / "shipped",))


@pytest.fixture
def no_compiler(monkeypatch):
    monkeypatch.setattr(compiler, "_candidates", lambda options: iter(()))
    monkeypatch.setattr(compiler, "_examine", lambda *arguments: pytest.fail("a compiler was started"))


def files(folder):
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_no_compiler_is_started_for_what_is_there(shipped, no_compiler):
    before = files(shipped.cache_readonly[0])
    prepare(GFX942, shipped)
    first, second, third = compile_kernels([DOT, INVALID, DOT], GFX942, shipped)
    assert isinstance(first.kernel, GpuKernel)
    assert second.kernel.reason is Reason.COMPILE_ERROR
    assert {each.cache for each in (first, second, third)} == {"hit"}
    assert files(shipped.cache_readonly[0]) == before, "it is read-only"
    assert not list(shipped.cache_dir.glob("??/*"))


def test_what_is_not_there_is_refused_where_there_is_no_compiler(shipped, no_compiler):
    first, second = compile_kernels([DOT, OTHER], GFX942, shipped)
    assert isinstance(first.kernel, GpuKernel)
    assert second.kernel.reason is Reason.NO_COMPILER
    assert "it is in no cache" in second.kernel.detail
    with pytest.raises(CompilerNotFoundError):
        compile_kernels([OTHER], GFX942, replace(shipped, cache_readonly=()))


def test_what_is_not_there_is_compiled_into_the_users_own(shipped):
    first, second = compile_kernels([DOT, OTHER], GFX942, shipped)
    assert (first.cache, second.cache) == ("hit", "miss")
    assert len(list(shipped.cache_dir.glob("??/*"))) == 1
    assert compile_kernels([OTHER], GFX942, shipped)[0].cache == "hit"


def test_the_first_folder_that_has_it_counts(shipped, tmp_path, no_compiler):
    empty = tmp_path / "empty"
    empty.mkdir()
    options = replace(shipped, cache_readonly=(empty, tmp_path / "missing", *shipped.cache_readonly))
    assert compile_kernels([DOT], GFX942, options)[0].cache == "hit"


def test_who_names_a_compiler_gets_its_kernels_only(shipped, tmp_path):
    same = replace(shipped, iree_bin=real_compiler())
    assert compile_kernels([DOT], GFX942, same)[0].cache == "hit"
    path, log = counting_compiler(tmp_path / "counting")
    assert compile_kernels([DOT], GFX942, replace(shipped, iree_bin=path))[0].cache == "miss"
    assert log.read_text() == f"@{DOT.symbol}\n"


def test_no_cache_is_no_cache_at_all(shipped):
    assert compile_kernels([DOT], GFX942, replace(shipped, cache=False))[0].cache == "off"


@pytest.mark.parametrize("damage", ["kernel", "makers", "writable by all", "absent"])
def test_trouble_with_a_read_only_cache_is_a_warning_and_a_compile(damage, shipped, caplog):
    folder = shipped.cache_readonly[0]
    if damage == "kernel":
        (path,) = folder.glob("??/*/kernel.hsaco")
        path.write_bytes(path.read_bytes()[:-1])
    elif damage == "makers":
        for path in (folder / "compilers").iterdir():
            path.write_text("[")
    elif damage == "absent":
        shutil.rmtree(folder)
    else:
        folder.chmod(0o777)
    (outcome,) = compile_kernels([DOT], GFX942, shipped)
    assert isinstance(outcome.kernel, GpuKernel)
    assert outcome.cache == "miss"
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == (damage != "makers")
    if damage == "kernel":
        assert path.exists(), "it is not ours to remove"


def test_flags_are_checked_without_a_compiler(shipped, no_compiler):
    with pytest.raises(OptionError, match="is not for it to choose"):
        prepare(GFX942, replace(shipped, flags=("--compile-to=vm",)))


def test_makers_the_latest_first(tmp_path):
    cache = KernelCache(tmp_path / "cache")
    for number in range(3):
        entries = {"compiler": f"{number}", "build": "b", "mlir": ""}
        cache.store(f"{number:040x}", entries, DOT, [], Refusal(Reason.COMPILE_ERROR, ""))
    versions = [maker.version for maker in KernelCache(tmp_path / "cache", readonly=True).makers()]
    assert sorted(versions) == ["0", "1", "2"]
    assert versions[0] == "2"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"flags": ("--iree-opt-level=O2",)}, "flags (--iree-opt-level=O3 there, --iree-opt-level=O2 here)"),
        ({"target": "mi300x"}, "target (gfx942 there, mi300x here)"),
        ({"mlir": "\n// more"}, "mlir (1 lines, such as + // more)"),
    ],
)
def test_a_miss_beside_a_similar_entry_says_what_differs(change, message, options, caplog):
    caplog.set_level("INFO", logger="iree_migraphx")
    compile_kernels([DOT], GFX942, options)
    assert "differs in" not in caplog.text
    (entry,) = options.cache_dir.glob("??/*")
    request = replace(DOT, mlir=DOT.mlir.rstrip("\n") + change.get("mlir", "") + "\n")
    target = parse_target(change.get("target", "gfx942"))
    compile_kernels([request, OTHER], target, replace(options, flags=change.get("flags", ())))
    (line,) = [record.getMessage() for record in caplog.records if "differs in" in record.getMessage()]
    assert line.startswith(f"{DOT.symbol}: not in the cache; {entry} differs in ")
    assert message in line


def test_key_entries_are_logged_at_the_second_level(options, caplog):
    for level, wanted in (("INFO", False), ("DEBUG", True)):
        caplog.clear()
        caplog.set_level(level, logger="iree_migraphx")
        compile_kernels([replace(DOT, symbol=f"iree_{level}")], GFX942, options)
        assert ("is made of {" in caplog.text) is wanted
    assert f'"compiler": "{find_compiler(options).version}"' in caplog.text
