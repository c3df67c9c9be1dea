"""Programs from and to files and bytes."""

from __future__ import annotations

import os

from iree_migraphx.binding import serialized
from iree_migraphx.binding.programs import program
from iree_migraphx.errors import MigraphxError


def load(filename: str | os.PathLike[str], format: str = "msgpack") -> program:  # noqa: A002 -- the official name
    """Read a program that `save` wrote.

    Args:
        filename: the file.
        format: "msgpack" or "json".

    Raises:
        MigraphxError: no such file, another version of the format, an unknown operator, …
    """
    check_readable(filename)
    doing = f"load the program {os.fspath(filename)}"
    return program.wrap(serialized.load_file(filename, format, doing))


def save(p: program, filename: str | os.PathLike[str], format: str = "msgpack") -> None:  # noqa: A002
    """Write a program to a file as "msgpack" or "json"."""
    serialized.save_file(p.handle, filename, format)


def load_buffer(b: bytes | bytearray | memoryview) -> program:
    """Read a program from bytes that `save_buffer` gave, or that a msgpack file holds."""
    return program.wrap(serialized.load(b))


def save_buffer(p: program) -> bytes:
    """The program as bytes (msgpack)."""
    return serialized.save(p.handle)


def check_readable(filename: str | os.PathLike[str]) -> None:
    """Say what is wrong with a file in the system's words, which MIGraphX leaves out.

    Raises:
        MigraphxError: it can't be opened, or it is empty.
    """
    try:
        with open(filename, "rb") as file:
            empty = not file.read(1)
    except OSError as error:
        raise MigraphxError(f"can't read {os.fspath(filename)}: {error.strerror}") from error
    if empty:
        raise MigraphxError(f"can't read {os.fspath(filename)}: the file is empty")
