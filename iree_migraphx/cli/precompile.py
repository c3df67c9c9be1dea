"""`iree-migraphx precompile`: fill a cache folder for a model, to ship with it."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.model import add_half, add_model, in_half, read_model
from iree_migraphx.cli.output import print_json, say
from iree_migraphx.errors import OptionError, Reason
from iree_migraphx.options import Options

if TYPE_CHECKING:
    from iree_migraphx.binding import program
    from iree_migraphx.report import Report

#: What another try may end: such subgraphs are not in the folder for good.
_PASSING = frozenset(
    {Reason.NO_COMPILER, Reason.COMPILER_CRASH, Reason.TIMEOUT, Reason.BAD_COMPILER_OUTPUT, Reason.DISK}
)

_THIS_GPU = "gpu"

_DESCRIPTION = """Compiles a model's kernels into a cache folder, for any devices; none of them has to be there. Which
subgraphs a GPU gets is known for certain only where it is, though: there, --arch gpu compiles for it, and
`iree-migraphx capture` writes a file from which any other machine can. Where IREE_MIGRAPHX_CACHE_READONLY names the
folder, the kernels are taken from it, and no compiler is needed."""


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "precompile", help="compile a model's kernels into a folder to ship with it", description=_DESCRIPTION
    )
    add_model(parser, also=", or what capture wrote (.subgraphs)")
    add_half(parser)
    parser.add_argument(
        "--arch",
        action="append",
        default=[],
        metavar="NAME",
        help="host, gpu (this machine's), gfx942, mi300x, gfx942:xnack-, …; may be repeated; not for .subgraphs",
    )
    parser.add_argument(
        "--output", "-o", type=Path, required=True, metavar="DIR", help="the folder; what it has already is kept"
    )
    parser.add_argument("--json", action="store_true", help="print the reports as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    # What is shipped must be complete: nothing comes from elsewhere, and nothing is evicted.
    options = replace(Options.resolve(), cache=True, cache_dir=arguments.output, cache_readonly=(), cache_size=0)
    reports = _compile(arguments, options)
    complete = all(report.reason is None and not _PASSING & report.reasons.keys() for report in reports)
    _check_written(arguments.output)
    if arguments.json:
        texts = [report.to_json() for report in reports]
        print_json({"folder": str(arguments.output), "complete": complete, "reports": texts})
    if not complete:
        say("iree-migraphx: some kernels are not in the folder and would be tried again where it is used")
    return ExitCode.OK if complete else ExitCode.FAILED


def _compile(arguments: argparse.Namespace, options: Options) -> list[Report]:
    from iree_migraphx.ahead import compile_subgraphs
    from iree_migraphx.kernels.targets import parse_target
    from iree_migraphx.partition.saved import SUFFIX, load_subgraphs

    if arguments.model.suffix == SUFFIX:
        if arguments.arch:
            raise OptionError(f"{arguments.model} says itself which GPU it is for; leave out --arch")
        return [compile_subgraphs(load_subgraphs(arguments.model), options)]
    if not arguments.arch:
        raise OptionError("--arch must say what for; it may be repeated")
    targets = [arch if arch == _THIS_GPU else str(parse_target(arch)) for arch in arguments.arch]
    model = read_model(arguments)
    for note in model.notes():
        say(f"iree-migraphx: {note}")
    program = in_half(model.program, arguments)
    return [_compile_for(program, target, options) for target in targets]


def _compile_for(model: program, target: str, options: Options) -> Report:
    from iree_migraphx import binding, pipeline

    if target != _THIS_GPU:
        return pipeline.check(model, target, options)
    report = pipeline.compile(model, binding.get_target("gpu"), options=options).iree_report
    assert report is not None
    return report


def _check_written(folder: Path) -> None:
    if not (folder / "compilers").is_dir():
        raise OptionError(f"nothing was written into {folder}: no kernel could be kept, or there was none to compile")
