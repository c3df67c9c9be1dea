"""One measurement in a process of its own: `python measure.py KIND MODEL CACHE THREADS RUNS` prints JSON."""

from __future__ import annotations

import json
import os
import resource
import shlex
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import iree_migraphx as migraphx
import models
from iree_migraphx import Options, binding, job


class Measurement:
    """What all kinds share: the model, parsed, and how it is compiled."""

    def __init__(self, name: str, cache: str, threads: str, runs: str) -> None:
        self.model = models.find(name)
        self.options = Options(cache_dir=Path(cache), threads=int(threads), workers=int(threads), quiet=True)
        self.threads, self.runs = int(threads), int(runs)
        self.target = migraphx.get_target("ref")

    def parse(self) -> Any:
        """The program, as MIGraphX parses it."""
        return migraphx.parse_onnx(self.model.path, map_input_dims={k: list(v) for k, v in self.model.lens.items()})

    def compile(self, program: Any) -> Any:
        """The program with IREE's kernels; ends the process where it has none."""
        compiled = migraphx.compile(program, self.target, options=self.options)
        if compiled.iree_report.reason is not None:
            raise SystemExit(compiled.iree_report.summary())
        return compiled

    def inputs(self, program: Any) -> dict[str, np.ndarray]:
        """Noise for every parameter."""
        random, values = np.random.default_rng(0), {}
        for name, shape in program.get_parameter_shapes().items():
            dtype = np.asarray(migraphx.fill_argument(shape, 0)).dtype
            whole = np.issubdtype(dtype, np.integer)
            value = random.integers(0, 256, shape.lens()) if whole else random.standard_normal(shape.lens())
            values[name] = value.astype(dtype)
        return values

    def cold(self) -> dict[str, Any]:
        """The compile stage with an empty cache, then each of its commands alone, one after the other."""
        program = self.parse()
        start = _children()
        report = self.compile(program).iree_report
        stage_cpu = _children() - start
        walls = []
        start = _children()
        for entry in sorted(self.options.cache_dir.glob("*/*/command.txt")):
            with tempfile.TemporaryDirectory() as folder:
                command = shlex.split(entry.read_text())
                command[command.index("-o") + 1] = os.path.join(folder, "output")
                command[1] = str(entry.with_name("input.mlir"))
                walls.append(
                    _timed(lambda command=command: subprocess.run(command, check=True, capture_output=True))[0]
                )
        return {
            "stage_cpu": stage_cpu,
            "stage": report.seconds["compile"],
            "kernels": len(walls),
            "subgraphs": report.eligible,
            "on_iree": report.swapped,
            "bare_wall": sum(walls),
            "longest": max(walls),
            "bare_cpu": _children() - start,
            "workers": self.options.worker_count,
        }

    def overhead(self) -> dict[str, Any]:
        """Our own work with a warm cache: the first compile of the process, then the median of several."""
        evaluating = [0.0]
        evaluate = job.evaluate_with_ref

        def timed(data: bytes) -> Any:
            start = time.perf_counter()
            try:
                return evaluate(data)
            finally:
                evaluating[0] += time.perf_counter() - start

        job.evaluate_with_ref = timed  # type: ignore[assignment]
        rounds: list[dict[str, float]] = []
        stages: list[dict[str, float]] = []
        for _ in range(self.runs + 1):
            parse, program = _timed(self.parse)
            alone = program.copy()
            compile_alone, _ = _timed(lambda alone=alone: binding.program.compile(alone, self.target))
            evaluating[0] = 0.0
            total, compiled = _timed(lambda program=program: self.compile(program))
            seconds = dict(compiled.iree_report.seconds)
            seconds["fold"] -= evaluating[0]
            theirs = seconds.pop("save"), seconds.pop("migraphx"), evaluating[0]
            stages.append(seconds)
            rounds.append(
                {
                    "migraphx": parse + compile_alone,
                    "ours": total - sum(theirs),
                    "save": theirs[0],
                    "fold_in_migraphx": evaluating[0],
                    "total": total,
                }
            )
        later = {key: statistics.median(one[key] for one in rounds[1:]) for key in rounds[0]}
        spent = {key: statistics.median(one[key] for one in stages[1:]) for key in stages[0]}
        return {"first": rounds[0], "later": later, "stages": spent}

    def run(self) -> dict[str, Any]:
        """One run, in turn with onnxruntime's on as many threads; the median of each."""
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads, options.log_severity_level = self.threads, 1, 3
        session = onnxruntime.InferenceSession(str(self.model.path), options, providers=["CPUExecutionProvider"])
        program = self.compile(self.parse())
        inputs = self.inputs(program)
        sides: list[Callable[[], Any]] = [lambda: program.run(inputs), lambda: session.run(None, inputs)]
        times: list[list[float]] = [[], []]
        for side in sides:
            side()
        for number in range(self.runs):
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                times[which].append(_timed(sides[which])[0])
        return {"ours": statistics.median(times[0]), "onnxruntime": statistics.median(times[1])}

    def ref(self) -> dict[str, Any]:
        """One run of MIGraphX's ref target without us."""
        program = self.parse()
        binding.program.compile(program, self.target)
        inputs = self.inputs(program)
        return {"ref": _timed(lambda: program.run(inputs))[0]}


def _children() -> float:
    """Processor time of all processes that this one has started and that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _timed(work: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


if __name__ == "__main__":
    kind, *arguments = sys.argv[1:]
    print(json.dumps(getattr(Measurement(*arguments), kind)()))
