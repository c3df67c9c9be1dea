from pathlib import Path

import pytest

from iree_migraphx.config import Flags
from iree_migraphx.errors import OptionError
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.flags import check_flags, compile_flags, key_text, write_flags
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.options import Options

GFX942 = parse_target("gfx942")


def test_the_users_flags_win():
    flags = compile_flags(GFX942, Options(flags=("--iree-opt-level=O1", "--iree-llvmcpu-debug-symbols=false")))
    assert "--iree-opt-level=O3" not in flags
    assert list(flags[-2:]) == ["--iree-opt-level=O1", "--iree-llvmcpu-debug-symbols=false"]
    assert "--iree-opt-level=O3" in compile_flags(GFX942, Options())


@pytest.mark.parametrize("target", ["host", "gfx942"])
def test_good_flags_pass(target):
    options = Options(flags=("--iree-opt-level=O2", "-iree-rocm-waves-per-eu=2"))
    check_flags(find_compiler(options), parse_target(target), options)


@pytest.mark.parametrize("target", ["host", "gfx942"])
@pytest.mark.parametrize(
    ("flag", "why"),
    [
        ("--iree-nope", "Unknown command line argument '--iree-nope'"),
        ("--iree-opt-level=O9", "'O9' value not a valid optimization level"),
        ("--iree-input-type=tensorflow", "unknown custom value for --iree-input-type"),
    ],
)
def test_a_wrong_flag_is_named_with_the_compilers_words(target, flag, why):
    options = Options(flags=("--iree-rocm-waves-per-eu=2", flag))
    with pytest.raises(OptionError) as raised:
        check_flags(find_compiler(options), parse_target(target), options)
    assert f"IREE_CONFIG sets {flag}, which" in str(raised.value)
    assert why in str(raised.value)


def test_a_flag_that_keeps_the_compiler_from_compiling():
    options = Options(flags=("--version",))
    with pytest.raises(OptionError, match=r"sets --version, .*no output"):
        check_flags(find_compiler(options), GFX942, options)


@pytest.mark.parametrize(
    "flag", ["-o=x", "--compile-to=vm", "-iree-rocm-target=gfx90a", "--iree-hal-target-device=local"]
)
def test_flags_that_are_not_the_users(flag):
    with pytest.raises(OptionError, match="is not for it to choose"):
        check_flags(find_compiler(Options()), GFX942, Options(flags=(flag,)))


@pytest.mark.parametrize(
    ("name", "anchor", "wanted"),
    [
        ("gfx942", "dot", ["--x=gfx", "--y=dot", "--gpu"]),
        ("mi300x", "add", ["--y=all", "--gpu", "--x=product"]),
        ("mi300x:xnack-", "add", ["--y=all", "--gpu", "--x=whole"]),
        ("gfx90a", "dot", ["--x=all", "--gpu", "--y=dot"]),
        ("host", "add", ["--x=all", "--y=host"]),
    ],
)
def test_the_more_particular_flag_wins(name, anchor, wanted):
    targets = {
        "MI300X:xnack-": ("--x=whole",),
        "mi300x": ("--x=product",),
        "gfx942": ("--x=gfx",),
        "gpu": ("--gpu",),
        "host": ("--y=host",),
    }
    options = Options(flags=Flags(("--x=all", "--y=all"), targets, {"dot": ("--y=dot",)}))
    flags = compile_flags(parse_target(name), options, anchor)
    assert sorted(flag for flag in flags if flag.startswith(("--x", "--y", "--gpu"))) == sorted(wanted)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (Flags(targets={"gfx924": ("--x",)}), "the target 'gfx924': .*did you mean gfx942"),
        (Flags(anchors={"convolutoin": ("--x",)}), "the anchor 'convolutoin', .*did you mean convolution"),
        (Flags(anchors={"dot": ("--compile-to=vm",)}), "is not for it to choose"),
        (Flags(anchors={"dot": ("--iree-nope",)}), "IREE_CONFIG sets --iree-nope, which"),
        (Flags(targets={"gpu": ("--iree-nope",)}), "IREE_CONFIG sets --iree-nope, which"),
    ],
)
def test_wrong_flags_of_a_scope(flags, message):
    options = Options(flags=flags)
    with pytest.raises(OptionError, match=message):
        check_flags(find_compiler(options), GFX942, options)


def test_flags_of_another_target_are_not_tried():
    options = Options(flags=Flags(targets={"host": ("--iree-nope",)}))
    check_flags(find_compiler(options), GFX942, options)


def test_what_a_file_holds_counts_and_not_its_name(tmp_path):
    def key(path, text, end=""):
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return key_text(compile_flags(GFX942, Options(flags=(f"--iree-spec={path}{end}",))))

    first = key(tmp_path / "spec.mlir", "one")
    assert key(tmp_path / "elsewhere" / "spec.mlir", "one") == first
    assert key(tmp_path / "spec.mlir", "two") != first
    assert key(tmp_path / "spec.mlir", "one", "@entry") != first


def test_every_compiler_gets_its_own_copy_of_a_file(tmp_path):
    path, folder = tmp_path / "spec.mlir", tmp_path / "folder"
    folder.mkdir()
    path.write_text("one")
    flags = compile_flags(GFX942, Options(flags=(f"--iree-spec={path}@entry",)))
    path.write_text("two")
    assert write_flags(flags, folder)[-1] == f"--iree-spec={folder}/spec.mlir@entry"
    assert (folder / "spec.mlir").read_text() == "one"


def test_words_and_programs_are_not_files_to_copy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "host").touch()
    given = ("--iree-llvmcpu-target-cpu=host", "--iree-llvmcpu-embedded-linker-path=/bin/sh")
    assert compile_flags(parse_target("host"), Options(flags=given))[-2:] == given


def test_a_file_that_is_too_secret(tmp_path, monkeypatch):
    path = tmp_path / "spec.mlir"
    path.touch()
    monkeypatch.setattr(Path, "read_bytes", lambda self: (_ for _ in ()).throw(PermissionError("no")))
    with pytest.raises(OptionError, match="can't be read: no"):
        compile_flags(GFX942, Options(flags=(f"--iree-spec={path}",)))
