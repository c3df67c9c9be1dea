"""The kernels that have to be compiled: by several compilers at once, each kernel by one process only."""

from __future__ import annotations

import concurrent.futures
import math
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from iree_migraphx.errors import Refusal
from iree_migraphx.kernels.bundle import wants_bundle, write_bundle
from iree_migraphx.kernels.cluster import compile_elsewhere, make_parcel
from iree_migraphx.kernels.compiler import Compiler
from iree_migraphx.kernels.group import can_be_grouped, compile_group
from iree_migraphx.kernels.lookup import Lookup
from iree_migraphx.kernels.memory import MemoryGate, available_memory
from iree_migraphx.kernels.model import Outcome
from iree_migraphx.kernels.progress import Progress
from iree_migraphx.kernels.worker import Compiled, Order, compile_order
from iree_migraphx.options import Options

# Between two looks at what other processes compile.
_PAUSE = 0.1
# Another process that takes this much longer than it may is suspended, or on a machine that is gone.
_PATIENCE = 30.0
# To start a compiler takes half of what a small kernel takes. More would make little difference to that, and a group
# that fails is compiled once more, kernel by kernel.
_LARGEST_GROUP = 16
# A worker's share of what is left is this many groups: as few processes as leave none of the workers idle at the end,
# also where some kernels take ten times as long as others (simulated with 2 to 16 workers and 24 to 150 kernels).
_GROUPS_A_SHARE = 1.25


@dataclass(frozen=True, slots=True)
class Job:
    """An order under its key in the cache, what the key is made of, and how long its compile may seem to take."""

    order: Order
    key: str
    entries: dict[str, str]
    cost: float


