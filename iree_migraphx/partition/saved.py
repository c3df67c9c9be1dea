"""A file with a program's subgraphs: what has to be known to compile its kernels elsewhere. It holds no weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgpack

from iree_migraphx.errors import FormatError
from iree_migraphx.ir.model import Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program
from iree_migraphx.partition.subgraph import Subgraph

#: Ends the names of such files.
SUFFIX = ".subgraphs"

_MAGIC = "iree_migraphx subgraphs"
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class SavedSubgraphs:
    """The subgraphs that are tried on a device.

    Attributes:
        arch: the device, as IREE knows it: "mi300x:sramecc+:xnack-".
        version: of the program's file format, and of the MIGraphX that wrote it.
    """

    arch: str
    version: tuple[int, str]
    subgraphs: tuple[Subgraph, ...]


def save_subgraphs(saved: SavedSubgraphs, path: Path) -> None:
    """Write the file.

    Raises:
        OSError: it can't be written.
    """
    content = {
        "magic": _MAGIC,
        "format": _FORMAT,
        "arch": saved.arch,
        "version": saved.version,
        "subgraphs": [_packed(subgraph, saved.version) for subgraph in saved.subgraphs],
    }
    path.write_bytes(msgpack.packb(content))


def load_subgraphs(path: Path) -> SavedSubgraphs:
    """Read the file.

    Raises:
        FormatError: it is none, or of another version of this package.
    """
    try:
        content = msgpack.unpackb(path.read_bytes())
        if content["magic"] != _MAGIC or content["format"] != _FORMAT:
            raise FormatError(f"{path} is of another version of this package, or no such file")
        number, migraphx = content["version"]
        return SavedSubgraphs(
            content["arch"],
            (number, migraphx),
            tuple(_unpacked(fields) for fields in content["subgraphs"]),
        )
    except FormatError:
        raise
    except (OSError, ValueError, TypeError, LookupError, msgpack.UnpackException) as error:
        raise FormatError(
            f"{path} is not a file of subgraphs that `iree-migraphx capture` wrote: {type(error).__name__}: {error}"
        ) from error


def _packed(subgraph: Subgraph, version: tuple[int, str]) -> dict[str, Any]:
    fields = {field.name: _plain(getattr(subgraph, field.name)) for field in dataclasses.fields(subgraph)}
    return {**fields, "body": write_program(Program(*version, {"main": subgraph.body}))}


def _unpacked(fields: Mapping[str, Any]) -> Subgraph:
    values = {name: _restored(value) for name, value in fields.items() if name != "body"}
    return Subgraph(**values, body=read_program(fields["body"]).main)


def _plain(value: Any) -> Any:
    if isinstance(value, Shape):
        return {"type": value.type, "lens": value.lens, "strides": value.strides}
    return [_plain(each) for each in value] if isinstance(value, tuple) else value if isinstance(value, str) else None


def _restored(value: Any) -> Any:
    if isinstance(value, Mapping):
        return Shape(value["type"], tuple(value["lens"]), tuple(value["strides"]))
    return tuple(_restored(each) for each in value) if isinstance(value, list) else value
