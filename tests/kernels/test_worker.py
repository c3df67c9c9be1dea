import shlex
import tempfile
import threading
from dataclasses import replace

import pytest

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.model import GpuKernel, GpuSequence, HostKernel
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.kernels.worker import compile_order
from iree_migraphx.logs import FROM_IREE

from .sources import CRASHING, INVALID, TWICE_THE_SAME, TWO_DOTS, dot, fake_compiler, order, real_compiler

GFX942 = parse_target("gfx942")
HOST = parse_target("host")
DOT = dot()


def compile_(request, options, target=GFX942):
    return compile_order(order(request, options, target), find_compiler(options), threading.Event())


def said(*lines):
    """A compiler's body that fails with these words."""
    return f"printf '%s\\n' {shlex.join(lines)} >&2; exit 1"


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """Where the package's temporary files go; nothing may be left there."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    assert list(folder.iterdir()) == []


def test_gpu(options, temporary):
    compiled = compile_(DOT, options)
    assert isinstance(compiled.result, GpuKernel)
    assert compiled.lasting
    assert compiled.seconds > 0.05
    assert compiled.command[0] == str(real_compiler())
    assert "--iree-rocm-target=gfx942" in compiled.command


@pytest.mark.parametrize("gfx", ["gfx942", "gfx1100"])
def test_one_kernel_for_two_parts_of_a_buffer(options, temporary, gfx):
    """IREE would give it the part as a constant, which MIGraphX can't: it gets a pointer to the part."""
    compiled = compile_(TWICE_THE_SAME, options, parse_target(gfx))
    assert isinstance(compiled.result, GpuSequence), compiled.result
    assert compiled.lasting
    first, again, last = compiled.result.launches
    assert first.symbol == again.symbol != last.symbol
    parts = [launch.pointers[-1] for launch in (first, again)]
    assert {part.buffer for part in parts} == {TWICE_THE_SAME.arguments}
    assert abs(parts[0].offset - parts[1].offset) >= parts[0].size == parts[1].size == 64 * 4
    assert set(parts) <= set(last.pointers)


def test_the_users_own_flag_for_parts_counts(options, temporary):
    flag = "--iree-scheduling-optimize-bindings=true"
    compiled = compile_(TWICE_THE_SAME, replace(options, flags=(flag,)))
    assert isinstance(compiled.result, Refusal)
    assert compiled.result.reason is Reason.PUSH_CONSTANTS
    assert compiled.command.count(flag) == 1


@pytest.mark.parametrize("request_", [DOT, TWO_DOTS], ids=lambda request: request.symbol)
def test_host_takes_any_number_of_dispatches(request_, options, temporary):
    compiled = compile_(request_, options, HOST)
    assert isinstance(compiled.result, HostKernel)
    assert compiled.result.symbol == request_.symbol
    assert compiled.lasting


@pytest.mark.parametrize("target", [GFX942, HOST], ids=str)
def test_the_compilers_first_error(target, options, temporary):
    compiled = compile_(INVALID, options, target)
    assert compiled.result.reason is Reason.COMPILE_ERROR
    assert compiled.result.detail.startswith("use of undeclared SSA value name")
    assert compiled.lasting


@pytest.mark.parametrize("target", [GFX942, HOST], ids=str)
def test_a_real_crash(target, options, temporary):
    compiled = compile_(CRASHING, options, target)
    assert compiled.result.reason is Reason.COMPILER_CRASH
    assert compiled.result.detail.startswith("ended by SIGSEGV")
    assert not compiled.lasting


@pytest.mark.parametrize(
    ("body", "reason", "detail"),
    [
        ("kill -SEGV $$", Reason.COMPILER_CRASH, "ended by SIGSEGV"),
        ("kill -KILL $$", Reason.COMPILER_CRASH, "ended by SIGKILL"),
        ("kill -40 $$", Reason.COMPILER_CRASH, "ended by signal 40"),
        (
            "echo LLVM ERROR: out of memory >&2; kill -ABRT $$",
            Reason.COMPILER_CRASH,
            "SIGABRT: LLVM ERROR: out of memory",
        ),
        ("exit 0", Reason.BAD_COMPILER_OUTPUT, "reported success and wrote nothing"),
        ('echo rubbish >"$3"', Reason.BAD_COMPILER_OUTPUT, ""),
        ("head -c 5000 /dev/urandom >$3", Reason.BAD_COMPILER_OUTPUT, ""),
        ("printf '\\377\\376' >$3", Reason.BAD_COMPILER_OUTPUT, ""),
        ("mkdir $3", Reason.DISK, "Is a directory"),
        ("exit 9", Reason.COMPILE_ERROR, "status 9 and said nothing"),
        ("echo ld.so: no libtinfo >&2; exit 127", Reason.COMPILE_ERROR, "ld.so: no libtinfo"),
        (
            "echo 'error opening input file: No space left on device' >&2; exit 1",
            Reason.DISK,
            "No space left on device",
        ),
        ("echo 'x: error: cannot open output file: Permission denied' >&2; exit 1", Reason.DISK, "Permission denied"),
        ("yes | head -c 3000000 >&2; exit 1", Reason.COMPILE_ERROR, "y"),
        # Seen of iree-compile 3.13.0 on a full disk, without a folder for temporary files, and without memory.
        (said("failed to generate temporary file: No space left on device"), Reason.DISK, "temporary file"),
        (said("in.mlir:2:8: error: temporary file for ISA binary creation error"), Reason.COMPILE_ERROR, "temporary"),
        (said("in.mlir:2:8: error: iree-lld execute fail:Bus errorError Code:-2"), Reason.COMPILE_ERROR, "iree-lld"),
        (
            said("iree-lld: error: x.o: section header table goes past the end", "x: error: failed to link executable"),
            Reason.COMPILE_ERROR,
            "section header",
        ),
        (said("x: error: a", "sh: fork: Cannot allocate memory"), Reason.COMPILE_ERROR, "a"),
    ],
)
@pytest.mark.parametrize("target", [GFX942, HOST], ids=str)
def test_a_compiler_that_misbehaves(body, reason, detail, target, tmp_path, options, temporary):
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", body))
    compiled = compile_(DOT, options, target)
    assert isinstance(compiled.result, Refusal)
    assert compiled.result.reason is reason
    assert detail in compiled.result.detail
    assert len(compiled.result.detail) < 1000
    assert not compiled.lasting


