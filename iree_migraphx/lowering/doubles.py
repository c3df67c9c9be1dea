"""Elementary functions in double for the host, built of arithmetic: IREE has none there, or for float only.

Ranges are reduced in two or three parts, series are Taylor's, long enough for 53 bits. Errors are a few units in the
last place of a double, so that a result rounded to float is as good as the C library's. Denormal operands count as 0,
as IREE's threads flush them.
"""

from __future__ import annotations

import math as pymath
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from iree_migraphx.lowering.bindings import arith, ir, math
from iree_migraphx.lowering.element import constant, with_sign


@dataclass(frozen=True)
class Double:
    """An MLIR value of type f64 with arithmetic; numbers beside it become constants."""

    value: ir.Value

    def __add__(self, other: Double | float) -> Double:
        return Double(arith.addf(self.value, double(other).value))

    def __sub__(self, other: Double | float) -> Double:
        return Double(arith.subf(self.value, double(other).value))

    def __mul__(self, other: Double | float) -> Double:
        return Double(arith.mulf(self.value, double(other).value))

    def __truediv__(self, other: Double | float) -> Double:
        return Double(arith.divf(self.value, double(other).value))

    def __neg__(self) -> Double:
        return Double(arith.negf(self.value))

    def __abs__(self) -> Double:
        return Double(math.absf(self.value))

    def __lt__(self, other: Double | float) -> ir.Value:
        return arith.cmpf(arith.CmpFPredicate.OLT, self.value, double(other).value)

    def __gt__(self, other: Double | float) -> ir.Value:
        return arith.cmpf(arith.CmpFPredicate.OGT, self.value, double(other).value)

    def equals(self, other: Double | float) -> ir.Value:
        """The truth of this being a number equal to another."""
        return arith.cmpf(arith.CmpFPredicate.OEQ, self.value, double(other).value)

    def signed_as(self, other: Double) -> Double:
        """This magnitude with the other's sign."""
        return Double(with_sign(self.value, other.value))


Function: TypeAlias = "Callable[[Double], Double]"


def double(value: Double | float) -> Double:
    """A constant as an operand."""
    return value if isinstance(value, Double) else Double(constant("double_type", value))


def choose(condition: ir.Value, yes: Double | float, no: Double | float) -> Double:
    """`yes` where the condition holds."""
    return Double(arith.select(condition, double(yes).value, double(no).value))


def multiply_add(a: Double, b: Double | float, c: Double | float) -> Double:
    """The sum a * b + c, rounded once."""
    return Double(math.fma(a.value, double(b).value, double(c).value))


def sqrt(x: Double) -> Double:
    """The square root; NaN for negative operands."""
    return Double(math.sqrt(x.value))


def exp(x: Double) -> Double:
    """The exponential: inf beyond 709.8, 0 where the result would be denormal."""
    return _exp(x, 0.0)


def expm1(x: Double) -> Double:
    """exp(x) - 1 without cancellation near 0."""
    small = _series(x, [1.0 / pymath.factorial(n + 1) for n in range(16)]) * x
    return choose(abs(x) < 0.35, small, exp(x) - 1.0)


def log(x: Double) -> Double:
    """The natural logarithm; -inf for 0 and NaN for negative operands."""
    exponent, high, low = _logarithm(x)
    return _at_edges(x, high + (low + exponent * _LN2[1]) + exponent * _LN2[0])


def log2(x: Double) -> Double:
    """The logarithm to base 2, exact for powers of 2."""
    exponent, high, low = _logarithm(x)
    return _at_edges(x, exponent + (high + low) * (1.0 / pymath.log(2.0)))


def log1p(x: Double) -> Double:
    """log(1 + x) for x >= 0, as exact as x."""
    total = x + 1.0
    exact = log(total) * (x / (total - 1.0))
    small = choose(total.equals(1.0), x, exact)
    return choose(total.equals(pymath.inf), pymath.inf, small)


def sigmoid(x: Double) -> Double:
    """1 / (1 + exp(-x))."""
    return double(1.0) / (exp(-x) + 1.0)


def tanh(x: Double) -> Double:
    """The hyperbolic tangent."""
    e = expm1(abs(x) * 2.0)
    return choose(abs(x) > 22.0, 1.0, e / (e + 2.0)).signed_as(x)


def sinh(x: Double) -> Double:
    """The hyperbolic sine."""
    e = expm1(abs(x))
    near = (e + e / (e + 1.0)) * 0.5
    return choose(abs(x) > 22.0, _half_exp(abs(x)), near).signed_as(x)


def cosh(x: Double) -> Double:
    """The hyperbolic cosine."""
    e = exp(abs(x))
    return choose(abs(x) > 22.0, _half_exp(abs(x)), (e + double(1.0) / e) * 0.5)


