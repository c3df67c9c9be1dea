"""One compile on its way through the stages: what each does, and what becomes of its failures."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, astuple, dataclass, field, replace
from typing import TYPE_CHECKING

from iree_migraphx import binding, gpu
from iree_migraphx.capture.grouped_attention import has_grouped_attention, written_out
from iree_migraphx.capture.recurrence import has_recurrence, unrolled
from iree_migraphx.errors import CaptureError, CompilerNotFoundError, HelperError, OptionError, Reason, Refusal
from iree_migraphx.ir.constants import fold_constants
from iree_migraphx.ir.edit import remove_dead
from iree_migraphx.ir.evaluate import evaluate_with_ref
from iree_migraphx.ir.loops import with_ordered_loops
from iree_migraphx.ir.model import Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.tiles import with_tiled_constants
from iree_migraphx.ir.write import write_program
from iree_migraphx.options import Options
from iree_migraphx.partition.choice import excluded
from iree_migraphx.partition.layouts import with_layouts
from iree_migraphx.partition.partition import has_dynamic_shapes, partition
from iree_migraphx.partition.subgraph import Subgraph, shape_text
from iree_migraphx.plan import Found, How, Plan
from iree_migraphx.report import Report
from iree_migraphx.verdict import graph, subgraph_reports

if TYPE_CHECKING:
    from iree_migraphx.kernels.model import HostKernel, Outcome
    from iree_migraphx.kernels.targets import Target
    from iree_migraphx.splice.placeholder import Failed

log = logging.getLogger("iree_migraphx.pipeline")
_partition_log = logging.getLogger("iree_migraphx.partition")

#: Stage of the report -> the logger that tells of it.
_LOGGERS = {
    "save": "binding",
    "read": "ir",
    "fold": "ir",
    "capture": "capture",
    "import": "lowering",
    "partition": "partition",
    "lower": "lowering",
    "compile": "kernels",
    "verify": "splice",
    "splice": "splice",
    "write": "ir",
    "migraphx": "binding",
}


@dataclass
class Job:
    """One compile on its way through the stages, and the report that grows with it."""

    options: Options
    migraphx_target: str
    source: Callable[[], bytes | memoryview]
    checked_only: bool = False
    report: Report = field(init=False)
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        self.report = Report(self.migraphx_target, self.options.arch or "host")

    @classmethod
    def for_arch(cls, program: binding.program, arch: str, options: Options) -> Job:
        """A job whose kernels are compiled and checked only."""
        own = binding.own_program(program)

        def source() -> memoryview:
            return binding.snapshot(own)

        return cls(replace(options, arch=arch), "gpu" if arch != "host" else "ref", source, checked_only=True)

    def wanted(self) -> bool:
        """Whether IREE is to be tried at all."""
        if self.options.disable:
            self._give_up(Reason.DISABLED, Reason.DISABLED.description)
        elif self.migraphx_target not in ("ref", "gpu"):
            self._give_up(Reason.UNKNOWN_DEVICE, f"there are no kernels for MIGraphX's target {self.migraphx_target}")
        elif self.migraphx_target == "ref" and self.options.arch not in (None, "host"):
            raise OptionError(
                f"the target ref runs on this machine's CPU, so arch can't be {self.options.arch!r}; "
                "iree_migraphx.check compiles for other devices"
            )
        else:
            return True
        return False

    def target(self) -> Target:
        """The device to compile for, checked together with the compiler and its flags before any work."""
        from iree_migraphx.kernels.service import prepare
        from iree_migraphx.kernels.targets import parse_target

        target = gpu.device_target(self.options) if self.on_gpu else parse_target(self.options.arch or "host")
        prepare(target, self.options)
        self.report = replace(self.report, arch=str(target))
        return target

    @property
    def on_gpu(self) -> bool:
        """Whether the program is to run on this machine's GPU."""
        return self.migraphx_target == "gpu" and not self.checked_only

    def swapped(self, how: How, take: Callable[[binding.program], None]) -> bool:
        """Hand over the compiled program with kernels in it; false where there are none or something went wrong."""
        try:
            target = self.target()
        except CompilerNotFoundError as error:
            if self.options.iree_bin is not None:
                raise
            self._give_up(Reason.NO_COMPILER, str(error))
            return False
        except Refusal as error:
            self._give_up(error.reason, error.detail)
            return False
        except OSError as error:
            # No room for the compiler's files, most likely.
            self._give_up(Reason.DISK, f"{type(error).__name__}: {error}")
            return False
        plan: Plan | None = None
        outcomes: Mapping[str, Outcome] = {}
        try:
            plan = self.plan(target, how)
            if self.report.reason is not None or not plan.subgraphs:
                return False
            outcomes = self.compile(plan, target)
            splice = self._splice_gpu if self.on_gpu else self._splice
            try:
                compiled, refusals = splice(plan, outcomes, how)
            except HelperError as error:
                if not plan.captured:
                    raise
                self.report = replace(self.report, note=gpu.not_compiled_again(error))
                plan = self.plan(target)
                outcomes = self.compile(plan, target)
                compiled, refusals = splice(plan, outcomes, how)
            self.conclude(plan, outcomes, refusals)
            if compiled is None or not self.report.swapped:
                return False
            take(compiled)
        except Exception as error:
            # Never worse off: the user asked for a program, and MIGraphX can give one without us.
            log.debug("left to MIGraphX", exc_info=True)
            reason = error.reason if isinstance(error, Refusal) else Reason.SPLICE_ERROR
            self._give_up(reason, f"{type(error).__name__}: {error}")
            if plan is not None:
                self.conclude(plan, outcomes, {s.name: error for s in plan.subgraphs})
            return False
        return True

    def plan(self, target: Target, how: How | None = None) -> Plan:
        """Find the subgraphs and lower them."""
        found = self.choose(target, how)
        return self.lowered(found.program, found.subgraphs, target, found.captured)

    def choose(self, target: Target, how: How | None = None) -> Found:
        """Read, fold and partition the program; on the gpu MIGraphX itself folds it, and fuses it as well."""
        with self.stage("save"):
            data = self.source()
        with self.stage("read"):
            program = with_ordered_loops(read_program(data))
        if has_dynamic_shapes(program):
            self._give_up(Reason.DYNAMIC_SHAPE, Reason.DYNAMIC_SHAPE.description)
            return Found(program, (), False)
        found = self._captured(program, how) if self.on_gpu and how is not None else None
        recurrent = found is None and has_recurrence(program)
        if found is not None:
            program = found.unfused.program
        else:
            program = self._unrolled(program) if recurrent else program
            program = self._written_out(program) if target.is_host and has_grouped_attention(program) else program
            with self.stage("fold"):
                program = remove_dead(fold_constants(program, evaluate_with_ref))
                if target.is_host:
                    program = remove_dead(with_tiled_constants(program))
        with self.stage("import"):
            from iree_migraphx.lowering import forms
        form = forms.form_for(target.gfx)
        with self.stage("partition"):
            extra = target.is_host if self.options.extra is None else self.options.extra
            rules = forms.rules(form, standard_operands=target.is_host, extra=extra, slices=not recurrent)
            eligible = self.options.eligible or ("migraphx" if self.on_gpu else "all")
            if target.is_host:
                chosen = with_layouts(program, partition(program, rules), rules)
            elif found is not None:
                chosen = gpu.choose_captured(found, rules, eligible, target.gfx)
            else:
                chosen = gpu.choose_parsed(program, rules, eligible, target.gfx)
        for subgraph in chosen:
            operands = ", ".join(shape_text(parameter.shape) for parameter in subgraph.parameters)
            _partition_log.debug("%s: %s of %s", subgraph.name, " ".join(subgraph.operators), operands)
        return Found(program, chosen, found is not None)

    def lowered(self, program: Program, subgraphs: Sequence[Subgraph], target: Target, captured: bool) -> Plan:
        """MLIR of each distinct subgraph, made now or before."""
        with self.stage("import"):
            from iree_migraphx.kernels.requests import requests
            from iree_migraphx.lowering import forms
        form = forms.form_for(target.gfx)
        left_out = excluded(subgraphs, self.options)
        with self.stage("lower"):
            made, refusals = requests([s for s in subgraphs if s.name not in left_out], form, self.options)
        return Plan(program, subgraphs, made, refusals, left_out, captured)

    def _captured(self, program: Program, how: How) -> gpu.Captured | None:
        """MIGraphX's own fused program; None, and a note in the report, where it could not be had."""
        try:
            with self.stage("capture"):
                return gpu.captured(program, how.offload_copy, how.fast_math, self.options.capture_timeout)
        except CaptureError as error:
            self.report = replace(self.report, note=gpu.capture_failed(error))
            return None

    def _unrolled(self, program: Program) -> Program:
        """The program with its recurrent layers written out; as it is, and a note in the report, where that failed."""
        try:
            with self.stage("capture"):
                return unrolled(program, self.options.capture_timeout)
        except CaptureError as error:
            log.info("not unrolled: %s", error)
            self.report = replace(self.report, note=f"recurrent layers were left to MIGraphX: {error}")
            return program

    def _written_out(self, program: Program) -> Program:
        """The program with grouped-query attention written out; as it is, and a note, where that failed."""
        try:
            with self.stage("capture"):
                return written_out(program)
        except CaptureError as error:
            log.info("not written out: %s", error)
            self.report = replace(self.report, note=f"grouped-query attention was left to MIGraphX: {error}")
            return program

    def compile(self, plan: Plan, target: Target) -> Mapping[str, Outcome]:
        """Kernels, or why not, by the subgraphs' key."""
        from iree_migraphx.kernels.model import Outcome
        from iree_migraphx.kernels.service import compile_kernels

        with self.stage("compile"):
            compiled = compile_kernels(list(plan.requests.values()), target, self.options)
        outcomes = dict(zip(plan.requests, compiled, strict=True))
        for key, refusal in plan.refusals.items():
            outcomes[key] = Outcome(refusal, 0.0, "off")
        return self._verified(plan, outcomes, target) if self.options.verify else outcomes

    def _verified(self, plan: Plan, outcomes: Mapping[str, Outcome], target: Target) -> Mapping[str, Outcome]:
        if not target.is_host and not self.on_gpu:
            notes = [self.report.note] if self.report.note else []
            self.report = replace(self.report, note="; ".join([*notes, "kernels for a gpu can't be verified here"]))
            return outcomes
        from iree_migraphx.splice.verify import verify

        with self.stage("verify"):
            return verify(plan.program, plan.tried, plan.requests, outcomes, self.options, str(target))

    def _splice_gpu(
        self, plan: Plan, outcomes: Mapping[str, Outcome], how: How
    ) -> tuple[binding.program | None, Mapping[str, Exception]]:
        from iree_migraphx.kernels.model import GpuKernel, GpuSequence
        from iree_migraphx.splice.gpu import compile_gpu

        kernels = {
            key: outcome.kernel
            for key, outcome in outcomes.items()
            if isinstance(outcome.kernel, (GpuKernel, GpuSequence))
        }
        with self.stage("migraphx"):
            done = compile_gpu(plan.program, plan.tried, kernels, **asdict(how))
        return done.program, done.refusals

    def _splice(
        self, plan: Plan, outcomes: Mapping[str, Outcome], how: How
    ) -> tuple[binding.program | None, Mapping[str, Exception]]:
        from iree_migraphx.kernels.model import HostKernel

        kernels: dict[str, HostKernel] = {
            key: outcome.kernel for key, outcome in outcomes.items() if isinstance(outcome.kernel, HostKernel)
        }
        if not kernels:
            return None, {}
        with self.stage("splice"):
            from iree_migraphx.splice.evidence import failed_run
            from iree_migraphx.splice.host import splice_host

            def witness(key: str, shapes: Sequence[Shape]) -> Failed | None:
                return failed_run(plan.requests[key], kernels[key], shapes, self.options)

            spliced = splice_host(plan.program, plan.tried, kernels, self.options.thread_count, witness)
        try:
            with self.stage("write"):
                data = write_program(spliced.program)
            with self.stage("migraphx"):
                compiled = binding.load_buffer(data)
                compiled.compile(binding.get_target(self.migraphx_target), *astuple(how))
        finally:
            spliced.let_go()
        return compiled, spliced.refusals

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Note the time of a stage; no two overlap."""
        start = time.perf_counter()
        try:
            yield
        finally:
            seconds = time.perf_counter() - start
            self.report.seconds[name] = self.report.seconds.get(name, 0.0) + seconds
            logging.getLogger(f"iree_migraphx.{_LOGGERS[name]}").info("%s took %.3f s", name, seconds)

    def conclude(
        self,
        plan: Plan,
        outcomes: Mapping[str, Outcome],
        refusals: Mapping[str, Exception],
        checked_only: bool = False,
    ) -> None:
        """Write into the report what became of each subgraph, and what the program looks like."""
        refused = {**refusals, **plan.excluded}
        reports = subgraph_reports(plan.subgraphs, outcomes, refused, self.began, self.report.dry_run)
        drawn = graph(plan.program, plan.subgraphs)
        self.report = replace(self.report, subgraphs=reports, graph=drawn, checked_only=checked_only)

    def _give_up(self, reason: Reason, note: str) -> None:
        self.report = replace(self.report, reason=reason, note=note)

    def announce(self) -> None:
        """Say in one line what happened."""
        log.info("%s", self.report.summary())
        if not self.options.quiet:
            print(self.report.summary(), file=sys.stderr, flush=True)
