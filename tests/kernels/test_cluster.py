"""Compiles on an executor of the user's: processes, threads, and a real cluster whose workers die."""

import concurrent.futures
import multiprocessing
import os
import signal
import threading
import time
from dataclasses import replace

import pytest

from iree_migraphx.errors import Reason
from iree_migraphx.kernels import cluster
from iree_migraphx.kernels.cluster import UnlikeWorkerError, fulfil, make_parcel
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.model import GpuKernel, HostKernel
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target

from .sources import CRASHING, EXP, INVALID, counting_compiler, dot, elementwise, fake_compiler, order, real_compiler

GFX942 = parse_target("gfx942")
DOT = dot()
REQUESTS = [elementwise(EXP, f"iree_exp_{n}") for n in range(4)]


@pytest.fixture(scope="module")
def processes():
    with concurrent.futures.ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        yield pool


def kinds(outcomes):
    return [type(each.kernel) for each in outcomes]


@pytest.mark.parametrize("target", ["gfx942", "host"])
def test_another_process_compiles_what_this_one_would(target, options, processes, tmp_path):
    target = parse_target(target)
    requests = [DOT, INVALID, CRASHING]
    here = compile_kernels(requests, target, options)
    there = compile_kernels(requests, target, replace(options, cache_dir=tmp_path / "there", executor=processes))
    # A module for the host holds the names of temporary files.
    wanted = here[0].kernel if not target.is_host else replace(here[0].kernel, vmfb=there[0].kernel.vmfb)
    assert there[0].kernel == wanted
    assert [each.kernel.reason for each in there[1:]] == [Reason.COMPILE_ERROR, Reason.COMPILER_CRASH]
    assert there[1].kernel.detail == here[1].kernel.detail
    assert list((tmp_path / "there" / "failures").iterdir()), "a crash leaves its bundle here"
    again = compile_kernels([DOT], target, replace(options, cache_dir=tmp_path / "there"))
    assert again[0].cache == "hit"


