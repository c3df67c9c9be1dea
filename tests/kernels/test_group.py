"""Several kernels by one compiler: the same kernels as by one each, whatever happens to one of them."""

import threading
import time
from dataclasses import replace

import pytest

from iree_migraphx.errors import Refusal
from iree_migraphx.kernels.batch import Batch, Job
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.group import can_be_grouped, compile_group
from iree_migraphx.kernels.invoke import StoppedError
from iree_migraphx.kernels.lookup import Lookup
from iree_migraphx.kernels.model import GpuKernel, Request
from iree_migraphx.kernels.progress import NoProgress
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target

from .sources import (
    CRASHING,
    EXP,
    INVALID,
    TWO_DOTS,
    TWO_RESULTS,
    dot,
    elementwise,
    fake_compiler,
    order,
    real_compiler,
)

GFX942 = parse_target("gfx942")
HOST = parse_target("host")
DOT = dot()
SAME = [elementwise(EXP, f"iree_exp_{n}") for n in range(3)]
RIGHT = [DOT, dot("iree_dot_f32", type_="f32", order=("bias", "a", "b")), TWO_RESULTS, *SAME]


@pytest.fixture
def grouped(options, tmp_path):
    """Options for one worker and groups, and the functions of each run of the compiler since the last call."""
    body = f"""
grep -o 'func.func @iree[a-z0-9_]*' "$1" | cut -d@ -f2 | tr '\\n' ' ' >>{tmp_path}/runs; echo >>{tmp_path}/runs
exec {real_compiler()} "$@\""""
    (tmp_path / "runs").touch()

    def runs():
        lines = (tmp_path / "runs").read_text().splitlines()
        (tmp_path / "runs").write_text("")
        return [line.split() for line in lines]

    script = fake_compiler(tmp_path / "counting", body)
    return replace(options, iree_bin=script, workers=1, kernels_per_process=8), runs


def alone(requests, options, target=GFX942):
    return [each.kernel for each in compile_kernels(requests, target, replace(options, cache=False))]


@pytest.mark.parametrize("target", ["gfx942", "gfx1201"])
def test_they_are_what_each_would_be_by_itself(target, options):
    target = parse_target(target)
    compiler = find_compiler(options)
    done = compile_group([order(each, options, target) for each in RIGHT], compiler, threading.Event())
    wanted = dict(zip([each.symbol for each in RIGHT], alone(RIGHT, options, target), strict=True))
    # Of equal ones all but one may be left out. On RDNA the workgroup of a dot in float has to be changed.
    assert len(done.compiled) >= 4
    for symbol, compiled in done.compiled.items():
        assert compiled.result == wanted[symbol]
        assert compiled.lasting
    assert done.peak > 0


def test_one_run_and_then_the_cache(grouped, options):
    options, runs = grouped
    requests = [DOT, TWO_RESULTS, elementwise("%q = arith.mulf %x, %x : f16", "iree_mul"), SAME[0]]
    outcomes = compile_kernels(requests, GFX942, replace(options, kernels_per_process=3))
    assert sorted(map(len, runs())) == [1, 3]
    assert all(isinstance(each.kernel, GpuKernel) and each.cache == "miss" and each.seconds > 0 for each in outcomes)
    again = compile_kernels(requests, GFX942, options)
    assert [each.cache for each in again] == ["hit"] * 4
    assert runs() == []


@pytest.mark.parametrize("bad", [CRASHING, INVALID, TWO_DOTS], ids=lambda request: request.symbol)
def test_one_that_fails_costs_the_others_no_kernel(bad, grouped):
    options, runs = grouped
    good = [DOT, TWO_RESULTS]
    wanted = alone([*good, bad], replace(options, kernels_per_process=1))
    runs()
    outcomes = compile_kernels([*good, bad], GFX942, replace(options, kernels_per_process=8))
    assert [each.kernel for each in outcomes[:2]] == wanted[:2]
    refusal = outcomes[2].kernel
    if isinstance(refusal, Refusal):
        assert (refusal.reason, refusal.detail) == (wanted[2].reason, wanted[2].detail)
        assert [bad.symbol] in runs(), "what is refused was compiled by itself"
    else:
        assert refusal == wanted[2]


def test_a_group_that_hangs_is_given_up_early(options, tmp_path):
    body = f'[ $(grep -c "func.func" "$1") -gt 1 ] && touch {tmp_path}/tried && sleep 60; exec {real_compiler()} "$@"'
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", body), timeout=6, kernels_per_process=2)
    started = time.monotonic()
    outcomes = compile_kernels([DOT, TWO_RESULTS, SAME[0]], GFX942, replace(options, workers=1))
    assert all(isinstance(each.kernel, GpuKernel) for each in outcomes)
    assert (tmp_path / "tried").exists()
    assert 3 <= time.monotonic() - started < 30


