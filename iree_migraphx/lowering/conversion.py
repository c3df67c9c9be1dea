"""Operators that change an element's type: convert, bit_cast, quantizelinear and dequantizelinear.

Meanings follow src/include/migraphx/op/{convert,bit_cast,quantizelinear,dequantizelinear}.hpp of release rocm-7.1.1.
Where the C++ there converts a float to an integer that can't hold it, which has no meaning, kernels saturate.
"""

from __future__ import annotations

import math as pymath

import numpy as np

from iree_migraphx.lowering import float8
from iree_migraphx.lowering.bindings import arith, ir, math
from iree_migraphx.lowering.element import Element, constant, narrow, widen
from iree_migraphx.lowering.types import Kind, element_type, is_float, is_unsigned, limits, mlir_type

#: The greatest finite value of each float.
GREATEST = {
    "half_type": 65504.0,
    "bf16_type": 3.3895313892515355e38,
    "float_type": float(np.finfo(np.float32).max),
    "double_type": float(np.finfo(np.float64).max),
    "fp8e4m3fn_type": 448.0,
    "fp8e4m3fnuz_type": 240.0,
    "fp8e5m2_type": 57344.0,
    "fp8e5m2fnuz_type": 57344.0,
}


def convert(element: Element, type_: str) -> ir.Value:
    """An element as another type (op/convert.hpp).

    Between floats what is too large becomes the greatest finite value, an inf too where the narrower of the two types
    can hold that value. A float or double becomes an integer by truncation and saturation and NaN becomes 0; narrower
    floats and integers wrap.
    """
    if is_float(element.type):
        return _between_floats(element, type_) if is_float(type_) else _to_integer(element, type_)
    return _from_integer(element, type_) if is_float(type_) else resize(element, type_)


def bit_cast(element: Element, type_: str) -> ir.Value:
    """The same bits as another type of the same width."""
    target = mlir_type(type_)
    return element.value if element.value.type == target else arith.bitcast(target, element.value)


def quantize(x: Element, scale: Element, zero: Element | None, type_: str) -> ir.Value:
    """The quotient x / scale plus zero, rounded to `type_` and saturated (op/quantizelinear.hpp).

    A NaN becomes the greatest value. For integers the quotient is rounded to the operands' type, then to the nearest
    whole number, to the even one of two.
    """
    narrow_result = element_type(type_).bits == 8
    quotient = _quotient(x, scale, whole=not is_float(type_), exact=not narrow_result)
    # An 8-bit zero added to a whole float is exact wherever the sum is not saturated.
    wide = "float_type" if narrow_result and quotient.type == "float_type" else "double_type"
    total = float_of(quotient, wide)
    if zero is not None:
        total = arith.addf(total, float_of(zero, wide))
    low, high = (
        (float(limit) for limit in limits(type_)) if not is_float(type_) else (-GREATEST[type_], GREATEST[type_])
    )
    least, most = constant(wide, low), constant(wide, high)
    total = arith.select(_less(total, most), total, most)
    total = arith.select(_less(least, total), total, least)
    return narrow(total, type_) if is_float(type_) else saturated(Element(total, wide), type_)


def dequantize(x: Element, scale: Element, zero: Element | None, type_: str) -> ir.Value:
    """(x - zero) * scale, rounded once to `type_`, the scale's (op/dequantizelinear.hpp)."""
    narrowed = element_type(x.type).bits <= 16 and element_type(scale.type).bits <= 32
    # A difference of numbers with up to 16 bits is exact in float.
    wide = "float_type" if narrowed else "double_type"
    difference = float_of(x, wide)
    if zero is not None:
        difference = arith.subf(difference, float_of(zero, wide))
    product = Element(arith.mulf(difference, float_of(scale, wide)), wide)
    return narrow(product.value, type_) if is_float(type_) else saturated(product, type_)


def resize(element: Element, type_: str) -> ir.Value:
    """An integer as another one: extended by its own sign, or cut off."""
    source, target = element_type(element.type), element_type(type_)
    if source.bits == target.bits:
        return element.value
    if source.bits > target.bits:
        return arith.trunci(mlir_type(type_), element.value)
    extend = arith.extui if source.kind is Kind.UNSIGNED else arith.extsi
    return extend(mlir_type(type_), element.value)


def float_of(element: Element, type_: str) -> ir.Value:
    """Any element as float_type or double_type, rounded to nearest."""
    target = mlir_type(type_)
    if not is_float(element.type):
        make = arith.uitofp if is_unsigned(element.type) else arith.sitofp
        return make(target, element.value)
    value = widen(element).value
    if value.type == target:
        return value
    return arith.extf(target, value) if type_ == "double_type" else arith.truncf(target, value)


def brought(element: Element, type_: str) -> ir.Value:
    """An element in a type that is at least as wide: an accumulator's."""
    return float_of(element, type_) if is_float(type_) else resize(element, type_)


