"""Pointwise functions of the C library: exp and its kin, trigonometry, roots, powers, activations made of them.

On GPUs they are the operations of MLIR's math dialect, which IREE links with AMD's device libraries. On the host IREE
approximates them for float only, some of them badly (docs/facts.md): there doubles.py has them.
"""

from __future__ import annotations

import math as pymath
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iree_migraphx.lowering import doubles
from iree_migraphx.lowering.bindings import arith, ir, math
from iree_migraphx.lowering.element import Element, constant, with_sign
from iree_migraphx.lowering.pointwise_arithmetic import like
from iree_migraphx.lowering.pointwise_entry import Emit, Pointwise


def _unary(operation: Callable[[ir.Value], ir.Value]) -> Emit:
    return lambda fields, x: operation(x[0].value)


def _on_doubles(function: doubles.Function) -> Emit:
    return lambda fields, x: function(doubles.Double(x[0].value)).value


def _entry(floats: Callable[[ir.Value], ir.Value], function: doubles.Function, bad: bool = True) -> Pointwise:
    """A function of one operand; `bad` where IREE's approximation for the host is not good enough."""
    return Pointwise(
        1,
        _unary(floats),
        integers_as="double_type",
        doubles=_on_doubles(function),
        through_doubles=bad,
        wide=True,
    )


