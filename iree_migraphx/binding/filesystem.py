"""Files for MIGraphX: what is wrong with one is said in the system's own words, which MIGraphX omits."""

from __future__ import annotations

import mmap
import os

from iree_migraphx.errors import MigraphxError


def view(filename: str | os.PathLike[str]) -> memoryview:
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


def write(filename: str | os.PathLike[str], data: bytes | memoryview) -> None:
    """Write a file; MIGraphX itself does not notice a disk that is full or a folder that is missing.

    Raises:
        MigraphxError: it can't be written.
    """
    try:
        with open(filename, "wb") as file:
            file.write(data)
    except OSError as error:
        raise MigraphxError(f"can't write {os.fspath(filename)}: {error.strerror}") from error
