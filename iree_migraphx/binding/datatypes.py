"""Element types, with their names, numpy dtypes and numbers in the C interface; and dynamic dimensions."""

from __future__ import annotations

import enum
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import ml_dtypes
import numpy as np

from iree_migraphx.binding import capi
from iree_migraphx.binding.capi import Handle

#: MIGraphX's name -> (C++ name, which shapes may be built with too, numpy dtype), in the order of MIGraphX's own enum.
TYPES: dict[str, tuple[str, np.dtype[Any]]] = {
    "bool_type": ("bool", np.dtype(np.bool_)),
    "half_type": ("half", np.dtype(np.float16)),
    "float_type": ("float", np.dtype(np.float32)),
    "double_type": ("double", np.dtype(np.float64)),
    "uint8_type": ("uint8_t", np.dtype(np.uint8)),
    "int8_type": ("int8_t", np.dtype(np.int8)),
    "uint16_type": ("uint16_t", np.dtype(np.uint16)),
    "int16_type": ("int16_t", np.dtype(np.int16)),
    "int32_type": ("int32_t", np.dtype(np.int32)),
    "int64_type": ("int64_t", np.dtype(np.int64)),
    "uint32_type": ("uint32_t", np.dtype(np.uint32)),
    "uint64_type": ("uint64_t", np.dtype(np.uint64)),
    "fp8e4m3fnuz_type": ("migraphx::fp8::fp8e4m3fnuz", np.dtype(ml_dtypes.float8_e4m3fnuz)),
    "fp8e4m3fn_type": ("migraphx::fp8::fp8e4m3fn", np.dtype(ml_dtypes.float8_e4m3fn)),
    "fp8e5m2_type": ("migraphx::fp8::fp8e5m2", np.dtype(ml_dtypes.float8_e5m2)),
    "bf16_type": ("bf16", np.dtype(ml_dtypes.bfloat16)),
    "fp8e5m2fnuz_type": ("migraphx::fp8::fp8e5m2fnuz", np.dtype(ml_dtypes.float8_e5m2fnuz)),
}
#: numpy dtype -> MIGraphX's name.
TYPE_OF_DTYPE = {dtype: name for name, (_, dtype) in TYPES.items()}
TUPLE, FP4 = "tuple_type", "fp4x2_type"
NAMES = {cpp: name for name, (cpp, _) in TYPES.items()} | {name: name for name in TYPES}
NAMES |= {FP4: FP4}


class NamedNumber(enum.IntEnum):
    """An enum of the official module's: a number that prints as its name."""

    def __str__(self) -> str:
        return f"{type(self).__name__}.{self.name}"


class type_t(NamedNumber):  # noqa: N801 -- the official name
    """MIGraphX's own numbers of the types, which are not the C interface's."""

    bool_type = 0
    half_type = 1
    float_type = 2
    double_type = 3
    uint8_type = 4
    int8_type = 5
    uint16_type = 6
    int16_type = 7
    int32_type = 8
    int64_type = 9
    uint32_type = 10
    uint64_type = 11
    fp8e4m3fnuz_type = 12
    fp8e4m3fn_type = 13
    fp8e5m2_type = 14
    bf16_type = 15
    fp8e5m2fnuz_type = 16


@functools.cache
def datatype_enum() -> dict[str, int]:
    """MIGraphX's name of a type -> its number in the C interface of the library that is loaded.

    Release 7.1 put fp4x2 after tuple and so renumbered the rest (migraphx.h). Rather than from a version, the numbering
    is told from the size of type 4: float since 7.1, double before.
    """
    probe = capi.new("shape", "shape_create", 4, capi.sizes([1]), 1)
    head = [TUPLE, FP4] if capi.size("shape_bytes", probe) == 4 else [TUPLE]
    return {name: number for number, name in enumerate([*head, *TYPES])}


@functools.cache
def type_names() -> dict[int, str]:
    """The reverse of datatype_enum."""
    return {number: name for name, number in datatype_enum().items()}


@dataclass
class dynamic_dimension:  # noqa: N801 -- the official name
    """A dimension between min and max, both included, with the lengths that are worth being optimised for."""

    min: int = 0
    max: int = 0
    optimals: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.optimals = set(self.optimals)

    def is_fixed(self) -> bool:
        """Only one length is possible."""
        return self.min == self.max

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, dynamic_dimension):
            return NotImplemented
        same = (self.min, self.max) == (other.min, other.max)
        return same and (self.is_fixed() or self.optimals == other.optimals)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"[ {self.min}, {self.max}, {{{', '.join(map(str, sorted(self.optimals)))}}} ]"

    def handle(self) -> Handle:
        """The same dimension for the C interface."""
        if not self.optimals:
            return capi.new("dynamic_dimension", "dynamic_dimension_create_min_max", self.min, self.max)
        values = sorted(self.optimals)
        optimals = capi.new("optimals", "optimals_create", capi.sizes(values), len(values))
        return capi.new("dynamic_dimension", "dynamic_dimension_create_min_max_optimals", self.min, self.max, optimals)


def dynamic_dimensions_handle(dimensions: Sequence[dynamic_dimension]) -> Handle:
    """A list of dimensions for the C interface."""
    members = [dimension.handle() for dimension in dimensions]
    return capi.new("dynamic_dimensions", "dynamic_dimensions_create", capi.handles(members), len(members))
