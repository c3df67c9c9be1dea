#!/usr/bin/env python3
"""Run an ONNX model with IREE's kernels in it, say what became of each subgraph, and compare with onnxruntime."""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import onnx_check
import onnx_inputs

import iree_migraphx as migraphx
from iree_migraphx.errors import (
    CompilerNotFoundError,
    InputError,
    IreeMigraphxError,
    LibraryNotFoundError,
    MigraphxError,
    OptionError,
    TargetError,
)
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
    add("--seed", type=_natural, default=0, help="for the inputs that are made up (default: 0)")
    add("--output", type=Path, metavar="FILE.npz", help="write the outputs here, by their names")
    add("--report", type=Path, metavar="FILE.json", help="write the report here (docs/report.md tells its form)")
    add(
        "--iterations",
        type=_natural,
        default=0,
        metavar="N",
        help="after a first run, run N times and print the median (default: 0, the first run is all)",
    )
    add("--no-iree", action="store_true", help="plain MIGraphX")
    add("--check", action="store_true", help="compare the outputs with onnxruntime's")
    return parser


def _natural(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def _command(arguments: argparse.Namespace) -> int:
    # What can be wrong with the arguments is said before anything that takes long.
    options = Options.resolve(disable=True) if arguments.no_iree else Options.resolve()
    report_file, output_file = _writable(arguments.report), _writable(arguments.output)
    if arguments.check:
        onnx_check.require_onnxruntime()
    target = _target(arguments.target)
    for arch in arguments.arch:
        _require_arch(arch)
    versions = _versions(options, needs_compiler=bool(arguments.arch))
    model = onnx_inputs.read_model(arguments.model)
    dims = onnx_inputs.parse_input_dims(arguments.input_dim, model)

    started = time.perf_counter()
    program = _parse(model, dims)
    _say(f"{versions}; target {target.name}")
    _say(f"{model.path.name}: parsed in {_seconds(time.perf_counter() - started)}")
    shapes = program.get_parameter_shapes()
    for note in onnx_inputs.unset_dims_notes(model, shapes, dims):
        _say(f"note: {note}")
    values = _values(arguments, shapes)

    started = time.perf_counter()
    compiled = migraphx.compile(program, target, options=options)
    took = time.perf_counter() - started
    report = compiled.iree_report
    assert report is not None
    _show(report)
    _say(f"compiled in {_seconds(took)}; {_who(report)}")
    run = _run(compiled, values, arguments.iterations)
    names = _output_names(model, run.outputs)
    for name, output in zip(names, run.outputs, strict=True):
        _say(f"output {name}: {output.dtype} {'x'.join(map(str, output.shape))}")
    _say(run.timings())
    agrees = not arguments.check or _check(model, values, names, run, report)
    if output_file is not None:
        arrays = dict(zip(names, run.outputs, strict=True))
        output_file.write(lambda stream: np.savez(stream, **arrays))  # type: ignore[arg-type]

    checks = []
    for arch in arguments.arch:
        _say(f"\nkernels for {arch}:")
        checks.append(migraphx.check(program, arch, options))
        _show(checks[-1])
        _say(f"IREE's kernels of {checks[-1].swapped} of {checks[-1].eligible} subgraphs can be launched on {arch}")
    if report_file is not None:
        text = json.dumps({**report.to_json(), "checks": [each.to_json() for each in checks]}, indent=1) + "\n"
        report_file.write(lambda stream: stream.write(text.encode()))
    return 0 if agrees else 1


def _target(name: str | None) -> migraphx.target:
    if name is not None:
        return migraphx.get_target(name)
    # The device of AMD's kernel driver: Debian's MIGraphX has the gpu target on machines without a GPU as well.
    if os.access("/dev/kfd", os.R_OK | os.W_OK):
        with contextlib.suppress(TargetError):
            return migraphx.get_target("gpu")
    return migraphx.get_target("ref")


def _require_arch(name: str) -> None:
    from iree_migraphx.kernels.targets import parse_target

    parse_target(name)


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


def _parse(model: onnx_inputs.Model, dims: Mapping[str, Sequence[int]]) -> migraphx.program:
    try:
        return migraphx.parse_onnx(model.path, default_dim_value=1, map_input_dims=dims)
    except MigraphxError as error:
        open_ones = [tensor.name for tensor in model.inputs if tensor.is_open and tensor.name not in dims]
        hint = (
            f". Lengths that the model leaves open, in {', '.join(open_ones)}, were taken as 1; --input-dim sets them"
        )
        raise InputError(f"{error}{hint if open_ones else ''}") from error


def _values(arguments: argparse.Namespace, shapes: Mapping[str, migraphx.shape]) -> onnx_inputs.Values:
    from iree_migraphx.binding.inputs import bind

    values = onnx_inputs.load_values(arguments.input, shapes)
    rng = np.random.default_rng(arguments.seed)
    for name, shape in shapes.items():
        # Made in any case, so that a value from a file does not change those of the other inputs.
        made = onnx_inputs.generate(shape, rng)
        values.setdefault(name, made)
    bind(shapes, values)  # says what is wrong with a value before the compile, not after it
    return values


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


def _run(program: migraphx.program, values: onnx_inputs.Values, iterations: int) -> Run:
    seconds = []
    with _ended_by_interrupt():
        for _ in range(1 + iterations):
            started = time.perf_counter()
            results = program.run(values)
            outputs = [np.asarray(result) for result in results]
            seconds.append(time.perf_counter() - started)
    return Run(outputs, seconds[0], seconds[1:])


@contextlib.contextmanager
def _ended_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once: inside MIGraphX, Python would notice it only after the run."""
    before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def _output_names(model: onnx_inputs.Model, outputs: Sequence[object]) -> list[str]:
    names = [tensor.name for tensor in model.outputs]
    return names if len(names) == len(outputs) else [f"output_{index}" for index in range(len(outputs))]


def _check(
    model: onnx_inputs.Model, values: onnx_inputs.Values, names: Sequence[str], run: Run, report: Report
) -> bool:
    differences = onnx_check.compare(names, run.outputs, onnx_check.reference(model.path, values))
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


@dataclass(frozen=True)
class _File:
    """A file to be written at the end: as a whole, or not at all."""

    path: Path

    def write(self, write: Callable[[IO[bytes]], object]) -> None:
        """Write it.

        Raises:
            IreeMigraphxError: the disk is full, or not ours any more.
        """
        try:
            if self.path.exists() and not self.path.is_file():  # a pipe or a device
                with open(self.path, "wb") as stream:
                    write(stream)
                return
            with tempfile.TemporaryDirectory(prefix=".run_onnx-", dir=self.path.parent) as folder:
                whole = Path(folder, self.path.name)
                with open(whole, "wb") as stream:
                    write(stream)
                whole.replace(self.path)
        except OSError as error:
            raise IreeMigraphxError(f"can't write {self.path}: {error.strerror}") from error


def _writable(path: Path | None) -> _File | None:
    if path is None:
        return None
    try:
        if path.is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if path.exists():
            open(path, "ab").close()
        if not path.exists() or path.is_file():
            with tempfile.TemporaryFile(dir=path.parent):
                pass
    except OSError as error:
        raise InputError(f"can't write {path}: {error.strerror}") from error
    return _File(path)


if __name__ == "__main__":
    sys.exit(main())
