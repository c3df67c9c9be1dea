"""Kernels ahead of time for a GPU elsewhere: its subgraphs are found where it is, and compiled where IREE is."""

from __future__ import annotations

from dataclasses import replace

from iree_migraphx import binding, gpu
from iree_migraphx.errors import CaptureError
from iree_migraphx.ir.model import Module, Program
from iree_migraphx.job import Job
from iree_migraphx.logs import configure
from iree_migraphx.options import Options
from iree_migraphx.partition.saved import SavedSubgraphs
from iree_migraphx.plan import How
from iree_migraphx.report import Report


def find_subgraphs(program: binding.program, how: How, options: Options) -> SavedSubgraphs:
    """What `compile` for the target gpu would try on this machine's GPU; neither IREE's compiler nor a cache is needed.

    Args:
        program: parsed; it is not changed.
        how: the options of MIGraphX's compile.
        options: settings, `eligible` for instance.

    Raises:
        CaptureError: MIGraphX's own fused program could not be had, or it takes nothing from there.
        Refusal: IREE does not know the device, or there is none.
        MigraphxError: MIGraphX can't use the gpu.
    """
    configure(options.debug_level, options.log)
    target = binding.get_target("gpu")
    job = Job(options, target.name, lambda: binding.snapshot(program))
    device = gpu.device_target(options)
    found = job.choose(device, how)
    if not found.captured:
        raise CaptureError(job.report.note or "the program has nothing that could be captured")
    version = (found.program.version, found.program.migraphx_version)
    return SavedSubgraphs(str(device), version, found.subgraphs)


def compile_subgraphs(saved: SavedSubgraphs, options: Options) -> Report:
    """Compile and check the kernels of saved subgraphs, as `check` does for a program.

    Raises:
        TargetError: no such device.
        OptionError: another setting that can't be used.
        CompilerNotFoundError: no working iree-compile.
    """
    configure(options.debug_level, options.log)
    job = Job(replace(options, arch=saved.arch), "gpu", bytes, checked_only=True)
    target = job.target()
    nothing = Program(*saved.version, {"main": Module("main", ())})
    plan = job.lowered(nothing, saved.subgraphs, target, captured=True)
    outcomes = job.compile(plan, target)
    job.conclude(plan, outcomes, {}, checked_only=True)
    job.announce()
    return job.report
