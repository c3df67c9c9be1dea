"""Values: memory with a shape, shared with numpy where that is possible."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iree_migraphx.binding import capi, checks, serialized
from iree_migraphx.binding.capi import Handle
from iree_migraphx.binding.datatypes import TYPE_OF_DTYPE, TYPES
from iree_migraphx.binding.shapes import shape
from iree_migraphx.errors import FormatError, InputError, MigraphxError


class argument:  # noqa: N801 -- the official name
    """A value of MIGraphX's. numpy.asarray(argument) shares its memory and keeps it alive.

    Args:
        data: a numpy array, or anything that numpy can see as one. It is shared, not copied, unless MIGraphX could not
            describe it (negative strides, strides that are not whole elements, swapped bytes).

    Raises:
        InputError: a dtype that MIGraphX does not have.
    """

    __slots__ = ("__weakref__", "_handle", "_keep", "_shape", "_writeable")

    def __init__(self, data: Any) -> None:
        array = describable(np.asarray(data))
        self._shape: shape | None = shape_of(array)
        self._handle = capi.new("argument", "argument_create", self._shape.handle(), array.ctypes.data)
        self._keep: Any = array
        self._writeable = bool(array.flags.writeable)

    @classmethod
    def wrap(cls, handle: Handle, keep: Any = None, of: shape | None = None, writeable: bool = True) -> argument:
        """The argument behind a handle of the C interface; `keep` is what its memory belongs to, `of` its shape."""
        self = cls.__new__(cls)
        self._handle, self._keep, self._shape, self._writeable = handle, keep, of, writeable
        return self

    @property
    def handle(self) -> Handle:
        """The argument of the C interface."""
        return self._handle

    def get_shape(self) -> shape:
        """Type, lengths and strides."""
        if self._shape is None:
            self._shape = shape.from_pointer(capi.borrow("argument_shape", self._handle))
        return self._shape

    def data_ptr(self) -> int:
        """The address of the first element; a device's address where a GPU holds the value."""
        if self.get_shape().type_string() == "tuple_type":  # MIGraphX's assertions would end the process
            raise MigraphxError(f"a tuple has no memory of its own: {self.get_shape()}")
        return capi.borrow("argument_buffer", self._handle)

    def __array__(self, dtype: npt.DTypeLike | None = None, copy: bool | None = None) -> npt.NDArray[Any]:
        """The value as a numpy array over the same memory."""
        own = self.get_shape()
        if own.dynamic():
            raise MigraphxError(f"a value with a dynamic shape can't be seen as an array: {own}")
        view = view_of(self.data_ptr(), own, self, self._writeable)
        if dtype is not None and np.dtype(dtype) != view.dtype:
            if copy is False:
                raise ValueError(f"{view.dtype} can't become {np.dtype(dtype)} without a copy")
            return view.astype(dtype)
        return view.copy() if copy else view

    def __buffer__(self, flags: int) -> memoryview:
        """The value's memory, for memoryview and the like; Python asks for it since version 3.12."""
        return np.asarray(self).data

    def tolist(self) -> list[Any]:
        """The elements in logical order, flat."""
        elements: list[Any] = np.asarray(self).reshape(-1).tolist()
        return elements

    @staticmethod
    def load(filename: str | os.PathLike[str]) -> argument:
        """Read a value that `save` wrote; raises as load_argument."""
        return load_argument(filename)

    @staticmethod
    def save(arg: argument, filename: str | os.PathLike[str]) -> None:
        """Write a value to a file (msgpack)."""
        with serialized.memory_file() as path:
            capi.guarded("save the argument", "argument_save", arg.handle, path.encode())
            serialized.write_file(filename, serialized.view_file(path))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, argument):
            return NotImplemented
        return capi.truth("argument_equal", self._handle, other._handle)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        own = self.get_shape()
        if own.dynamic() or own.type_string() not in TYPES:
            return f"argument({own})"
        return f"argument({own}: {np.array2string(np.asarray(self), threshold=20)})"


class _Memory:
    """Foreign memory for numpy, with the object that it belongs to."""

    __slots__ = ("__array_interface__", "owner")

    def __init__(self, address: int, size: int, owner: object, writeable: bool) -> None:
        interface = {"version": 3, "data": (address, not writeable), "shape": (size,), "typestr": "|u1"}
        self.__array_interface__ = interface
        self.owner = owner


