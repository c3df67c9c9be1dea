"""`iree-migraphx capture`: on a machine with the GPU, write down which subgraphs of a model its kernels are for."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from iree_migraphx.cli.model import add_input_dim, parse_dims
from iree_migraphx.cli.precompile import parse
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
    parser.add_argument("model", type=Path, help="an .onnx file, or a program that MIGraphX saved (.mxr)")
    parser.add_argument("--output", type=Path, required=True, help="the file, which must end in .subgraphs")
    add_input_dim(parser)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from iree_migraphx.ahead import find_subgraphs
    from iree_migraphx.partition.saved import SUFFIX, save_subgraphs
    from iree_migraphx.plan import How

    if arguments.output.suffix != SUFFIX:
        raise OptionError(f"--output is {arguments.output}; its name must end in {SUFFIX}")
    model = parse(arguments.model, parse_dims(arguments.input_dim))
    saved = find_subgraphs(model, How(offload_copy=True, fast_math=True, exhaustive_tune=False), Options.resolve())
    try:
        save_subgraphs(saved, arguments.output)
    except OSError as error:
        raise OptionError(f"--output can't be written: {error}") from error
    print(f"iree-migraphx: {len(saved.subgraphs)} subgraphs for {saved.arch} in {arguments.output}", file=sys.stderr)
    return 0
