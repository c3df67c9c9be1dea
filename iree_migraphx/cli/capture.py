"""`iree-migraphx capture`: on a machine with the GPU, write down which subgraphs of a model its kernels are for."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from iree_migraphx.cli.model import add_half, add_model, in_half, read_model
from iree_migraphx.cli.output import print_json, say
from iree_migraphx.errors import OptionError
from iree_migraphx.options import Options

_DESCRIPTION = """Has MIGraphX optimise a model for this machine's GPU and writes down the subgraphs that IREE gets:
their operators and shapes, no weights. `iree-migraphx precompile` compiles from that file on any machine. IREE's
compiler need not be here."""


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "capture", help="write down a model's subgraphs for this machine's GPU", description=_DESCRIPTION
    )
    add_model(parser)
    add_half(parser)
    parser.add_argument(
        "--output", "-o", type=Path, required=True, metavar="FILE", help="the file, which must end in .subgraphs"
    )
    parser.add_argument("--json", action="store_true", help="say what was written as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from iree_migraphx.ahead import find_subgraphs
    from iree_migraphx.partition.saved import SUFFIX, save_subgraphs
    from iree_migraphx.plan import How

    if arguments.output.suffix != SUFFIX:
        raise OptionError(f"--output is {arguments.output}; its name must end in {SUFFIX}")
    model = read_model(arguments)
    for note in model.notes():
        say(f"iree-migraphx: {note}")
    program = in_half(model.program, arguments)
    saved = find_subgraphs(program, How(offload_copy=True, fast_math=True, exhaustive_tune=False), Options.resolve())
    try:
        save_subgraphs(saved, arguments.output)
    except OSError as error:
        raise OptionError(f"--output can't be written: {error}") from error
    if arguments.json:
        names = [subgraph.name for subgraph in saved.subgraphs]
        print_json({"arch": saved.arch, "file": str(arguments.output), "subgraphs": names})
    say(f"iree-migraphx: {len(saved.subgraphs)} subgraphs for {saved.arch} in {arguments.output}")
    return 0