@pytest.mark.parametrize("body", ["kill -KILL $$", "exit 0", "echo rubbish >$3"])
def test_a_compiler_that_can_not_do_several(body, options, tmp_path):
    several = f'[ $(grep -c "func.func" "$1") -gt 1 ] && touch {tmp_path}/tried'
    body = f'{several} && {{ {body}; exit; }}; exec {real_compiler()} "$@"'
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", body), kernels_per_process=2)
    outcomes = compile_kernels([DOT, TWO_RESULTS, SAME[0]], GFX942, replace(options, workers=1))
    assert all(isinstance(each.kernel, GpuKernel) for each in outcomes)
    assert (tmp_path / "tried").exists()


def test_who_can_be_together(options):
    first = order(DOT, options, GFX942)
    assert can_be_grouped(first, order(TWO_RESULTS, options, GFX942))
    assert not can_be_grouped(first, order(DOT, options, parse_target("gfx90a")))
    assert not can_be_grouped(first, replace(first, flags=(*first.flags, "--iree-opt-level=O1")))
    assert not can_be_grouped(order(DOT, options, HOST), order(TWO_RESULTS, options, HOST))
    for flag in ("--iree-hal-link-executables=true", "--iree-hal-memoization=true"):
        theirs = replace(first, flags=(*first.flags, flag))
        assert not can_be_grouped(theirs, theirs)


def test_groups_are_large_first_and_small_at_the_end(options):
    options = replace(options, workers=2, kernels_per_process=0)
    batch = Batch(find_compiler(options), Lookup(GFX942, options), options, NoProgress())
    requests = [Request(f"iree_{n}", "", 1, "dot") for n in range(40)]
    jobs = [Job(order(each, options, GFX942), each.symbol, {}, 0.0) for each in requests]
    groups = batch._groups(jobs)
    assert sorted((job for group in groups for job in group), key=jobs.index) == jobs
    sizes = [len(group) for group in groups]
    assert sizes == sorted(sizes, reverse=True)
    assert (sizes[0], sizes[1]) == (16, 10)
    assert sizes[-1] <= 2
    for number, group in enumerate(groups):
        places = [jobs.index(job) for job in group]
        assert places == sorted(places)
        assert places[0] == min(jobs.index(job) for later in groups[number:] for job in later), "the slowest first"
    assert jobs.index(groups[0][-1]) > 35, "and quick ones with it"
    same = [replace(job, key=f"other-{job.key}") for job in jobs[:3]]
    assert all(
        len({job.order.request.symbol for job in group}) == len(group) for group in batch._groups([*jobs, *same])
    )


def test_where_groups_fail_there_are_no_more_of_them(options, tmp_path):
    body = f'[ $(grep -c "func.func" "$1") -gt 1 ] && echo >>{tmp_path}/tried && exit 1; exec {real_compiler()} "$@"'
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", body), workers=1, kernels_per_process=2)
    outcomes = compile_kernels([dot(f"iree_dot_{n}", k=32 + n) for n in range(6)], GFX942, options)
    assert all(isinstance(each.kernel, GpuKernel) for each in outcomes)
    assert (tmp_path / "tried").read_text() == "\n"


def test_workgroups_are_made_flat_together(grouped):
    """For RDNA IREE chooses two-dimensional ones for dots in float: three runs for all, and none by itself."""
    options, runs = grouped
    requests = [dot(f"iree_dot_{n}", type_="f32", k=32 + n) for n in range(3)] + SAME[:1]
    target = parse_target("gfx1100")
    outcomes = compile_kernels(requests, target, options)
    assert list(map(len, runs())) == [4, 3, 3]
    assert [each.kernel for each in outcomes] == alone(requests, options, target)


def test_ctrl_c_ends_a_group(options, tmp_path):
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", "sleep 60"))
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    with pytest.raises(StoppedError):
        compile_group([order(each, options, GFX942) for each in RIGHT[:2]], find_compiler(options), stop)


def test_a_refusal_of_a_group_is_no_refusal(options):
    """What one run of several refuses may be right by itself."""
    compiler = find_compiler(options)
    done = compile_group([order(each, options, GFX942) for each in (DOT, TWO_DOTS)], compiler, threading.Event())
    assert set(done.compiled) <= {DOT.symbol, TWO_DOTS.symbol}
    assert not any(isinstance(each.result, Refusal) for each in done.compiled.values())
