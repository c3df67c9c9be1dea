"""What the compile service costs, as ratios: cold, warm, in memory, and against one iree-compile of a whole model.

    python benchmarks/compile_service.py [--models light_resnet50 det] [--arch gfx942] [--gigabytes 1.1]

Every measurement runs in a process of its own, one at a time, and its baseline right behind it. A ratio below 1 is in
our favour. The kernels are compiled and checked, not run, so that no GPU is needed. On a busy machine look at the rows
of processor time, which is that of all processes.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

import iree_migraphx as migraphx
import models
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.options import Options

#: Stages that are calls into MIGraphX for the most part.
MIGRAPHX = ("save", "fold")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="*", default=["light_resnet50", "det"])
    parser.add_argument("--arch", default="gfx942")
    parser.add_argument(
        "--gigabytes", type=float, default=1.1, help="weights of the model that memory is tried with; 0 is none"
    )
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        kind, *rest = arguments.measure
        print(json.dumps(MEASUREMENTS[kind](*rest)))
        return
    table = Table(box=None)
    for column in ("model", "measure", "ours", "baseline", "ratio", "goal"):
        table.add_column(column, justify="right" if column in ("ours", "ratio") else "left")
    for name in arguments.models:
        for row in _rows(name, arguments.arch):
            table.add_row(*row)
    for row in _memory_rows(arguments.gigabytes, arguments.arch) if arguments.gigabytes > 0 else ():
        table.add_row(*row)
    Console(width=160).print(table)


def _rows(name: str, arch: str) -> list[tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        cache = str(Path(folder, "cache"))
        cold = _measure("check", name, arch, cache)
        bare = _measure("bare", cache)
        warm = _measure("check", name, arch, cache)
        alone = _measure("migraphx", name)
        whole = _measure("whole", name, arch, folder)
    spread = max(bare["sum"] / Options().worker_count, bare["longest"])
    ours = sum(seconds for stage, seconds in warm["stages"].items() if stage not in MIGRAPHX)
    kernels = f"{bare['count']} bare iree-compile on {Options().worker_count} workers"
    one_by_one = f"{bare['count']} bare iree-compile"
    rows = [
        _row(name, "cold compile stage", cold["stages"]["compile"], kernels, spread, "1.10"),
        _row(name, "cold compile, processor time", cold["cpu"], one_by_one, bare["cpu"], "1.10"),
        _row(name, "our share, warm", ours, "the cold compile", cold["wall"], "0.03"),
        _row(name, "our share, warm", ours, "MIGraphX's parse and compile (ref)", alone["wall"], "0.25"),
    ]
    if whole["status"]:
        return [*rows, (name, "cold compile", f"{cold['wall']:.2f}", f"one iree-compile fails: {whole['why']}", "", "")]
    once = "one iree-compile of the whole model"
    return [
        *rows,
        _row(name, "cold compile", cold["wall"], once, whole["wall"], "1.00"),
        _row(name, "cold compile, processor time", cold["cpu"], once, whole["cpu"], "1.00"),
    ]


def _memory_rows(gigabytes: float, arch: str) -> list[tuple[str, ...]]:
    with tempfile.TemporaryDirectory() as folder:
        model = Path(folder, "large.onnx")
        _large_model(model, gigabytes)
        size = model.stat().st_size
        cache = str(Path(folder, "cache"))
        peak = _measure("check", str(model), arch, cache)["peak"]
        host = _measure("host", str(model), cache)["peak"]
        alone = _measure("save", str(model))["peak"]
    name, what = f"{size / 1e9:.2f} GB", "peak memory, GB"
    limit, allowed = "2.5 times the file and 0.3", (2.5 * size + 300e6) / 1e9
    return [
        _row(name, what, peak / 1e9, limit, allowed, "1.00"),
        _row(name, f"{what}, compile for the host", host / 1e9, limit, allowed, "1.00"),
        _row(name, what, peak / 1e9, "MIGraphX's own parse and save", alone / 1e9, ""),
    ]


def _row(name: str, what: str, ours: float, baseline: str, theirs: float, goal: str) -> tuple[str, ...]:
    return (name, what, f"{ours:.2f}", f"{baseline}: {theirs:.2f}", f"{ours / theirs:.3f}", goal)


def _measure(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, __file__, "--measure", *arguments]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def _parse(name: str) -> migraphx.program:
    model = models.find(name)
    return migraphx.parse_onnx(model.path, map_input_dims=dict(model.lens))


def _check(name: str, arch: str, cache: str) -> dict[str, Any]:
    program = _parse(name)
    started, before = time.perf_counter(), _processor_time()
    report = migraphx.check(program, arch, Options(cache_dir=Path(cache), quiet=True, cache_size=0))
    wall, cpu = time.perf_counter() - started, _processor_time() - before
    return {"wall": wall, "cpu": cpu, "stages": report.seconds, "peak": _peak()}


def _host(name: str, cache: str) -> dict[str, Any]:
    options = Options(cache_dir=Path(cache), quiet=True, cache_size=0)
    report = migraphx.compile(_parse(name), migraphx.get_target("ref"), options=options).iree_report
    assert report is not None and report.swapped == report.eligible, report
    return {"peak": _peak()}


def _save(name: str) -> dict[str, Any]:
    """What MIGraphX takes by itself to parse a model and to save the program, which is how it can be read."""
    with tempfile.TemporaryDirectory() as folder:
        migraphx.save(_parse(name), Path(folder, "saved.mxr"))
    return {"peak": _peak()}


def _peak() -> int:
    """This process's largest resident memory. getrusage would count that of our parent, before the exec, as well."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("the system does not tell how much memory a process had")


