"""Programs as bytes: what the C interface can't tell about a program is in there.

The C interface reads and writes files only; an anonymous file in memory stands in for one. What is wrong with a real
file is said in the system's own words, which MIGraphX omits.
"""

from __future__ import annotations

import contextlib
import functools
import json
import mmap
import os
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack

from iree_migraphx.binding import capi
from iree_migraphx.binding.capi import Handle
from iree_migraphx.binding.snapshots import snapshot
from iree_migraphx.errors import FormatError, MigraphxError


def save(program: Handle, form: str = "msgpack") -> bytes:
    """MIGraphX's form of a program, "msgpack" or "json".

    Raises:
        MigraphxError: MIGraphX can't write it.
    """
    with memory_file() as path:
        capi.guarded("save the program", "save", program, path.encode(), _options(form))
        with open(path, "rb") as file:
            return file.read()


def view(program: Handle) -> memoryview:
    """As `save`, for a program of any size: see snapshots.py."""
    options = _options("msgpack")
    write_in_fork = capi.function("save")
    return snapshot(
        lambda path: capi.guarded("save the program", "save", program, path.encode(), options),
        lambda path: write_in_fork(program, path.encode(), options) == 0,
    )


def load(data: bytes | bytearray | memoryview) -> Handle:
    """The program that `save` wrote; `data` has passed checks.check_program.

    Raises:
        MigraphxError: MIGraphX refuses it, e.g. for an operator that it does not know.
    """
    with memory_file(data) as path:
        return load_file(path, "msgpack", "load the program")


def load_file(path: str | os.PathLike[str], form: str, doing: str) -> Handle:
    """Read a program from a file of "msgpack" or "json"."""
    return capi.new("program", "load", os.fsencode(path), _options(form), doing=doing)


def read(data: bytes | bytearray | memoryview, form: str = "msgpack") -> Any:
    """Python data of a msgpack or JSON document.

    Raises:
        FormatError: it is not one, or it is cut off.
    """
    try:
        if form == "json":
            return json.loads(bytes(data))
        return msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, RecursionError, msgpack.exceptions.UnpackException) as error:
        detail = str(error) or type(error).__name__
        raise FormatError(f"MIGraphX can't read this: it is no whole {form} document ({detail})") from error


def version() -> int:
    """The version of the file format that this MIGraphX reads and writes."""
    number: int = _empty_program()["version"]
    return number


def migraphx_version() -> str:
    """The version of MIGraphX itself, "2.14.0" in release 7.1."""
    text: str = _empty_program()["migraphx_version"]
    return text


@functools.cache
def _empty_program() -> Mapping[str, Any]:
    program: Mapping[str, Any] = read(save(capi.new("program", "program_create")))
    return program


def nodes(data: bytes) -> Mapping[str, list[dict[str, Any]]]:
    """Instructions of each module of a serialized program."""
    return {name: module["nodes"] or [] for name, module in read(data)["modules"].items()}


def _options(form: str) -> Handle:
    options = capi.new("file_options", "file_options_create")
    capi.call("file_options_set_file_format", options, form.encode())
    return options


def view_file(filename: str | os.PathLike[str]) -> memoryview:
    """A file's bytes, read as they are needed.

    Raises:
        MigraphxError: the file can't be opened, or it is empty.
    """
    try:
        with open(filename, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                raise MigraphxError(f"can't read {os.fspath(filename)}: the file is empty")
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise MigraphxError(f"can't read {os.fspath(filename)}: {error.strerror}") from error


def write_file(filename: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write a file; MIGraphX itself does not notice a disk that is full or a folder that is missing.

    Raises:
        MigraphxError: it can't be written.
    """
    try:
        with open(filename, "wb") as file:
            file.write(data)
    except OSError as error:
        raise MigraphxError(f"can't write {os.fspath(filename)}: {error.strerror}") from error


@contextlib.contextmanager
def memory_file(data: bytes | bytearray | memoryview = b"") -> Iterator[str]:
    """The path of an anonymous file in memory that holds `data`."""
    descriptor = os.memfd_create("iree_migraphx-program")
    try:
        with open(descriptor, "wb", closefd=False) as file:
            file.write(data)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
