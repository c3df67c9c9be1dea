"""The process in which MIGraphX compiles a program with placeholders: `gpu_child PLACEHOLDERS …`.

It is not the user's, for MIGraphX ends the process where one of its assertions does not hold (Debian's build has them),
and a program that was optimised once, taken apart and given placeholders is not what its passes were tried on.
"""

from __future__ import annotations

import sys
from pathlib import Path

import msgpack

from iree_migraphx.binding import register_custom_op
from iree_migraphx.capture.helper import compile_file, serve
from iree_migraphx.ir.model import Shape
from iree_migraphx.splice.gpu_placeholder import GpuPlaceholder

_Shape = tuple[str, list[int], list[int]]


def pack(placeholders: list[GpuPlaceholder]) -> bytes:
    """Placeholders for the file PLACEHOLDERS."""
    packed: bytes = msgpack.packb(
        [(p.name, [_fields(shape) for shape in p.operands], _fields(p.result), p.others) for p in placeholders]
    )
    return packed


def unpack(data: bytes) -> list[GpuPlaceholder]:
    """What `pack` was given."""
    return [
        GpuPlaceholder(name, [_shape(fields) for fields in operands], _shape(result), others)
        for name, operands, result, others in msgpack.unpackb(data)
    ]


def _fields(shape: Shape) -> _Shape:
    return shape.type, list(shape.lens), list(shape.strides)


def _shape(fields: _Shape) -> Shape:
    type_, lens, strides = fields
    return Shape(type_, tuple(lens), tuple(strides))


def _work(placeholders: str, *arguments: str) -> None:
    for placeholder in unpack(Path(placeholders).read_bytes()):
        register_custom_op(placeholder)
    compile_file(*arguments)


if __name__ == "__main__":
    sys.exit(serve(lambda: _work(*sys.argv[1:])))