def asinh(x: Double) -> Double:
    """The inverse hyperbolic sine."""
    a = abs(x)
    near = log1p(a + a * a / (sqrt(a * a + 1.0) + 1.0))
    return choose(a > 1e100, log(a) + pymath.log(2.0), near).signed_as(x)


def acosh(x: Double) -> Double:
    """The inverse hyperbolic cosine; NaN below 1."""
    t = x - 1.0
    near = log1p(t + sqrt(t * 2.0 + t * t))
    value = choose(x > 1e100, log(x) + pymath.log(2.0), near)
    return choose(x < 1.0, pymath.nan, value)


def atanh(x: Double) -> Double:
    """The inverse hyperbolic tangent; inf at 1 and NaN beyond."""
    a = abs(x)
    value = log1p(a * 2.0 / (double(1.0) - a)) * 0.5
    return choose(a > 1.0, pymath.nan, value.signed_as(x))


def atan(x: Double) -> Double:
    """The inverse tangent."""
    a = abs(x)
    inverted = a > 1.0
    t = choose(inverted, double(1.0) / a, a)
    t = t / (sqrt(t * t + 1.0) + 1.0)
    near = _series(t * t, [(-1.0) ** n / (2 * n + 1) for n in range(22)]) * t * 2.0
    return choose(inverted, (double(_HALF_PI[0]) - near) + _HALF_PI[1], near).signed_as(x)


def asin(x: Double) -> Double:
    """The inverse sine; NaN beyond 1."""
    a = abs(x)
    cosine = sqrt((double(1.0) - a) * (a + 1.0))
    return (atan(a / (cosine + 1.0)) * 2.0).signed_as(x)


def acos(x: Double) -> Double:
    """The inverse cosine; NaN beyond 1."""
    return atan(sqrt(double(1.0) - x) / sqrt(x + 1.0)) * 2.0


def sin(x: Double) -> Double:
    """The sine, for operands up to some 1e15."""
    turned, sine, cosine = _turned(x)
    value = choose(_bit(turned, 1), cosine, sine)
    value = choose(_bit(turned, 2), -value, value)
    return choose(x.equals(0.0), x, value)


def cos(x: Double) -> Double:
    """The cosine, for operands up to some 1e15."""
    turned, sine, cosine = _turned(x)
    value = choose(_bit(turned, 1), sine, cosine)
    negative = arith.xori(_bit(turned, 1), _bit(turned, 2))
    return choose(negative, -value, value)


def tan(x: Double) -> Double:
    """The tangent, for operands up to some 1e15."""
    turned, sine, cosine = _turned(x)
    odd = _bit(turned, 1)
    return choose(x.equals(0.0), x, choose(odd, -cosine, sine) / choose(odd, sine, cosine))


def erf(x: Double) -> Double:
    """The error function: 2/sqrt(pi) exp(-x²) (x + 2x³/3 + 4x⁵/15 + ...), all of whose terms have one sign.

    From 1 on, 1 less what the trapezoidal rule gives for the rest (Chiarella and Reichel, Mathematics of Computation
    22, 1968), which is smaller than 1/6 there.
    """
    a = choose(abs(x) > 6.0, 6.0, abs(x))
    square = a * a
    power = _exp(-square, -multiply_add(a, a, -square))
    beyond = a > 1.0
    factors, factor = [], 2.0 / pymath.sqrt(pymath.pi)
    for n in range(24):
        factors.append(factor)
        factor *= 2.0 / (2 * n + 3)
    near = _series(choose(beyond, 1.0, square), factors) * a * power
    far = choose(beyond, square, 1.0)
    total = double(0.5) / far
    for n in range(1, 13):
        total = total + double(pymath.exp(-(n * n) / 4)) / (far + n * n / 4)
    rest = total * a * power * (1.0 / pymath.pi) - double(2.0) / (_exp(a * (4.0 * pymath.pi), 0.0) - 1.0)
    value = choose(beyond, double(1.0) - rest, near)
    return choose(a.equals(6.0), 1.0, value).signed_as(x)


def positive_power(base: ir.Value, exponent: ir.Value) -> ir.Value:
    """The power for a base >= 0, with a logarithm of more bits than a double has."""
    x, y = Double(base), Double(exponent)
    e, high, low = _logarithm(x)
    whole = e * _LN2[0]
    total = whole + high
    rest = ((whole - total) + high) + (low + e * _LN2[1])
    logarithm = total + rest
    rest = (total - logarithm) + rest
    product = y * logarithm
    lost = multiply_add(y, logarithm, -product) + y * rest
    value = _exp(product, lost)
    # At the edges only the signs count: 0 and inf to a positive or a negative power.
    edge = y * choose(x.equals(0.0), -1.0, 1.0)
    at_edge = choose(edge > 0.0, pymath.inf, 0.0)
    outside = arith.ori(x.equals(0.0), x.equals(pymath.inf))
    value = choose(outside, at_edge, value)
    steep = y * choose(x < 1.0, -1.0, 1.0)
    value = choose(abs(y).equals(pymath.inf), choose(steep > 0.0, pymath.inf, 0.0), value)
    nan = arith.ori(_is_nan(x), _is_nan(y))
    return choose(nan, x + y, value).value


