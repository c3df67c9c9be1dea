"""The pointwise operators: one entry says how an operator computes one element.

Meanings follow MIGraphX's reference evaluation (src/include/migraphx/op/*.hpp of release rocm-7.1.1) down to NaN and
the order of comparisons. An entry gets the elements already in MLIR, with the operator's fields.
"""

from __future__ import annotations

import math as pymath
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction
from iree_migraphx.lowering.bindings import arith, ir, math
from iree_migraphx.lowering.types import is_float, mlir_type


@dataclass(frozen=True)
class Element:
    """One element inside a kernel's loop: its MLIR value and MIGraphX's name of its type."""

    value: ir.Value
    type: str


Emit: TypeAlias = "Callable[[Mapping[str, Any], list[Element]], ir.Value]"


@dataclass(frozen=True)
class Pointwise:
    """How an operator computes one element.

    Attributes:
        arity: number of operands.
        emit: builds the result from the operator's fields and operands.
        wide: compute half-precision operands in float and round once, as functions of the C library do.
    """

    arity: int
    emit: Emit
    wide: bool = False


def constant(type_: str, value: float) -> ir.Value:
    """A constant element; for a bool any non-zero value is kept as it is stored."""
    element = mlir_type(type_)
    if is_float(type_):
        return arith.constant(element, float(value))
    return arith.constant(element, int(value))


def convert(element: Element, type_: str) -> ir.Value:
    """Convert an element as op/convert.hpp does between the types known here.

    From float to half it clamps to the finite range (inf becomes the largest half); NaN stays. A half's inf stays inf.
    """
    if element.type == type_:
        return element.value
    target = mlir_type(type_)
    if element.type == "half_type" and type_ == "float_type":
        return arith.extf(target, element.value)
    if element.type == "float_type" and type_ == "half_type":
        return arith.truncf(target, _clamp(element.value, element.type, 65504.0))
    if element.type == "bool_type" and is_float(type_):
        return arith.sitofp(target, element.value)
    raise Refusal(Reason.UNSUPPORTED_TYPE, f"convert from {element.type} to {type_}")


def widen(element: Element) -> Element:
    """A half as a float of the same value, infinities included."""
    if element.type != "half_type":
        return element
    return Element(arith.extf(mlir_type("float_type"), element.value), "float_type")


def narrow(value: ir.Value, type_: str) -> ir.Value:
    """Round a float to the element type; the inverse of `widen`."""
    target = mlir_type(type_)
    return value if value.type == target else arith.truncf(target, value)


def emit(instruction: Instruction, operands: list[Element]) -> Element:
    """Build one element of a pointwise instruction's result.

    Raises:
        Refusal: UNSUPPORTED_OPERATOR or UNSUPPORTED_TYPE.
    """
    entry = POINTWISE.get(instruction.name)
    if entry is None or len(operands) != entry.arity:
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} with {len(operands)} operands")
    result = instruction.shape.type
    if instruction.name == "convert":
        return Element(convert(operands[0], result), result)
    values = operands[1:] if instruction.name == "where" else operands
    if not all(is_float(operand.type) for operand in values):
        raise Refusal(Reason.UNSUPPORTED_TYPE, f"{instruction.name} over {', '.join(o.type for o in operands)}")
    if entry.wide:
        operands = [widen(operand) for operand in operands]
        return Element(narrow(entry.emit(instruction.operator, operands), result), result)
    return Element(entry.emit(instruction.operator, operands), result)


def supports(instruction: Instruction) -> bool:
    """Whether the table has an entry for this operator with this many operands."""
    entry = POINTWISE.get(instruction.name)
    return entry is not None and entry.arity == len(instruction.inputs)


def supports_types(instruction: Instruction, types: Sequence[str]) -> bool:
    """Whether `emit` takes operands of these types."""
    if instruction.name == "convert":
        pair = (types[0], instruction.shape.type)
        return pair[0] == pair[1] or (is_float(pair[1]) and (is_float(pair[0]) or pair[0] == "bool_type"))
    return all(is_float(type_) for type_ in (types[1:] if instruction.name == "where" else types))


