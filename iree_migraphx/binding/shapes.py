"""Types, shapes and dynamic dimensions, with the names and rules of the official module (src/shape.cpp)."""

from __future__ import annotations

import ctypes
import difflib
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np

from iree_migraphx.binding import capi, serialized
from iree_migraphx.binding.capi import Handle
from iree_migraphx.binding.datatypes import (
    FP4,
    NAMES,
    TUPLE,
    TYPES,
    datatype_enum,
    dynamic_dimension,
    dynamic_dimensions_handle,
    type_names,
    type_t,
)
from iree_migraphx.errors import InputError, MigraphxError

# Inside the class these names are its attributes, as in the official module.
_Type = type_t
_Dimension = dynamic_dimension


class shape:  # noqa: N801 -- the official name
    """Type, lengths and strides (in elements) of a value; immutable.

    Args:
        type: "float", "float_type", "int8_t", … (every name that MIGraphX's own parse_type knows) or a shape.type_t.
        lens: lengths; [1] by default.
        strides: strides in elements; row-major by default.
        permutation: the order of the axes in memory, slowest first, instead of strides.
        dyn_dims: dynamic dimensions, instead of lens.

    Raises:
        InputError: an unknown type, lengths and strides that don't belong together, a negative number.
    """

    __slots__ = ("_dyn_dims", "_handle", "_lens", "_strides", "_sub_shapes", "_type")
    type_t = type_t
    dynamic_dimension = dynamic_dimension

    def __init__(
        self,
        *,
        type: str | _Type = "float",  # noqa: A002 -- the official name
        lens: Iterable[int] | None = None,
        strides: Iterable[int] | None = None,
        permutation: Iterable[int] | None = None,
        dyn_dims: Iterable[_Dimension] | None = None,
    ) -> None:
        self._type = _parse_type(type)
        self._handle: Handle | None = None
        self._sub_shapes: tuple[shape, ...] = ()
        self._dyn_dims: tuple[_Dimension, ...] = tuple(dyn_dims or ())
        self._lens: tuple[int, ...] = ()
        self._strides: tuple[int, ...] = ()
        if self._dyn_dims:
            return
        self._lens = _natural("lens", (1,) if lens is None else lens)
        if strides is not None:
            self._strides = _natural("strides", strides)
        else:
            order = range(len(self._lens)) if permutation is None else tuple(permutation)
            self._strides = _dense(self._lens, order)
        if len(self._strides) != len(self._lens):
            raise InputError(f"a shape needs as many strides as lengths, not {self._strides} for {self._lens}")

    @classmethod
    def from_pointer(cls, pointer: int | Handle) -> shape:
        """The shape behind a handle of the C interface, which keeps belonging to its owner."""
        self = cls.__new__(cls)
        number = ctypes.c_int()
        capi.call("shape_type", ctypes.byref(number), pointer)
        self._type = type_names()[number.value]
        self._lens = self._strides = ()
        self._dyn_dims = ()
        self._handle = None
        self._sub_shapes = ()
        if self._type == TUPLE or capi.truth("shape_dynamic", pointer):
            # The C interface has no getters for these: let MIGraphX write them into a program and read that.
            self._adopt(_serialized(pointer))
            self._handle = capi.new("shape", "shape_create", datatype_enum()["float_type"], capi.sizes([]), 0)
            capi.call("shape_assign_to", self._handle, pointer)
        else:
            self._lens = _read_sizes("shape_lengths", pointer)
            self._strides = _read_sizes("shape_strides", pointer)
        return self

    @classmethod
    def from_value(cls, value: Mapping[str, Any]) -> shape:
        """The shape in a serialized program: {type, lens, strides, dynamic_dimensions, sub_shapes}."""
        self = cls.__new__(cls)
        self._adopt(value)
        self._handle = None
        return self

    def _adopt(self, value: Mapping[str, Any]) -> None:
        self._type = value["type"]
        self._lens = tuple(value.get("lens") or ())
        self._strides = tuple(value.get("strides") or ())
        self._dyn_dims = tuple(
            dynamic_dimension(each["min"], each["max"], set(each.get("optimals") or ()))
            for each in value.get("dynamic_dimensions") or ()
        )
        self._sub_shapes = tuple(map(shape.from_value, value.get("sub_shapes") or ()))

    def handle(self) -> Handle:
        """The same shape for the C interface, made once."""
        if self._handle is None:
            number = datatype_enum().get(self._type)
            if number is None or self._type == TUPLE:
                raise MigraphxError(f"the C interface of this MIGraphX can't make a shape of {self._type}")
            if self._dyn_dims:
                dimensions = dynamic_dimensions_handle(self._dyn_dims)
                self._handle = capi.new("shape", "shape_create_dynamic", number, dimensions)
            else:
                lens, strides, rank = capi.sizes(self._lens), capi.sizes(self._strides), len(self._lens)
                self._handle = capi.new("shape", "shape_create_with_strides", number, lens, rank, strides, rank)
        return self._handle

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of an element.

        Raises:
            InputError: numpy has none (tuples, two fp4 in a byte).
        """
        try:
            return TYPES[self._type][1]
        except KeyError:
            raise InputError(f"numpy has no dtype for MIGraphX's {self._type}") from None

    def type(self) -> _Type:
        """The element type."""
        return type_t[self._type]

    def type_string(self) -> str:
        """The element type's name, "float_type"."""
        return self._type

    def type_size(self) -> int:
        """Bytes of an element; 0 for a tuple."""
        if self._type in TYPES:
            return TYPES[self._type][1].itemsize
        return 1 if self._type == FP4 else 0

    def lens(self) -> list[int]:
        """The lengths."""
        self._need_static("lens")
        return list(self._lens)

    def strides(self) -> list[int]:
        """The strides, in elements."""
        self._need_static("strides")
        return list(self._strides)

    def dyn_dims(self) -> list[_Dimension]:
        """The dynamic dimensions."""
        if not self._dyn_dims:
            raise MigraphxError(f"dyn_dims of a shape that is not dynamic: {self}")
        return list(self._dyn_dims)

    def sub_shapes(self) -> list[shape]:
        """The shapes of a tuple's members."""
        return list(self._sub_shapes)

    def ndim(self) -> int:
        """The number of dimensions."""
        return len(self._dyn_dims or self._lens)

    def elements(self) -> int:
        """The product of the lengths; 0 for rank 0."""
        self._need_static("elements")
        return math.prod(self._lens) if self._lens else 0

    def element_space(self) -> int:
        """Elements from the first to the last touched one, gaps included; of a dynamic shape the most there can be."""
        if self._dyn_dims:
            return math.prod(dimension.max for dimension in self._dyn_dims)
        if not self._lens or 0 in self._lens:
            return 0
        return 1 + sum((length - 1) * stride for length, stride in zip(self._lens, self._strides, strict=True))

    def bytes(self) -> int:
        """Bytes of the memory that a value takes, gaps included."""
        if self._sub_shapes:
            return sum(sub.bytes() for sub in self._sub_shapes)
        return self.type_size() * self.element_space()

    def packed(self) -> bool:
        """Dense in some order of the axes."""
        if self._dyn_dims or self._type == TUPLE:
            return False
        return (self.elements() == 1 or 1 in self._strides) and self.elements() == self.element_space()

    def transposed(self) -> bool:
        """The strides, zeros aside, don't fall."""
        strides = [stride for stride in self._strides if stride]
        return any(a < b for a, b in itertools.pairwise(strides))

    def broadcasted(self) -> bool:
        """Some stride is 0."""
        return 0 in self._strides

    def standard(self) -> bool:
        """Packed and row-major, axes of length 1 aside."""
        strides = [stride for length, stride in zip(self._lens, self._strides, strict=True) if length != 1]
        return self.packed() and all(a >= b for a, b in itertools.pairwise(strides))

    def scalar(self) -> bool:
        """Every stride is 0."""
        return not self._dyn_dims and self._type != TUPLE and not any(self._strides)

    def dynamic(self) -> bool:
        """Some dimension is known at run time only."""
        return bool(self._dyn_dims)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, shape):
            return NotImplemented
        same = (self._type, self._lens, self._strides) == (other._type, other._lens, other._strides)
        return same and self._dyn_dims == other._dyn_dims and self._sub_shapes == other._sub_shapes

    def __hash__(self) -> int:
        return hash((self._type, self._lens, self._strides))

    def __repr__(self) -> str:
        if self._sub_shapes:
            return f"[{', '.join(map(repr, self._sub_shapes))}]"
        if self._dyn_dims:
            return f"dynamic, {self._type}, {{{', '.join(map(repr, self._dyn_dims))}}}"
        return f"{self._type}, {{{_joined(self._lens)}}}, {{{_joined(self._strides)}}}"

    def _need_static(self, asked: str) -> None:
        if self._dyn_dims:
            raise MigraphxError(f"{asked} of a dynamic shape: {self}")


