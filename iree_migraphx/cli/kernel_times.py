"""How long each kernel of a program takes by itself, in the form of migraphx-driver's summary."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iree_migraphx.cli.lone_kernel import LoneKernel
from iree_migraphx.cli.output import milliseconds
from iree_migraphx.cli.run import ended_by_interrupt
from iree_migraphx.cli.work import work_of
from iree_migraphx.options import Options

if TYPE_CHECKING:
    from iree_migraphx.binding import program

_LEAST_RUNS = 3


@dataclass(frozen=True, slots=True)
class KernelTime:
    """One kernel, on operands that are made up and lie in the processor's cache as far as they fit.

    Attributes:
        symbol: the kernel's name.
        subgraphs: that it serves.
        seconds: median of its runs, for one of them.
        gigaflops: a second.
        gigabytes: a second, operands read once and the result written once.
    """

    symbol: str
    subgraphs: int
    seconds: float
    gigaflops: float
    gigabytes: float


def kernel_times(model: program, iterations: int, options: Options) -> list[KernelTime]:
    """Time every kernel of a model for this machine's CPU, the one that takes most of the time first.

    Raises:
        KernelError: a kernel failed.
    """
    from iree_migraphx.study import study

    found = study(model, "host", replace(options, quiet=True))
    used = [report.key for report in found.report.subgraphs if report.provider == "iree"]
    subgraphs = {subgraph.key: subgraph for subgraph in found.plan.subgraphs}
    times = []
    for key in dict.fromkeys(used):
        subgraph = subgraphs[key]
        if len(subgraph.results) != 1:
            continue
        alone = replace(found.plan.program, modules={"main": subgraph.body}, targets=(), contexts=())
        kernel, work = LoneKernel(found, subgraph, alone, options.thread_count), work_of(subgraph)
        median = statistics.median(_runs(kernel, max(_LEAST_RUNS, iterations)))
        symbol = found.plan.requests[key].symbol
        times.append(KernelTime(symbol, used.count(key), median, work.flops / median / 1e9, work.bytes / median / 1e9))
    return sorted(times, key=lambda each: each.seconds * each.subgraphs, reverse=True)


def summary(times: Sequence[KernelTime]) -> Iterator[str]:
    """Lines as in migraphx-driver's summary (program::perf_report in src/program.cpp), with what they amount to."""
    total = sum(each.seconds * each.subgraphs for each in times)
    yield "Summary of IREE's kernels, each by itself:"
    for each in times:
        whole = each.seconds * each.subgraphs
        yield (
            f"{each.symbol}: {milliseconds(whole)} / {each.subgraphs} = {milliseconds(each.seconds)}, "
            f"{100 * whole / total:.0f}%, {each.gigaflops:.3g} Gflop/s, {each.gigabytes:.3g} GB/s"
        )
    yield f"Total of IREE's kernels: {milliseconds(total)}"


def _runs(kernel: LoneKernel, count: int) -> Iterator[float]:
    run = kernel.timed(kernel.operands(seed=0))
    with ended_by_interrupt():
        run()
        for _ in range(count):
            started = time.perf_counter()
            run()
            yield time.perf_counter() - started
