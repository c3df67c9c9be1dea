"""`iree-migraphx verify`: results beside MIGraphX's own, element by element, of each subgraph and of the model."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy.typing as npt

from iree_migraphx.cli.comparison import Comparison, compared, judged
from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.job import Job, add_job, prepare
from iree_migraphx.cli.lone_kernel import LoneKernel
from iree_migraphx.cli.onnx_reference import in_onnxruntime, require_onnxruntime
from iree_migraphx.cli.output import banner, print_json, print_rows, say
from iree_migraphx.cli.parser import positive, seconds
from iree_migraphx.cli.run import dry_run, run_once
from iree_migraphx.cli.work import program_flops, work_of
from iree_migraphx.errors import InputError, KernelError, OptionError

if TYPE_CHECKING:
    from iree_migraphx.binding import program
    from iree_migraphx.ir.model import Program
    from iree_migraphx.partition.subgraph import Subgraph
    from iree_migraphx.report import Report
    from iree_migraphx.study import Study

_DESCRIPTION = """Compares results with those of MIGraphX's ref target, element by element, NaN and infinities included:
each different subgraph as a program of its own, and the whole model. What the ref target can't compute within --limit
is said not to be compared."""

#: migraphx-driver's bounds (get_tolerances in src/driver/verify.cpp), for models in float and with 16-bit floats.
_BOUNDS = {False: {"rms_tol": 1e-3, "atol": 1e-3, "rtol": 1e-3}, True: {"rms_tol": 8e-2, "atol": 4e-2, "rtol": 4e-2}}
#: Operations of a subgraph whose time tells how long others take.
_TELLING = 1e5
_HALF = frozenset({"half_type", "bf16_type"})


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    text = "compare results with MIGraphX's own, each subgraph's and the model's"
    parser = commands.add_parser("verify", help=text, description=_DESCRIPTION)
    add_job(parser)
    group = parser.add_argument_group("comparing")
    group.add_argument("--rms-tol", type=float, metavar="X", help="bound of the model's RMS difference")
    group.add_argument("--atol", type=float, metavar="X", help="bound of a difference, as share of the largest element")
    group.add_argument("--rtol", type=float, metavar="X", help="the same as share of the element itself, added to it")
    group.add_argument(
        "--seeds",
        type=positive,
        default=3,
        metavar="N",
        help="inputs that are made up: --seed and those after (default: 3)",
    )
    group.add_argument(
        "--subgraph",
        action="append",
        default=[],
        metavar="NAME",
        help="only this one, and not the model; may be repeated",
    )
    group.add_argument("--whole", action="store_true", help="only the model, and not its subgraphs")
    group.add_argument(
        "--compiled-model",
        "-c",
        type=Path,
        metavar="FILE.mxr",
        help="compare what this program gives, which was compiled from the model and saved, instead of compiling it",
    )
    group.add_argument("--onnxruntime", action="store_true", help="compare the model with onnxruntime too")
    group.add_argument(
        "--limit", type=seconds, default=300.0, metavar="SECONDS", help="for MIGraphX's ref target (default: 300)"
    )
    group.add_argument("--json", action="store_true", help="print every comparison as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    if arguments.whole and arguments.subgraph:
        raise OptionError("--whole and --subgraph leave nothing to compare")
    if arguments.compiled_model and arguments.subgraph:
        raise OptionError("--compiled-model is compared as a whole, so --subgraph can't be")
    if arguments.onnxruntime:
        require_onnxruntime()
    job = prepare(arguments)
    if job.model.is_compiled:
        raise OptionError(f"{arguments.model} is compiled already; verify compares what it compiles itself")
    if arguments.onnxruntime and job.model.kind != "onnx":
        raise OptionError(f"--onnxruntime can't run {arguments.model}, which is no ONNX file")
    with banner(arguments.words, quiet=arguments.json):
        if arguments.dry_run:
            return dry_run(job)
        session = _Session(job)
        session.compare()
        bad = [each for each in session.comparisons if each.problem]
        if arguments.json:
            reports = [report.to_json() for report in session.reports]
            compared = [asdict(each) for each in session.comparisons]
            print_json({"comparisons": compared, "not_compared": session.left_out, "reports": reports})
        else:
            session.print()
        status = job.finish(session.reports)
        return ExitCode.MISMATCH if bad else status


class _Session:
    """The comparisons of one command, and the time that is left for them."""

    def __init__(self, job: Job) -> None:
        self._job = job
        self._model = job.quantized()
        self._seeds = range(job.arguments.seed, job.arguments.seed + job.arguments.seeds)
        self._left: float = job.arguments.limit
        # Seconds that the ref target takes for an operation, until it is measured (docs/facts.md).
        self._pace = 1e-7
        self.comparisons: list[Comparison] = []
        self.left_out: dict[str, str] = {}
        self.reports: list[Report] = []

    def compare(self) -> None:
        arguments = self._job.arguments
        if not (arguments.whole or arguments.compiled_model or self._job.options.disable):
            study = self._study()
            self.reports.append(study.report)
            self._subgraphs(study)
        if not arguments.subgraph:
            self._whole()

    def print(self) -> None:
        rows = []
        for each in self.comparisons:
            verdict = f"FAILED: {each.problem}" if each.problem else "PASSED"
            numbers = (f"{each.largest:.3g}", f"{each.rms:.3g}", f"{each.allowed:.3g}", str(each.nonfinite))
            rows.append((each.name, each.against, each.provider, str(each.seed), *numbers, verdict))
        header = ("what", "against", "computed by", "seed", "largest", "rms", "allowed", "NaN/Inf", "")
        print_rows(header, rows)
        for name, why in self.left_out.items():
            print(f"{name}: not compared: {why}", flush=True)
        bad = sum(bool(each.problem) for each in self.comparisons)
        print(
            f"{len(self.comparisons) - bad} comparisons passed, {bad} failed, {len(self.left_out)} not made", flush=True
        )

    def _study(self) -> Study:
        from iree_migraphx.study import study

        return study(self._model, None if self._job.on_gpu else "host", self._job.options)

    def _subgraphs(self, study: Study) -> None:
        wanted = self._job.arguments.subgraph
        known = [subgraph.name for subgraph in study.plan.subgraphs]
        for name in wanted:
            if name not in known:
                from iree_migraphx.config import did_you_mean

                raise OptionError(f"there is no subgraph {name!r}{did_you_mean(name, known) or '; inspect lists them'}")
        distinct: dict[str, list[Subgraph]] = {}
        for subgraph in study.plan.subgraphs:
            distinct.setdefault(subgraph.key, []).append(subgraph)
        swapped = {report.key for report in study.report.subgraphs if report.provider == "iree"}
        for key, same in sorted(distinct.items(), key=lambda item: work_of(item[1][0]).flops):
            named = next((subgraph for subgraph in same if subgraph.name in wanted), same[0])
            cost = work_of(named).flops
            if key in swapped and (not wanted or named.name in wanted):
                self._subgraph(study, named, cost)

    def _subgraph(self, study: Study, subgraph: Subgraph, cost: int) -> None:
        from iree_migraphx.ir.write import write_program
        from iree_migraphx.splice.compare import Tolerance

        if not self._affordable(subgraph.name, cost * self._pace):
            return
        alone = replace(study.plan.program, modules={"main": subgraph.body}, targets=(), contexts=())
        plain = _reference(write_program(alone))
        tolerance = Tolerance.of(subgraph.body)
        try:
            kernel = LoneKernel(study, subgraph, alone, self._job.options.thread_count)
        except KernelError as error:
            self.left_out[subgraph.name] = str(error)
            return
        for seed in self._seeds:
            memory = kernel.operands(seed)
            expected = self._timed(plain, kernel.values(memory), cost)[0]
            actual = kernel.run(memory)
            allowed, problem = tolerance.scaled_to(expected), tolerance.problem(actual, expected)
            name = subgraph.name
            self.comparisons.append(compared(name, "migraphx", seed, "iree", actual, expected, allowed, problem))
            if not self._affordable(f"{subgraph.name} with further seeds", cost * self._pace):
                return

    def _whole(self) -> None:
        from iree_migraphx import binding
        from iree_migraphx.ir.read import read_program

        parsed = read_program(binding.save_buffer(self._model))
        estimate = program_flops(parsed) * self._pace
        ours = self._ours()
        if not self.reports and ours.iree_report is not None:
            self.reports.append(ours.iree_report)
        if self._job.arguments.compiled_model:
            provider = "the file"
        else:
            provider = "iree" if ours.iree_report is not None and ours.iree_report.swapped else "migraphx"
        bounds = self._bounds(parsed)
        plain = None
        for seed in self._seeds:
            values = self._job.values(seed)
            actual = run_once(ours, values)
            references: dict[str, Sequence[npt.NDArray[Any]]] = {}
            if self._affordable("the model" if plain is None else "the model with further seeds", estimate):
                plain = _reference(binding.save_buffer(self._model)) if plain is None else plain
                started = time.monotonic()
                references["migraphx"] = self._timed(plain, values, 0)
                estimate = time.monotonic() - started
            if self._job.arguments.onnxruntime:
                references["onnxruntime"] = in_onnxruntime(self._job.model.path, values)
            for against, expected in references.items():
                for index, (a, e) in enumerate(zip(actual, expected, strict=True)):
                    self.comparisons.append(judged(f"output_{index}", against, seed, provider, a, e, bounds))
            if not references:
                return

    def _ours(self) -> program:
        """What is compared: compiled here, or elsewhere."""
        from iree_migraphx import binding

        path = self._job.arguments.compiled_model
        if path is None:
            return self._job.compile(self._model, offload_copy=True)
        compiled = binding.load(path)
        if not compiled.is_compiled():
            raise InputError(f"--compiled-model {path} is not compiled")
        wanted, given = self._model.get_parameter_shapes(), compiled.get_parameter_shapes()
        if wanted.keys() != given.keys():
            raise InputError(f"--compiled-model {path} takes {sorted(given)}, and the model {sorted(wanted)}")
        return compiled

    def _affordable(self, name: str, needed: float) -> bool:
        if self._left > 0 and needed <= self._left:
            return True
        about = f"it would take MIGraphX's ref target about {needed:.3g} s, and " if needed else ""
        self.left_out[name] = f"{about}{max(0.0, self._left):.3g} of {self._job.arguments.limit:g} s are left (--limit)"
        return False

    def _timed(self, plain: program, values: Mapping[str, npt.NDArray[Any]], cost: int) -> list[npt.NDArray[Any]]:
        """Results of the ref target, whose time counts."""
        started = time.monotonic()
        results = run_once(plain, values)
        took = time.monotonic() - started
        self._left -= took
        if cost > _TELLING:
            self._pace = took / cost
        if took > 10:
            say(f"MIGraphX's ref target took {took:.0f} s; {max(0.0, self._left):.0f} s are left")
        return results

    def _bounds(self, parsed: Program) -> dict[str, float]:
        half = any(instruction.shape.type in _HALF for instruction in parsed.instructions())
        given = {name: getattr(self._job.arguments, name) for name in _BOUNDS[half]}
        return {name: default if given[name] is None else given[name] for name, default in _BOUNDS[half].items()}


def _reference(data: bytes) -> program:
    """A program for MIGraphX's ref target, without anything of ours."""
    from iree_migraphx import binding
    from iree_migraphx.options import Options
    from iree_migraphx.pipeline import compile as compile_with_iree

    options = Options.resolve(disable=True, quiet=True)
    return compile_with_iree(binding.load_buffer(data), binding.get_target("ref"), options=options)
