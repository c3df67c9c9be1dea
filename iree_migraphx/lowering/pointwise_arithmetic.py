"""Pointwise operators of arithmetic, comparison and logic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from iree_migraphx.lowering.bindings import arith, ir, math
from iree_migraphx.lowering.element import Element, constant, widen, with_sign
from iree_migraphx.lowering.pointwise_entry import Emit, Pointwise
from iree_migraphx.lowering.types import element_type, is_float, is_unsigned, limits, mlir_type


def like(element: Element, value: float) -> ir.Value:
    """A constant of an element's type."""
    return constant(element.type, value)


def truth(x: Element) -> ir.Value:
    """Whether an element is not zero, as C++ tells it: a NaN is not."""
    if is_float(x.type):
        wide = widen(x)
        return arith.cmpf(arith.CmpFPredicate.UNE, wide.value, like(wide, 0.0))
    return arith.cmpi(arith.CmpIPredicate.ne, x.value, like(x, 0))


def less(a: Element, b: Element) -> ir.Value:
    """Whether a < b; False for NaN."""
    if is_float(a.type):
        return arith.cmpf(arith.CmpFPredicate.OLT, a.value, b.value)
    predicate = arith.CmpIPredicate.ult if is_unsigned(a.type) else arith.CmpIPredicate.slt
    return arith.cmpi(predicate, a.value, b.value)


def minimum(a: Element, b: Element) -> Element:
    """std::min(a, b): b < a ? b : a, so a NaN in a stays and one in b is dropped."""
    return Element(arith.select(less(b, a), b.value, a.value), a.type)


def maximum(a: Element, b: Element) -> Element:
    """std::max(a, b): a < b ? b : a."""
    return Element(arith.select(less(a, b), b.value, a.value), a.type)


def either(floats: Callable[..., ir.Value], integers: Callable[..., ir.Value], arity: int) -> Pointwise:
    """An operator with one operation for floats and one for integers of both signs."""
    return Pointwise(
        arity,
        lambda fields, x: floats(*(each.value for each in x)),
        lambda fields, x: integers(*(each.value for each in x)),
    )


def _both(arity: int, emit: Emit, truth: bool = False, wide: bool = False) -> Pointwise:
    return Pointwise(arity, emit, emit, truth=truth, wide=wide)


def _truths(operation: Callable[..., ir.Value]) -> Emit:
    return lambda fields, x: operation(*(truth(each) for each in x))


