"""The command `iree-migraphx`: reads the command line and hands over to a subcommand."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Iterable, Sequence

from iree_migraphx.cli import driver
from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.parser import Parser
from iree_migraphx.config import did_you_mean
from iree_migraphx.errors import (
    CompilerNotFoundError,
    FormatError,
    InputError,
    IreeMigraphxError,
    LibraryNotFoundError,
    OptionError,
)

#: Subcommand -> what it does; each is a module of this package, imported when it is called.
COMMANDS = {
    "read": "read a model and print or convert it",
    "compile": "compile a model with IREE's kernels, and say what became of each subgraph",
    "run": "run a model once",
    "perf": "time a model with and without IREE",
    "verify": "compare results with MIGraphX's own, each subgraph's and the model's",
    "inspect": "show one subgraph: its MLIR, flags, instructions and what limits it",
    "doctor": "look over the installation, and say what to do about each finding",
    "cache": "look into the kernel cache and take care of it",
    "precompile": "compile a model's kernels into a folder to ship with it",
    "capture": "write down what this machine's GPU will ask for, to compile it elsewhere",
}

_WRONG = (OptionError, InputError, FormatError, CompilerNotFoundError, LibraryNotFoundError)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        arguments: the command line without the command itself; this process's own by default.

    Returns:
        The exit status, an `ExitCode`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        parser = make_parser(_wanted(words))
        if not words:
            parser.print_help()
            return ExitCode.USAGE
        parsed = parser.parse_args(words)
        parsed.words = words
        status: int = parsed.run(parsed)
        sys.stdout.flush()
        return status
    except _WRONG as error:
        return _fail(error, ExitCode.USAGE)
    except IreeMigraphxError as error:
        return _fail(error, ExitCode.FAILED)
    except KeyboardInterrupt:
        return ExitCode.INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has seen enough; Python would complain once more when it closes it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.FAILED


def make_parser(wanted: Iterable[str] = COMMANDS) -> Parser:
    """The parser, with the arguments of the wanted subcommands only; importing them all takes a while."""
    codes = "\n".join(f"  {code.value:<4} {code.description}" for code in ExitCode)
    parser = Parser(
        "iree-migraphx",
        description="IREE writes the kernels of MIGraphX's subgraphs.",
        epilog=f"exit status:\n{codes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", "-v", action=_Version, help="the versions of all that matters")
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=Parser)
    wanted = set(wanted)
    for name, text in COMMANDS.items():
        if name in wanted:
            importlib.import_module(f"iree_migraphx.cli.{name}").register(commands)
            commands.choices[name].set_defaults(command_parser=commands.choices[name])
        else:
            commands.add_parser(name, help=text)
    return parser


class _Version(argparse.Action):
    def __init__(self, option_strings: Sequence[str], dest: str, help: str) -> None:  # noqa: A002 -- argparse's name
        super().__init__(option_strings, dest, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from iree_migraphx.cli.doctor import versions

        print("\n".join(versions()))
        parser.exit()


def _wanted(words: Sequence[str]) -> list[str]:
    """The subcommand of a command line.

    Raises:
        OptionError: there is none of that name.
    """
    name = next((word for word in words if not word.startswith("-")), None)
    if name is None or name in COMMANDS:
        return [name] if name else []
    if name in driver.COMMANDS:
        raise OptionError(f"there is no command {name!r}, which migraphx-driver has; {driver.COMMANDS[name]}")
    hint = did_you_mean(name, COMMANDS) or f"; there are {', '.join(COMMANDS)}"
    raise OptionError(f"there is no command {name!r}{hint}")


def _fail(error: Exception, code: ExitCode) -> int:
    print(f"iree-migraphx: {error}", file=sys.stderr)
    return code


if __name__ == "__main__":
    sys.exit(main())
