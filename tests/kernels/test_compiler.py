import os
from dataclasses import replace

import pytest

from iree_migraphx.errors import CompilerNotFoundError
from iree_migraphx.kernels.compiler import Compiler, compile_command, find_compiler
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.options import Options

from .sources import fake_compiler

GFX942 = parse_target("gfx942")


def test_the_wheels_binary_and_its_version():
    compiler = find_compiler(Options())
    assert compiler.path.parts[-3:] == ("compiler", "_mlir_libs", "iree-compile")
    assert compiler.path.read_bytes()[:4] == b"\x7fELF"
    assert compiler.version.startswith("IREE compiler version 3.")


def test_search_order(tmp_path, monkeypatch):
    first = fake_compiler(tmp_path / "first", "exit 1")
    second = fake_compiler(tmp_path / "second", "exit 1")
    third = fake_compiler(tmp_path / "third", "exit 1")
    monkeypatch.setenv("PATH", f"{third.parent}:{os.environ['PATH']}")
    both = Options(iree_bin=first, iree_tool_path=second.parent)
    assert find_compiler(both).path == first
    assert find_compiler(replace(both, iree_bin=first.parent)).path == first
    assert find_compiler(replace(both, iree_bin=None)).path == second
    assert "_mlir_libs" in str(find_compiler(Options()).path)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert find_compiler(Options()).path == third


def test_a_tool_path_without_a_compiler_is_passed_over(tmp_path):
    assert "_mlir_libs" in str(find_compiler(Options(iree_tool_path=tmp_path)).path)


@pytest.mark.parametrize("name", ["nowhere", "", "plain.txt"])
def test_iree_bin_without_a_compiler_is_an_error_that_names_it(name, tmp_path):
    (tmp_path / "plain.txt").write_text("not a program")
    with pytest.raises(CompilerNotFoundError, match=f"IREE_BIN is {tmp_path / name}"):
        find_compiler(Options(iree_bin=tmp_path / name))


def test_no_compiler_anywhere(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CompilerNotFoundError, match="pip install iree-base-compiler"):
        find_compiler(Options())


@pytest.mark.parametrize(
    ("version", "why"),
    [
        ("exit 3", "status 3"),
        ("echo libfoo.so: cannot open >&2; exit 127", "libfoo.so: cannot open"),
        ("kill -SEGV $$", "status -11"),
        ("true", "status 0"),
    ],
)
def test_a_compiler_that_does_not_answer(version, why, tmp_path):
    path = fake_compiler(tmp_path, "", version)
    with pytest.raises(CompilerNotFoundError, match=f"{path} does not answer to --version .*{why}"):
        find_compiler(Options(iree_bin=path))


def test_a_compiler_that_can_not_be_started(tmp_path):
    path = tmp_path / "iree-compile"
    path.write_bytes(b"\x7fELF rubbish")
    path.chmod(0o755)
    with pytest.raises(CompilerNotFoundError, match="can't be run"):
        find_compiler(Options(iree_bin=path))


def test_the_version_is_asked_for_once(tmp_path):
    path = fake_compiler(tmp_path, "", f"echo asked >>{tmp_path}/asked; echo IREE compiler version 1.2")
    assert find_compiler(Options(iree_bin=path)) == find_compiler(Options(iree_bin=path))
    assert (tmp_path / "asked").read_text() == "asked\n"
    before = find_compiler(Options(iree_bin=path))
    os.utime(path, (1, 1))
    after = find_compiler(Options(iree_bin=path))
    assert (tmp_path / "asked").read_text() == "asked\nasked\n"
    assert before.identity != after.identity, "another build of the same version"


def test_a_reinstall_of_the_same_build_keeps_its_identity(tmp_path):
    original = find_compiler(Options())
    copy = tmp_path / "iree-compile"
    copy.write_bytes(original.path.read_bytes())
    copy.chmod(0o755)
    (tmp_path / "libIREECompiler.so").symlink_to(original.path.with_name("libIREECompiler.so"))
    assert find_compiler(Options(iree_bin=copy)).identity == original.identity


def test_another_library_is_another_build(tmp_path):
    path = fake_compiler(tmp_path, "")
    without = find_compiler(Options(iree_bin=path)).identity
    (tmp_path / "libIREECompiler.so").write_bytes(b"another")
    os.utime(path, (2, 2))
    changed = find_compiler(Options(iree_bin=path)).identity
    assert changed.split()[0] != without
    assert len(changed.split()) == 2


def test_a_compiler_in_a_folder_with_a_space(tmp_path):
    folder = tmp_path / "my tools"
    folder.mkdir()
    (folder / "iree-lld").touch()
    compiler = Compiler(folder / "iree-compile", "", "")

    def linker(compiler, target, *flags):
        command = compile_command(compiler, parse_target(target), flags, tmp_path / "i", tmp_path / "o")
        return [word for word in command if "linker" in word]

    assert linker(compiler, "host") == [f"--iree-llvmcpu-embedded-linker-path='{folder}/iree-lld'"]
    assert linker(compiler, "gfx942") == []
    assert linker(find_compiler(Options()), "host") == []
    mine = "--iree-llvmcpu-embedded-linker-path=/bin/lld"
    assert linker(compiler, "host", mine) == [mine]
