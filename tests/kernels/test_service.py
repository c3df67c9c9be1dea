import io
import json
import re
import subprocess
import sys
import threading
import time
from dataclasses import replace

import pytest

from iree_migraphx.errors import CompilerNotFoundError, OptionError, Reason, Refusal
from iree_migraphx.kernels import lookup, service
from iree_migraphx.kernels.compiler import Compiler, find_compiler
from iree_migraphx.kernels.entry import cache_key
from iree_migraphx.kernels.flags import compile_flags
from iree_migraphx.kernels.lookup import key_entries
from iree_migraphx.kernels.model import GpuKernel, HostKernel
from iree_migraphx.kernels.progress import BarProgress, LineProgress, NoProgress, default_progress
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.options import Options

from .sources import COPY, CRASHING, EXP, INVALID, TWO_DOTS, counting_compiler, dot, elementwise, fake_compiler

GFX942 = parse_target("gfx942")
DOT = dot()
MUL = elementwise("%q = arith.mulf %x, %x : f16", "iree_mul")


@pytest.fixture
def counted(tmp_path, options):
    """Options with the real compiler, and what it has been run for since the last call."""
    path, log = counting_compiler(tmp_path / "counting")

    def runs():
        names = [line.strip()[1:] for line in log.read_text().splitlines()]
        log.write_text("")
        return names

    return replace(options, iree_bin=path), runs


def entry(options, number=0):
    return sorted(path for path in options.cache_dir.glob("??/*"))[number]


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("host", HostKernel),
        *((name, GpuKernel) for name in ["gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201", "mi300x"]),
    ],
)
def test_compiled_then_from_the_cache(target, kind, counted):
    options, runs = counted
    target = parse_target(target)
    (first,) = compile_kernels([DOT], target, options)
    assert isinstance(first.kernel, kind)
    assert first.cache == "miss"
    assert first.seconds > 0.05
    (second,) = compile_kernels([DOT], target, options)
    assert second == replace(first, seconds=0.0, cache="hit")
    assert runs() == [DOT.symbol]


def test_outcomes_come_in_the_order_of_the_requests(options):
    wide = elementwise(EXP, "iree_exp")
    requests = [MUL, INVALID, DOT, CRASHING, TWO_DOTS, wide]
    outcomes = compile_kernels(requests, GFX942, options)
    kinds = [each.kernel.reason if isinstance(each.kernel, Refusal) else each.kernel.symbol for each in outcomes]
    assert kinds[0].startswith("iree_mul_dispatch_0")
    assert kinds[1] is Reason.COMPILE_ERROR
    assert kinds[2].startswith("iree_dot_add_dispatch_0")
    assert kinds[3] is Reason.COMPILER_CRASH
    assert kinds[4] == TWO_DOTS.symbol
    assert kinds[5].startswith("iree_exp_dispatch_0")


def test_equal_requests_are_compiled_once(counted):
    options, runs = counted
    outcomes = compile_kernels([DOT, MUL, replace(DOT, anchor="other", cost=5.0), DOT], GFX942, options)
    assert sorted(runs()) == [DOT.symbol, MUL.symbol]
    assert outcomes[0].kernel == outcomes[2].kernel == outcomes[3].kernel
    assert outcomes[0].seconds > 0
    assert outcomes[2].seconds == outcomes[3].seconds == 0.0
    assert {each.cache for each in outcomes} == {"miss"}


def test_the_slowest_goes_first(counted):
    options, runs = counted
    costs = {"iree_b": 1.0, "iree_a": 9.0, "iree_c": 5.0}
    requests = [replace(elementwise(EXP, name), cost=cost) for name, cost in costs.items()]
    compile_kernels(requests, GFX942, replace(options, workers=1))
    assert runs() == ["iree_a", "iree_c", "iree_b"]