def test_a_symbol_that_the_linker_does_not_find_is_about_the_input(tmp_path, options):
    words = said("iree-lld: error: undefined symbol: erfcf", "x: error: failed to link executable")
    compiled = compile_(DOT, replace(options, iree_bin=fake_compiler(tmp_path / "fake", words)), HOST)
    assert (compiled.result.reason, compiled.lasting) == (Reason.COMPILE_ERROR, True)


@pytest.mark.parametrize("linker", ["/bin/false", "/nowhere/iree-lld"])
def test_a_linker_that_fails_is_not_about_the_input(linker, options):
    options = replace(options, flags=(f"--iree-llvmcpu-embedded-linker-path={linker}",))
    compiled = compile_(DOT, options, HOST)
    assert (compiled.result.reason, compiled.lasting) == (Reason.COMPILE_ERROR, False)
    assert "failed to link" in compiled.result.detail


@pytest.mark.parametrize("name", ["a b", "$(touch x)", "it's", "-n", "ünï"])
@pytest.mark.parametrize("target", [GFX942, HOST], ids=str)
def test_temporary_files_in_a_folder_with_any_name(name, target, options, temporary, monkeypatch):
    folder = temporary / name
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    compiled = compile_(DOT, options, target)
    assert not isinstance(compiled.result, Refusal), compiled.result
    assert compiled.command[0] == str(real_compiler())
    # A compiler that hangs there is ended all the same, and nothing is left.
    slow = replace(options, iree_bin=fake_compiler(temporary.parent / "fake", "sleep 60 & wait"), timeout=0.2)
    assert compile_(DOT, slow, target).result.reason is Reason.TIMEOUT
    folder.rmdir()


@pytest.mark.parametrize("body", ["sleep 60", "sleep 60 & wait", "while :; do echo; done", "exec >&- 2>&-; sleep 60"])
def test_a_compiler_that_hangs(body, tmp_path, options, temporary):
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", body), timeout=0.3)
    compiled = compile_(DOT, options)
    assert (compiled.result.reason, compiled.lasting) == (Reason.TIMEOUT, True)
    assert "more than 0.3 s" in compiled.result.detail
    assert compiled.seconds < 1.0


@pytest.mark.parametrize("part", [1, 100, 4000, 9000])
@pytest.mark.parametrize("target", [GFX942, HOST], ids=str)
def test_a_compiler_that_writes_half_of_its_output(part, target, tmp_path, options, temporary):
    body = f'{real_compiler()} "$@"; head -c {part} "$3" >"$3.half"; mv "$3.half" "$3"'
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", body))
    compiled = compile_(DOT, options, target)
    assert (compiled.result.reason, compiled.lasting) == (Reason.BAD_COMPILER_OUTPUT, False)


def test_a_compiler_that_disappears(tmp_path, options, temporary):
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", ""))
    compiler = find_compiler(options)
    compiler.path.unlink()
    compiled = compile_order(order(DOT, options, GFX942), compiler, threading.Event())
    assert (compiled.result.reason, compiled.lasting) == (Reason.COMPILER_CRASH, False)
    assert "can't be started" in compiled.result.detail


def test_no_room_for_temporary_files(tmp_path, options, monkeypatch):
    compiler = find_compiler(options)
    (tmp_path / "file").touch()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "file"))
    compiled = compile_order(order(DOT, options, GFX942), compiler, threading.Event())
    assert (compiled.result.reason, compiled.lasting) == (Reason.DISK, False)


def test_the_log_has_command_lines_and_at_the_next_level_the_compilers_words(options, caplog):
    caplog.set_level("DEBUG", logger="iree_migraphx")
    compile_(INVALID, options)
    said = {(record.name, record.levelname): record.getMessage() for record in caplog.records}
    assert "--iree-rocm-target=gfx942" in said["iree_migraphx.kernels.worker", "INFO"]
    assert "undeclared SSA value" in said[FROM_IREE, "DEBUG"]
