#!/usr/bin/env python3
"""Run an ONNX model with IREE's kernels in it, say what became of each subgraph, and compare with onnxruntime."""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_check

import iree_migraphx as migraphx
from iree_migraphx.binding.onnx_model import Face
from iree_migraphx.cli.job import default_target
from iree_migraphx.cli.lengths import check_dims, is_open, parse_dims, read_face
from iree_migraphx.cli.model import Model
from iree_migraphx.cli.onnx_reference import in_onnxruntime, require_onnxruntime
from iree_migraphx.cli.output import OutputFile
from iree_migraphx.cli.parser import natural
from iree_migraphx.cli.run import ended_by_interrupt
from iree_migraphx.cli.values import Values, all_values, load_values
from iree_migraphx.errors import (
    CompilerNotFoundError,
    InputError,
    IreeMigraphxError,
    LibraryNotFoundError,
    MigraphxError,
    OptionError,
)
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.options import Options
from iree_migraphx.report import Report

EXIT_CODES = """exit codes:
  0    done
  1    MIGraphX can't compile or run the model, --check found a difference, or output can't be written
  2    a wrong argument, model, input or setting
  130  ended by Ctrl-C
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return _command(arguments)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except (InputError, OptionError, CompilerNotFoundError, LibraryNotFoundError) as error:
        return _fail(str(error), 2)
    except IreeMigraphxError as error:
        return _fail(str(error), 1)
    except BrokenPipeError:  # the reader of our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _fail(message: str, code: int) -> int:
    print(f"run_onnx.py: {message}", file=sys.stderr)
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="run_onnx.py", description=__doc__, epilog=EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", type=Path, metavar="MODEL", help="an ONNX file")
    add("--target", help="MIGraphX's target, ref or gpu (default: gpu where there is a GPU, else ref)")
    add(
        "--arch",
        action="append",
        default=[],
        metavar="NAME",
        help="after the run, compile the kernels for this GPU too (gfx942, mi300x, gfx942:sramecc+:xnack-, ...) and "
        "print what they need; no GPU has to be there; may be repeated",
    )
    add(
        "--input-dim",
        action="extend",
        nargs="+",
        default=[],
        metavar="DIM",
        help='lengths of an input, as in migraphx-driver: "@name 1 3 320 320"; may be repeated',
    )
    add(
        "--input",
        action="append",
        default=[],
        metavar="NAME=FILE.npy",
        help="value of an input (default: made from --seed); may be repeated",
    )
    add("--seed", type=natural, default=0, help="for the inputs that are made up (default: 0)")
    add("--output", type=Path, metavar="FILE.npz", help="write the outputs here, by their names")
    add("--report", type=Path, metavar="FILE.json", help="write the report here (docs/report.md tells its form)")
    add(
        "--iterations",
        type=natural,
        default=0,
        metavar="N",
        help="after a first run, run N times and print the median (default: 0, the first run is all)",
    )
    add("--no-iree", action="store_true", help="plain MIGraphX")
    add("--check", action="store_true", help="compare the outputs with onnxruntime's")
    return parser


def _command(arguments: argparse.Namespace) -> int:
    # What can be wrong with the arguments is said before anything that takes long.
    options = Options.resolve(disable=True) if arguments.no_iree else Options.resolve()
    report_file, output_file = OutputFile.checked(arguments.report), OutputFile.checked(arguments.output)
    if arguments.check:
        require_onnxruntime("--check")
    target = default_target(arguments.target)
    for arch in arguments.arch:
        parse_target(arch)
    versions = _versions(options, needs_compiler=bool(arguments.arch))
    path, face, dims = arguments.model, read_face(arguments.model), parse_dims(arguments.input_dim)
    check_dims(dims, face.inputs)

    started = time.perf_counter()
    program = _parse(path, face, dims)
    _say(f"{versions}; target {target.name}")
    _say(f"{path.name}: parsed in {_seconds(time.perf_counter() - started)}")
    for note in Model(path, program, "onnx", inputs=face.inputs, given=frozenset(dims)).notes():
        _say(f"note: {note}")
    values = _values(arguments, program.get_parameter_shapes())

    started = time.perf_counter()
    compiled = migraphx.compile(program, target, options=options)
    took = time.perf_counter() - started
    report = compiled.iree_report
    assert report is not None
    _show(report)
    _say(f"compiled in {_seconds(took)}; {_who(report)}")
    run = _run(compiled, values, arguments.iterations)
    names = face.outputs if len(face.outputs) == len(run.outputs) else [f"output_{i}" for i in range(len(run.outputs))]
    for name, output in zip(names, run.outputs, strict=True):
        _say(f"output {name}: {output.dtype} {'x'.join(map(str, output.shape))}")
    _say(run.timings())
    agrees = not arguments.check or _check(path, values, names, run, report)
    if output_file is not None:
        stream = io.BytesIO()
        np.savez(stream, **dict(zip(names, run.outputs, strict=True)))  # type: ignore[arg-type]
        output_file.write(stream.getvalue())

    checks = []
    for arch in arguments.arch:
        _say(f"\nkernels for {arch}:")
        checks.append(migraphx.check(program, arch, options))
        _show(checks[-1])
        _say(f"IREE's kernels of {checks[-1].swapped} of {checks[-1].eligible} subgraphs can be launched on {arch}")
    if report_file is not None:
        text = json.dumps({**report.to_json(), "checks": [each.to_json() for each in checks]}, indent=1) + "\n"
        report_file.write(text.encode())
    return 0 if agrees else 1


def _versions(options: Options, needs_compiler: bool) -> str:
    from iree_migraphx.kernels.compiler import find_compiler

    versions = f"MIGraphX {migraphx.__version__}"
    if options.disable and not needs_compiler:
        return f"{versions}, no IREE"
    try:
        return f"{versions}, {find_compiler(options).version}"
    except CompilerNotFoundError:
        if options.iree_bin is not None or needs_compiler:
            raise
        return f"{versions}, no IREE compiler"


def _parse(path: Path, face: Face, dims: Mapping[str, Sequence[int]]) -> migraphx.program:
    try:
        return migraphx.parse_onnx(path, default_dim_value=1, map_input_dims=dims)
    except MigraphxError as error:
        open_ones = [name for name, lens in face.inputs.items() if is_open(lens) and name not in dims]
        hint = (
            f". Lengths that the model leaves open, in {', '.join(open_ones)}, were taken as 1; --input-dim sets them"
        )
        raise InputError(f"{error}{hint if open_ones else ''}") from error


def _values(arguments: argparse.Namespace, shapes: Mapping[str, migraphx.shape]) -> Values:
    words = []
    for text in arguments.input:
        name, equals, file = text.rpartition("=")
        if not (name and equals and file):
            raise InputError(f"--input {text!r} is not of the form name=file.npy")
        words += [f"@{name}", file]
    return all_values(load_values(words, shapes), shapes, arguments.seed)


@dataclass(frozen=True)
class Run:
    """What the program gave.

    Attributes:
        first: seconds of the first run.
        seconds: of the others.
    """

    outputs: list[np.ndarray[Any, np.dtype[Any]]]
    first: float
    seconds: list[float]

    def timings(self) -> str:
        """One line."""
        if not self.seconds:
            return f"one run took {_seconds(self.first)} (--iterations N times it without the warm-up)"
        low, high, middle = min(self.seconds), max(self.seconds), statistics.median(self.seconds)
        return (
            f"{len(self.seconds)} runs after a warm-up: median {_seconds(middle)}, min {_seconds(low)}, "
            f"max {_seconds(high)}"
        )


def _run(program: migraphx.program, values: Values, iterations: int) -> Run:
    seconds = []
    with ended_by_interrupt():
        for _ in range(1 + iterations):
            started = time.perf_counter()
            results = program.run(values)
            outputs = [np.asarray(result) for result in results]
            seconds.append(time.perf_counter() - started)
    return Run(outputs, seconds[0], seconds[1:])


def _check(path: Path, values: Values, names: Sequence[str], run: Run, report: Report) -> bool:
    differences = onnx_check.compare(names, run.outputs, in_onnxruntime(path, values))
    for difference in differences:
        _say(str(difference))
    agrees = all(difference.passes for difference in differences)
    if not agrees and report.swapped:
        _say("check with --no-iree too: where MIGraphX alone is as far from onnxruntime, it is not IREE's kernels")
    return agrees


def _who(report: Report) -> str:
    migraphx = f"MIGraphX's target {report.target}"
    if not report.swapped:
        return f"{migraphx} computes everything" + (f": {report.note}" if report.note else "")
    return f"IREE ({report.arch}) computes {report.swapped} of {report.eligible} subgraphs, {migraphx} the rest"


def _show(report: Report) -> None:
    """Print the table; the summary is on stderr already."""
    from rich.console import Console

    if report.subgraphs:
        # A log has no width; the table would be folded at 80 columns.
        console = Console(file=sys.stdout, width=None if sys.stdout.isatty() else 160, highlight=False)
        console.print(report.table())
        sys.stdout.flush()


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.2f} ms"


def _say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
