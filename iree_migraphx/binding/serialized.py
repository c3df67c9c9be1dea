"""A program as bytes: what the C interface can't tell about a program is in there.

The C interface reads and writes files only; an anonymous file in memory stands in for one.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import msgpack

from iree_migraphx.binding import capi
from iree_migraphx.binding.capi import Handle
from iree_migraphx.errors import FormatError

_LIMIT = 2**63 - 1  # of msgpack's own limits on sizes, which are meant for untrusted networks


def save(program: Handle) -> bytes:
    """MIGraphX's msgpack form of a program.

    Raises:
        MigraphxError: MIGraphX can't write it.
    """
    with _memory_file() as (descriptor, path):
        save_file(program, path, "msgpack")
        return os.pread(descriptor, os.fstat(descriptor).st_size, 0)


def load(data: bytes | bytearray | memoryview) -> Handle:
    """The program that `save` wrote; `data` must be whole (files.check_program).

    Raises:
        MigraphxError: MIGraphX refuses it, e.g. for an operator that it does not know.
    """
    with _memory_file() as (descriptor, path):
        view = memoryview(data).cast("B")
        while view:
            view = view[os.write(descriptor, view) :]
        return load_file(path, "msgpack", "load the program")


def save_file(program: Handle, path: str | os.PathLike[str], form: str) -> None:
    """Write a program to a file as "msgpack" or "json"."""
    capi.guarded(f"save the program to {os.fspath(path)}", "save", program, os.fsencode(path), _options(form))


def load_file(path: str | os.PathLike[str], form: str, doing: str) -> Handle:
    """Read a program from a file of "msgpack" or "json"."""
    return capi.new("program", "load", os.fsencode(path), _options(form), doing=doing)


def unpack(data: bytes) -> Any:
    """Python data of a msgpack document.

    Raises:
        FormatError: it is not one, or it is cut off.
    """
    try:
        return msgpack.unpackb(data, strict_map_key=False)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise FormatError(
            f"not a program that MIGraphX wrote, or a part of one: {error or type(error).__name__}"
        ) from error


def nodes(data: bytes) -> Mapping[str, list[dict[str, Any]]]:
    """Instructions of each module of a serialized program."""
    return {name: module["nodes"] or [] for name, module in unpack(data)["modules"].items()}


def _options(form: str) -> Handle:
    options = capi.new("file_options", "file_options_create")
    capi.call("file_options_set_file_format", options, form.encode())
    return options


@contextlib.contextmanager
def _memory_file() -> Iterator[tuple[int, str]]:
    descriptor = os.memfd_create("iree_migraphx-program")
    try:
        yield descriptor, f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