def test_without_a_cache(counted):
    options, runs = counted
    options = replace(options, cache=False)
    outcomes = [compile_kernels([DOT], GFX942, options)[0] for _ in range(2)]
    assert [each.cache for each in outcomes] == ["off", "off"]
    assert runs() == [DOT.symbol] * 2
    assert not options.cache_dir.exists()


def test_no_requests_need_no_compiler(options, tmp_path):
    assert compile_kernels([], GFX942, replace(options, iree_bin=tmp_path / "nowhere")) == []


def test_no_compiler(options, tmp_path):
    with pytest.raises(CompilerNotFoundError):
        compile_kernels([DOT], GFX942, replace(options, iree_bin=tmp_path / "nowhere"))


def test_a_wrong_flag_ends_it_before_the_first_compile(counted):
    options, runs = counted
    with pytest.raises(OptionError, match="--iree-nope"):
        compile_kernels([DOT, MUL], GFX942, replace(options, flags=("--iree-nope",)))
    assert DOT.symbol not in runs()


def test_flags_reach_the_compiler_and_are_not_tried_again_where_the_cache_has_everything(counted):
    options, _ = counted
    options = replace(options, flags=("--iree-opt-level=O2",))
    compile_kernels([DOT], GFX942, options)
    command = (entry(options) / "command.txt").read_text()
    assert "--iree-opt-level=O2" in command
    assert "--iree-opt-level=O3" not in command
    path = options.iree_bin
    path.write_text(path.read_text().replace("exec", f"echo >>{path.parent}/called; exec"))
    compile_kernels([DOT], GFX942, options)
    (path.parent / "called").unlink()
    compile_kernels([DOT], GFX942, options)
    assert not (path.parent / "called").exists()


@pytest.mark.parametrize("request_", [INVALID, COPY], ids=lambda request: request.symbol)
def test_lasting_refusals_are_kept(request_, counted):
    options, runs = counted
    (first,) = compile_kernels([request_], GFX942, options)
    (second,) = compile_kernels([request_], GFX942, options)
    assert (second.kernel.reason, second.kernel.detail) == (first.kernel.reason, first.kernel.detail)
    assert (first.cache, second.cache) == ("miss", "hit")
    assert len(runs()) == 1


def test_passing_refusals_are_not_kept(counted, tmp_path):
    options, runs = counted
    for _ in range(2):
        (outcome,) = compile_kernels([CRASHING], GFX942, options)
        assert (outcome.kernel.reason, outcome.cache) == (Reason.COMPILER_CRASH, "miss")
    assert len(runs()) == 2
    assert list(options.cache_dir.glob("??/*")) == []


def test_a_time_limit_is_kept_for_a_while_and_as_long_as_there_is_no_more_time(options, tmp_path, monkeypatch):
    def compiled(timeout=0.2):
        (outcome,) = compile_kernels([DOT], GFX942, replace(slow, timeout=timeout))
        assert outcome.kernel.reason is Reason.TIMEOUT
        return outcome.cache

    slow = replace(options, iree_bin=fake_compiler(tmp_path / "slow", "sleep 9"))
    assert [compiled(), compiled(), compiled(0.1)] == ["miss", "hit", "hit"]
    assert [compiled(0.3), compiled(0.3)] == ["miss", "hit"], "there is more time"
    now = time.time()
    for later in (25 * 3600, 0.0, -25 * 3600):
        monkeypatch.setattr("time.time", lambda clock=now + later: clock)
        assert [compiled(), compiled()] == ["miss", "hit"], later


def test_a_damaged_kernel_is_compiled_again(counted, caplog):
    options, runs = counted
    (first,) = compile_kernels([DOT], GFX942, options)
    path = entry(options) / "kernel.hsaco"
    path.write_bytes(path.read_bytes()[:-1])
    (second,) = compile_kernels([DOT], GFX942, options)
    assert (second.kernel, second.cache) == (first.kernel, "miss")
    assert "compiled again" in caplog.text
    assert compile_kernels([DOT], GFX942, options)[0].cache == "hit"
    assert runs() == [DOT.symbol] * 2


