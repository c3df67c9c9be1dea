"""program.compile with IREE: the object that is compiled holds the kernels afterwards."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TypeVar, cast

from iree_migraphx import binding, pipeline
from iree_migraphx.binding import official, official_program
from iree_migraphx.dropin import handed_out, lookup
from iree_migraphx.dropin.settings import stack
from iree_migraphx.errors import Reason
from iree_migraphx.options import Options
from iree_migraphx.pipeline import compile_into
from iree_migraphx.plan import How
from iree_migraphx.report import Report

_Program = TypeVar("_Program", bound=binding.program)
_log = logging.getLogger(__name__)


def compile(  # noqa: A001 -- the name that users know
    program: _Program,
    target: binding.target,
    offload_copy: bool = True,
    fast_math: bool = True,
    exhaustive_tune: bool = False,
    options: Options | None = None,
) -> _Program:
    """Compile a program with IREE's kernels in it, as another program; what IREE rejects is left to MIGraphX.

    Args:
        program: a parsed program, of this package or of ROCm's `migraphx` module; it is not changed.
        target: from `get_target` of either.
        offload_copy: as MIGraphX's compile.
        fast_math: as MIGraphX's compile.
        exhaustive_tune: as MIGraphX's compile.
        options: settings; those of the environment by default.

    Returns:
        The compiled program, ROCm's for one of ROCm's. Its `iree_report` says what became of each subgraph. Whatever
        goes wrong on our side, it is what MIGraphX alone would have given.

    Raises:
        OptionError: a setting that can't be used, before any work.
        CompilerNotFoundError: IREE_BIN names something that is not a compiler.
        MigraphxError: MIGraphX itself can't compile the program; for one of ROCm's it is what ROCm's module raises.
    """
    how = How(offload_copy, fast_math, exhaustive_tune)
    kind: Any = lookup.namespace()["program"]
    if not official.is_official(program) or kind.__base__ is binding.program:
        return cast("_Program", pipeline.compile(program, target, **asdict(how), options=options))
    compiled = kind()
    official_program.assign(compiled, program)
    compiled.compile(target, **asdict(how), options=options)
    return cast("_Program", compiled)


def compile_own(
    program: binding.program, t: binding.target, plain: Callable[[], None], how: How, options: Options | None = None
) -> Report | None:
    """Compile a program of this package in place; None where MIGraphX did what it would have done without it.

    Args:
        program: not a compiled one, or it is left to `plain`.
        t: its target.
        plain: MIGraphX's own compile of the program.
        how: the options of MIGraphX's compile.
        options: settings; those of a hook, or else of the environment, by default.
    """
    if program.is_compiled() or not isinstance(t, binding.target):
        plain()  # which says what is wrong
        return None
    report = compile_into(program.become, plain, lambda: binding.snapshot(program), t.name, how, options or _options())
    return _noted(report)


def compile_rocm(
    program: Any,
    t: Any,
    plain: Callable[[], None],
    how: How,
    options: Options | None = None,
    modules_unknown: bool = False,
) -> Report | None:
    """Compile a program of ROCm's module in place, as `compile_own`. What can't be done is left to MIGraphX, and said.

    Args:
        program: a program of ROCm's class or of a subclass.
        t: its target.
        plain: MIGraphX's own compile of the program.
        how: the options of MIGraphX's compile.
        options: settings; those of a hook, or else of the environment, by default.
        modules_unknown: modules of the program may be held that `handed_out` was not told of.

    Raises:
        OptionError: a setting that can't be used, before any work.
        CompilerNotFoundError: IREE_BIN names something that is not a compiler.
    """
    options = options or _options() or Options.resolve()
    if not official.is_official(t) or program.is_compiled():
        plain()
        return None
    try:
        target = "unknown" if options.disable else binding.own_target(t).name
        if not options.disable:
            official_program.check()
    except Exception as error:
        # Never worse off: MIGraphX can compile it, or says itself why it can't.
        _log.debug("left to MIGraphX", exc_info=True)
        plain()
        report = Report("unknown", options.arch or "host", reason=Reason.SPLICE_ERROR, note=str(error))
        if not options.quiet:
            print(report.summary(), file=sys.stderr, flush=True)
        return _noted(report)

    def take(own: binding.program) -> None:
        official_program.exchange(program, own)
        handed_out.keep(program, own, always=modules_unknown)

    return _noted(compile_into(take, plain, lambda: official.view(program), target, how, options))


def _options() -> Options | None:
    return stack[-1].options if stack else None


def _noted(report: Report) -> Report:
    if stack:
        stack[-1].reports.append(report)
    return report