def saturated(element: Element, type_: str) -> ir.Value:
    """A float or double as an integer: truncated, held within the type's range; NaN as 0."""
    low, high = limits(type_)
    value, target = element.value, mlir_type(type_)
    least, beyond = constant(element.type, float(low)), constant(element.type, float(high + 1))
    greatest = constant(element.type, float(high))
    # Where the greatest integer is no float, the next float is beyond it.
    too_large = _not_less(value, greatest if float(high) == high and _exact(high, element.type) else beyond)
    too_small = _not_less(least, value)
    fits = arith.cmpf(arith.CmpFPredicate.ORD, value, value)
    safe = arith.select(
        arith.andi(fits, arith.andi(_less(value, beyond), _less(least, value))), value, constant(element.type, 0.0)
    )
    truncate = arith.fptoui if is_unsigned(type_) else arith.fptosi
    whole = truncate(target, safe)
    whole = arith.select(too_small, constant(type_, low), whole)
    return arith.select(too_large, constant(type_, high), whole)


def wrapped(element: Element, type_: str) -> ir.Value:
    """A float or double as an integer, as x86 makes one where C++ does not say: truncated, its low bits kept.

    An int is made, or a long for the types that need it; what that can't hold becomes its least value.
    """
    word = "int32_type" if element_type(type_).bits < 32 or type_ == "int32_type" else "int64_type"
    whole = _signed(element, word)
    if type_ == "uint64_type":
        # The upper half is made of what is left above the lower one.
        beyond = constant(element.type, 2.0**63)
        upper = _signed(Element(arith.subf(element.value, beyond), element.type), word)
        overflow = arith.shrsi(whole, constant(word, 63))
        whole = arith.ori(whole, arith.andi(upper, overflow))
    return resize(Element(whole, word), type_)


def _signed(element: Element, word: str) -> ir.Value:
    """A truncated float, or the least integer where it does not fit."""
    low, high = limits(word)
    value = element.value
    least, beyond = constant(element.type, float(low)), constant(element.type, float(high + 1))
    fits = arith.andi(_not_less(value, least), _less(value, beyond))
    whole = arith.fptosi(mlir_type(word), arith.select(fits, value, constant(element.type, 0.0)))
    return arith.select(fits, whole, constant(word, low))


def _between_floats(element: Element, type_: str) -> ir.Value:
    wide = widen(element)
    target = element_type(type_)
    most = _held(GREATEST[type_], element.type)
    value = wide.value
    if type_ not in float8.FORMATS and pymath.isfinite(most):
        high, low = constant(wide.type, most), constant(wide.type, -most)
        value = arith.select(_less(high, value), high, value)
        value = arith.select(_less(value, low), low, value)
    if target.bits > element_type(wide.type).bits:
        return arith.extf(mlir_type(type_), value)
    return narrow(value, type_)


def _held(value: float, type_: str) -> float:
    """The target's greatest value as the source holds it: op/convert.hpp keeps the result in the source's type."""
    if type_ == "double_type":
        return value
    if type_ in float8.FORMATS:
        return min(value, GREATEST[type_])
    single = float(np.float32(value)) if value <= GREATEST["float_type"] else pymath.inf
    if type_ == "bf16_type" and pymath.isfinite(single):
        return float((np.array(single, np.float32).view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32))
    if type_ == "half_type" and single > GREATEST["half_type"]:
        return pymath.inf
    return single


def _to_integer(element: Element, type_: str) -> ir.Value:
    if element.type in ("float_type", "double_type"):
        return saturated(element, type_)
    wide = widen(element)
    number = arith.cmpf(arith.CmpFPredicate.ORD, wide.value, wide.value)
    return wrapped(Element(arith.select(number, wide.value, constant(wide.type, 0.0)), wide.type), type_)


def _from_integer(element: Element, type_: str) -> ir.Value:
    wide = "double_type" if type_ == "double_type" else "float_type"
    value = float_of(element, wide)
    if type_ == "half_type":
        high, low = constant(wide, GREATEST[type_]), constant(wide, -GREATEST[type_])
        value = arith.select(_less(high, value), high, arith.select(_less(value, low), low, value))
    return narrow(value, type_)


def _quotient(x: Element, scale: Element, whole: bool, exact: bool) -> Element:
    """The quotient x / scale; with `whole` as C++ rounds it before nearbyint, else in double if `exact`."""
    if not whole:
        wide = "double_type" if exact or x.type == "double_type" or not is_float(x.type) else "float_type"
        return Element(arith.divf(float_of(x, wide), float_of(scale, wide)), wide)
    if not is_float(x.type):
        ratio = Element(arith.divf(float_of(x, "double_type"), float_of(scale, "double_type")), "double_type")
        return Element(float_of(Element(saturated(ratio, x.type), x.type), "double_type"), "double_type")
    a, b = widen(x), widen(scale)
    quotient = Element(arith.divf(a.value, b.value), a.type)
    if x.type in ("half_type", "bf16_type"):
        quotient = widen(Element(narrow(quotient.value, x.type), x.type))
    return Element(math.roundeven(quotient.value), quotient.type)


def _exact(value: int, type_: str) -> bool:
    return int(np.float32(value) if type_ == "float_type" else np.float64(value)) == value


def _less(a: ir.Value, b: ir.Value) -> ir.Value:
    return arith.cmpf(arith.CmpFPredicate.OLT, a, b)


def _not_less(a: ir.Value, b: ir.Value) -> ir.Value:
    return arith.cmpf(arith.CmpFPredicate.OGE, a, b)
