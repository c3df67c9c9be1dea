"""`iree-migraphx perf`: a model's times with IREE's kernels and with MIGraphX alone, in turn."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import iree_migraphx
from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.job import Job, add_job, prepare
from iree_migraphx.cli.kernel_times import kernel_times, summary
from iree_migraphx.cli.output import banner, milliseconds, print_json, print_report, say
from iree_migraphx.cli.parser import positive, seconds
from iree_migraphx.cli.run import compiled_program, dry_run, ended_by_interrupt, reports_of
from iree_migraphx.errors import IreeMigraphxError, OptionError

if TYPE_CHECKING:
    from iree_migraphx.binding import program
    from iree_migraphx.cli.values import Values

_DESCRIPTION = """Times a model with IREE's kernels and with MIGraphX alone, one run of each in turn, and prints both
and their ratio. MIGraphX's ref target may take minutes for a run; one that does not end in time is left out."""

# Wherever this package was imported from, the process must find the same one.
_CHILD = "import sys; sys.path.insert(0, sys.argv.pop(1)); from iree_migraphx.cli.main import main; sys.exit(main())"


@dataclass(frozen=True, slots=True)
class Times:
    """Statistics of some runs, in seconds, as migraphx-driver takes them (program::perf_report in src/program.cpp).

    Attributes:
        total: the mean without the fastest and the slowest quarter, which the rate is made of.
    """

    runs: int
    total: float
    min: float
    max: float
    mean: float
    median: float
    percentile_90: float
    percentile_95: float
    percentile_99: float

    @classmethod
    def of(cls, measured: Sequence[float]) -> Times:
        """The statistics of one run or more."""
        ordered = sorted(measured)
        quarter = len(ordered) // 4
        percentiles = (ordered[int(share * (len(ordered) - 1))] for share in (0.90, 0.95, 0.99))
        return cls(
            len(ordered),
            statistics.fmean(ordered[quarter : len(ordered) - quarter]),
            ordered[0],
            ordered[-1],
            statistics.fmean(ordered),
            statistics.median(ordered),
            *percentiles,
        )

    def lines(self, batch: int) -> list[str]:
        """migraphx-driver's summary."""
        ms = milliseconds
        return [
            f"Batch size: {batch}",
            f"Rate: {batch / self.total:.6g} inferences/sec",
            f"Total time: {ms(self.total)} (Min: {ms(self.min)}, Max: {ms(self.max)}, Mean: {ms(self.mean)}, "
            f"Median: {ms(self.median)})",
            f"Percentiles (90%, 95%, 99%): ({ms(self.percentile_90)}, {ms(self.percentile_95)}, "
            f"{ms(self.percentile_99)})",
        ]


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("perf", help="time a model with and without IREE", description=_DESCRIPTION)
    add_job(parser)
    group = parser.add_argument_group("measuring")
    group.add_argument(
        "--iterations",
        "-n",
        type=positive,
        default=100,
        metavar="N",
        help="runs of each, after a warm-up (default: 100)",
    )
    group.add_argument(
        "--plain-limit",
        type=seconds,
        default=60.0,
        metavar="SECONDS",
        help="time for MIGraphX alone: what does not run once in it is left out, and what does gets fewer runs; 0 "
        "leaves it out (default: 60)",
    )
    group.add_argument(
        "--detailed", "-d", action="store_true", help="time each of IREE's kernels for the CPU by itself too"
    )
    group.add_argument("--json", action="store_true", help="print all as JSON")
    # What this command starts itself with to see whether MIGraphX alone ends in time.
    group.add_argument("--plain-trial", action="store_true", help=argparse.SUPPRESS)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.plain_trial:
        return _trial(arguments)
    job = prepare(arguments)
    if arguments.detailed and (job.on_gpu or job.model.is_compiled or job.options.disable):
        raise OptionError(
            "--detailed times IREE's kernels for the CPU: it needs a model that is not compiled, the target ref and "
            "IREE. For the gpu, migraphx-driver perf of the saved program has a line for each kernel"
        )
    with banner(arguments.words, quiet=arguments.json):
        if arguments.dry_run:
            return dry_run(job)
        model = job.quantized()
        values = job.values()
        measured = _measure(job, model, values)
        kernels = (
            kernel_times(model, min(arguments.iterations, _KERNEL_RUNS), job.options) if arguments.detailed else []
        )
        reports = [*reports_of(measured.compiled), *job.checks(model)]
        if arguments.json:
            detail = {"kernels": [asdict(kernel) for kernel in kernels]} if arguments.detailed else {}
            print_json({**measured.to_json(), **detail, "reports": [report.to_json() for report in reports]})
        else:
            for report in reports:
                print_report(report, job.report_file)
            for line in [*measured.lines(arguments.batch), *(["", *summary(kernels)] if kernels else [])]:
                print(line, flush=True)
        return job.finish(reports)


