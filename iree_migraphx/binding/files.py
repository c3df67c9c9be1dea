"""Programs from and to files and bytes."""

from __future__ import annotations

import inspect
import os
from typing import Any

from iree_migraphx.binding import capi, checks, official, serialized
from iree_migraphx.binding.programs import program
from iree_migraphx.binding.shapes import shape
from iree_migraphx.binding.targets import get_target, target
from iree_migraphx.errors import FormatError, MigraphxError, OptionError

_FORMATS = ("msgpack", "json")


def load(filename: str | os.PathLike[str], format: str = "msgpack") -> program:  # noqa: A002 -- the official name
    """Read a program that `save` wrote.

    Args:
        filename: the file.
        format: "msgpack" or "json".

    Raises:
        MigraphxError: no such file, an operator that MIGraphX does not know, …
        FormatError: not a program, another version of the format, or damaged.
        OptionError: an unknown format.
    """
    _check_format(format)
    try:
        compiled = _check(serialized.view_file(filename), format)
    except FormatError as error:
        raise FormatError(f"{os.fspath(filename)}: {error}") from error
    doing = f"load the program {os.fspath(filename)}"
    return program.wrap(serialized.load_file(filename, format, doing), compiled)


def save(p: program, filename: str | os.PathLike[str], format: str = "msgpack") -> None:  # noqa: A002
    """Write a program to a file as "msgpack" or "json".

    Raises:
        MigraphxError: the file can't be written.
        OptionError: an unknown format.
    """
    _check_format(format)
    serialized.write_file(filename, serialized.save(p.handle, format))


def load_buffer(b: bytes | bytearray | memoryview) -> program:
    """Read a program from bytes that `save_buffer` gave, or that a msgpack file holds; raises as `load`."""
    compiled = _check(b, "msgpack")
    return program.wrap(serialized.load(b), compiled)


def save_buffer(p: program) -> bytes:
    """The program as bytes (msgpack)."""
    return serialized.save(p.handle)


def snapshot(p: program) -> memoryview:
    """As `save_buffer`, for a program of any size: a view of a file in memory."""
    return serialized.view(p.handle)


def from_official(p: object) -> program:
    """The program of ROCm's `migraphx` module as one of this package's; raises as `load`."""
    return load_buffer(official.save(p))


def own_program(p: Any) -> program:
    """The program itself, or this package's form of one of ROCm's `migraphx` module; raises as `load`."""
    if official.is_official(p):
        return from_official(p)
    if not isinstance(p, program):
        raise TypeError(f"a program is wanted, from parse_onnx or load, not {type(p).__name__}")
    return p


def own_target(t: Any) -> target:
    """The target itself, or this package's of the same name as one of ROCm's `migraphx` module.

    Raises:
        MigraphxError: MIGraphX can't compile for it.
    """
    if official.is_official(t):
        return get_target(_target_name(t))
    if not isinstance(t, target):
        raise TypeError(f"a target is wanted, from get_target, not {type(t).__name__}")
    return t


def _target_name(theirs: Any) -> str:
    """One of ROCm's targets doesn't tell its name, but a program that was compiled for it does."""
    probe = program()
    main = probe.get_main_module()
    main.add_return([main.add_parameter("x", shape(type="float", lens=[1]))])
    compiled = to_official(probe)
    try:
        inspect.unwrap(type(compiled).compile)(compiled, theirs, offload_copy=False)  # a hook may be around it
    except RuntimeError as error:
        raise MigraphxError(f"MIGraphX can't compile for the target that it was given: {error}") from error
    name: str = serialized.read(official.save(compiled))["targets"][0]["name"]
    return name


def to_official(p: program) -> Any:
    """The program as one of ROCm's `migraphx` module.

    Raises:
        LibraryNotFoundError: that module is not installed.
    """
    return official.load(save_buffer(p))


def autocast_fp8(prog: program) -> None:
    """Let 8-bit floats among the parameters and results be float32 outside; only ROCm's `migraphx` module can do it.

    Raises:
        LibraryNotFoundError: that module is not installed.
    """
    theirs = to_official(prog)
    official.module().autocast_fp8(theirs)
    prog.rewritten()
    capi.call("program_assign_to", prog.handle, from_official(theirs).handle)


def _check(data: bytes | bytearray | memoryview, form: str) -> bool:
    """Check a serialized program, and tell whether it is compiled."""
    value = serialized.read(data, form)
    checks.check_program(value, serialized.version())
    return bool(value["targets"])


def _check_format(name: str) -> None:
    if name not in _FORMATS:
        raise OptionError(f"MIGraphX has no file format {name!r}; it has {' and '.join(map(repr, _FORMATS))}")
