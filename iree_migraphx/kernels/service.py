"""Many requests at once: from the cache where possible, the others through several compilers in parallel."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.accept import accept_host, check_code_object
from iree_migraphx.kernels.cache import ABI, KernelCache, cache_key
from iree_migraphx.kernels.compiler import Compiler, find_compiler
from iree_migraphx.kernels.flags import check_flags, compile_flags, key_text
from iree_migraphx.kernels.model import GpuKernel, HostKernel, Outcome, Request
from iree_migraphx.kernels.progress import Progress, default_progress
from iree_migraphx.kernels.targets import Target, host_cpu
from iree_migraphx.kernels.worker import Order, compile_order
from iree_migraphx.options import Options

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Job:
    """A request that is compiled, under its key in the cache and what the key is made of."""

    request: Request
    key: str
    entries: dict[str, str]


def compile_kernels(
    requests: Sequence[Request], target: Target, options: Options, progress: Progress | None = None
) -> list[Outcome]:
    """Compile every request for the target, or take it from the cache; the outcomes come in the order of the requests.

    What goes wrong with one kernel is its Refusal and does not touch the others. Equal requests are compiled once;
    `seconds` counts for the first. Ctrl-C ends the compilers at once; what was finished by then is in the cache.
    `progress` is told about the compiles, if there are any; by default it is what stderr and `options` call for.

    Raises:
        CompilerNotFoundError: no working iree-compile.
        OptionError: a flag of `options.flags` that iree-compile does not take.
    """
    if not requests:
        return []
    compiler = find_compiler(options)
    cache = KernelCache(options.cache_dir) if options.cache else None
    keys = []
    outcomes: dict[str, Outcome] = {}
    jobs: dict[str, _Job] = {}
    for request in requests:
        entries = key_entries(request, compiler, target, options)
        key = cache_key(entries)
        keys.append(key)
        if key in outcomes or key in jobs:
            continue
        kept = _from_cache(cache, key, request, target) if cache else None
        if kept is None:
            jobs[key] = _Job(request, key, entries)
        else:
            outcomes[key] = Outcome(kept, 0.0, "hit")
    if jobs:
        check_flags(compiler, target, options)
        outcomes.update(
            _compile(list(jobs.values()), compiler, target, options, cache, progress or default_progress(options))
        )
    results = []
    for key in keys:
        results.append(outcomes[key])
        outcomes[key] = dataclasses.replace(outcomes[key], seconds=0.0)
    return results


def key_entries(request: Request, compiler: Compiler, target: Target, options: Options) -> dict[str, str]:
    """Everything that decides what comes out for a request, by name. `anchor` and `cost` do not."""
    return {
        "abi": str(ABI),
        "compiler": compiler.version,
        "build": compiler.identity,
        "flags": key_text(compile_flags(target, options, request.anchor)),
        "target": str(target),
        "cpu": host_cpu() if target.is_host else "",
        "symbol": request.symbol,
        "arguments": str(request.arguments),
        "mlir": request.mlir,
    }


def _from_cache(
    cache: KernelCache, key: str, request: Request, target: Target
) -> GpuKernel | HostKernel | Refusal | None:
    """A kept result that passes the checks a new one does."""
    kept = cache.load(key)
    if kept is None or isinstance(kept, Refusal):
        return kept
    try:
        if isinstance(kept, HostKernel) is not target.is_host:
            raise Refusal(Reason.WRONG_TARGET, f"it is not for {target}")
        if isinstance(kept, HostKernel):
            return accept_host(kept.vmfb, request)
        return check_code_object(kept.code_object, kept.symbol, kept.workgroups, kept.operands, target)
    except Refusal as refusal:
        cache.discard(key, str(refusal))
        return None


def _compile(
    jobs: list[_Job],
    compiler: Compiler,
    target: Target,
    options: Options,
    cache: KernelCache | None,
    progress: Progress,
) -> dict[str, Outcome]:
    stop = threading.Event()

    def work(job: _Job) -> Outcome:
        flags = compile_flags(target, options, job.request.anchor)
        compiled = compile_order(Order(job.request, target, flags, options.timeout), compiler, stop)
        if cache is not None and compiled.lasting:
            cache.store(job.key, job.entries, job.request, compiled.command, compiled.result)
        return Outcome(compiled.result, compiled.seconds, "off" if cache is None else "miss")

    # The slowest first: started last, it would run alone at the end.
    jobs = sorted(jobs, key=lambda job: job.request.cost, reverse=True)
    outcomes = {}
    pool = concurrent.futures.ThreadPoolExecutor(min(options.worker_count, len(jobs)), "iree-compile")
    try:
        progress.begin(len(jobs), str(target), cache is not None and cache.writable)
        running = {pool.submit(work, job): job for job in jobs}
        for future in concurrent.futures.as_completed(running):
            job = running[future]
            outcomes[job.key] = future.result()
            progress.done(job.request, outcomes[job.key])
    finally:
        # After Ctrl-C, or an error of ours, the compilers still run.
        stop.set()
        pool.shutdown(cancel_futures=True)
        progress.end()
    return outcomes
