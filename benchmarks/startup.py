"""What the package costs where it does nothing: its import, and a run of a program without any kernel of IREE's.

`python benchmarks/startup.py [--rounds 15]` prints ratios. Each side is measured in turn with the other, imports in
processes of their own, runs in processor time; with ROCm's module on the path, runs are measured against ROCm's own.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

import iree_migraphx
from iree_migraphx import binding
from iree_migraphx.binding import library, official
from iree_migraphx.dropin import own

IMPORTS = {
    "import iree_migraphx": "import iree_migraphx",
    "… with its first name used": "import iree_migraphx; iree_migraphx.parse_onnx",
    "import numpy and load libmigraphx_c": "import numpy, ctypes; ctypes.CDLL({library!r})",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="measurements that a median is taken of")
    rounds = parser.parse_args().rounds
    os.environ["IREE_DISABLE"] = os.environ["IREE_MIGRAPHX_QUIET"] = "1"  # every program is MIGraphX's alone
    library.load()
    path = library.mapped_files("libmigraphx_c")[0]
    seconds = in_turn([_process(code.format(library=path)) for code in IMPORTS.values()], rounds)
    base = seconds[-1]
    for name, value in zip(IMPORTS, seconds, strict=True):
        print(f"{name:40} {value * 1e3:8.1f} ms   {value / base:5.2f}")
    if official.installed():
        migraphx, against = importlib.import_module("migraphx"), "ROCm's module"
    else:
        migraphx, against = binding, "the plain class"
    for elements in (1 << 6, 1 << 14):
        plain = run(migraphx, elements)
        rows = {"libmigraphx_c alone": run(own, elements), "drop-in": run(iree_migraphx, elements)}
        with iree_migraphx.install():
            rows["hook"] = run(importlib.import_module("migraphx"), elements)
        for name, side in rows.items():
            _print_run(f"run of {elements} elements, {name}", in_turn([side, plain], rounds, 30), against)


def in_turn(sides: Sequence[Callable[[], float | None]], rounds: int, repeat: int = 1) -> list[float]:
    """Median seconds of each side; a side that returns a number has measured itself."""
    times: list[list[float]] = [[] for _ in sides]
    for number in range(rounds + 1):
        for which in range(len(sides)) if number % 2 else reversed(range(len(sides))):
            start = time.process_time()
            told = [sides[which]() for _ in range(repeat)]
            spent = (time.process_time() - start) / repeat
            if number:  # the first round warms up
                times[which].append(spent if told[0] is None else told[0])
    return [statistics.median(each) for each in times]


def run(migraphx: Any, elements: int) -> Callable[[], None]:
    """A run of a compiled program without any kernel of IREE's: one gather."""
    program = migraphx.program()
    main = program.get_main_module()
    x = main.add_parameter("x", migraphx.shape(type="float", lens=[elements]))
    order = main.add_literal(np.arange(elements, dtype=np.int32)[::-1].copy())
    main.add_return([main.add_instruction(migraphx.op("gather", axis=0), [x, order])])
    program.compile(migraphx.get_target("ref"))
    inputs = {"x": np.zeros(elements, np.float32)}
    return lambda: program.run(inputs) and None


def _process(code: str) -> Callable[[], float]:
    code = f"import time; start = time.perf_counter(); {code}; print(time.perf_counter() - start)"
    return lambda: float(subprocess.check_output([sys.executable, "-c", code]))


def _print_run(name: str, seconds: Sequence[float], against: str) -> None:
    ours, plain = seconds
    print(f"{name:40} {ours * 1e6:8.1f} us   {ours / plain:5.2f} of {against}, {(ours - plain) * 1e6:+.1f} us")


if __name__ == "__main__":
    main()
