"""What a code object says of its kernels, read without the package that is under test."""

from __future__ import annotations

import functools
import io
from dataclasses import dataclass
from typing import Any

import msgpack
from elftools.elf.elffile import ELFFile

POINTER = "global_buffer"


@dataclass(frozen=True)
class Argument:
    """An argument as the launcher passes it; kinds that begin with "hidden_" are filled in by HIP."""

    kind: str
    offset: int
    size: int


@dataclass(frozen=True)
class Kernel:
    """An entry of amdhsa.kernels (LLVM's AMDGPUUsage, Code Object V5 Metadata).

    `workgroup` is the size that the kernel requires, if it does; `most` the most work-items a workgroup may have.
    """

    arguments: tuple[Argument, ...]
    workgroup: tuple[int, int, int] | None
    most: int


@functools.lru_cache(maxsize=512)
def kernels(code_object: bytes) -> dict[str, Kernel]:
    """The kernels of an ELF, by name."""
    elf: Any = ELFFile(io.BytesIO(code_object))
    notes = (note for section in elf.iter_sections("SHT_NOTE") for note in section.iter_notes())
    data = next(msgpack.unpackb(note["n_descdata"]) for note in notes if note["n_name"] == "AMDGPU")
    return {entry[".name"]: _kernel(entry) for entry in data["amdhsa.kernels"]}


def _kernel(entry: dict[str, Any]) -> Kernel:
    given = [a for a in entry.get(".args", ()) if not a[".value_kind"].startswith("hidden_")]
    required = entry.get(".reqd_workgroup_size")
    return Kernel(
        tuple(Argument(a[".value_kind"], a[".offset"], a[".size"]) for a in given),
        tuple(required) if required else None,
        entry[".max_flat_workgroup_size"],
    )
