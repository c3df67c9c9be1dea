"""What an AMD GPU's code object (ELF) says of its kernels, in the note that LLVM writes for the loader."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import Any

from iree_migraphx.errors import Reason, Refusal

_POINTER_BYTES = 8


@dataclass(frozen=True, slots=True)
class Argument:
    """One kernel argument: "global_buffer" is a pointer, everything else is not (or is filled in by the runtime)."""

    kind: str
    offset: int
    size: int

    def is_pointer_at(self, index: int) -> bool:
        """Whether it is what MIGraphX passes as number `index`: it packs 8-byte pointers and nothing else."""
        return (self.kind, self.offset, self.size) == ("global_buffer", index * _POINTER_BYTES, _POINTER_BYTES)


@dataclass(frozen=True, slots=True)
class KernelMetadata:
    """One entry of amdhsa.kernels (LLVM's AMDGPUUsage, Code Object V3 to V6 Metadata).

    Attributes:
        workgroup_size: what a workgroup must have in x, y and z; None where the kernel does not fix it.
        lds: bytes of static local memory.
        spills: spilled registers, vector and scalar.
    """

    name: str
    arguments: tuple[Argument, ...]
    workgroup_size: tuple[int, int, int] | None
    lds: int
    vgprs: int
    agprs: int
    sgprs: int
    spills: int
    wavefront: int


@dataclass(frozen=True, slots=True)
class CodeObject:
    """A code object's target id ("gfx942:sramecc+:xnack-") and its kernels."""

    target_id: str
    kernels: tuple[KernelMetadata, ...]


def read_code_object(data: bytes) -> CodeObject:
    """Read the NT_AMDGPU_METADATA note of an ELF.

    Raises:
        Refusal: BAD_COMPILER_OUTPUT, where it is no code object, or one cut short, or without the note.
    """
    import msgpack
    from elftools.elf.elffile import ELFFile

    try:
        elf: Any = ELFFile(io.BytesIO(data))
        if elf["e_machine"] != "EM_AMDGPU":
            raise ValueError(f"it is for the machine {elf['e_machine']}")
        metadata = next(
            msgpack.unpackb(note["n_descdata"])
            for section in elf.iter_sections("SHT_NOTE")
            for note in section.iter_notes()
            if note["n_name"] == "AMDGPU"
        )
        symbols = {symbol.name for symbol in elf.get_section_by_name(".dynsym").iter_symbols()}
        kernels = tuple(_kernel(entry) for entry in metadata["amdhsa.kernels"])
        for kernel in kernels:
            if f"{kernel.name}.kd" not in symbols:
                raise ValueError(f"it has no descriptor of the kernel {kernel.name}")
        # The id follows a triple, spelled amdgcn-amd-amdhsa-- or, since LLVM 24, amdgpu9.42-amd-amdhsa-unknown-.
        return CodeObject(metadata["amdhsa.target"].split("-", 4)[4], kernels)
    except Exception as error:
        # Anything, for damaged data leads the two parsers anywhere.
        why = "it has no note for the loader" if isinstance(error, StopIteration) else str(error) or repr(error)
        raise Refusal(Reason.BAD_COMPILER_OUTPUT, f"not a readable code object: {why}") from error


def _kernel(entry: dict[str, Any]) -> KernelMetadata:
    size = entry.get(".reqd_workgroup_size")
    return KernelMetadata(
        name=str(entry[".name"]),
        arguments=tuple(
            Argument(str(argument[".value_kind"]), int(argument[".offset"]), int(argument[".size"]))
            for argument in entry.get(".args", ())
        ),
        workgroup_size=(int(size[0]), int(size[1]), int(size[2])) if size else None,
        lds=int(entry[".group_segment_fixed_size"]),
        vgprs=int(entry[".vgpr_count"]),
        # Only the CDNA processors have accumulation registers.
        agprs=int(entry.get(".agpr_count", 0)),
        sgprs=int(entry[".sgpr_count"]),
        spills=int(entry.get(".vgpr_spill_count", 0)) + int(entry.get(".sgpr_spill_count", 0)),
        wavefront=int(entry[".wavefront_size"]),
    )
