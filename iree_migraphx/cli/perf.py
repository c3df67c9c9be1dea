"""`iree-migraphx perf`: a model's times with IREE's kernels and with MIGraphX alone, in turn."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from iree_migraphx.cli.instruction_times import InstructionTimes
from iree_migraphx.cli.job import Job, add_job, prepare
from iree_migraphx.cli.kernel_times import kernel_times, summary
from iree_migraphx.cli.output import banner, milliseconds, print_json, print_report, say
from iree_migraphx.cli.parser import positive, seconds
from iree_migraphx.cli.run import compiled_program, dry_run, ended_by_interrupt, reports_of
from iree_migraphx.cli.times import Times
from iree_migraphx.cli.trial import add_trial, instruction_times, one_plain_run, run_trial
from iree_migraphx.errors import OptionError

if TYPE_CHECKING:
    from iree_migraphx.binding import program
    from iree_migraphx.cli.values import Values

_DESCRIPTION = """Times a model with IREE's kernels and with MIGraphX alone, one run of each in turn, and prints both as
migraphx-driver does, instruction by instruction, and their ratio. MIGraphX's ref target may take minutes for a run; one
that does not end in time is left out."""

#: Runs of each kernel by itself, at most.
_KERNEL_RUNS = 20


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
        "--detailed", "-d", action="store_true", help="a line of the summary for each type and lengths of an operator"
    )
    group.add_argument(
        "--no-instructions", action="store_true", help="no times of single instructions, which take as many runs again"
    )
    group.add_argument(
        "--kernels", action="store_true", help="time each of IREE's kernels for the CPU by itself too, with its rates"
    )
    group.add_argument("--json", action="store_true", help="print all as JSON")
    add_trial(group)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.trial is not None:
        return run_trial(arguments)
    job = prepare(arguments)
    if arguments.kernels and (job.on_gpu or job.model.is_compiled or job.options.disable):
        raise OptionError(
            "--kernels times IREE's kernels for the CPU: it needs a model that is not compiled, the target ref and IREE"
        )
    with banner(arguments.words, quiet=arguments.json):
        if arguments.dry_run:
            return dry_run(job)
        model = job.quantized()
        values = job.values()
        measured = _measure(job, model, values)
        kernels = kernel_times(model, min(arguments.iterations, _KERNEL_RUNS), job.options) if arguments.kernels else []
        reports = [*reports_of(measured.compiled), *job.checks(model)]
        if arguments.json:
            detail = {"kernels": [asdict(kernel) for kernel in kernels]} if arguments.kernels else {}
            print_json({**measured.to_json(), **detail, "reports": [report.to_json() for report in reports]})
        else:
            for report in reports:
                print_report(report, job.report_file)
            for line in [*measured.lines(arguments.batch), *(["", *summary(kernels)] if kernels else [])]:
                print(line, flush=True)
        return job.finish(reports)


@dataclass(frozen=True, slots=True)
class _Timed:
    """One program: its runs, and what each instruction took in others; None where that is not known."""

    runs: Times
    instructions: InstructionTimes | None = None

    def to_json(self) -> dict[str, Any]:
        found = self.instructions
        if found is None:
            return asdict(self.runs)
        groups = [dict(zip(("name", "seconds", "count"), group, strict=True)) for group in found.groups()]
        return {**asdict(self.runs), "instructions": [asdict(each) for each in found.times], "groups": groups}

    def lines(self, batch: int) -> list[str]:
        found = self.instructions
        if found is None:
            return self.runs.lines(batch)
        return [*found.lines(), "", *self.runs.lines(batch), *found.overhead(self.runs)]


@dataclass(frozen=True, slots=True)
class _Measured:
    """Times of both.

    Attributes:
        iree: None where nothing of IREE is in the program, so that `plain` tells all.
        plain: None where there is none; `notes` say why.
    """

    compiled: program
    iree: _Timed | None
    plain: _Timed | None
    notes: Sequence[str]

    @property
    def ratio(self) -> float | None:
        """How many times as fast IREE is, by the medians."""
        return self.plain.runs.median / self.iree.runs.median if self.plain and self.iree else None

    def to_json(self) -> dict[str, Any]:
        return {
            "iree": self.iree.to_json() if self.iree else None,
            "migraphx": self.plain.to_json() if self.plain else None,
            "ratio": self.ratio,
            "note": "; ".join(self.notes),
        }

    def lines(self, batch: int) -> list[str]:
        lines = []
        for name, timed in (("With IREE", self.iree), ("MIGraphX alone", self.plain)):
            if timed is not None:
                runs = "1 run" if timed.runs.runs == 1 else f"{timed.runs.runs} runs"
                lines += ["", f"{name} ({runs}):", *timed.lines(batch)]
        if self.ratio is not None and self.iree and self.plain:
            lines += [
                "",
                f"Ratio: IREE is {self.ratio:.4g} times as fast as MIGraphX alone "
                f"(medians {milliseconds(self.iree.runs.median)} and {milliseconds(self.plain.runs.median)})",
            ]
        return [*lines, *(["", f"Note: {'; '.join(self.notes)}"] if self.notes else [])]


def _measure(job: Job, model: program, values: Values) -> _Measured:
    arguments = job.arguments
    compiled = compiled_program(job, model)
    report = compiled.iree_report
    notes: list[str] = []

    def timed(measured: Sequence[float], program: program, iree: bool) -> _Timed:
        if arguments.no_instructions:
            return _Timed(Times.of(measured))
        found, why = instruction_times(job, len(measured), program, iree)
        if why:
            notes.append(f"the times of {'' if iree else 'plain '}MIGraphX's instructions could not be had: {why}")
        return _Timed(Times.of(measured), found)

    if report is None or not report.swapped:
        say("Running performance report ...")
        (times,), _ = _in_turn([compiled], values, arguments.iterations)
        why = "the program is compiled already" if report is None else "IREE computes nothing in this program"
        notes.append(f"{why}, so there is nothing to compare")
        return _Measured(compiled, None, timed(times, compiled, iree=False), notes)
    once, note = one_plain_run(job)
    programs = [compiled]
    if once is not None:
        programs.append(job.compile(model, offload_copy=True, iree=False))
    say("Running performance report ...")
    both, cut = _in_turn(programs, values, arguments.iterations, arguments.plain_limit)
    if cut:
        note = f"MIGraphX alone had the {arguments.plain_limit:g} s of --plain-limit, {len(both[1])} runs"
    notes += [note] if note else []
    if job.on_gpu:
        # migraphx-driver leaves inputs on the device; MIGraphX's C interface has no way to put them there.
        notes.append("each run copies its inputs to the device and its results back")
    plain = timed(both[1], programs[1], iree=False) if len(programs) > 1 else None
    return _Measured(compiled, timed(both[0], compiled, iree=True), plain, notes)


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
