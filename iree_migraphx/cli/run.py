"""`iree-migraphx run`: run a model once, and what it gives."""

from __future__ import annotations

import argparse
import io
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.job import Job, add_job, prepare
from iree_migraphx.cli.output import OutputFile, banner, print_json, print_report, print_rows, say
from iree_migraphx.errors import OptionError

if TYPE_CHECKING:
    from iree_migraphx.binding import program
    from iree_migraphx.report import Report

_DESCRIPTION = "Compiles a model with IREE's kernels, runs it once, and prints the shape and the range of each result."


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("run", help="run a model once", description=_DESCRIPTION)
    add_job(parser)
    group = parser.add_argument_group("output")
    group.add_argument(
        "--output", "-o", type=Path, metavar="FILE.npz", help="write the results, as output_0, output_1, …"
    )
    group.add_argument(
        "--json", action="store_true", help="print the results' shapes and ranges, and the report, as JSON"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    file = OutputFile.checked(arguments.output)
    if file is not None and file.path.suffix != ".npz":
        raise OptionError(f"--output {file.path}: its name must end in .npz")
    job = prepare(arguments)
    with banner(arguments.words, quiet=arguments.json):
        if arguments.dry_run:
            return dry_run(job)
        model = job.quantized()
        compiled = compiled_program(job, model)
        values = job.values()
        say("Running ...")
        started = time.perf_counter()
        results = run_once(compiled, values)
        seconds = time.perf_counter() - started
        reports = [*([compiled.iree_report] if compiled.iree_report else []), *job.checks(model)]
        rows = [describe(f"output_{index}", result) for index, result in enumerate(results)]
        if arguments.json:
            outputs = [
                dict(zip(("name", "shape", "type", "min", "max", "mean", "nan", "inf"), row, strict=True))
                for row in rows
            ]
            print_json({"seconds": seconds, "outputs": outputs, "reports": [report.to_json() for report in reports]})
        else:
            for report in reports:
                print_report(report, job.report_file)
            print_rows(("result", "shape", "type", "min", "max", "mean", "NaN", "Inf"), [_texts(row) for row in rows])
            say(f"one run took {seconds * 1e3:.6g}ms (iree-migraphx perf measures)")
        if file is not None:
            stream = io.BytesIO()
            np.savez(stream, **{f"output_{index}": result for index, result in enumerate(results)})  # type: ignore[arg-type]
            file.write(stream.getvalue())
        return job.finish(reports)


def dry_run(job: Job) -> ExitCode:
    """Print what IREE would be given, for every command that has --dry-run."""
    reports = job.dry_run(job.quantized())
    if getattr(job.arguments, "json", False):
        print_json({"reports": [report.to_json() for report in reports]})
    else:
        for report in reports:
            print_report(report, job.report_file)
    return job.finish(reports)


def compiled_program(job: Job, model: program, iree: bool = True) -> program:
    """The model compiled to be run with memory of the host, or as it is where it is compiled already."""
    if job.model.is_compiled:
        say("The program is already compiled, skipping compilation ...")
        return model
    return job.compile(model, offload_copy=True, iree=iree)


def run_once(compiled: program, values: Mapping[str, npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
    """The results of one run, copied, since the program may use their memory again."""
    with ended_by_interrupt():
        return [np.array(result) for result in compiled.run(values)]


@contextmanager
def ended_by_interrupt() -> Iterator[None]:
    """Let Ctrl-C end the process at once: inside MIGraphX, Python would notice it only after the run."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_DFL)
    except ValueError:  # not the main thread, which gets no Ctrl-C
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def describe(name: str, value: npt.NDArray[Any]) -> tuple[str, list[int], str, float, float, float, int, int]:
    """Name, shape, type, least, largest and mean value without NaN and Inf, and how many of those there are."""
    numbers = value.astype(np.float64)
    known = numbers[np.isfinite(numbers)]
    least, most, mean = (known.min(), known.max(), known.mean()) if known.size else (np.nan, np.nan, np.nan)
    counts = int(np.isnan(numbers).sum()), int(np.isinf(numbers).sum())
    return name, list(value.shape), value.dtype.name, float(least), float(most), float(mean), *counts


def _texts(row: Sequence[Any]) -> list[str]:
    name, shape, kind, *numbers, nan, inf = row
    return [name, "x".join(map(str, shape)), kind, *(f"{number:.6g}" for number in numbers), str(nan), str(inf)]


def reports_of(compiled: program) -> list[Report]:
    """The report of a compiled program, if IREE was asked."""
    return [compiled.iree_report] if compiled.iree_report is not None else []
