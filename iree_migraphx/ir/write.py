"""From a Program to the bytes of a .mxr file, byte for byte as MIGraphX writes what was not edited.

The order of keys is program::to_value's (MIGraphX src/program.cpp), the encodings are src/msgpack.cpp's.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack

from iree_migraphx.errors import FormatError
from iree_migraphx.ir.model import Instruction, Literal, Module, Program, Shape

#: Longest binary that MIGraphX writes in one piece (msgpack_size_limit); longer ones are cut.
CHUNK_BYTES = (1 << 32) - 2


def write_program(program: Program) -> bytes:
    """Serialize a program, with the file version it has.

    The result is the only copy that is made of the weights.

    Raises:
        FormatError: a field holds something msgpack has no form for (a numpy scalar, say), or the program is not one
            that MIGraphX can load (see `Program.check`).
    """
    program.check()
    out = _Writer()
    head = {
        "version": program.version,
        "migraphx_version": program.migraphx_version,
        "targets": program.targets,
        "contexts": program.contexts,
    }
    out.map_header(len(head) + 1 + len(program.extra))
    out.items(head)
    out.value("modules")
    out.map_header(len(program.modules))
    for name, module in program.modules.items():
        out.value(name)
        _module(out, module)
    out.items(program.extra)
    return out.finish()


class _Writer:
    """msgpack text in parts, so that the weights are copied once, into the result."""

    def __init__(self) -> None:
        self._packer = msgpack.Packer(autoreset=False, unicode_errors="surrogateescape")
        self._parts: list[bytes | memoryview] = []

    def map_header(self, count: int) -> None:
        self._packer.pack_map_header(count)

    def array_header(self, count: int) -> None:
        self._packer.pack_array_header(count)

    def value(self, value: Any) -> None:
        self._packer.pack(value)

    def items(self, fields: Mapping[str, Any]) -> None:
        for key, value in fields.items():
            self._packer.pack(key)
            self._packer.pack(value)

    def blob(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        chunks = [view[start : start + CHUNK_BYTES] for start in range(0, len(view), CHUNK_BYTES)] or [view]
        self.array_header(len(chunks))
        for chunk in chunks:
            self._flush()
            self._parts.append(_binary_header(len(chunk)))
            self._parts.append(chunk)

    def finish(self) -> bytes:
        self._flush()
        return b"".join(self._parts)

    def _flush(self) -> None:
        self._parts.append(self._packer.bytes())
        self._packer.reset()


def _binary_header(size: int) -> bytes:
    for marker, width in ((0xC4, 1), (0xC5, 2), (0xC6, 4)):
        if size < 1 << 8 * width:
            return bytes([marker]) + size.to_bytes(width, "big")
    raise OverflowError(size)


def _module(out: _Writer, module: Module) -> None:
    out.map_header(2 + len(module.extra))
    out.items({"name": module.name})
    out.value("nodes")
    out.array_header(len(module.instructions))
    for instruction in module.instructions:
        _instruction(out, instruction)
    out.items(module.extra)


def _instruction(out: _Writer, instruction: Instruction) -> None:
    head = {
        "output": instruction.id,
        "name": instruction.name,
        "shape": shape_fields(instruction.shape),
        "normalized": instruction.normalized,
    }
    tail: dict[str, Any] = {"operator": instruction.operator or [], "inputs": instruction.inputs}
    if instruction.modules:
        tail["module_inputs"] = instruction.modules
    tail.update(instruction.extra)
    literal = instruction.literal
    try:
        out.map_header(len(head) + (literal is not None) + len(tail))
        out.items(head)
        if literal is not None:
            _literal(out, literal)
        out.items(tail)
    except (TypeError, ValueError, OverflowError) as error:
        raise FormatError(f"can't write the instruction {instruction.id!r} ({instruction.name}): {error}") from error


def _literal(out: _Writer, literal: Literal) -> None:
    out.value("literal")
    out.map_header(2)
    out.items({"shape": shape_fields(literal.shape)})
    out.value("data")
    out.blob(literal.data)


def shape_fields(shape: Shape) -> dict[str, Any]:
    """A shape as files hold it, for operators that have one among their fields too."""
    return {
        "type": shape.type,
        "sub_shapes": [shape_fields(sub) for sub in shape.sub_shapes],
        "lens": shape.lens,
        "strides": shape.strides,
        "dynamic_dimensions": shape.dynamic_dimensions,
        **shape.extra,
    }
