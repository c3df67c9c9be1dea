"""`iree-migraphx precompile`: fill a cache folder for a model, to ship with it."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.errors import OptionError, Reason
from iree_migraphx.options import Options

if TYPE_CHECKING:
    from iree_migraphx.binding import program

#: What another try may end: such subgraphs are not in the folder for good.
_PASSING = frozenset(
    {Reason.NO_COMPILER, Reason.COMPILER_CRASH, Reason.TIMEOUT, Reason.BAD_COMPILER_OUTPUT, Reason.DISK}
)

_DESCRIPTION = """Compiles a model's kernels into a cache folder, for any devices; none of them has to be there.
Where IREE_MIGRAPHX_CACHE_READONLY names that folder, the kernels are taken from it, and no compiler is needed."""


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser(
        "precompile", help="compile a model's kernels into a folder to ship with it", description=_DESCRIPTION
    )
    parser.add_argument("model", type=Path, help="an .onnx file, or a program that MIGraphX saved (.mxr)")
    parser.add_argument(
        "--arch", action="append", required=True, help="host, gfx942, mi300x, gfx942:xnack-, …; may be repeated"
    )
    parser.add_argument("--output", type=Path, required=True, help="the folder; what it has already is kept")
    parser.add_argument(
        "--input-dim",
        action="extend",
        nargs="+",
        default=[],
        metavar="DIM",
        help='lengths of an input of an .onnx file, as in migraphx-driver: "@name 1 3 320 320"; may be repeated',
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    from iree_migraphx.kernels.targets import parse_target
    from iree_migraphx.pipeline import check

    targets = [str(parse_target(arch)) for arch in arguments.arch]
    # What is shipped must be complete: nothing comes from elsewhere, and nothing is evicted.
    options = replace(Options.resolve(), cache=True, cache_dir=arguments.output, cache_readonly=(), cache_size=0)
    model = _parse(arguments.model, _dims(arguments.input_dim))
    complete = True
    for target in targets:
        report = check(model, target, options)
        complete = complete and not _PASSING & report.reasons.keys()
    _check_written(arguments.output)
    if not complete:
        print(
            "iree-migraphx: some kernels are not in the folder and would be tried again where it is used",
            file=sys.stderr,
        )
    return 0 if complete else 1


def _parse(path: Path, dims: dict[str, list[int]]) -> program:
    from iree_migraphx import binding

    if not path.is_file():
        raise OptionError(f"there is no model {path}")
    if path.suffix == ".mxr":
        return binding.load(path)
    return binding.parse_onnx(path, default_dim_value=1, map_input_dims=dims)


def _dims(words: list[str]) -> dict[str, list[int]]:
    """Lengths by input, from "@name 1 3 320 320" in one word or several."""
    dims: dict[str, list[int]] = {}
    name = ""
    for word in " ".join(words).split():
        if word.startswith("@"):
            name = word[1:]
            dims[name] = []
        elif not name or not word.isdigit():
            raise OptionError(f'--input-dim {" ".join(words)!r} is not of the form "@name 1 3 320 320"')
        else:
            dims[name].append(int(word))
    return dims


def _check_written(folder: Path) -> None:
    if not (folder / "compilers").is_dir():
        raise OptionError(f"nothing was written into {folder}: no kernel could be kept, or there was none to compile")