def _clamp(value: ir.Value, type_: str, limit: float) -> ir.Value:
    high, low = constant(type_, limit), constant(type_, -limit)
    value = arith.select(arith.cmpf(arith.CmpFPredicate.OGT, value, high), high, value)
    return arith.select(arith.cmpf(arith.CmpFPredicate.OLT, value, low), low, value)


def _like(element: Element, value: float) -> ir.Value:
    return constant(element.type, value)


def _binary(operation: Callable[..., ir.Value]) -> Emit:
    return lambda fields, x: operation(x[0].value, x[1].value)


def _unary(operation: Callable[..., ir.Value]) -> Emit:
    return lambda fields, x: operation(x[0].value)


def _less(a: ir.Value, b: ir.Value) -> ir.Value:
    return arith.cmpf(arith.CmpFPredicate.OLT, a, b)


def _min(a: ir.Value, b: ir.Value) -> ir.Value:
    """std::min(a, b): b < a ? b : a, so a NaN in a stays and one in b is dropped."""
    return arith.select(_less(b, a), b, a)


def _max(a: ir.Value, b: ir.Value) -> ir.Value:
    """std::max(a, b): a < b ? b : a."""
    return arith.select(_less(a, b), b, a)


def _relu(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    return _max(_like(x[0], 0.0), x[0].value)


def _clip(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    return _min(_max(x[1].value, x[0].value), x[2].value)


def _where(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    return arith.select(_truth(x[0]), x[1].value, x[2].value)


def _truth(x: Element) -> ir.Value:
    zero = _like(x, 0)
    if is_float(x.type):
        return arith.cmpf(arith.CmpFPredicate.UNE, x.value, zero)
    return arith.cmpi(arith.CmpIPredicate.ne, x.value, zero)


def _sigmoid(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    one = _like(x[0], 1.0)
    return arith.divf(one, arith.addf(one, math.exp(arith.negf(x[0].value))))


def _recip(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    return arith.divf(_like(x[0], 1.0), x[0].value)


def _rsqrt(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    return arith.divf(_like(x[0], 1.0), math.sqrt(x[0].value))


def _sign(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    zero, one = _like(x[0], 0.0), _like(x[0], 1.0)
    value = x[0].value
    negative = arith.select(_less(value, zero), _like(x[0], -1.0), zero)
    return arith.select(_less(zero, value), one, negative)


def _sqdiff(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    difference = arith.subf(x[0].value, x[1].value)
    return arith.mulf(difference, difference)


def _leaky_relu(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    value = x[0].value
    scaled = arith.mulf(value, _like(x[0], fields.get("alpha", 0.01)))
    return arith.select(_less(_like(x[0], 0.0), value), value, scaled)


def _elu(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    value = x[0].value
    negative = arith.mulf(_like(x[0], fields.get("alpha", 1.0)), math.expm1(value))
    return arith.select(_less(_like(x[0], 0.0), value), value, negative)


def _prelu(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    value = x[0].value
    return arith.select(_less(value, _like(x[0], 0.0)), arith.mulf(value, x[1].value), value)


def _compare(predicate: str) -> Emit:
    def compare(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
        truth = arith.cmpf(getattr(arith.CmpFPredicate, predicate), x[0].value, x[1].value)
        return arith.select(truth, _like(x[0], 1.0), _like(x[0], 0.0))

    return compare


def _log2(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    return arith.mulf(math.log(x[0].value), _like(x[0], 1.0 / pymath.log(2.0)))


def _erf(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    # IREE's approximation for CPUs loses the sign of a zero.
    return math.copysign(math.erf(x[0].value), x[0].value)


def _pow(fields: Mapping[str, Any], x: list[Element]) -> ir.Value:
    """C's pow. IREE's expansion of math.powf for CPUs gives a NaN in many places where C has a value."""
    base, exponent = x[0].value, x[1].value
    zero, one = _like(x[0], 0.0), _like(x[0], 1.0)
    magnitude, floor = math.absf(base), math.floor(exponent)
    whole = _equal(floor, exponent)
    half = arith.mulf(exponent, _like(x[0], 0.5))
    odd = arith.andi(whole, arith.cmpf(arith.CmpFPredicate.ONE, math.floor(half), half))
    not_a_number = arith.cmpf(arith.CmpFPredicate.UNO, exponent, exponent)
    finite = arith.cmpf(arith.CmpFPredicate.ONE, magnitude, _like(x[0], pymath.inf))
    no_root = arith.andi(arith.andi(_less(base, zero), finite), arith.cmpf(arith.CmpFPredicate.ONE, exponent, floor))
    result = math.powf(magnitude, exponent)
    result = arith.select(_equal(magnitude, one), arith.select(not_a_number, exponent, one), result)
    result = arith.select(odd, math.copysign(result, base), result)
    result = arith.select(no_root, _like(x[0], pymath.nan), result)
    # The expansion of the largest number to the first power overflows.
    result = arith.select(_equal(exponent, one), base, result)
    return arith.select(arith.ori(_equal(base, one), _equal(exponent, zero)), one, result)


def _equal(a: ir.Value, b: ir.Value) -> ir.Value:
    return arith.cmpf(arith.CmpFPredicate.OEQ, a, b)


#: Operator -> how it computes one element. Adding an operator is one entry here and one row in tests/lowering.
POINTWISE: Mapping[str, Pointwise] = {
    "abs": Pointwise(1, _unary(lambda a: math.absf(a))),
    "add": Pointwise(2, _binary(lambda a, b: arith.addf(a, b))),
    "ceil": Pointwise(1, _unary(lambda a: math.ceil(a))),
    "clip": Pointwise(3, _clip),
    "convert": Pointwise(1, lambda fields, x: convert(x[0], x[0].type)),
    "div": Pointwise(2, _binary(lambda a, b: arith.divf(a, b))),
    "elu": Pointwise(1, _elu, wide=True),
    "erf": Pointwise(1, _erf, wide=True),
    "exp": Pointwise(1, _unary(lambda a: math.exp(a)), wide=True),
    "floor": Pointwise(1, _unary(lambda a: math.floor(a))),
    "greater": Pointwise(2, _compare("OGT")),
    "leaky_relu": Pointwise(1, _leaky_relu),
    "less": Pointwise(2, _compare("OLT")),
    "log": Pointwise(1, _unary(lambda a: math.log(a)), wide=True),
    "log2": Pointwise(1, _log2, wide=True),
    "max": Pointwise(2, lambda fields, x: _max(x[0].value, x[1].value)),
    "min": Pointwise(2, lambda fields, x: _min(x[0].value, x[1].value)),
    "mul": Pointwise(2, _binary(lambda a, b: arith.mulf(a, b))),
    "nearbyint": Pointwise(1, _unary(lambda a: math.roundeven(a))),
    "neg": Pointwise(1, _unary(lambda a: arith.negf(a))),
    "pow": Pointwise(2, _pow, wide=True),
    "prelu": Pointwise(2, _prelu),
    "recip": Pointwise(1, _recip),
    "relu": Pointwise(1, _relu),
    "rsqrt": Pointwise(1, _rsqrt, wide=True),
    "sigmoid": Pointwise(1, _sigmoid, wide=True),
    "sign": Pointwise(1, _sign),
    "sqdiff": Pointwise(2, _sqdiff),
    "sqrt": Pointwise(1, _unary(lambda a: math.sqrt(a)), wide=True),
    "sub": Pointwise(2, _binary(lambda a, b: arith.subf(a, b))),
    "tanh": Pointwise(1, _unary(lambda a: math.tanh(a)), wide=True),
    "where": Pointwise(3, _where),
}
