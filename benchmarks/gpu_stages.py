"""Where the time of a compile for the gpu goes: MIGraphX's own share before and after, and ours between.

    VIRTUAL_HIP_KERNELS= .root/venv/bin/python-virtual-gpu benchmarks/gpu_stages.py [--models light_resnet50] [--plain]

`capture` is MIGraphX's optimisation and fusion, `migraphx` its whole compile with our kernels' places in the program,
which is to take half as long at most: constants are folded by then. Both are processes of their own, whose processor
time is what to look at on a busy machine. `plain` is MIGraphX's compile without us.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import iree_migraphx as migraphx
import models
from iree_migraphx import binding
from iree_migraphx.capture import process
from iree_migraphx.report import Report
from iree_migraphx.splice import gpu

MIGRAPHX = ("capture", "migraphx")


@contextmanager
def processor_times() -> Iterator[dict[str, float]]:
    """Seconds of processor time that the processes of `capture` and `migraphx` take, while this is entered."""
    seconds = dict.fromkeys(MIGRAPHX, 0.0)
    own = process.run_helper

    def timed(stage: str) -> Any:
        def run(*arguments: Any) -> None:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            own(*arguments)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds[stage] += after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

        return run

    for stage, module in zip(MIGRAPHX, (process, gpu), strict=True):
        vars(module)["run_helper"] = timed(stage)
    try:
        yield seconds
    finally:
        for module in (process, gpu):
            vars(module)["run_helper"] = own


def parsed(name: str) -> binding.program:
    """A model in MIGraphX."""
    model = models.find(name)
    lens = {key: list(each) for key, each in model.lens.items()}
    return binding.parse_onnx(str(model.path), map_input_dims=lens)


def measured(name: str, cache: Path) -> tuple[Report, dict[str, float]]:
    """The report of a compile, and the processor times of MIGraphX's two parts."""
    options = migraphx.Options.resolve(cache_dir=cache, quiet=True, eligible="all")
    with processor_times() as seconds:
        done = migraphx.compile(parsed(name), binding.get_target("gpu"), offload_copy=False, options=options)
    return done.iree_report, seconds


def of_migraphx(what: str, seconds: dict[str, float]) -> str:
    """A line about the two parts."""
    capture, after = (seconds.get(stage, 0.0) for stage in MIGRAPHX)
    return f"  {what}: capture {capture:.2f} s, migraphx {after:.2f} s ({after / max(capture, 1e-9):.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["light_resnet50"], help="known names or files")
    parser.add_argument("--runs", type=int, default=1, help="from the second on, our kernels are in the cache")
    parser.add_argument("--cache", type=Path, help="a folder of kernels; without it they are all compiled anew")
    parser.add_argument("--plain", action="store_true", help="measure MIGraphX's compile without us as well")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        for name in given.models:
            for run in range(1, given.runs + 1):
                report, processor = measured(name, given.cache or Path(scratch))
                ours = {stage: each for stage, each in report.seconds.items() if stage not in MIGRAPHX}
                print(f"{name}, run {run}: {report.summary()}")
                print(of_migraphx("wall time", report.seconds))
                print(of_migraphx("processor time", processor))
                each = ", ".join(f"{stage} {value:.2f}" for stage, value in ours.items())
                print(f"  ours: {sum(ours.values()):.2f} s ({each})", flush=True)
            if given.plain:
                program, start = parsed(name), time.perf_counter()
                program.compile(binding.get_target("gpu"), offload_copy=False)
                print(f"{name}, plain: {time.perf_counter() - start:.2f} s", flush=True)


if __name__ == "__main__":
    main()
