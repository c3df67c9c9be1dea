"""The pointwise operators: the tables put together, and how one element of an instruction is computed from them.

Meanings follow MIGraphX's reference evaluation (src/include/migraphx/op/*.hpp of release rocm-7.1.1) down to NaN and
the order of comparisons.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction
from iree_migraphx.lowering import conversion, float8
from iree_migraphx.lowering.bindings import arith, ir
from iree_migraphx.lowering.element import Element, constant, narrow, widen
from iree_migraphx.lowering.pointwise_arithmetic import ARITHMETIC, truth
from iree_migraphx.lowering.pointwise_entry import Pointwise
from iree_migraphx.lowering.pointwise_functions import FUNCTIONS, WHOLE_POWERS, whole_power
from iree_migraphx.lowering.types import TYPES, element_type, is_float

__all__ = ["POINTWISE", "RETYPING", "Element", "constant", "emit", "narrow", "supports", "supports_types", "widen"]

#: Operator -> how it computes one element, for operators whose operands have one type.
POINTWISE: Mapping[str, Pointwise] = {**ARITHMETIC, **FUNCTIONS}

#: Operators whose operands or result have types of their own -> how many operands they may have.
RETYPING: Mapping[str, tuple[int, ...]] = {
    "bit_cast": (1,),
    "convert": (1,),
    "dequantizelinear": (2, 3),
    "quantizelinear": (2, 3),
    "where": (3,),
}


def supports(instruction: Instruction) -> bool:
    """Whether the tables have an entry for this operator with this many operands."""
    return len(instruction.inputs) in _arities(instruction.name)


def supports_types(instruction: Instruction, types: Sequence[str]) -> bool:
    """Whether `emit` takes operands of these types."""
    name = instruction.name
    if not {*types, instruction.shape.type} <= TYPES.keys():
        return False
    if name in RETYPING:
        return name != "where" or set(types[1:]) == {instruction.shape.type}
    entry = POINTWISE[name]
    possible = entry.floats if is_float(types[0]) else entry.integers or entry.integers_as
    return len(set(types)) == 1 and possible is not None


def emit(instruction: Instruction, operands: Sequence[Element], host: bool = False) -> Element:
    """Build one element of a pointwise instruction's result.

    Args:
        instruction: its operator's name, fields and result type count.
        operands: one element an operand.
        host: for this machine's CPU, where functions that IREE lacks or approximates badly are computed in double.

    Raises:
        Refusal: UNSUPPORTED_OPERATOR or UNSUPPORTED_TYPE.
    """
    name, result = instruction.name, instruction.shape.type
    if len(operands) not in _arities(name):
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{name} with {len(operands)} operands")
    element_type(result)
    if name in RETYPING:
        return Element(_retyped(name, operands, result), result)
    entry, type_ = POINTWISE[name], operands[0].type
    if any(operand.type != type_ for operand in operands):
        raise Refusal(Reason.UNSUPPORTED_TYPE, f"{name} over {', '.join(o.type for o in operands)}")
    power = operands[1].literal if name == "pow" and is_float(type_) else None
    if power in WHOLE_POWERS:
        base = widen(operands[0])
        return Element(narrow(whole_power(base, int(power)), type_), result)
    value = _computed(entry, instruction, operands, host)
    if entry.truth:
        return Element(_as_number(value, result), result)
    return Element(value, result)


def _computed(entry: Pointwise, instruction: Instruction, operands: Sequence[Element], host: bool) -> ir.Value:
    fields, type_ = instruction.operator, operands[0].type
    if not is_float(type_):
        if entry.integers is not None:
            return entry.integers(fields, operands)
        if entry.integers_as is None:
            raise Refusal(Reason.UNSUPPORTED_TYPE, f"{instruction.name} over {type_}")
        wide = [Element(conversion.float_of(x, entry.integers_as), entry.integers_as) for x in operands]
        return conversion.wrapped(Element(_floats(entry, fields, wide, host), entry.integers_as), type_)
    if entry.floats is None:
        raise Refusal(Reason.UNSUPPORTED_TYPE, f"{instruction.name} over {type_}")
    if host and entry.doubles is not None and entry.through_doubles:
        wide = [Element(conversion.float_of(x, "double_type"), "double_type") for x in operands]
        value = entry.doubles(fields, wide)
        # Narrow types are rounded as C++ rounds them, whose functions are float's.
        return value if entry.truth else narrow(value, type_)
    if entry.wide or type_ == "bf16_type" or type_ in float8.FORMATS:
        value = _floats(entry, fields, [widen(x) for x in operands], host)
        return value if entry.truth else narrow(value, type_)
    return _floats(entry, fields, operands, host)


def _floats(entry: Pointwise, fields: Mapping[str, object], operands: Sequence[Element], host: bool) -> ir.Value:
    emit_ = entry.doubles if host and entry.doubles and operands[0].type == "double_type" else entry.floats
    emit_ = entry.on_ref if host and entry.on_ref else emit_
    assert emit_ is not None
    return emit_(fields, operands)


def _retyped(name: str, operands: Sequence[Element], type_: str) -> ir.Value:
    first, *rest = operands
    if name == "convert":
        return conversion.convert(first, type_)
    if name == "bit_cast":
        return conversion.bit_cast(first, type_)
    if name == "where":
        if any(operand.type != type_ for operand in rest):
            raise Refusal(Reason.UNSUPPORTED_TYPE, f"where over {', '.join(o.type for o in operands)}")
        return arith.select(truth(first), rest[0].value, rest[1].value)
    zero = rest[1] if len(rest) == 2 else None
    if name == "quantizelinear":
        return conversion.quantize(first, rest[0], zero, type_)
    return conversion.dequantize(first, rest[0], zero, type_)


def _as_number(value: ir.Value, type_: str) -> ir.Value:
    return arith.select(value, constant(type_, 1), constant(type_, 0))


def _arities(name: str) -> tuple[int, ...]:
    if name in RETYPING:
        return RETYPING[name]
    return (POINTWISE[name].arity,) if name in POINTWISE else ()