def test_files_that_flags_name_need_not_be_there(options, processes, tmp_path):
    spec = tmp_path / "spec.mlir"
    spec.write_text("module attributes { transform.with_named_sequence } {}\n")
    script = fake_compiler(tmp_path / "fake", f'echo "$@" | grep -o "[^=]*/spec.mlir" >{tmp_path}/seen; exit 9')
    options = replace(options, executor=processes, iree_bin=script, flags=(f"--iree-codegen-tuning-spec-path={spec}",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("iree_migraphx.kernels.service.check_flags", lambda *arguments: None)
        compile_kernels([DOT], GFX942, options)
    assert (tmp_path / "seen").read_text().strip() != str(spec)


class Broken(concurrent.futures.Executor):
    """Refuses the second, loses the first."""

    def __init__(self, error):
        self.error = error
        self.count = 0

    def submit(self, function, /, *arguments, **named):
        self.count += 1
        if self.count > 1:
            raise RuntimeError("cannot schedule new futures")
        future = concurrent.futures.Future()
        if self.error is None:
            future.cancel()
            future.set_running_or_notify_cancel()
        else:
            future.set_exception(self.error)
        return future


@pytest.mark.parametrize("error", [None, MemoryError("none left"), UnlikeWorkerError("another compiler")])
def test_what_an_executor_does_not_deliver_is_compiled_here(error, options, caplog):
    outcomes = compile_kernels(REQUESTS, GFX942, replace(options, executor=Broken(error)))
    assert kinds(outcomes) == [GpuKernel] * 4
    assert "did not compile 4 of 4 kernels, which are compiled here" in caplog.text


def test_a_pool_whose_worker_is_killed(options, tmp_path, caplog):
    """A ProcessPoolExecutor is broken for good by that."""
    body = f'mkdir {tmp_path}/once 2>/dev/null && kill -KILL $(cat {tmp_path}/worker); exec {real_compiler()} "$@"'
    options = replace(options, iree_bin=fake_compiler(tmp_path / "fake", body))
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        (tmp_path / "worker").write_text(str(pool.submit(os.getpid).result()))
        outcomes = compile_kernels(REQUESTS, GFX942, replace(options, executor=pool))
    assert kinds(outcomes) == [GpuKernel] * 4
    assert "BrokenProcessPool" in caplog.text


def test_a_worker_with_another_compiler_or_cpu_is_not_used(options, tmp_path, monkeypatch):
    other = fake_compiler(tmp_path / "fake", "exit 1")
    compiler = find_compiler(options)
    parcel = make_parcel(order(DOT, options, GFX942), compiler, replace(options, iree_bin=other))
    with pytest.raises(UnlikeWorkerError, match=r"its iree-compile is IREE compiler version 0.0, not IREE compiler"):
        fulfil(parcel)
    parcel = make_parcel(order(DOT, options, parse_target("host")), compiler, options)
    assert isinstance(fulfil(parcel).result, HostKernel)
    monkeypatch.setattr(cluster, "host_cpu", lambda: "another")
    with pytest.raises(UnlikeWorkerError, match="CPU"):
        fulfil(parcel)
    assert isinstance(fulfil(make_parcel(order(DOT, options, GFX942), compiler, options)).result, GpuKernel)


def test_two_who_share_a_cache_have_executors_compile_each_kernel_once(options, tmp_path):
    path, log = counting_compiler(tmp_path / "counting")
    options = replace(options, iree_bin=path)
    find_compiler(options)
    with concurrent.futures.ThreadPoolExecutor(2) as pool, concurrent.futures.ThreadPoolExecutor(3) as both:
        one = both.submit(compile_kernels, REQUESTS, GFX942, replace(options, executor=pool))
        two = both.submit(compile_kernels, REQUESTS[::-1], GFX942, replace(options, executor=pool))
        three = both.submit(compile_kernels, REQUESTS, GFX942, options)
        assert kinds(one.result()) == kinds(two.result()) == kinds(three.result()) == [GpuKernel] * 4
    assert sorted(log.read_text().split()) == [f"@{request.symbol}" for request in REQUESTS]
    assert not list(options.cache_dir.glob(".claim-*"))


def test_ctrl_c_does_not_wait_for_the_executor(options, tmp_path):
    futures = []

    class Slow(concurrent.futures.Executor):
        def submit(self, function, /, *arguments, **named):
            futures.append(concurrent.futures.Future())
            return futures[-1]

    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        compile_kernels(REQUESTS, GFX942, replace(options, executor=Slow()))
    assert time.monotonic() - started < 1.0
    assert all(future.cancelled() for future in futures)


@pytest.fixture(scope="module")
def dask():
    distributed = pytest.importorskip("distributed")
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as local,
        distributed.Client(local) as client,
    ):
        yield client


def test_a_cluster(options, dask, tmp_path):
    log = tmp_path / "parents"
    script = fake_compiler(tmp_path / "fake", f'echo $PPID >>{log}; exec {real_compiler()} "$@"')
    options = replace(options, executor=dask.get_executor(), iree_bin=script)
    outcomes = compile_kernels([*REQUESTS, INVALID], GFX942, options)
    assert kinds(outcomes[:4]) == [GpuKernel] * 4
    assert outcomes[4].kernel.reason is Reason.COMPILE_ERROR
    workers = set(dask.run(os.getpid).values())
    assert {int(line) for line in log.read_text().splitlines()} <= workers
    here = compile_kernels(REQUESTS, GFX942, replace(options, executor=None, cache=False))
    assert [each.kernel for each in here] == [each.kernel for each in outcomes[:4]]


def test_a_cluster_whose_worker_is_killed_while_it_compiles(options, dask, tmp_path):
    body = f'mkdir {tmp_path}/once 2>/dev/null && kill -KILL $PPID; exec {real_compiler()} "$@"'
    options = replace(options, executor=dask.get_executor(), iree_bin=fake_compiler(tmp_path / "fake", body))
    before = set(dask.run(os.getpid).values())
    outcomes = compile_kernels(REQUESTS, GFX942, options)
    assert kinds(outcomes) == [GpuKernel] * 4
    assert [each.cache for each in outcomes] == ["miss"] * 4
    assert set(dask.run(os.getpid).values()) != before, "a worker was lost"
    assert [each.cache for each in compile_kernels(REQUESTS, GFX942, options)] == ["hit"] * 4
