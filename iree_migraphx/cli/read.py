"""`iree-migraphx read`: a model as MIGraphX sees it, printed or converted."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.model import add_model, read_model
from iree_migraphx.cli.output import STDOUT, OutputFile, say
from iree_migraphx.errors import OptionError

if TYPE_CHECKING:
    from iree_migraphx.binding import program

_DESCRIPTION = "Reads a model and prints it, or writes it in MIGraphX's own form."


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    parser = commands.add_parser("read", help="read a model and print or convert it", description=_DESCRIPTION)
    add_model(parser)
    add_form(parser)
    parser.set_defaults(run=_run)


def add_form(parser: argparse.ArgumentParser) -> None:
    """Add the forms in which a program is written."""
    group = parser.add_argument_group("output")
    forms = group.add_mutually_exclusive_group()
    for flags, text in (  # the first of each names the form
        (("--text",), "as text (default on standard output)"),
        (("--binary",), "in MIGraphX's own form, .mxr (default in a file)"),
        (("--json",), "as JSON, in MIGraphX's form"),
        (("--graphviz", "-g"), "as a graph for Graphviz's dot; IREE's kernels are green"),
        (("--python", "--py"), "as Python code that builds it; needs ROCm's module migraphx"),
    ):
        forms.add_argument(*flags, dest="form", action="store_const", const=flags[0].removeprefix("--"), help=text)
    group.add_argument("--brief", action="store_true", help="of a graph the operators' names only")
    group.add_argument("--output", "-o", type=Path, metavar="FILE", help="where to; - is standard output")


def form_of(arguments: argparse.Namespace) -> tuple[str, OutputFile]:
    """The form and the place of a program's output, as migraphx-driver chooses them.

    Raises:
        OptionError: the file can't be written, or --brief is given for another form than it is for.
    """
    file = OutputFile.checked(arguments.output) or OutputFile(STDOUT)
    if arguments.brief and arguments.form != "graphviz":
        raise OptionError("--brief is for --graphviz")
    return arguments.form or ("text" if file.path == STDOUT else "binary"), file


def written(model: program, form: str, brief: bool = False) -> bytes:
    """A program in one of the forms.

    Raises:
        LibraryNotFoundError: Python code is asked for, and ROCm's module is not installed.
    """
    from iree_migraphx.binding import serialized

    if form == "text":
        return f"{model!r}\n".encode()
    if form == "graphviz":
        from iree_migraphx.cli.graphviz import graphviz
        from iree_migraphx.ir.read import read_program

        return graphviz(read_program(serialized.save(model.handle, "msgpack")), brief).encode()
    if form == "python":
        return f"{model.to_py()}\n".encode()
    return serialized.save(model.handle, "json" if form == "json" else "msgpack")


def _run(arguments: argparse.Namespace) -> int:
    form, file = form_of(arguments)
    if form == "binary" and file.path == STDOUT and _is_terminal():
        raise OptionError("--binary would fill the terminal; name a file with --output")
    model = read_model(arguments)
    for note in model.notes():
        say(f"iree-migraphx: {note}")
    file.write(written(model.program, form, arguments.brief))
    return ExitCode.OK


def _is_terminal() -> bool:
    import sys

    return sys.stdout.isatty()