class Batch:
    """One set of kernels to compile.

    Args:
        compiler: what compiles them.
        lookup: where the results go, and other processes' results come from.
        options: how many at once, where, and what is kept of a failure.
        progress: is told, from the calling thread.
    """

    def __init__(self, compiler: Compiler, lookup: Lookup, options: Options, progress: Progress) -> None:
        self._compiler = compiler
        self._lookup = lookup
        self._cache = lookup.own
        self._options = options
        self._progress = progress
        self._stop = threading.Event()
        self._gate = MemoryGate(available_memory)
        self._grouping = True
        self._outcomes: dict[str, Outcome] = {}

    def compile(self, jobs: Sequence[Job]) -> dict[str, Outcome]:
        """Compile all, the slowest first: started last, it would run alone at the end. Outcomes are by key."""
        jobs = sorted(jobs, key=lambda job: job.cost, reverse=True)
        try:
            self._progress.begin(len(jobs), str(jobs[0].order.target), self._cache is not None and self._cache.writable)
            if self._options.executor is not None:
                jobs = self._compile_elsewhere(self._options.executor, jobs)
            if jobs:
                self._compile_here(jobs)
        finally:
            self._progress.end()
        return self._outcomes

    def _compile_here(self, jobs: Sequence[Job]) -> None:
        pool = concurrent.futures.ThreadPoolExecutor(min(self._options.worker_count, len(jobs)), "iree-compile")
        deadline = time.monotonic() + self._options.timeout + _PATIENCE
        try:
            running = {pool.submit(self._try_group, group, deadline): group for group in self._groups(jobs)}
            while running:
                done, _ = concurrent.futures.wait(running, return_when=concurrent.futures.FIRST_COMPLETED)
                again = []
                for future in done:
                    outcomes = future.result()
                    for job in running.pop(future):
                        if job.key in outcomes:
                            self._note(job, outcomes[job.key])
                        else:
                            again.append([job])
                # They go to the end of the queue: meanwhile there may be something that nobody compiles.
                running.update({pool.submit(self._try_group, group, deadline): group for group in again})
        finally:
            # After Ctrl-C, or an error of ours, the compilers still run.
            self._stop.set()
            pool.shutdown(cancel_futures=True)

    def _groups(self, jobs: Sequence[Job]) -> list[list[Job]]:
        """Jobs that one process compiles, the first ones larger; each is a sample of slow and quick ones."""
        left = list(jobs)
        groups = []
        while left:
            first = left[0]
            share = math.ceil(len(left) / (_GROUPS_A_SHARE * self._options.worker_count))
            size = min(self._options.kernels_per_process or _LARGEST_GROUP, max(share, 2))
            alike: dict[str, Job] = {}
            for job in left:
                if job is first or can_be_grouped(first.order, job.order):
                    alike.setdefault(job.order.request.symbol, job)
            candidates = list(alike.values())
            size = min(size, len(candidates))
            group = [candidates[len(candidates) * number // size] for number in range(size)]
            left = [job for job in left if job not in group]
            groups.append(group)
        return groups

    def _compile_elsewhere(self, executor: concurrent.futures.Executor, jobs: Sequence[Job]) -> list[Job]:
        """Have the executor compile; returns what it did not deliver, and what another process compiles already."""
        with ExitStack() as stack:
            claims: dict[str, ExitStack] = {}
            mine, left = [], []
            for job in jobs:
                claims[job.key] = stack.enter_context(ExitStack())
                if not self._claimed(job, claims[job.key]):
                    left.append(job)
                elif made := self._made(job):
                    self._note(job, made)
                else:
                    mine.append(job)
            where = replace(self._options, executor=None)
            parcels = [make_parcel(job.order, self._compiler, where) for job in mine]

            def deliver(number: int, compiled: Compiled) -> None:
                job = mine[number]
                self._note(job, self._keep(job, compiled))
                claims[job.key].close()

            undelivered = [mine[number] for number in compile_elsewhere(executor, parcels, deliver)]
            return [*undelivered, *left]

    def _note(self, job: Job, outcome: Outcome) -> None:
        self._outcomes[job.key] = outcome
        self._progress.done(job.order.request, outcome)

    def _try_group(self, group: Sequence[Job], deadline: float) -> dict[str, Outcome]:
        """Compile jobs, or take what another process has made of them; what is left out is to be tried by itself."""
        outcomes: dict[str, Outcome] = {}
        with ExitStack() as stack:
            mine = []
            for job in group:
                if not self._claimed(job, stack) and time.monotonic() < deadline:
                    continue
                made = self._made(job)
                if made is None:
                    mine.append(job)
                else:
                    outcomes[job.key] = made
            if not mine and not outcomes:
                self._stop.wait(_PAUSE)
            if len(group) > 1:
                outcomes.update(self._compile_group(mine))
            else:
                outcomes.update({job.key: self._compile_alone(job) for job in mine})
        return outcomes

    def _compile_alone(self, job: Job) -> Outcome:
        compiled, started = self._compile(job.order)
        return replace(self._keep(job, compiled), started=started, worker=_worker())

    def _compile_group(self, jobs: Sequence[Job]) -> dict[str, Outcome]:
        if len(jobs) < 2 or not self._grouping:
            return {}
        with self._gate.room(self._stop):
            started = time.monotonic()
            grouped = compile_group([job.order for job in jobs], self._compiler, self._stop)
        self._gate.learn(grouped.peak)
        # Where most need something of their own it does not pay.
        self._grouping = 2 * len(grouped.compiled) >= len(jobs)
        outcomes = {}
        for job in jobs:
            compiled = grouped.compiled.get(job.order.request.symbol)
            if compiled is not None:
                outcomes[job.key] = replace(self._keep(job, compiled), started=started, worker=_worker())
                # They shared the time one after the other, as far as anybody can tell.
                started += compiled.seconds
        return outcomes

    def _claimed(self, job: Job, stack: ExitStack) -> bool:
        """Whether no other process is at a job; then none will be until the stack is closed."""
        return self._cache is None or stack.enter_context(self._cache.claim(job.key))

    def _made(self, job: Job) -> Outcome | None:
        """What another process has made of a job since it was looked for."""
        made = None if self._cache is None else self._lookup.kept(job.key, job.order.request)
        return None if made is None or unkept(made, self._options) else Outcome(made, 0.0, "hit")

    def _compile(self, order: Order) -> tuple[Compiled, float]:
        with self._gate.room(self._stop):
            started = time.monotonic()
            compiled = compile_order(order, self._compiler, self._stop)
        self._gate.learn(compiled.peak)
        if not compiled.killed:
            return compiled, started
        # Most likely by a system out of memory. By itself it may have enough.
        with self._gate.room(self._stop, alone=True):
            again = compile_order(order, self._compiler, self._stop)
        return replace(again, seconds=compiled.seconds + again.seconds), started

    def _keep(self, job: Job, compiled: Compiled) -> Outcome:
        result = compiled.result
        if isinstance(result, Refusal) and wants_bundle(result.reason, self._options):
            write_bundle(job.order, compiled, result, self._compiler, self._options)
        if self._cache is not None and compiled.lasting:
            self._cache.store(job.key, job.entries, job.order.request, compiled.command, result, job.order.timeout)
        return Outcome(result, compiled.seconds, "off" if self._cache is None else "miss")


def _worker() -> int:
    """The number of this thread."""
    return int(threading.current_thread().name.rpartition("_")[2])


def unkept(result: object, options: Options) -> bool:
    """Whether a kept result is not enough: a refusal has no bundle."""
    return isinstance(result, Refusal) and wants_bundle(result.reason, options)