def _processor_time() -> float:
    """Of this process and of those that it waited for."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _bare(cache: str) -> dict[str, Any]:
    """The commands that filled a cache, one after the other."""
    times, before = [], _processor_time()
    with tempfile.TemporaryDirectory() as folder:
        for file in Path(cache).glob("??/*/command.txt"):
            compiler, _, _, _, *flags = shlex.split(file.read_text())
            # The second half of a kernel whose workgroup was flattened: its first half begins with the same input.
            flags = [flag for flag in flags if not flag.startswith("--compile-from=")]
            command = [compiler, str(file.with_name("input.mlir")), "-o", str(Path(folder, "output")), *flags]
            started = time.perf_counter()
            subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
            times.append(time.perf_counter() - started)
    cpu = _processor_time() - before
    return {"count": len(times), "sum": sum(times), "longest": max(times), "cpu": cpu}


def _migraphx(name: str) -> dict[str, Any]:
    started = time.perf_counter()
    program = _parse(name)
    migraphx.compile(program, migraphx.get_target("ref"), options=Options(disable=True, quiet=True))
    return {"wall": time.perf_counter() - started}


def _whole(name: str, arch: str, folder: str) -> dict[str, Any]:
    """One iree-compile of the model as IREE's own importer gives it; the import is not counted."""
    import onnx

    model = models.find(name)
    source, imported, output = (Path(folder, each) for each in ("fixed.onnx", "whole.mlir", "whole.vmfb"))
    proto = onnx.load(model.path)
    for value in proto.graph.input:
        for dim, length in zip(value.type.tensor_type.shape.dim, model.lens.get(value.name, ()), strict=False):
            dim.dim_value = length
    # The importer wants shapes that the file may not have.
    onnx.save(onnx.shape_inference.infer_shapes(onnx.version_converter.convert_version(proto, 17)), source)
    importer = [sys.executable, "-m", "iree.compiler.tools.import_onnx", str(source), "-o", str(imported)]
    done = subprocess.run(importer, capture_output=True, text=True, check=False)
    if done.returncode:
        return {"status": done.returncode, "why": done.stderr.strip().splitlines()[-1]}
    flags = [
        "--iree-input-type=onnx",
        "--iree-hal-target-device=hip",
        f"--iree-rocm-target={arch}",
        "--iree-opt-level=O3",
    ]
    command = [str(find_compiler(Options()).path), str(imported), "-o", str(output), *flags]
    started, before = time.perf_counter(), _processor_time()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    wall, cpu = time.perf_counter() - started, _processor_time() - before
    errors = [line for line in done.stderr.splitlines() if "error:" in line] or [f"status {done.returncode}"]
    return {"status": done.returncode, "wall": wall, "cpu": cpu, "why": errors[0][-100:]}


def _large_model(path: Path, gigabytes: float) -> None:
    """Products with square matrices of weights, in one file."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    side, count = 4096, max(1, round(gigabytes * 1e9 / (4 * 4096**2)))
    random = np.random.default_rng(0)
    weights = [numpy_helper.from_array(random.random((side, side), np.float32), f"w{n}") for n in range(count)]
    nodes = [helper.make_node("MatMul", [f"v{n}", f"w{n}"], [f"v{n + 1}"]) for n in range(count)]
    ends = [helper.make_tensor_value_info(f"v{n}", TensorProto.FLOAT, (8, side)) for n in (0, count)]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], weights)
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


MEASUREMENTS = {"check": _check, "bare": _bare, "host": _host, "migraphx": _migraphx, "save": _save, "whole": _whole}

if __name__ == "__main__":
    main()
