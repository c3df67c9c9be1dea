"""What a run is given: checked against the program's parameters, and handed over without a copy where possible."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from iree_migraphx.binding import capi, official
from iree_migraphx.binding.arguments import argument, view_of
from iree_migraphx.binding.capi import Handle
from iree_migraphx.binding.shapes import shape
from iree_migraphx.errors import InputError


@dataclass(frozen=True, slots=True)
class Bound:
    """Parameters of one run.

    Attributes:
        handle: the parameters of the C interface; it shares the values' memory.
        values: what the memory belongs to, and where it is: (address, bytes, owner).
    """

    handle: Handle
    values: tuple[tuple[int, int, object], ...]

    def owner_of(self, result: argument) -> object:
        """The input whose memory a result is a view of, if any."""
        if result.get_shape().type_string() == "tuple_type":
            return self.values
        address = result.data_ptr()
        return next((owner for start, size, owner in self.values if start <= address < start + max(size, 1)), None)


def bind(expected: Mapping[str, shape], given: Mapping[str, Any]) -> Bound:
    """Check and convert the inputs of a run.

    Raises:
        InputError: names the parameter, what was given and what is expected. Values that the program has no parameter
            for are left aside, as in MIGraphX.
    """
    missing = [name for name in expected if name not in given]
    if missing:
        raise InputError(_missing(missing, expected, given))
    handle = capi.new("program_parameters", "program_parameters_create")
    values = []
    for name, wanted in expected.items():
        value = convert(name, wanted, given[name])
        capi.call("program_parameters_add", handle, name.encode(), value.handle)
        values.append((value.data_ptr(), value.get_shape().bytes(), value))
    return Bound(handle, tuple(values))


def convert(name: str, wanted: shape, value: Any) -> argument:
    """A parameter's value in exactly the shape that the program has for it.

    Args:
        name: the parameter, for messages.
        wanted: its shape; a dynamic one takes every length in its range.
        value: an argument, also ROCm's, which is never copied (it may be on a device), or what numpy can see as an
            array.

    Raises:
        InputError: another dtype, another length, or memory that would need a copy that can't be made.
    """
    if official.is_official(value):
        value = official.argument_from(value)
    if isinstance(value, argument):
        return _same_memory(name, wanted, value)
    array = np.asarray(value)
    if array.dtype != wanted.dtype:
        raise InputError(f"parameter {name!r} takes {_described(wanted)}; given {array.dtype} {array.shape}")
    if wanted.dynamic():
        _check_range(name, wanted, array.shape)
        return argument(np.ascontiguousarray(array))
    lens = tuple(wanted.lens())
    if array.shape != lens and not (array.ndim == 0 and lens == (1,)):
        raise InputError(f"parameter {name!r} takes {_described(wanted)}; given {array.dtype} {array.shape}")
    array = array.reshape(lens)
    array = array if _fits(array, wanted) else _rearranged(name, wanted, array)
    handle = capi.new("argument", "argument_create", wanted.handle(), array.ctypes.data)
    return argument.wrap(handle, keep=array, of=wanted)


def _same_memory(name: str, wanted: shape, value: argument) -> argument:
    own = value.get_shape()
    if own == wanted:
        return value
    if wanted.dynamic() and not own.dynamic() and own.type_string() == wanted.type_string():
        _check_range(name, wanted, tuple(own.lens()))
        return value
    same = not own.dynamic() and own.type_string() == wanted.type_string()
    if not same or own.lens() != wanted.lens() or not _equal_strides(own, wanted):
        raise InputError(f"parameter {name!r} takes {_described(wanted)}; given an argument of {own}")
    handle = capi.new("argument", "argument_create", wanted.handle(), value.data_ptr())
    return argument.wrap(handle, keep=value, of=wanted)


def _equal_strides(own: shape, wanted: shape) -> bool:
    strides = zip(own.lens(), own.strides(), wanted.strides(), strict=True)
    return all(length == 1 or a == b for length, a, b in strides)


def _fits(array: npt.NDArray[Any], wanted: shape) -> bool:
    if not array.flags.aligned:
        return False
    size = array.itemsize
    strides = zip(array.shape, array.strides, wanted.strides(), strict=True)
    return all(length == 1 or given == stride * size for length, given, stride in strides)


def _rearranged(name: str, wanted: shape, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """A copy in the parameter's strides. Along a stride of 0 there is room for one value only."""
    memory = np.zeros(wanted.element_space(), wanted.dtype)
    view = view_of(memory.ctypes.data, wanted, memory)
    once = tuple(slice(0, 1) if stride == 0 else slice(None) for stride in wanted.strides())
    view[once] = array[once]
    if 0 in wanted.strides() and view.tobytes() != np.ascontiguousarray(array).tobytes():
        raise InputError(
            f"parameter {name!r} is broadcast in memory ({wanted}): the values given differ along an axis of stride 0"
        )
    return view


def _check_range(name: str, wanted: shape, lens: tuple[int, ...]) -> None:
    dimensions = wanted.dyn_dims()
    fits = len(lens) == len(dimensions) and all(
        dimension.min <= length <= dimension.max for length, dimension in zip(lens, dimensions, strict=True)
    )
    if not fits:
        raise InputError(f"parameter {name!r} takes {_described(wanted)}; given the lengths {lens}")


def _described(wanted: shape) -> str:
    if wanted.dynamic():
        ranges = ", ".join(f"{dimension.min}..{dimension.max}" for dimension in wanted.dyn_dims())
        return f"{wanted.dtype} ({ranges})"
    return f"{wanted.dtype} {tuple(wanted.lens())}"


def _missing(missing: Sequence[str], expected: Mapping[str, shape], given: Mapping[str, Any]) -> str:
    text = f"no value given for {', '.join(map(repr, missing))}"
    for name in given:
        close = () if name in expected else difflib.get_close_matches(str(name), missing, n=1)
        text += f"; is {name!r} meant for {close[0]!r}?" if close else ""
    end = "" if text.endswith("?") else "."
    return f"{text}{end} The program takes {_listed(expected)}"


def _listed(expected: Mapping[str, shape]) -> str:
    return ", ".join(f"{name} ({_described(wanted)})" for name, wanted in expected.items()) or "no parameters"