def _sigmoid(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    one = like(x[0], 1.0)
    return arith.divf(one, arith.addf(one, math.exp(arith.negf(x[0].value))))


def _rsqrt(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return arith.divf(like(x[0], 1.0), math.sqrt(x[0].value))


def _elu(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return _elu_of(fields, x, math.expm1(x[0].value))


def _elu_of(fields: Mapping[str, Any], x: Sequence[Element], expm1: ir.Value) -> ir.Value:
    value = x[0].value
    positive = arith.cmpf(arith.CmpFPredicate.OGT, value, like(x[0], 0.0))
    return arith.select(positive, value, arith.mulf(like(x[0], fields.get("alpha", 1.0)), expm1))


def _erf(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    # IREE's approximation for CPUs loses the sign of a zero.
    return with_sign(math.erf(x[0].value), x[0].value)


def _pow(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    """C's pow. Expansions of math.powf give a NaN in many places where C has a value."""
    return _power_with(x[0].value, x[1].value, x[0].type, lambda a, b: math.powf(a, b))


def _double_pow(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return _power_with(x[0].value, x[1].value, "double_type", doubles.positive_power)


def _power_with(
    base: ir.Value, exponent: ir.Value, type_: str, positive: Callable[[ir.Value, ir.Value], ir.Value]
) -> ir.Value:
    """C's pow of a float type, its special cases put around a function for positive bases."""

    def number(value: float) -> ir.Value:
        return constant(type_, value)

    def compare(predicate: str, a: ir.Value, b: ir.Value) -> ir.Value:
        return arith.cmpf(getattr(arith.CmpFPredicate, predicate), a, b)

    zero, one = number(0.0), number(1.0)
    magnitude, floor = math.absf(base), math.floor(exponent)
    half = arith.mulf(exponent, number(0.5))
    odd = arith.andi(compare("OEQ", floor, exponent), compare("ONE", math.floor(half), half))
    finite = compare("ONE", magnitude, number(pymath.inf))
    no_root = arith.andi(arith.andi(compare("OLT", base, zero), finite), compare("ONE", exponent, floor))
    result = positive(magnitude, exponent)
    unit = arith.select(compare("UNO", exponent, exponent), exponent, one)
    result = arith.select(compare("OEQ", magnitude, one), unit, result)
    result = arith.select(odd, with_sign(result, base), result)
    result = arith.select(no_root, number(pymath.nan), result)
    # An expansion of the largest number to the first power overflows.
    result = arith.select(compare("OEQ", exponent, one), base, result)
    return arith.select(arith.ori(compare("OEQ", base, one), compare("OEQ", exponent, zero)), one, result)


def _integer_pow(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    """By repeated squaring, wrapping where double would overflow; a negative exponent leaves 1, -1 or 0."""
    base, exponent = x[0].value, x[1].value
    zero, one = like(x[0], 0), like(x[0], 1)
    total, square = one, base
    for bit in range(6):
        wanted = arith.andi(exponent, like(x[0], 1 << bit))
        total = arith.select(arith.cmpi(arith.CmpIPredicate.ne, wanted, zero), arith.muli(total, square), total)
        square = arith.muli(square, square)
    odd = arith.cmpi(arith.CmpIPredicate.ne, arith.andi(exponent, one), zero)
    minus_one = like(x[0], -1)
    unit = arith.select(arith.cmpi(arith.CmpIPredicate.eq, base, one), one, zero)
    if _signed(x[0]):
        negative_unit = arith.select(odd, minus_one, one)
        unit = arith.select(arith.cmpi(arith.CmpIPredicate.eq, base, minus_one), negative_unit, unit)
        negative = arith.cmpi(arith.CmpIPredicate.slt, exponent, zero)
        total = arith.select(negative, unit, total)
    return total


#: Exponents, where they are literals, of which products are made: x * x is as exact as pow, and much faster.
WHOLE_POWERS = (-2, -1, 1, 2, 3, 4)


def whole_power(base: Element, exponent: int) -> ir.Value:
    """A float or double to one of WHOLE_POWERS."""
    product = base.value
    for _ in range(abs(exponent) - 1):
        product = arith.mulf(product, base.value)
    return arith.divf(like(base, 1.0), product) if exponent < 0 else product


def _signed(x: Element) -> bool:
    return not x.type.startswith("uint")


#: Operator -> how it computes one element. Adding an operator is one entry here and one row in tests/lowering.
FUNCTIONS: Mapping[str, Pointwise] = {
    "acos": _entry(lambda a: math.acos(a), doubles.acos),
    "acosh": _entry(lambda a: math.acosh(a), doubles.acosh),
    "asin": _entry(lambda a: math.asin(a), doubles.asin),
    "asinh": _entry(lambda a: math.asinh(a), doubles.asinh),
    "atan": _entry(lambda a: math.atan(a), doubles.atan),
    "atanh": _entry(lambda a: math.atanh(a), doubles.atanh),
    "cos": _entry(lambda a: math.cos(a), doubles.cos),
    "cosh": _entry(lambda a: math.cosh(a), doubles.cosh),
    "elu": Pointwise(
        1,
        _elu,
        integers_as="double_type",
        doubles=lambda fields, x: _elu_of(fields, x, doubles.expm1(doubles.Double(x[0].value)).value),
        wide=True,
    ),
    "erf": Pointwise(1, _erf, integers_as="double_type", doubles=_on_doubles(doubles.erf), wide=True),
    "exp": _entry(lambda a: math.exp(a), doubles.exp, bad=False),
    "log": _entry(lambda a: math.log(a), doubles.log, bad=False),
    "log2": _entry(lambda a: arith.mulf(math.log(a), _log2_e(a)), doubles.log2, bad=False),
    "pow": Pointwise(2, _pow, _integer_pow, doubles=_double_pow, through_doubles=True, wide=True),
    "rsqrt": Pointwise(1, _rsqrt, integers_as="double_type", wide=True),
    "sigmoid": Pointwise(
        1, _sigmoid, integers_as="double_type", doubles=_on_doubles(doubles.sigmoid), wide=True
    ),
    "sin": _entry(lambda a: math.sin(a), doubles.sin),
    "sinh": _entry(lambda a: math.sinh(a), doubles.sinh),
    "sqrt": Pointwise(1, _unary(lambda a: math.sqrt(a)), integers_as="double_type", wide=True),
    "tan": _entry(lambda a: math.tan(a), doubles.tan),
    "tanh": _entry(lambda a: math.tanh(a), doubles.tanh, bad=False),
}  # fmt: skip


def _log2_e(value: ir.Value) -> ir.Value:
    return arith.constant(value.type, 1.0 / pymath.log(2.0))
