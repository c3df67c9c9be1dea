"""A closer look at what `compile` and `check` do: everything behind a report, and a report without any compile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from iree_migraphx import binding
from iree_migraphx.errors import OptionError
from iree_migraphx.job import Job
from iree_migraphx.logs import configure
from iree_migraphx.options import Options
from iree_migraphx.plan import How, Plan
from iree_migraphx.report import Report

if TYPE_CHECKING:
    from iree_migraphx.kernels.model import Outcome
    from iree_migraphx.kernels.targets import Target


@dataclass(frozen=True)
class Study:
    """Everything behind the report of a check: for those who look into single kernels."""

    report: Report
    target: Target
    plan: Plan
    outcomes: Mapping[str, Outcome]


def study(program: binding.program, arch: str | None, options: Options | None = None) -> Study:
    """As `check`, with the subgraphs, their MLIR and the kernels themselves.

    Args:
        program: as `check`'s.
        arch: as `check`'s, or None for this machine's GPU. There MIGraphX's own fused program is looked into, as
            `compile` does; the report's note says so where it could not be had.
        options: settings; those of the environment by default.

    Raises:
        Refusal: arch is None, and IREE can't compile for this machine's GPU.
    """
    options = Options.resolve() if options is None else options
    configure(options.debug_level, options.log)
    if arch is None:
        own = binding.own_program(program)
        job = Job(options, binding.get_target("gpu").name, lambda: binding.save_buffer(own))
    else:
        job = Job.for_arch(program, arch, options)
    target = job.target()
    plan = job.plan(target, How(True, True, False) if job.on_gpu else None)
    outcomes = job.compile(plan, target)
    job.conclude(plan, outcomes, {}, checked_only=True)
    job.announce()
    return Study(job.report, target, plan, outcomes)


def preview(
    program: binding.program,
    target: binding.target | None = None,
    arch: str | None = None,
    options: Options | None = None,
) -> Report:
    """Say what `compile` for a target, or `check` for an arch, would compile; nothing is compiled.

    Args:
        program: a parsed program, of this package or of ROCm's `migraphx` module; it is not changed.
        target: from `get_target` of either.
        arch: as in `check`, instead of a target.
        options: settings; those of the environment by default.

    Returns:
        A report whose subgraphs are "undecided" where the cache has neither a kernel nor a refusal.

    Raises:
        OptionError: a setting that can't be used, or neither a target nor an arch.
        CompilerNotFoundError: no working iree-compile.
        Refusal: IREE can't compile for this machine's GPU.
    """
    from iree_migraphx.kernels.model import Outcome
    from iree_migraphx.kernels.preview import kept_kernels

    options = Options.resolve() if options is None else options
    configure(options.debug_level, options.log)
    if arch is not None:
        job = Job.for_arch(program, arch, options)
    elif target is not None:
        own = binding.own_program(program)
        job = Job(options, binding.own_target(target).name, lambda: binding.snapshot(own))
    else:
        raise OptionError("preview takes a target or an arch")
    job.report = replace(job.report, dry_run=True)
    if job.wanted():
        device = job.target()
        plan = job.plan(device, How(True, True, False) if job.on_gpu else None)
        kept = kept_kernels(plan.requests, device, options)
        refused = {key: Outcome(refusal, 0.0, "off") for key, refusal in plan.refusals.items()}
        job.conclude(plan, {**kept, **refused}, {})
    job.announce()
    return job.report