@pytest.mark.parametrize(("name", "other"), [("gfx942", "gfx90a"), ("host", "gfx942"), ("gfx942", "host")])
def test_a_kernel_for_another_target_is_not_taken_from_the_cache(name, other, options, monkeypatch, caplog):
    """A whole entry, checksum and all, under the key of another target."""
    compile_kernels([DOT], parse_target(other), options)
    monkeypatch.setattr(service, "cache_key", lambda entries: entry(options).name)
    (outcome,) = compile_kernels([DOT], parse_target(name), options)
    assert outcome.cache == "miss"
    assert isinstance(outcome.kernel, HostKernel if name == "host" else GpuKernel)
    assert "compiled again" in caplog.text


BASE = {
    "request": DOT,
    "compiler": Compiler(None, "IREE compiler version 3.13.0", "1234"),
    "target": GFX942,
    "flags": (),
    "cpu": "x86_64 flags: avx2",
    "abi": 1,
}
CHANGES = {
    "mlir": {"request": replace(DOT, mlir=DOT.mlir + "\n")},
    "symbol": {"request": replace(DOT, symbol="iree_dot_ad")},
    "arguments": {"request": replace(DOT, arguments=5)},
    "version": {"compiler": replace(BASE["compiler"], version="IREE compiler version 3.13.1")},
    "build": {"compiler": replace(BASE["compiler"], identity="1235")},
    "flag": {"flags": ("--iree-opt-level=O2",)},
    "flags": {"flags": ("--iree-opt-level=O2", "--iree-hip-index-bits=32")},
    "order of flags": {"flags": ("--iree-hip-index-bits=32", "--iree-opt-level=O2")},
    "product": {"target": parse_target("mi300x")},
    "feature": {"target": parse_target("gfx942:xnack-")},
    "gfx": {"target": parse_target("gfx950")},
    "host": {"target": parse_target("host")},
    "host with another cpu": {"target": parse_target("host"), "cpu": "x86_64 flags: avx512f"},
    "what acceptance means": {"abi": 2},
}


def test_the_key_changes_with_everything_that_decides(options, monkeypatch):
    def key(**changes):
        parts = {**BASE, **changes}
        monkeypatch.setattr(lookup, "host_cpu", lambda: parts["cpu"])
        monkeypatch.setattr(lookup, "ABI", parts["abi"])
        flags = compile_flags(parts["target"], replace(options, flags=parts["flags"]))
        return cache_key(key_entries(parts["request"], parts["compiler"], parts["target"], flags))

    keys = {name: key(**change) for name, change in CHANGES.items()}
    assert len({key(), *keys.values()}) == 1 + len(CHANGES)
    assert key() == key(request=replace(DOT, anchor="x", cost=3.0)) == key(cpu="another, for a gpu")
    assert key() == key(compiler=replace(BASE["compiler"], path="/elsewhere"))


def test_meta_names_what_the_key_is_made_of(options):
    compile_kernels([DOT], GFX942, options)
    meta = json.loads((entry(options) / "meta.json").read_text())
    made_of = key_entries(DOT, find_compiler(options), GFX942, compile_flags(GFX942, options))
    assert cache_key(made_of) == meta["key"] == entry(options).name
    assert made_of.pop("mlir") == (entry(options) / "input.mlir").read_text()
    assert meta["made_of"] == made_of


class Recorder:
    def __init__(self):
        self.calls = []

    def begin(self, total, target, kept):
        self.calls.append(("begin", total, target, kept))

    def done(self, request, outcome):
        self.calls.append(("done", request.symbol, threading.current_thread()))

    def end(self):
        self.calls.append(("end",))