#: A number as a double with trailing zeros and the double that is left, or three.
_LN2 = (0.6931471803691238, 1.9082149292705877e-10)
_HALF_PI = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)


def _series(x: Double, factors: Sequence[float]) -> Double:
    total = double(factors[-1])
    for factor in reversed(factors[:-1]):
        total = multiply_add(total, x, factor)
    return total


def _exp(x: Double, more: Double | float) -> Double:
    """exp(x + more) for a small `more`."""
    held = choose(x > 720.0, 720.0, choose(x < -760.0, -760.0, x))
    held = choose(_is_nan(x), 0.0, held)
    turns = Double(math.roundeven((held * (1.0 / pymath.log(2.0))).value))
    rest = multiply_add(turns, -_LN2[0], held)
    rest = multiply_add(turns, -_LN2[1], rest)
    extra = choose(abs(double(more)) < 1.0, more, 0.0)
    rest = rest + extra
    value = _series(rest, [1.0 / pymath.factorial(n) for n in range(15)])
    i64 = ir.IntegerType.get_signless(64)
    count = arith.fptosi(i64, turns.value)
    one = arith.constant(i64, 1)
    first = arith.shrsi(count, one)
    value = value * _power_of_2(first) * _power_of_2(arith.subi(count, first))
    return choose(_is_nan(x), x, value)


def _half_exp(x: Double) -> Double:
    half = exp(x * 0.5)
    return half * 0.5 * half


def _power_of_2(count: ir.Value) -> Double:
    i64 = count.type
    biased = arith.addi(count, arith.constant(i64, 1023))
    return Double(arith.bitcast(ir.F64Type.get(), arith.shli(biased, arith.constant(i64, 52))))


def _logarithm(x: Double) -> tuple[Double, Double, Double]:
    """(e, h, l) with log(x) = e log(2) + h + l for positive finite x; h + l has some 60 bits."""
    i64 = ir.IntegerType.get_signless(64)
    bits = arith.bitcast(i64, x.value)
    # The exponent that leaves a mantissa between sqrt(1/2) and sqrt(2).
    root = int.from_bytes(_bytes_of(pymath.sqrt(0.5)), "little")
    shifted = arith.subi(bits, arith.constant(i64, root))
    exponent = arith.shrsi(shifted, arith.constant(i64, 52))
    mantissa = Double(arith.bitcast(ir.F64Type.get(), arith.subi(bits, arith.shli(exponent, arith.constant(i64, 52)))))
    f = mantissa - 1.0
    below = f + 2.0
    lost = f - (below - 2.0)
    s = f / below
    rest = (multiply_add(-s, below, f) - s * lost) / below
    z = s * s
    tail = _series(z, [1.0 / (2 * n + 3) for n in range(12)]) * z
    return Double(arith.sitofp(ir.F64Type.get(), exponent)), s * 2.0, (rest + s * tail) * 2.0


def _bytes_of(value: float) -> bytes:
    return struct.pack("<d", value)


def _at_edges(x: Double, value: Double) -> Double:
    value = choose(x.equals(0.0), -pymath.inf, value)
    value = choose(x < 0.0, pymath.nan, value)
    return choose(arith.ori(x.equals(pymath.inf), _is_nan(x)), x, value)


def _turned(x: Double) -> tuple[ir.Value, Double, Double]:
    """Quarter turns in x, and sine and cosine of what is left; NaN for infinities."""
    turns = Double(math.roundeven((x * (2.0 / pymath.pi)).value))
    rest = x
    for part in _HALF_PI:
        rest = multiply_add(turns, -part, rest)
    square = rest * rest
    sine = _series(square, [(-1.0) ** n / pymath.factorial(2 * n + 1) for n in range(10)]) * rest
    cosine = _series(square, [(-1.0) ** n / pymath.factorial(2 * n) for n in range(11)])
    # What is too large for a 64-bit integer has no meaningful quarter anyway.
    held = choose(abs(turns) < 2.0**62, turns, 0.0)
    return arith.fptosi(ir.IntegerType.get_signless(64), held.value), sine, cosine


def _bit(value: ir.Value, bit: int) -> ir.Value:
    masked = arith.andi(value, arith.constant(value.type, bit))
    return arith.cmpi(arith.CmpIPredicate.ne, masked, arith.constant(value.type, 0))


def _is_nan(x: Double) -> ir.Value:
    return arith.cmpf(arith.CmpFPredicate.UNO, x.value, x.value)
