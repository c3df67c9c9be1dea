"""MIGraphX's element types: their names, their numpy dtypes, their numbers in the C interface."""

from __future__ import annotations

import enum
import functools
from typing import Any

import ml_dtypes
import numpy as np

from iree_migraphx.binding import capi

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

type_t = enum.IntEnum("type_t", {name: number for number, name in enumerate(TYPES)})  # type: ignore[misc]


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