def _joined(values: Sequence[int]) -> str:
    return ", ".join(map(str, values))


def _parse_type(name: str | type_t) -> str:
    if isinstance(name, type_t):
        return name.name
    if name not in NAMES:
        close = difflib.get_close_matches(str(name), list(NAMES), n=1)
        _refuse(f"MIGraphX has no element type {name!r}" + (f"; did you mean {close[0]!r}?" if close else ""))
    return NAMES[name]


def _natural(what: str, values: Iterable[int]) -> tuple[int, ...]:
    numbers = tuple(int(value) for value in values)
    if any(number < 0 for number in numbers):
        _refuse(f"{what} of a shape can't be negative: {numbers}")
    return numbers


def _dense(lens: tuple[int, ...], order: Sequence[int]) -> tuple[int, ...]:
    if sorted(order) != list(range(len(lens))):
        _refuse(f"permutation {tuple(order)} does not name each of the {len(lens)} axes once")
    strides, step = [0] * len(lens), 1
    for axis in reversed(order):
        strides[axis] = step
        step *= lens[axis]
    return tuple(strides)


def _refuse(message: str) -> NoReturn:
    raise InputError(message)


def _read_sizes(name: str, pointer: int | Handle) -> tuple[int, ...]:
    values, count = ctypes.POINTER(ctypes.c_size_t)(), ctypes.c_size_t()
    capi.call(name, ctypes.byref(values), ctypes.byref(count), pointer)
    return tuple(values[: count.value])


def _serialized(pointer: int | Handle) -> Mapping[str, Any]:
    program = capi.new("program", "program_create")
    module = capi.borrow("program_get_main_module", program)
    capi.new("instruction", "module_add_parameter", module, b"x", pointer)
    (node,) = serialized.nodes(serialized.save(program))["main"]
    value: Mapping[str, Any] = node["shape"]
    return value
