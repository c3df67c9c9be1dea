"""The argument parser of every subcommand: no abbreviations, and a hint for what is nearly right."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NoReturn

from iree_migraphx.cli import driver
from iree_migraphx.config import did_you_mean
from iree_migraphx.errors import OptionError


class Parser(argparse.ArgumentParser):
    """argparse's parser, whose errors are one line with the nearest right name."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("allow_abbrev", False)
        super().__init__(*args, **kwargs)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parse; what nobody knows is an error of the subcommand that it was given to."""
        parsed, unknown = self.parse_known_args(args, namespace)
        if unknown:
            command = getattr(parsed, "command_parser", self)
            raise OptionError(_explain(unknown, command))
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would have printed.

        Raises:
            OptionError: always.
        """
        raise OptionError(f"{self.prog.removeprefix('iree-migraphx').strip()}: {message}".removeprefix(": "))

    @property
    def flags(self) -> list[str]:
        """Every flag, in its long and its short form."""
        return [flag for action in self._actions for flag in action.option_strings]

    @property
    def documented(self) -> Sequence[argparse.Action]:
        """Arguments in the order of the help, without --help."""
        return [action for action in self._actions if not isinstance(action, argparse._HelpAction)]


def _explain(unknown: Sequence[str], command: Parser) -> str:
    word = unknown[0]
    name = word.partition("=")[0]
    where = command.prog.removeprefix("iree-migraphx").strip()
    if why := driver.missing(where, name):
        return f"{where} has no {name}, which migraphx-driver has: {why}"
    if word.startswith("-"):
        hint = did_you_mean(name, [*command.flags, *driver.MISSING]) or f"; `iree-migraphx {where} --help` shows all"
        return f"{where} has no flag {name}{hint}"
    return f"{where} takes no further argument {word!r}"


def natural(text: str) -> int:
    """A whole number from 0 up, for `type=`."""
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 up")
    return int(text)


def positive(text: str) -> int:
    """A whole number from 1 up, for `type=`."""
    if natural(text) == 0:
        raise argparse.ArgumentTypeError("0 is not a whole number from 1 up")
    return int(text)


def seconds(text: str) -> float:
    """A number of seconds from 0 up, for `type=`."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return value
