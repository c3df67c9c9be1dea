"""Where the time of a compile for the gpu goes: MIGraphX's own share before and after, and ours between.

    VIRTUAL_HIP_KERNELS= .root/venv/bin/python-virtual-gpu benchmarks/gpu_stages.py [--models light_resnet50] [--runs 2]

`capture` is MIGraphX's optimisation and fusion, `migraphx` its whole compile with our kernels' places in the program,
which is to take half as long at most: constants are folded by then. `plain` is MIGraphX's compile without us.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import iree_migraphx as migraphx
import models
from iree_migraphx import binding

MIGRAPHX = ("capture", "migraphx")


def measured(name: str, cache: Path) -> tuple[dict[str, float], float, str]:
    """Seconds by stage, seconds of MIGraphX alone, and what became of the subgraphs."""
    model = models.find(name)
    lens = {key: list(each) for key, each in model.lens.items()}
    program = binding.parse_onnx(str(model.path), map_input_dims=lens)
    target = binding.get_target("gpu")
    plain = program.copy()
    start = time.perf_counter()
    plain.compile(target, offload_copy=False)
    alone = time.perf_counter() - start
    options = migraphx.Options.resolve(cache_dir=cache, quiet=True, eligible="all")
    done = migraphx.compile(program, target, offload_copy=False, options=options)
    return done.iree_report.seconds, alone, done.iree_report.summary()


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["light_resnet50"], help="known names or files")
    parser.add_argument("--runs", type=int, default=2, help="the second finds our kernels in the cache")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as cache:
        for name in given.models:
            for run in range(1, given.runs + 1):
                seconds, alone, summary = measured(name, Path(cache))
                ours = {stage: each for stage, each in seconds.items() if stage not in MIGRAPHX}
                capture, after = (seconds.get(stage, 0.0) for stage in MIGRAPHX)
                print(f"{name}, run {run}: plain {alone:.2f} s; {summary}")
                print(f"  MIGraphX: capture {capture:.2f} s, migraphx {after:.2f} s ({after / max(capture, 1e-9):.2f})")
                each = ", ".join(f"{stage} {value:.2f}" for stage, value in ours.items())
                print(f"  ours: {sum(ours.values()):.2f} s ({each})", flush=True)


if __name__ == "__main__":
    main()
