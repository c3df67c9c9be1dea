"""From a MIGraphX program to one with IREE's kernels in it, or to a report of what they would be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple

from iree_migraphx import binding, gpu
from iree_migraphx.job import Job
from iree_migraphx.logs import configure
from iree_migraphx.options import Options
from iree_migraphx.plan import How
from iree_migraphx.report import Report


def compile(  # noqa: A001 -- the name that users know
    program: binding.program,
    target: binding.target,
    offload_copy: bool = True,
    fast_math: bool = True,
    exhaustive_tune: bool = False,
    options: Options | None = None,
) -> binding.program:
    """Compile a program with IREE's kernels in it; what IREE rejects is left to MIGraphX.

    Args:
        program: a parsed program, of this package or of ROCm's `migraphx` module; it is not changed.
        target: from `get_target` of either.
        offload_copy: as MIGraphX's compile.
        fast_math: as MIGraphX's compile.
        exhaustive_tune: as MIGraphX's compile.
        options: settings; those of the environment by default.

    Returns:
        The compiled program. Its `iree_report` says what became of each subgraph. Whatever goes wrong on our side, it
        is what MIGraphX alone would have given.

    Raises:
        OptionError: a setting that can't be used, before any work.
        CompilerNotFoundError: IREE_BIN names something that is not a compiler.
        MigraphxError: MIGraphX itself can't compile the program.
    """
    options = Options.resolve() if options is None else options
    configure(options.debug_level, options.log)
    program, target = binding.own_program(program), binding.own_target(target)
    how = How(offload_copy, fast_math, exhaustive_tune)
    compiled = program.copy()

    def plain() -> None:
        binding.program.compile(compiled, target, *astuple(how))

    compiled.iree_report = compile_into(
        compiled.become, plain, lambda: binding.snapshot(program), target.name, how, options
    )
    return compiled


def compile_into(
    take: Callable[[binding.program], None],
    plain: Callable[[], None],
    source: Callable[[], bytes | memoryview],
    migraphx_target: str,
    how: How,
    options: Options | None = None,
) -> Report:
    """Compile a program that is kept somewhere else; raises as `compile`, and what `plain` raises.

    Args:
        take: puts the compiled program with kernels in its place. It may raise, if the place is as before then.
        plain: MIGraphX's own compile of the program, for where there is nothing to take.
        source: its serialized form.
        migraphx_target: the name of MIGraphX's target.
        how: the options of MIGraphX's compile.
        options: settings; those of the environment by default.
    """
    options = Options.resolve() if options is None else options
    configure(options.debug_level, options.log)
    job = Job(options, migraphx_target, source)
    if not (job.wanted() and job.swapped(how, take)):
        with job.stage("migraphx"):
            plain()
    if job.on_gpu:
        job.report = gpu.with_note(job.report)
    job.announce()
    return job.report


def check(program: binding.program, arch: str, options: Options | None = None) -> Report:
    """Compile a program's subgraphs for a device and check that MIGraphX could launch the kernels; nothing is run.

    Args:
        program: a parsed program, of this package or of ROCm's `migraphx` module; it is not changed.
        arch: "host", or any GPU that IREE knows ("gfx942", "gfx942:sramecc+:xnack-", "mi300x"); none has to be there.
        options: settings; those of the environment by default.

    Raises:
        TargetError: no such device.
        OptionError: another setting that can't be used.
        CompilerNotFoundError: no working iree-compile.
        FormatError: the program can't be read.
    """
    from iree_migraphx.study import study

    return study(program, arch, options).report