def _abs_integer(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    # An unsigned operand is read as signed first (op/abs.hpp).
    negative = arith.cmpi(arith.CmpIPredicate.slt, x[0].value, like(x[0], 0))
    return arith.select(negative, arith.subi(like(x[0], 0), x[0].value), x[0].value)


def _safe_divisor(a: Element, b: Element) -> ir.Value:
    """b, or 1 where the processor would stop at the division: at 0, and at the least integer by -1."""
    unsafe = arith.cmpi(arith.CmpIPredicate.eq, b.value, like(b, 0))
    if not is_unsigned(a.type):
        least = arith.cmpi(arith.CmpIPredicate.eq, a.value, like(a, limits(a.type)[0]))
        minus_one = arith.cmpi(arith.CmpIPredicate.eq, b.value, like(b, -1))
        unsafe = arith.ori(unsafe, arith.andi(least, minus_one))
    return arith.select(unsafe, like(b, 1), b.value)


def _divide_integers(a: Element, b: Element) -> ir.Value:
    """Truncates toward zero; a division by zero, which ends MIGraphX's process, gives 0; the least by -1 wraps."""
    divide = arith.divui if is_unsigned(a.type) else arith.divsi
    quotient = divide(a.value, _safe_divisor(a, b))
    return arith.select(arith.cmpi(arith.CmpIPredicate.eq, b.value, like(b, 0)), like(a, 0), quotient)


def _remainder_of_integers(a: Element, b: Element) -> ir.Value:
    """The remainder with the sign of a; 0 for a divisor of 0."""
    divide = arith.remui if is_unsigned(a.type) else arith.remsi
    return divide(a.value, _safe_divisor(a, b))


def _floor_modulo(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    rest = _remainder_of_integers(x[0], x[1])
    if is_unsigned(x[0].type):
        return rest
    zero = like(x[0], 0)
    other_sign = arith.cmpi(arith.CmpIPredicate.slt, arith.xori(rest, x[1].value), zero)
    other_sign = arith.andi(other_sign, arith.cmpi(arith.CmpIPredicate.ne, rest, zero))
    return arith.select(other_sign, arith.addi(rest, x[1].value), rest)


def _fmod(a: Element, b: Element) -> ir.Value:
    """C's fmod, exact: what is left of |a| when ever smaller multiples of |b| are taken away."""
    x, y = _as_double(a), _as_double(b)
    return _from_double(with_sign(_reduced(math.absf(x), math.absf(y), a.type), x), a.type)


def _mod(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    """std::fmod(std::remainder(x, y) + y, y)."""
    type_ = x[0].type
    a, b = _as_double(x[0]), _as_double(x[1])
    modulus = math.absf(b)
    rest = _reduced(math.absf(a), arith.addf(modulus, modulus), type_)
    for comparison in (arith.CmpFPredicate.OGT, arith.CmpFPredicate.OGE):
        above = arith.cmpf(comparison, arith.addf(rest, rest), modulus)
        rest = arith.select(above, arith.subf(rest, modulus), rest)
    negative = arith.cmpf(arith.CmpFPredicate.OLT, a, constant("double_type", 0.0))
    rest = _from_double(arith.select(negative, arith.negf(rest), rest), type_)
    total = _as_double(Element(arith.addf(rest, x[1].value), type_))
    # Less than twice the modulus: one step.
    left = arith.subf(math.absf(total), modulus)
    left = arith.select(arith.cmpf(arith.CmpFPredicate.OLT, math.absf(total), modulus), math.absf(total), left)
    return _from_double(with_sign(left, total), type_)


def _as_double(x: Element) -> ir.Value:
    double = mlir_type("double_type")
    return x.value if x.value.type == double else arith.extf(double, x.value)


def _from_double(value: ir.Value, type_: str) -> ir.Value:
    return value if type_ == "double_type" else arith.truncf(mlir_type(type_), value)


#: Bits of the quotient that one step of `_reduced` finds, and the steps that the range of a type needs.
_BITS = 48
_STEPS = {"float_type": 6, "double_type": 44}


def _reduced(a: ir.Value, b: ir.Value, type_: str) -> ir.Value:
    """The rest of |a| after division by |b|, in double, exact for operands of `type_`.

    NaN for an infinite a and for b = 0.
    """
    zero, rest = constant("double_type", 0.0), a
    for step in reversed(range(_STEPS[type_])):
        multiple = b
        for bits in (min(_BITS * step, 1000), max(_BITS * step - 1000, 0)):
            multiple = arith.mulf(multiple, constant("double_type", 2.0 ** min(bits, 1000))) if bits else multiple
        quotient = math.floor(arith.divf(rest, multiple))
        left = math.fma(arith.negf(quotient), multiple, rest)
        left = arith.select(arith.cmpf(arith.CmpFPredicate.OLT, left, zero), arith.addf(left, multiple), left)
        left = arith.select(arith.cmpf(arith.CmpFPredicate.OGE, left, multiple), arith.subf(left, multiple), left)
        # Of an infinite multiple nothing is to be taken away.
        below = arith.cmpf(arith.CmpFPredicate.OLT, rest, multiple)
        rest = arith.select(below, rest, left)
    return rest


def _integers(operation: Callable[[Element, Element], ir.Value]) -> Emit:
    return lambda fields, x: operation(x[0], x[1])


def _relu(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return maximum(Element(like(x[0], 0), x[0].type), x[0]).value


def _clip(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return minimum(maximum(x[1], x[0]), x[2]).value


def _sign(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    zero = Element(like(x[0], 0), x[0].type)
    positive = arith.select(less(zero, x[0]), like(x[0], 1), zero.value)
    if is_unsigned(x[0].type):
        return positive
    return arith.select(less(x[0], zero), like(x[0], -1), positive)


def _leaky_relu(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    # alpha is a float, whatever the operand's type.
    scaled = arith.mulf(x[0].value, like(x[0], fields.get("alpha", 0.01)))
    return arith.select(less(Element(like(x[0], 0.0), x[0].type), x[0]), x[0].value, scaled)


def _prelu(multiply: Callable[..., ir.Value]) -> Emit:
    def emit(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
        negative = less(x[0], Element(like(x[0], 0), x[0].type))
        return arith.select(negative, multiply(x[0].value, x[1].value), x[0].value)

    return emit


def _sqdiff(subtract: Callable[..., ir.Value], multiply: Callable[..., ir.Value]) -> Emit:
    def emit(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
        difference = subtract(x[0].value, x[1].value)
        return multiply(difference, difference)

    return emit


def _equal_floats(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return arith.cmpf(arith.CmpFPredicate.OEQ, x[0].value, x[1].value)


def equal_on_ref(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    """Both are finite and equal, or neighbours of type float or double (float_equal.hpp)."""
    finite = arith.cmpf(arith.CmpFPredicate.OLT, math.absf(x[0].value), like(x[0], float("inf")))
    also = arith.cmpf(arith.CmpFPredicate.OLT, math.absf(x[1].value), like(x[1], float("inf")))
    distance = arith.subi(*(_place(each) for each in x))
    integer = distance.type
    # From -1 to 1, read as unsigned after adding 1.
    near = arith.addi(distance, arith.constant(integer, 1))
    close = arith.cmpi(arith.CmpIPredicate.ult, near, arith.constant(integer, 3))
    return arith.andi(arith.andi(finite, also), close)


def _place(x: Element) -> ir.Value:
    """The place of a float among all floats in order, both zeros at 0."""
    bits = element_type(x.type).bits
    integer = ir.IntegerType.get_signless(bits)
    whole = arith.bitcast(integer, x.value)
    zero = arith.constant(integer, 0)
    negative = arith.cmpi(arith.CmpIPredicate.slt, whole, zero)
    least = arith.constant(integer, -(2 ** (bits - 1)))
    return arith.select(negative, arith.subi(least, whole), whole)


def equal_integers(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    """Both are the same."""
    return arith.cmpi(arith.CmpIPredicate.eq, x[0].value, x[1].value)


def _never(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return arith.constant(ir.IntegerType.get_signless(1), 0)


def _isinf(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return arith.cmpf(arith.CmpFPredicate.OEQ, math.absf(x[0].value), like(x[0], float("inf")))


def _isnan(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return arith.cmpf(arith.CmpFPredicate.UNO, x[0].value, x[0].value)


def _not(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return arith.xori(truth(x[0]), arith.constant(ir.IntegerType.get_signless(1), 1))


def _recip(fields: Mapping[str, Any], x: Sequence[Element]) -> ir.Value:
    return arith.divf(like(x[0], 1.0), x[0].value)


def _whole(rounding: Callable[[ir.Value], ir.Value]) -> Pointwise:
    """A rounding to whole numbers, which integers are already."""
    return Pointwise(1, lambda fields, x: rounding(x[0].value), lambda fields, x: x[0].value)


#: Operator -> how it computes one element. Adding an operator is one entry here and one row in tests/lowering.
ARITHMETIC: Mapping[str, Pointwise] = {
    "abs": Pointwise(1, lambda fields, x: math.absf(x[0].value), _abs_integer),
    "add": either(lambda a, b: arith.addf(a, b), lambda a, b: arith.addi(a, b), 2),
    "bitwise_and": Pointwise(2, None, lambda fields, x: arith.andi(x[0].value, x[1].value)),
    "ceil": _whole(lambda a: math.ceil(a)),
    "clip": _both(3, _clip),
    "div": Pointwise(2, lambda fields, x: arith.divf(x[0].value, x[1].value), _integers(_divide_integers)),
    "equal": Pointwise(2, _equal_floats, equal_integers, on_ref=equal_on_ref, wide=True, truth=True),
    "floor": _whole(lambda a: math.floor(a)),
    "fmod": Pointwise(2, lambda fields, x: _fmod(x[0], x[1]), _integers(_remainder_of_integers), wide=True),
    "greater": _both(2, lambda fields, x: less(x[1], x[0]), truth=True),
    "isinf": Pointwise(1, _isinf, _never, truth=True),
    "isnan": Pointwise(1, _isnan, _never, truth=True),
    "leaky_relu": Pointwise(1, _leaky_relu, integers_as="float_type", wide=True),
    "less": _both(2, lambda fields, x: less(x[0], x[1]), truth=True),
    "logical_and": _both(2, _truths(lambda a, b: arith.andi(a, b)), truth=True),
    "logical_or": _both(2, _truths(lambda a, b: arith.ori(a, b)), truth=True),
    "logical_xor": _both(2, _truths(lambda a, b: arith.xori(a, b)), truth=True),
    "max": _both(2, lambda fields, x: maximum(x[0], x[1]).value),
    "min": _both(2, lambda fields, x: minimum(x[0], x[1]).value),
    "mod": Pointwise(2, _mod, _floor_modulo, wide=True),
    "mul": either(lambda a, b: arith.mulf(a, b), lambda a, b: arith.muli(a, b), 2),
    "nearbyint": _whole(lambda a: math.roundeven(a)),
    "neg": Pointwise(
        1, lambda fields, x: arith.negf(x[0].value), lambda fields, x: arith.subi(like(x[0], 0), x[0].value)
    ),
    "not": _both(1, _not, truth=True),
    "prelu": Pointwise(2, _prelu(lambda a, b: arith.mulf(a, b)), _prelu(lambda a, b: arith.muli(a, b))),
    "recip": Pointwise(
        1, _recip, lambda fields, x: _divide_integers(Element(like(x[0], 1), x[0].type), x[0]), wide=True
    ),
    "relu": _both(1, _relu),
    "sign": _both(1, _sign),
    "sqdiff": Pointwise(
        2,
        _sqdiff(lambda a, b: arith.subf(a, b), lambda a, b: arith.mulf(a, b)),
        _sqdiff(lambda a, b: arith.subi(a, b), lambda a, b: arith.muli(a, b)),
    ),
    "sub": either(lambda a, b: arith.subf(a, b), lambda a, b: arith.subi(a, b), 2),
}  # fmt: skip
