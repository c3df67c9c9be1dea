"""`iree-migraphx compile`: a model with IREE's kernels, and what became of each subgraph."""

from __future__ import annotations

import argparse
from typing import Any

from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.job import add_job, prepare
from iree_migraphx.cli.output import STDOUT, banner, print_report
from iree_migraphx.cli.read import add_form, form_of, written
from iree_migraphx.errors import OptionError

_DESCRIPTION = """Compiles a model and prints a line for each kernel: who computes it, and why not IREE. With --arch,
and no target, only the kernels for those GPUs are compiled and checked; none of them has to be there."""


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "compile",
        help="compile a model with IREE's kernels, and say what became of each subgraph",
        description=_DESCRIPTION,
    )
    add_job(parser, runs=False)
    add_form(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    form, file = form_of(arguments)
    output = file if arguments.form or arguments.output else None
    if output is not None and (arguments.dry_run or (arguments.arch and not arguments.target)):
        raise OptionError("--output has nothing to write: with --dry-run, or --arch and no target, no program is made")
    job = prepare(arguments)
    if output is not None and form not in ("text", "graphviz") and not job.on_gpu and not job.options.disable:
        raise OptionError(
            "a program with IREE's kernels for the host can't be saved: they are functions of this process. "
            "`iree-migraphx precompile` keeps the kernels for the next one; --no-iree saves MIGraphX's program alone"
        )
    if job.model.is_compiled:
        raise OptionError(f"{arguments.model} is compiled already")
    with banner(arguments.words):
        model = job.quantized()
        if arguments.dry_run:
            reports = job.dry_run(model)
        else:
            reports = []
            if arguments.target or not job.architectures:
                compiled = job.compile(model, arguments.enable_offload_copy)
                assert compiled.iree_report is not None
                reports.append(compiled.iree_report)
                if output is not None:
                    output.write(written(compiled, form, arguments.brief))
            reports += job.checks(model)
        for report in reports:
            if output is None or output.path != STDOUT:
                print_report(report, job.report_file)
        return job.finish(reports) or ExitCode.OK