@dataclass(frozen=True, slots=True)
class _Measured:
    """Times of both.

    Attributes:
        iree: None where nothing of IREE is in the program, so that `plain` tells all.
        plain: None where there is none; `note` says why.
    """

    compiled: program
    iree: Times | None
    plain: Times | None
    note: str = ""

    @property
    def ratio(self) -> float | None:
        """How many times as fast IREE is, by the medians."""
        return self.plain.median / self.iree.median if self.plain and self.iree else None

    def to_json(self) -> dict[str, Any]:
        return {
            "iree": asdict(self.iree) if self.iree else None,
            "migraphx": asdict(self.plain) if self.plain else None,
            "ratio": self.ratio,
            "note": self.note,
        }

    def lines(self, batch: int) -> list[str]:
        lines = []
        for name, times in (("With IREE", self.iree), ("MIGraphX alone", self.plain)):
            if times is not None:
                runs = "1 run" if times.runs == 1 else f"{times.runs} runs"
                lines += ["", f"{name} ({runs}):", *times.lines(batch)]
        if self.ratio is not None and self.iree and self.plain:
            lines += [
                "",
                f"Ratio: IREE is {self.ratio:.4g} times as fast as MIGraphX alone "
                f"(medians {milliseconds(self.iree.median)} and {milliseconds(self.plain.median)})",
            ]
        return [*lines, *(["", f"Note: {self.note}"] if self.note else [])]


def _measure(job: Job, model: program, values: Values) -> _Measured:
    arguments = job.arguments
    compiled = compiled_program(job, model)
    report = compiled.iree_report
    if report is None or not report.swapped:
        say("Running performance report ...")
        times, _ = _in_turn([compiled], values, arguments.iterations)
        why = "the program is compiled already" if report is None else "IREE computes nothing in this program"
        return _Measured(compiled, None, Times.of(times[0]), f"{why}, so there is nothing to compare")
    # migraphx-driver leaves inputs on the device; MIGraphX's C interface has no way to put them there.
    copies = "each run copies its inputs to the device and its results back" if job.on_gpu else ""
    once, note = _one_plain_run(job)
    programs = [compiled]
    if once is not None:
        programs.append(job.compile(model, offload_copy=True, iree=False))
    say("Running performance report ...")
    times, cut = _in_turn(programs, values, arguments.iterations, arguments.plain_limit)
    if cut:
        note = f"MIGraphX alone had the {arguments.plain_limit:g} s of --plain-limit, {len(times[1])} runs"
    plain = Times.of(times[1]) if len(programs) > 1 else None
    return _Measured(compiled, Times.of(times[0]), plain, "; ".join(filter(None, [note, copies])))


def _in_turn(
    programs: Sequence[program], values: Values, iterations: int, limit: float = float("inf")
) -> tuple[list[list[float]], bool]:
    """Seconds of the runs of each program after a warm-up, and whether the last one ran into the limit."""
    times: list[list[float]] = [[] for _ in programs]
    cut = False
    with ended_by_interrupt():
        for iteration in range(iterations + 1):
            for number, each in enumerate(programs):
                if number and sum(times[number]) > limit:
                    cut = True
                    continue
                # What ran before is not in the processor's cache any more: once more, without the clock.
                if len(programs) > 1 and number == 0 and iteration:
                    each.run(values)
                started = time.perf_counter()
                each.run(values)
                elapsed = time.perf_counter() - started
                if iteration or (number and elapsed > limit / 4):
                    times[number].append(elapsed)
    return times, cut


def _one_plain_run(job: Job) -> tuple[float | None, str]:
    """Seconds that MIGraphX alone takes, in a process that can be ended; None, and why, where it is not to be had."""
    limit = job.arguments.plain_limit
    if not limit:
        return None, "MIGraphX alone was not run (--plain-limit 0)"
    if job.on_gpu:
        return 0.0, ""
    say(f"Running MIGraphX alone once, for {limit:g} s at most ...")
    package = str(Path(iree_migraphx.__file__).parent.parent)
    command = [sys.executable, "-c", _CHILD, package, *job.arguments.words, "--plain-trial", "--no-iree"]
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=limit + _START, check=False)
    except subprocess.TimeoutExpired:
        return None, _too_slow(limit)
    if ended.returncode:
        raise IreeMigraphxError(f"MIGraphX alone failed: {ended.stderr.strip().splitlines()[-1:] or ended.returncode}")
    once: float = json.loads(ended.stdout)["seconds"]
    return (once, "") if once <= limit else (None, _too_slow(limit))


#: Runs of each kernel by itself, at most.
_KERNEL_RUNS = 20

#: Seconds that reading and compiling the model may take besides.
_START = 30.0


def _too_slow(limit: float) -> str:
    return f"MIGraphX alone did not run once within {limit:g} s (--plain-limit), so there is no ratio"


def _trial(arguments: argparse.Namespace) -> int:
    arguments.strict, arguments.arch, arguments.report, arguments.no_iree = False, [], None, True
    job = prepare(arguments)
    job = replace(job, options=replace(job.options, quiet=True))
    compiled = compiled_program(job, job.quantized())
    values = job.values()
    started = time.perf_counter()
    compiled.run(values)
    print_json({"seconds": time.perf_counter() - started})
    return ExitCode.OK
