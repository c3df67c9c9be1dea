"""Two numbers of 4 bits in a byte: unpack_int4, pack_int4, unpack_fp4 and pack_fp4.

Meanings follow src/include/migraphx/op/{unpack,pack}_{int4,fp4}.hpp and fp4_casts.hpp of release rocm-7.1.1: along the
axis the low nibble comes first.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering.bindings import arith, ir, math, tensor
from iree_migraphx.lowering.builder import elementwise, generic, loop_index, materialise, reshape, slice_
from iree_migraphx.lowering.element import Element, constant, widen
from iree_migraphx.lowering.family import TensorOperator
from iree_migraphx.lowering.types import TYPES, is_float, is_unsigned, mlir_type
from iree_migraphx.lowering.view import View

#: Codes of fp8e4m3fn for the eight magnitudes of an fp4 (0, 0.5, 1, 1.5, 2, 3, 4, 6), a byte each.
_FP4_AS_FP8 = 0x4C4844403C383000
#: What a magnitude must exceed for the next fp4; at the second, fourth and sixth a tie does too.
_FP4_STEPS = (0.25, 0.75, 1.25, 1.75, 2.5, 3.5, 5.0)


def _unpack(
    instruction: Instruction, operands: Sequence[View], number: Callable[[ir.Value, ir.Value], ir.Value]
) -> View:
    """Twice the length along the axis; `number` makes an element of a byte and the truth of its being the second."""
    x, axis = materialise(operands[0]), _axis(instruction)
    lens = (*x.lens[: axis + 1], 2, *x.lens[axis + 1 :])
    loops = [ir.AffineDimExpr.get(loop) for loop in range(len(lens))]
    out = tensor.empty(list(lens), mlir_type(instruction.shape.type))

    def body(scalars: list[ir.Value]) -> ir.Value:
        first = arith.constant(ir.IndexType.get(), 0)
        return number(scalars[0], arith.cmpi(arith.CmpIPredicate.ne, loop_index(axis + 1), first))

    read = [loop for number, loop in enumerate(loops) if number != axis + 1]
    result = generic([(x.tensor, read)], (out, loops), ["parallel"] * len(lens), body)
    return reshape(View(result, lens, tuple(range(len(lens))), instruction.shape.type), instruction.shape.lens)


def _pack(instruction: Instruction, operands: Sequence[View], code: Callable[[ir.Value], ir.Value]) -> View:
    """Half the length along the axis; `code` makes 4 bits (as i8) of an element."""
    (x,), axis = operands, _axis(instruction)
    lens = instruction.shape.lens
    steps = [2 if each == axis else 1 for each in range(len(lens))]
    halves = [slice_(x, [start if each == axis else 0 for each in range(len(lens))], lens, steps) for start in (0, 1)]

    def body(scalars: list[ir.Value]) -> ir.Value:
        low, high = (code(scalar) for scalar in scalars[:2])
        return arith.ori(arith.shli(high, _byte(4)), arith.andi(low, _byte(0xF)))

    return elementwise(halves, lens, range(len(lens)), instruction.shape.type, body)


def _unpack_int4(instruction: Instruction, operands: Sequence[View]) -> View:
    shift = arith.shrui if is_unsigned(instruction.shape.type) else arith.shrsi

    def number(byte: ir.Value, second: ir.Value) -> ir.Value:
        return shift(arith.select(second, byte, arith.shli(byte, _byte(4))), _byte(4))

    return _unpack(instruction, operands, number)


def _pack_int4(instruction: Instruction, operands: Sequence[View]) -> View:
    unsigned = is_unsigned(instruction.shape.type)
    low, high = (_byte(0), _byte(15)) if unsigned else (_byte(-8), _byte(7))
    least, most = (arith.maxui, arith.minui) if unsigned else (arith.maxsi, arith.minsi)
    return _pack(instruction, operands, lambda value: most(least(value, low), high))


def _unpack_fp4(instruction: Instruction, operands: Sequence[View]) -> View:
    i8, i64 = ir.IntegerType.get_signless(8), ir.IntegerType.get_signless(64)

    def number(byte: ir.Value, second: ir.Value) -> ir.Value:
        code = arith.select(second, arith.shrui(byte, _byte(4)), byte)
        place = arith.extui(i64, arith.shli(arith.andi(code, _byte(7)), _byte(3)))
        magnitude = arith.trunci(i8, arith.shrui(arith.constant(i64, _FP4_AS_FP8), place))
        return arith.ori(magnitude, arith.shli(arith.andi(code, _byte(8)), _byte(4)))

    return _unpack(instruction, operands, number)


def _pack_fp4(instruction: Instruction, operands: Sequence[View]) -> View:
    i8, type_ = ir.IntegerType.get_signless(8), operands[0].type

    def code(scalar: ir.Value) -> ir.Value:
        x = widen(Element(scalar, type_))
        if x.type == "double_type":
            x = Element(arith.truncf(mlir_type("float_type"), x.value), "float_type")
        magnitude, total = math.absf(x.value), _byte(0)
        for number, step in enumerate(_FP4_STEPS):
            predicate = arith.CmpFPredicate.OGE if number % 2 else arith.CmpFPredicate.OGT
            above = arith.cmpf(predicate, magnitude, constant("float_type", step))
            total = arith.addi(total, arith.extui(i8, above))
        bits = arith.bitcast(ir.IntegerType.get_signless(32), x.value)
        sign = arith.cmpi(arith.CmpIPredicate.slt, bits, arith.constant(bits.type, 0))
        signed = arith.select(sign, arith.ori(total, _byte(8)), total)
        number_ = arith.cmpf(arith.CmpFPredicate.ORD, x.value, x.value)
        return arith.select(number_, signed, _byte(0))

    return _pack(instruction, operands, code)


def _axis(instruction: Instruction) -> int:
    axis, rank = int(instruction.operator.get("axis", -1)), len(instruction.shape.lens)
    return axis + rank if axis < 0 else axis


def _byte(value: int) -> ir.Value:
    return arith.constant(ir.IntegerType.get_signless(8), value)


def _over_bytes(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    return operands[0].elements > 0 and operands[0].type in ("int8_type", "uint8_type")


def _over_pairs(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    return operands[0].elements > 0 and operands[0].type == "fp4x2_type"


def _over_floats(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    return operands[0].elements > 0 and operands[0].type in TYPES and is_float(operands[0].type)


#: Operator -> how it is computed. Adding one is one entry here and one row in tests/lowering.
PACKED: Mapping[str, TensorOperator] = {
    "pack_fp4": TensorOperator(_pack_fp4, _over_floats),
    "pack_int4": TensorOperator(_pack_int4, _over_bytes),
    "unpack_fp4": TensorOperator(_unpack_fp4, _over_pairs),
    "unpack_int4": TensorOperator(_unpack_int4, _over_bytes),
}
