"""Writes the reference pages and the report's schema anew, from the code: `python docs/generate.py`."""

from __future__ import annotations

import argparse
import dataclasses
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import operator_table

from iree_migraphx import options
from iree_migraphx.cli import driver
from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.main import COMMANDS, make_parser
from iree_migraphx.cli.parser import Parser
from iree_migraphx.schema import attributes, report_schema

DOCS = Path(__file__).resolve().parent
_MADE = "<!-- written by docs/generate.py -->"


def pages() -> dict[str, str]:
    """What is generated, by file name."""
    return {
        "operators.md": "\n".join([_MADE, "", *operator_table.page()]) + "\n",
        "reference-commands.md": "\n".join(_commands()) + "\n",
        "reference-options.md": "\n".join(_options()) + "\n",
        "report.schema.json": json.dumps(report_schema(), indent=1) + "\n",
    }


def _commands() -> Iterator[str]:
    yield f"{_MADE}\n\n# Commands\n"
    yield "Results go to standard output, everything else to standard error. Flags have migraphx-driver's names"
    yield "wherever it has one. `iree-migraphx --version` prints the versions of all that matters.\n"
    yield "## Exit status\n\n| status | name | when |\n| --- | --- | --- |"
    for code in ExitCode:
        yield f"| {code.value} | {code.name} | {code.description} |"
    choices = _choices(make_parser())
    for name in COMMANDS:
        yield from _command(choices[name], f"iree-migraphx {name}", "##")
    yield from _driver(choices)


def _driver(choices: Mapping[str, Parser]) -> Iterator[str]:
    yield "\n## For those who know migraphx-driver\n"
    yield "Each flag of its `read`, `compile`, `run`, `perf` and `verify` (release rocm-7.1.1), and what became of it."
    yield "All that is in the tables above and not in this one is iree-migraphx's own.\n"
    yield "| flags | here |\n| --- | --- |"
    rows: dict[str, list[str]] = {}
    for flag in dict.fromkeys(flag for own in driver.FLAGS.values() for flag in own):
        same = [name for name, own in driver.FLAGS.items() if flag in own and flag in choices[name].flags]
        other = {name: text for (name, given), text in driver.OTHER.items() if given == flag}
        here = ", ".join(name for name in same if name not in other)
        also = "".join(f"; {name}: {text}" for name, text in other.items())
        said = f"the same in {here}{also}" if same else f"not here: {driver.MISSING[flag]}"
        rows.setdefault(said, []).append(f"`{flag}`")
    for said, named in rows.items():
        yield f"| {' '.join(named)} | {said} |"
    for name, text in driver.COMMANDS.items():
        yield f"| the command `{name}` | not here: {text} |"


def _command(parser: Parser, name: str, level: str) -> Iterator[str]:
    yield f"\n{level} {name}\n"
    yield " ".join((parser.description or "").split()).rstrip(".") + "."
    rows = [_row(action) for action in parser.documented if not isinstance(action, argparse._SubParsersAction)]
    rows = [row for row in rows if row]
    if rows:
        yield "\n| argument | meaning |\n| --- | --- |"
        yield from rows
    for action, child in _choices(parser).items():
        yield from _command(child, f"{name} {action}", level + "#")


def _row(action: argparse.Action) -> str:
    if action.help == argparse.SUPPRESS:
        return ""
    value = action.metavar or ("|".join(map(str, action.choices)) if action.choices else action.dest.upper())
    takes = action.nargs != 0 and not isinstance(action, argparse._StoreTrueAction | argparse._StoreConstAction)
    if not action.option_strings:
        name = f"`{value}`"
    else:
        name = ", ".join(f"`{flag}{f' {value}' if takes else ''}`" for flag in action.option_strings)
    return f"| {name} | {' '.join((action.help or '').split())} |".replace("|gpu", "\\|gpu")


def _choices(parser: argparse.ArgumentParser) -> dict[str, Parser]:
    found = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return dict(found[0].choices) if found else {}


def _options() -> Iterator[str]:
    yield f"{_MADE}\n\n# Options\n"
    yield "Arguments of `iree_migraphx.Options` win over the environment, which wins over the file of IREE_CONFIG,"
    yield "where each option has its name. Switches are 1 and 0 there. MIGraphX reads its own variables by itself.\n"
    yield "| option | variable | default | meaning |\n| --- | --- | --- | --- |"
    variables = {option: name for name, (option, _) in options._VARIABLES.items()}
    texts = attributes(options.Options)
    for field in dataclasses.fields(options.Options):
        default = field.default if field.default is not dataclasses.MISSING else "the platform's cache folder"
        default = "" if default is None or default == () else default
        meaning = re.sub(rf" \({variables.get(field.name)}\)", "", texts[field.name]).replace("|", "\\|")
        yield f"| {field.name} | {variables.get(field.name, '')} | {default} | {meaning} |"


if __name__ == "__main__":
    for file, text in pages().items():
        (DOCS / file).write_text(text, encoding="utf-8")
