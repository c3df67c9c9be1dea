"""What IREE's kernels cost to compile and to run, each as a ratio to something named.

    python benchmarks/compile_and_run.py [--models det rec] [--json results.json]

Every measurement runs in a process of its own, one at a time. A ratio below 1 is in our favour.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import iree_migraphx as migraphx
import models

MEASURE = Path(__file__).with_name("measure.py")


@dataclass(frozen=True)
class Row:
    """One line. Seconds; `skipped` says why there is no number."""

    model: str
    measure: str
    baseline: str
    ours: float | None = None
    theirs: float | None = None
    goal: float | None = None
    skipped: str = ""

    @property
    def ratio(self) -> float | None:
        """Ours to theirs."""
        return self.ours / self.theirs if self.ours is not None and self.theirs else None


class Bench:
    """Runs the measurements and collects the rows."""

    def __init__(self, threads: int, runs: int, limit: float) -> None:
        self.threads, self.runs, self.limit = threads, runs, limit
        self.rows: list[Row] = []
        self.raw: dict[str, dict[str, Any]] = {}

    def measure(self, kind: str, model: str, cache: str) -> dict[str, Any]:
        """One measurement in its process."""
        command = [sys.executable, str(MEASURE), kind, model, cache, str(self.threads), str(self.runs)]
        limit = self.limit if kind == "ref" else None
        ended = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        if ended.returncode:
            lines = ended.stderr.strip().splitlines()
            raise RuntimeError(lines[-1] if lines else f"status {ended.returncode}")
        found: dict[str, Any] = json.loads(ended.stdout)
        self.raw.setdefault(model, {})[kind] = found
        return found

    def model(self, name: str) -> None:
        """All rows of a model."""
        with tempfile.TemporaryDirectory(prefix="iree_migraphx-bench-") as cache:
            if cold := self._attempt("cold", name, cache):
                kernels, workers = cold["kernels"], cold["workers"]
                bare = max(cold["bare_wall"] / workers, cold["longest"])
                # A few kernels can't be shared out evenly, whoever does it.
                goal = 1.15 if kernels >= 4 * workers else None
                baseline = f"{kernels} bare iree-compile on {workers} workers"
                self.rows += [
                    Row(name, "cold compile stage", baseline, cold["stage"], bare, goal),
                    Row(name, "… processor time", "the same", cold["stage_cpu"], cold["bare_cpu"]),
                ]
            if found := self._attempt("overhead", name, cache):
                first, later = found["first"], found["later"]
                alone = "MIGraphX's parse + compile"
                self.rows += [
                    Row(name, "our own work, warm cache", alone, later["ours"], later["migraphx"], 0.25),
                    Row(name, "… first in the process, with imports", alone, first["ours"], first["migraphx"]),
                    Row(name, "MIGraphX's save, which only we need", alone, later["save"], later["migraphx"]),
                ]
            if found := self._attempt("run", name, cache):
                ours, ort = found["ours"], f"onnxruntime, {self.threads} threads"
                self.rows.append(Row(name, "one run", ort, ours, found["onnxruntime"]))
                if ref := self._attempt("ref", name, cache):
                    self.rows.append(Row(name, "one run", "MIGraphX ref alone", ours, ref["ref"]))

    def _attempt(self, kind: str, name: str, cache: str) -> dict[str, Any] | None:
        try:
            models.find(name)
            return self.measure(kind, name, cache)
        except (FileNotFoundError, RuntimeError) as error:
            why = str(error)
        except subprocess.TimeoutExpired:
            why = f"more than {self.limit:g} s"
        self.rows.append(Row(name, kind, "", skipped=why))
        return None

    def imports(self) -> None:
        """Import times, in turn."""
        times: dict[str, list[float]] = {"numpy": [], "iree_migraphx": []}
        for _ in range(max(5, self.runs)):
            for name, found in times.items():
                code = f"import time; s = time.perf_counter(); import {name}; print(time.perf_counter() - s)"
                found.append(float(subprocess.check_output([sys.executable, "-c", code])))
        ours, numpy = (statistics.median(times[name]) for name in ("iree_migraphx", "numpy"))
        self.rows.append(Row("", "import iree_migraphx", "import numpy", ours, numpy))


def header(threads: int) -> dict[str, str]:
    """What was measured, and on what."""
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        lines = (line.partition(":") for line in info.read_text().splitlines())
        cpu = next((value.strip() for key, _, value in lines if key.strip() == "model name"), cpu)
    return {
        "cpu": f"{cpu}, {os.cpu_count()} cores, {threads} threads and workers",
        "python": platform.python_version(),
        "migraphx": migraphx.__version__,
        **{name: version(name) for name in ("iree-base-compiler", "onnxruntime", "numpy")},
    }


def table(rows: Sequence[Row]) -> Table:
    made = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("model", "measure", "against", "ours", "theirs", "ratio", "goal"):
        made.add_column(column, justify="right" if column in ("ours", "theirs", "ratio", "goal") else "left")
    for row in rows:
        ratio = f"{row.ratio:.2f}" if row.ratio is not None else f"skipped: {row.skipped}"
        goal = f"≤ {row.goal:g}" if row.goal is not None else ""
        made.add_row(row.model, row.measure, row.baseline, _seconds(row.ours), _seconds(row.theirs), ratio, goal)
    return made


def _seconds(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.3g} ms"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=list(models.NAMES), help="names or files; default: %(default)s")
    parser.add_argument("--runs", type=int, default=7, help="runs and compiles that a median is taken of")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="threads and workers")
    parser.add_argument("--ref-limit", type=float, default=120.0, help="seconds for MIGraphX's ref target alone")
    parser.add_argument("--json", type=Path, help="write everything to this file")
    given = parser.parse_args()
    console = Console(width=160)
    about = header(given.threads)
    for key, value in about.items():
        console.print(f"{key}: {value}", highlight=False)
    bench = Bench(given.threads, given.runs, given.ref_limit)
    bench.imports()
    for name in given.models:
        console.print(f"measuring {name}", style="dim")
        bench.model(name)
    console.print(table(bench.rows), highlight=False)
    if given.json:
        rows = [{**asdict(row), "ratio": row.ratio} for row in bench.rows]
        given.json.write_text(json.dumps({"header": about, "rows": rows, "raw": bench.raw}, indent=1) + "\n")


if __name__ == "__main__":
    main()
