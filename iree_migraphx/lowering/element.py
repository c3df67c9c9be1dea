"""One element inside a kernel's loop, and its way between the type in memory and the type it is computed in."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np

from iree_migraphx.lowering import float8
from iree_migraphx.lowering.bindings import arith, ir, math
from iree_migraphx.lowering.types import NATIVE, is_float, mlir_type


@dataclass(frozen=True)
class Element:
    """One element: its MLIR value, of the type that it has in memory, and MIGraphX's name of its type.

    `literal` is its number where it is the same everywhere, and known.
    """

    value: ir.Value
    type: str
    literal: float | None = None


#: 8-bit float -> its numpy dtype, for the bits of constants.
_FLOAT8_DTYPES = {
    "fp8e4m3fn_type": ml_dtypes.float8_e4m3fn,
    "fp8e4m3fnuz_type": ml_dtypes.float8_e4m3fnuz,
    "fp8e5m2_type": ml_dtypes.float8_e5m2,
    "fp8e5m2fnuz_type": ml_dtypes.float8_e5m2fnuz,
}


def constant(type_: str, value: float) -> ir.Value:
    """A constant element, exact for every int and every float; for a bool any non-zero value is kept as it is."""
    element = mlir_type(type_)
    if type_ in _FLOAT8_DTYPES:
        return arith.constant(element, int(np.array(value, _FLOAT8_DTYPES[type_]).view(np.int8)))
    if is_float(type_):
        return arith.constant(element, float(value))
    # MLIR's integers have no sign; its Python bindings want the signed reading.
    half = 1 << (element.width - 1)
    return arith.constant(element, (int(value) + half) % (2 * half) - half)


def widen(element: Element) -> Element:
    """A float narrower than `float_type` as one of the same value, infinities included; others as they are."""
    if element.type in float8.FORMATS:
        return Element(float8.decode(element.value, float8.FORMATS[element.type]), "float_type")
    if element.type in ("half_type", "bf16_type", *NATIVE.values()):
        return Element(arith.extf(mlir_type("float_type"), element.value), "float_type")
    return element


def narrow(value: ir.Value, type_: str) -> ir.Value:
    """Round to the element type a value of that type, of `widen`'s or of an accumulator's.

    Floats round to nearest even; halves overflow to inf, 8-bit floats saturate (float8.hpp); integers wrap.
    """
    target = mlir_type(type_)
    if value.type == target:
        return value
    if type_ in float8.FORMATS:
        return float8.encode(narrow(value, "float_type"), float8.FORMATS[type_])
    if not is_float(type_):
        return arith.trunci(target, value)
    if value.type == mlir_type("double_type") and type_ != "float_type":
        # C++ converts a double to the narrow types by way of float.
        value = arith.truncf(mlir_type("float_type"), value)
    return arith.truncf(target, value)


def with_sign(value: ir.Value, sign: ir.Value) -> ir.Value:
    """C's copysign of two floats of one type.

    Of doubles by a choice: LLVM dies of a copysign where a work-item of a GPU has a vector of one (IREE 3.13.0).
    """
    if value.type != mlir_type("double_type"):
        return math.copysign(value, sign)
    bits, magnitude = arith.bitcast(mlir_type("int64_type"), sign), math.absf(value)
    negative = arith.cmpi(arith.CmpIPredicate.slt, bits, constant("int64_type", 0))
    return arith.select(negative, arith.negf(magnitude), magnitude)
