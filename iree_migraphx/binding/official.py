"""Values and programs of ROCm's own `migraphx` module, where it is installed; Debian has none.

Both use one libmigraphx (library.py), so memory is shared; a program goes over in its serialized form.
"""

from __future__ import annotations

import importlib
import sys
import weakref
from types import ModuleType
from typing import Any

from iree_migraphx.binding import capi, library, serialized
from iree_migraphx.binding.arguments import argument
from iree_migraphx.binding.shapes import shape
from iree_migraphx.binding.snapshots import snapshot
from iree_migraphx.errors import LibraryNotFoundError

_NAME = "migraphx"


def is_official(value: object) -> bool:
    """The value is an object of ROCm's module."""
    return any(kind.__module__ == _NAME for kind in type(value).__mro__)


def installed() -> bool:
    """ROCm's module is there to be imported, or has been."""
    found = sys.modules.get(_NAME)
    return library.official_module_folder() is not None if found is None else is_rocm(found)


def module() -> ModuleType:
    """ROCm's module.

    Raises:
        LibraryNotFoundError: it is not installed, or it uses another libmigraphx than this package.
    """
    try:
        found = importlib.import_module(_NAME)
    except ImportError as error:
        raise LibraryNotFoundError(f"ROCm's Python module `migraphx` can't be imported: {error}") from error
    if not is_rocm(found):
        where = getattr(found, "__file__", None) or "memory"
        raise LibraryNotFoundError(
            f"the module `migraphx` in {where} is not ROCm's (PyPI's is a placeholder); "
            "add ROCm's lib folder to PYTHONPATH"
        )
    library.require_single()
    return found


def argument_from(value: Any) -> argument:
    """An argument over the memory of one of ROCm's, which it keeps alive."""
    own = value.get_shape()
    of = shape(type=own.type_string(), lens=own.lens(), strides=own.strides())
    handle = capi.new("argument", "argument_create", of.handle(), value.data_ptr())
    return argument.wrap(handle, keep=value, of=of)


def argument_to(value: argument) -> Any:
    """ROCm's argument over the memory of this one, which stays alive as long."""
    migraphx, own = module(), value.get_shape()
    of = migraphx.shape(type=own.type_string(), lens=own.lens(), strides=own.strides())
    theirs = migraphx.argument_from_pointer(of, value.data_ptr())
    weakref.finalize(theirs, _release, value)  # it has no attributes to keep the memory's owner in
    return theirs


def save(program: Any) -> bytes:
    """The serialized form of one of ROCm's programs."""
    migraphx = module()
    if hasattr(migraphx, "save_buffer"):  # release 7.1
        data: bytes = migraphx.save_buffer(program)
        return data
    with serialized.memory_file() as path:
        migraphx.save(program, path)
        with open(path, "rb") as file:
            return file.read()


def view(program: Any) -> memoryview:
    """As `save`, for a program of any size: see snapshots.py."""
    write = module().save

    def write_in_fork(path: str) -> bool:
        write(program, path)
        return True

    return snapshot(lambda path: write(program, path), write_in_fork)


def load(data: bytes) -> Any:
    """ROCm's program of a serialized form."""
    migraphx = module()
    if hasattr(migraphx, "load_buffer"):  # release 7.1
        return migraphx.load_buffer(data)
    with serialized.memory_file(data) as path:
        return migraphx.load(path)


def is_rocm(found: ModuleType) -> bool:
    """Not PyPI's placeholder, which is empty, nor this package in its stead."""
    return getattr(vars(found).get("program"), "__module__", None) == _NAME


def _release(value: argument) -> None:
    """Let the value go that a finalizer has held."""
