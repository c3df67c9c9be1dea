"""From the bytes of a .mxr file to a Program. The weights are not copied: literals are views into the file's bytes.

The layout is what program::to_value of MIGraphX (src/program.cpp, rocm-7.1.1) writes through src/msgpack.cpp.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import msgpack

from iree_migraphx.errors import FormatError
from iree_migraphx.ir.model import Instruction, Literal, Module, Program, Shape

#: File versions whose structure is known: 7 is MIGraphX 2.8 to 2.15 (ROCm 6.0 to 7.2), 8 its development branch.
VERSIONS = (7, 8)

#: Bytes that one step reads ahead; small, because each literal ends a step.
_READ_AHEAD = 1 << 14

#: Length field of msgpack's three binary types: marker -> number of bytes that hold the length.
_BINARY_MARKERS = {0xC4: 1, 0xC5: 2, 0xC6: 4}

_T = TypeVar("_T")


def read_program(data: bytes | memoryview) -> Program:
    """Read a serialized program.

    Args:
        data: the whole file. Literals keep views into it, so a buffer that can change must not be passed.

    Raises:
        FormatError: not msgpack, not a MIGraphX program, truncated, or of a version that is not in `VERSIONS`.
    """
    try:
        return _program(_Cursor(memoryview(data).cast("B").toreadonly()))
    except FormatError as error:
        raise FormatError(f"can't read the serialized MIGraphX program: {error}") from error
    except msgpack.OutOfData as error:
        raise FormatError(f"can't read the serialized MIGraphX program: its {len(data)} bytes end too early") from error
    except (ValueError, TypeError, KeyError, OverflowError, msgpack.UnpackException) as error:
        raise FormatError(
            f"can't read the serialized MIGraphX program: it is not the msgpack file that migraphx.save writes "
            f"({type(error).__name__}: {error})"
        ) from error


class _Cursor:
    """A place in the buffer, and msgpack's own parser started there.

    msgpack would copy every binary that it meets. So the parser gets the buffer in small steps, and where a literal
    starts, its bytes are taken as a view and a new parser starts behind it.
    """

    def __init__(self, buffer: memoryview) -> None:
        self._buffer = buffer
        self._seek(0)

    def _seek(self, position: int) -> None:
        self._start = self._next = position
        limit = len(self._buffer)  # an element takes a byte at least, so a longer array is a broken file
        self._parser = msgpack.Unpacker(
            self,
            read_size=_READ_AHEAD,
            max_buffer_size=0,
            max_array_len=limit,
            max_map_len=limit,
            strict_map_key=False,
            unicode_errors="surrogateescape",
        )

    def read(self, size: int) -> bytes:
        """Feed the parser."""
        chunk = bytes(self._buffer[self._next : self._next + size])
        self._next += len(chunk)
        return chunk

    @property
    def position(self) -> int:
        """Offset of the next unread byte."""
        return self._start + int(self._parser.tell())

    @property
    def at_end(self) -> bool:
        """Whether everything was read."""
        return self.position == len(self._buffer)

    def value(self) -> Any:
        """The next value, as Python objects."""
        return self._parser.unpack()

    def map_keys(self) -> Iterator[str]:
        """Keys of the map that starts here; the caller reads the value of each before it asks for the next."""
        for _ in range(self._parser.read_map_header()):
            yield self._parser.unpack()

    def elements(self, read: Callable[[_Cursor], _T]) -> Iterator[_T]:
        """Elements of the array that starts here."""
        for _ in range(self._parser.read_array_header()):
            yield read(self)

    def blob(self) -> bytes | memoryview:
        """A binary: MIGraphX writes an array of chunks of less than 4 GiB, and reads a single chunk as well."""
        if self._binary_width():
            return self._chunk()
        count = self._parser.read_array_header()
        chunks = [self._chunk()] if count else []
        # Up to 7.1 an empty literal is written as an array of three with one element in it (a size of -1, rounded
        # up to chunks), which MIGraphX itself can't read back.
        if count == 3 and not chunks[0]:
            return b""
        chunks += [self._chunk() for _ in range(count - 1)]
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    def _binary_width(self) -> int:
        """Bytes of the length field of the binary that starts here; 0 where something else does."""
        if self.at_end:
            raise msgpack.OutOfData
        return _BINARY_MARKERS.get(self._buffer[self.position], 0)

    def _chunk(self) -> memoryview:
        marker, width = self.position, self._binary_width()
        if not width:
            raise FormatError("the data of a literal is not binary")
        start = marker + 1 + width
        end = start + int.from_bytes(self._buffer[marker + 1 : start], "big")
        if end > len(self._buffer):
            raise msgpack.OutOfData
        self._seek(end)
        return self._buffer[start:end]


def _program(cursor: _Cursor) -> Program:
    fields: dict[str, Any] = {}
    modules: dict[str, Module] = {}
    for key in cursor.map_keys():
        if key == "version":
            fields[key] = cursor.value()
            if fields[key] not in VERSIONS:
                raise FormatError(
                    f"it has format version {fields[key]!r}; only {' and '.join(map(str, VERSIONS))} are known. "
                    "Save it again with MIGraphX of ROCm 6.0 or later"
                )
        elif key == "modules":
            modules = _modules(cursor)
        else:
            fields[key] = cursor.value()
    if not cursor.at_end:
        raise FormatError("there are bytes after its end")
    for key in ("version", "migraphx_version"):
        if key not in fields:
            raise FormatError(f"it has no {key!r}")
    if "main" not in modules:
        raise FormatError("it has no module 'main'")
    return Program(
        version=fields.pop("version"),
        migraphx_version=fields.pop("migraphx_version"),
        modules=modules,
        targets=tuple(fields.pop("targets", ())),
        contexts=tuple(fields.pop("contexts", ())),
        extra=fields,
    )


def _modules(cursor: _Cursor) -> dict[str, Module]:
    shapes = _Shapes()
    modules = {}
    for name in cursor.map_keys():
        instructions: tuple[Instruction, ...] = ()
        extra = {}
        for key in cursor.map_keys():
            if key == "nodes":
                instructions = tuple(cursor.elements(lambda cursor: _instruction(cursor, shapes)))
            else:
                extra[key] = cursor.value()
        if extra.pop("name", name) != name:
            raise FormatError(f"the module {name!r} has another name inside")
        modules[name] = Module(name, instructions, extra)
    return modules


def _instruction(cursor: _Cursor, shapes: _Shapes) -> Instruction:
    fields: dict[str, Any] = {}
    for key in cursor.map_keys():
        fields[key] = _literal(cursor, shapes) if key == "literal" else cursor.value()
    try:
        return Instruction(
            id=fields.pop("output"),
            name=fields.pop("name"),
            shape=shapes(fields.pop("shape")),
            operator=_operator(fields.pop("operator")),
            inputs=tuple(fields.pop("inputs", ())),
            modules=tuple(fields.pop("module_inputs", ())),
            literal=fields.pop("literal", None),
            normalized=fields.pop("normalized"),
            extra=fields,
        )
    except KeyError as error:
        raise FormatError(f"an instruction lacks {error} (it has {', '.join(map(repr, fields))})") from error


def _operator(fields: Any) -> Mapping[str, Any]:
    if not fields:
        return {}  # MIGraphX writes an empty map as an empty array
    if not isinstance(fields, dict):
        raise FormatError(f"the fields of an operator are a {type(fields).__name__}, not a map")
    return fields


def _literal(cursor: _Cursor, shapes: _Shapes) -> Literal:
    shape: Shape | None = None
    data: bytes | memoryview = b""
    for key in cursor.map_keys():
        if key == "shape":
            shape = shapes(cursor.value())
        elif key == "data":
            data = cursor.blob()
        else:
            raise FormatError(f"a literal has the unknown part {key!r}")
    if shape is None:
        raise FormatError("a literal has no shape")
    return Literal(shape, data)


class _Shapes:
    """Makes shapes, one object for equal ones: a program has thousands of shapes and few different ones."""

    def __init__(self) -> None:
        self._known: dict[tuple[Any, ...], Shape] = {}

    def __call__(self, fields: Any) -> Shape:
        if not isinstance(fields, dict):
            raise FormatError(f"a shape is a {type(fields).__name__}, not a map")
        fields = dict(fields)
        type_, lens, strides = fields.pop("type"), tuple(fields.pop("lens", ())), tuple(fields.pop("strides", ()))
        sub_shapes, dynamic = fields.pop("sub_shapes", ()), fields.pop("dynamic_dimensions", ())
        if len(lens) != len(strides):
            raise FormatError(f"a shape has {len(lens)} lengths and {len(strides)} strides")
        if sub_shapes or dynamic or fields:
            return Shape(type_, lens, strides, tuple(map(self, sub_shapes)), tuple(dynamic), fields)
        return self._known.setdefault((type_, lens, strides), Shape(type_, lens, strides))