def view_of(address: int, of: shape, owner: object, writeable: bool = True) -> npt.NDArray[Any]:
    """A numpy array over memory at an address, which keeps the memory's owner alive."""
    dtype = of.dtype
    if not of.lens():  # MIGraphX's rank 0 has no elements, numpy's has one
        return np.empty(0, dtype)
    memory = np.asarray(_Memory(address, of.bytes(), owner, writeable)).view(dtype)
    strides = [stride * dtype.itemsize for stride in of.strides()]
    view: npt.NDArray[Any] = np.ndarray(of.lens(), dtype, memory, strides=strides)  # as_strided can't take every fp8
    view.flags.writeable = writeable
    return view


def shape_of(array: npt.NDArray[Any]) -> shape:
    """The shape of an array that `describable` has let through; rank 0 is MIGraphX's scalar {1}:{0}."""
    name = type_name(array.dtype)
    if array.ndim == 0:
        return shape(type=name, lens=[1], strides=[0])  # migraphx::shape of a type only
    return shape(type=name, lens=array.shape, strides=[stride // array.itemsize for stride in array.strides])


def type_name(dtype: np.dtype[Any]) -> str:
    """MIGraphX's name of a dtype.

    Raises:
        InputError: it has none.
    """
    name = TYPE_OF_DTYPE.get(dtype.newbyteorder("="))
    if name is None:
        raise InputError(
            f"MIGraphX has no element type for numpy's {dtype}; it has {', '.join(map(str, TYPE_OF_DTYPE))}"
        )
    return name


def describable(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The array itself, or a dense copy where MIGraphX has no words for its memory."""
    native = array.dtype.newbyteorder("=")
    whole = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    if whole and array.flags.aligned and array.dtype == native:
        return array
    return np.array(array, dtype=native, order="C")


def argument_from_pointer(shape: shape, address: int) -> argument:
    """A value over memory that the caller keeps alive.

    Args:
        shape: its shape.
        address: the address of the first element, on the host or on the device.
    """
    return argument.wrap(capi.new("argument", "argument_create", shape.handle(), address), of=shape)


def create_argument(shape: shape, values: Sequence[float]) -> argument:
    """A value from its elements in logical order.

    Raises:
        InputError: not as many values as the shape has elements.
    """
    elements = np.asarray(values, dtype=np.float64).reshape(-1)
    if elements.size != shape.elements():
        raise InputError(f"{elements.size} values given for the {shape.elements()} elements of {shape}")
    created = _allocate(shape)
    np.asarray(created)[...] = elements.reshape(shape.lens()).astype(shape.dtype)
    return created


def fill_argument(s: shape, value: float) -> argument:
    """A value whose elements are all the same."""
    created = _allocate(s)
    np.asarray(created)[...] = s.dtype.type(value)
    return created


def generate_argument(s: shape, seed: int = 0) -> argument:
    """A value of MIGraphX's own pseudo-random numbers.

    Raises:
        MigraphxError: MIGraphX can't make numbers of that type.
    """
    return argument.wrap(capi.new("argument", "argument_generate", s.handle(), seed, doing=f"generate {s}"), of=s)


def load_argument(filename: str | os.PathLike[str]) -> argument:
    """A value from a file that argument.save wrote.

    Raises:
        MigraphxError: the file can't be read.
        FormatError: it holds no value, or a damaged one.
    """
    try:
        checks.check_argument(serialized.read(serialized.view_file(filename)))
    except FormatError as error:
        raise FormatError(f"{os.fspath(filename)}: {error}") from error
    doing = f"load the argument {os.fspath(filename)}"
    return argument.wrap(capi.new("argument", "argument_load", os.fsencode(filename), doing=doing))


def _allocate(of: shape) -> argument:
    if of.dynamic():
        raise InputError(f"a value needs lengths that are known: {of}")
    handle = capi.new("argument", "argument_create_empty", of.handle(), doing=f"allocate {of.bytes()} bytes")
    return argument.wrap(handle, of=of)
