"""8-bit floats from and to float, by their bits: exact on every target, whether or not it has instructions for them.

Meanings are those of MIGraphX's src/include/migraphx/float8_impl.hpp: rounding to nearest even, and saturation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from iree_migraphx.lowering.bindings import arith, ir, math


@dataclass(frozen=True)
class Format:
    """How 8 bits make a float.

    Attributes:
        mantissa: bits of the mantissa.
        bias: of the exponent.
        greatest: bits of the greatest finite value.
        fnuz: no infinities and no negative zero, whose bits are the one NaN.
    """

    mantissa: int
    bias: int
    greatest: int
    fnuz: bool


#: MIGraphX type -> its format.
FORMATS: Mapping[str, Format] = {
    "fp8e4m3fn_type": Format(3, 7, 0x7E, False),
    "fp8e4m3fnuz_type": Format(3, 8, 0x7F, True),
    "fp8e5m2_type": Format(2, 15, 0x7B, False),
    "fp8e5m2fnuz_type": Format(2, 16, 0x7F, True),
}

_F32_MANTISSA, _F32_BIAS, _F32_INF, _F32_NAN = 23, 127, 0x7F800000, 0x7FC00000


def decode(bits: ir.Value, format_: Format) -> ir.Value:
    """The float (f32) that 8 bits (i8) mean."""
    i32, f32 = ir.IntegerType.get_signless(32), ir.F32Type.get()
    whole = arith.extui(i32, bits)
    sign = arith.shli(arith.andi(whole, _int(0x80)), _int(24))
    magnitude = arith.andi(whole, _int(0x7F))
    normal = arith.addi(
        arith.shli(magnitude, _int(_F32_MANTISSA - format_.mantissa)),
        _int((_F32_BIAS - format_.bias) << _F32_MANTISSA),
    )
    step = arith.constant(f32, 2.0 ** (1 - format_.bias - format_.mantissa))
    tiny = arith.bitcast(i32, arith.mulf(arith.uitofp(f32, magnitude), step))
    value = arith.select(_less(magnitude, 1 << format_.mantissa), tiny, normal)
    if format_.fnuz:
        value = arith.select(_equal(whole, 0x80), _int(_F32_NAN), arith.ori(value, sign))
        return arith.bitcast(f32, value)
    if format_.mantissa == 2:
        value = arith.select(_equal(magnitude, 0x7C), _int(_F32_INF), value)
    value = arith.select(_less(magnitude, _first_nan(format_)), value, _int(_F32_NAN))
    return arith.bitcast(f32, arith.ori(value, sign))


def encode(value: ir.Value, format_: Format) -> ir.Value:
    """The 8 bits (i8) of a float (f32) rounded to nearest even; what is too large becomes the greatest finite value.

    An infinity does too, but in the formats without a negative zero it becomes NaN.
    """
    i8, i32 = ir.IntegerType.get_signless(8), ir.IntegerType.get_signless(32)
    f32 = ir.F32Type.get()
    whole = arith.bitcast(i32, value)
    sign = arith.andi(arith.shrui(whole, _int(24)), _int(0x80))
    magnitude = arith.andi(whole, _int(0x7FFFFFFF))
    dropped = _F32_MANTISSA - format_.mantissa
    odd = arith.andi(arith.shrui(magnitude, _int(dropped)), _int(1))
    rounded = arith.addi(arith.addi(magnitude, _int((1 << (dropped - 1)) - 1)), odd)
    normal = arith.subi(arith.shrui(rounded, _int(dropped)), _int((_F32_BIAS - format_.bias) << format_.mantissa))
    small = _less(magnitude, (_F32_BIAS + 1 - format_.bias) << _F32_MANTISSA)
    steps = arith.constant(f32, 2.0 ** (format_.bias - 1 + format_.mantissa))
    scaled = arith.mulf(arith.bitcast(f32, arith.select(small, magnitude, _int(0))), steps)
    code = arith.select(small, arith.fptosi(i32, math.roundeven(scaled)), normal)
    code = arith.select(_less(code, format_.greatest), code, _int(format_.greatest))
    if format_.fnuz:
        code = arith.select(_equal(code, 0), code, arith.ori(code, sign))
        return arith.trunci(i8, arith.select(_less(magnitude, _F32_INF), code, _int(0x80)))
    code = arith.select(_less(magnitude, _F32_INF + 1), code, _int(0x7F))
    return arith.trunci(i8, arith.ori(code, sign))


def _first_nan(format_: Format) -> int:
    return 0x7D if format_.mantissa == 2 else 0x7F


def _int(value: int) -> ir.Value:
    return arith.constant(ir.IntegerType.get_signless(32), value)


def _less(value: ir.Value, limit: int) -> ir.Value:
    return arith.cmpi(arith.CmpIPredicate.ult, value, _int(limit))


def _equal(value: ir.Value, other: int) -> ir.Value:
    return arith.cmpi(arith.CmpIPredicate.eq, value, _int(other))
