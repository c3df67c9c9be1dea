"""What commands write: the driver's header, files as a whole or not at all, and tables that are plain in a pipe."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.errors import IreeMigraphxError, OptionError

if TYPE_CHECKING:
    from iree_migraphx.report import Report

STDOUT = Path("-")


@dataclass(frozen=True, slots=True)
class OutputFile:
    """A file to be written at the end, which was found writable at the beginning. "-" is standard output."""

    path: Path

    @classmethod
    def checked(cls, path: Path | None) -> OutputFile | None:
        """The file, or None where none is wanted.

        Raises:
            OptionError: it can't be written.
        """
        if path is None:
            return None
        if path != STDOUT:
            try:
                if path.is_dir():
                    raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
                if path.exists():
                    open(path, "ab").close()
                if not path.exists() or path.is_file():
                    with tempfile.TemporaryFile(dir=path.parent):
                        pass
            except OSError as error:
                raise OptionError(f"can't write {path}: {error.strerror}") from error
        return cls(path)

    def write(self, data: bytes) -> None:
        """Write it.

        Raises:
            IreeMigraphxError: the disk is full, or not ours any more.
        """
        if self.path == STDOUT:
            sys.stdout.flush()
            sys.stdout.buffer.write(data)
            sys.stdout.flush()
            return
        try:
            if self.path.exists() and not self.path.is_file():  # a pipe or a device
                self.path.write_bytes(data)
                return
            with tempfile.TemporaryDirectory(prefix=".iree-migraphx-", dir=self.path.parent) as folder:
                whole = Path(folder, self.path.name)
                whole.write_bytes(data)
                whole.replace(self.path)
        except OSError as error:
            raise IreeMigraphxError(f"can't write {self.path}: {error.strerror}") from error


def say(text: str) -> None:
    """A line about what is going on: to standard error, so that standard output has results only."""
    print(text, file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """A result for programs. NaN and infinities, which JSON does not have, are null."""
    from iree_migraphx.report import finite

    print(json.dumps(finite(value), indent=1), flush=True)


def print_report(report: Report, file: OutputFile | None = None) -> None:
    """The table of a report's subgraphs, unless standard output is where the report goes anyway."""
    if report.subgraphs and (file is None or file.path != STDOUT):
        print(report.as_text(width=None if sys.stdout.isatty() else 160, color=sys.stdout.isatty()), flush=True)


def print_rows(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Rows in columns; numbers to the right."""
    if not rows:
        return
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    numeric = [
        all(row[column][:1].isdigit() or row[column] in ("", "-") for row in rows) for column in range(len(header))
    ]
    for row in (header, *rows):
        cells = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(row, widths, numeric, strict=True)
        ]
        print("  ".join(cells).rstrip(), flush=True)


@contextlib.contextmanager
def banner(words: Sequence[str], quiet: bool = False) -> Iterator[None]:
    """migraphx-driver's first and last lines (main in src/driver/main.cpp), the variables that matter among them."""
    if quiet:
        yield
        return
    from iree_migraphx import binding
    from iree_migraphx.options import variables_set

    name = f"[ MIGraphX Version: {binding.__version__} ]"
    command = f"iree-migraphx {shlex.join(words)}"
    started = time.monotonic()
    say(f"Running {name}: {command}\n{_now()}")
    yield
    for variable, value in variables_set().items():
        say(f"{variable}={shlex.quote(value)} \\")
    say(f"{_now()}\n{name} Complete({time.monotonic() - started:.3g}s): {command}")


def milliseconds(seconds: float) -> str:
    """A time as migraphx-driver writes it, with six digits at most."""
    return f"{seconds * 1e3:.6g}ms"


def _now() -> str:
    return time.strftime("[%Y-%m-%d %H:%M:%S]")