def test_progress(options):
    recorder = Recorder()
    compile_kernels([DOT, MUL, DOT], parse_target("mi300x"), options, recorder)
    main = threading.current_thread()
    assert recorder.calls[0] == ("begin", 2, "mi300x", True)
    assert sorted(recorder.calls[1:3], key=str) == [("done", each.symbol, main) for each in (DOT, MUL)]
    assert recorder.calls[3:] == [("end",)]


def test_no_progress_where_everything_comes_from_the_cache(options):
    compile_kernels([DOT], GFX942, options)
    recorder = Recorder()
    compile_kernels([DOT], GFX942, options, recorder)
    assert recorder.calls == []


def test_an_error_of_the_callers_ends_the_compilers(options, tmp_path):
    class Failing(Recorder):
        def done(self, request, outcome):
            raise RuntimeError("mine")

    body = 'grep -q iree_mul "$1" || sleep 60; exit 1'
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", body))
    progress = Failing()
    started = time.monotonic()
    with pytest.raises(RuntimeError, match="mine"):
        compile_kernels([DOT, MUL], GFX942, options, progress)
    assert time.monotonic() - started < 2.0
    assert progress.calls[-1] == ("end",)


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_which_progress(options, monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(default_progress(replace(options, quiet=False)), BarProgress)
    assert isinstance(default_progress(options), NoProgress)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    assert isinstance(default_progress(replace(options, quiet=False)), LineProgress)


@pytest.mark.parametrize(("level", "silent"), [("", False), ("0", True), ("1", False), ("2", False)])
def test_level_0_is_silent_where_it_was_asked_for(level, silent, monkeypatch):
    monkeypatch.setattr("sys.stderr", Terminal())
    assert isinstance(default_progress(Options.resolve({"IREE_DEBUG": level})), NoProgress) is silent
    arguments = {"debug": int(level)} if level else {}
    assert isinstance(default_progress(Options.resolve({}, **arguments)), NoProgress) is silent


def test_lines_in_a_log_are_few_and_say_that_it_is_for_once(options, capsys):
    requests = [elementwise(EXP, f"iree_exp_{n}") for n in range(4)]
    compile_kernels(requests, GFX942, replace(options, quiet=False))
    assert (
        capsys.readouterr().err
        == "iree_migraphx: compiling 4 kernels for gfx942; once: the cache keeps what is compiled\n"
    )
    compile_kernels(requests, GFX942, replace(options, quiet=False))
    assert capsys.readouterr().err == ""
    compile_kernels(requests[:1], GFX942, replace(options, quiet=False, cache=False))
    assert capsys.readouterr().err == "iree_migraphx: compiling 1 kernel for gfx942\n"


def test_a_long_batch_says_how_far_it_is(options):
    stream = io.StringIO()
    requests = [elementwise(EXP, f"iree_exp_{n}") for n in range(3)]
    compile_kernels(requests, GFX942, options, LineProgress(stream, seconds=0.0))
    lines = stream.getvalue().splitlines()
    assert [line.split(" after ")[0] for line in lines[1:]] == [f"iree_migraphx: {n} of 3 kernels" for n in (1, 2)]


def test_the_bar_gives_the_terminal_back(options):
    stream = Terminal()
    compile_kernels([DOT, MUL], GFX942, options, BarProgress(stream))
    text = stream.getvalue()
    assert "compiling 2 kernels for gfx942" in text
    assert "2/2" in text
    assert re.search(r"\d:\d\d:\d\d|-:--:--", text), "the time left"
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is back"


def test_a_cache_that_does_not_work_costs_one_warning(counted, caplog):
    options, runs = counted
    options.cache_dir.touch()
    outcomes = compile_kernels([DOT, MUL], GFX942, options)
    assert all(isinstance(each.kernel, GpuKernel) for each in outcomes)
    assert [record.levelname for record in caplog.records if record.levelno >= 30] == ["WARNING"]
    assert len(runs()) == 2


def test_importing_the_package_does_not_import_iree():
    script = "import sys, iree_migraphx.kernels.service; print({'iree', 'rich', 'msgpack'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"
