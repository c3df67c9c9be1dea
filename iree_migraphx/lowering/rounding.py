"""Rounding to bf16 for CPUs, step by step.

IREE's pass ConvertBf16ArithToF32 (compiler/src/iree/compiler/Codegen/Common) leaves out the rounding of a value that is
used in the same loop. What has been rounded already stays what it is.
"""

from __future__ import annotations

from iree_migraphx.lowering.bindings import arith, ir

_DROPPED = 16


def round_bf16(module: ir.Module) -> None:
    """Round every float to the nearest bf16, even ones on ties, in front of where it becomes one."""
    found: list[ir.Operation] = []

    def visit(op: ir.Operation) -> ir.WalkResult:
        if op.name == "arith.truncf" and isinstance(op.results[0].type, ir.BF16Type):
            found.append(op)
        return ir.WalkResult.ADVANCE

    module.operation.walk(visit)
    for op in found:
        with ir.InsertionPoint(op):
            op.operands[0] = _rounded(op.operands[0])


def _rounded(value: ir.Value) -> ir.Value:
    """A float (f32) as the nearest one that is a bf16; NaN stays NaN."""
    i32 = ir.IntegerType.get_signless(32)

    def number(bits: int) -> ir.Value:
        return arith.constant(i32, bits)

    bits = arith.bitcast(i32, value)
    odd = arith.andi(arith.shrui(bits, number(_DROPPED)), number(1))
    half = arith.addi(odd, number((1 << (_DROPPED - 1)) - 1))
    kept = arith.andi(arith.addi(bits, half), number(-(1 << _DROPPED)))
    is_nan = arith.cmpf(arith.CmpFPredicate.UNO, value, value)
    return arith.select(is_nan, value, arith.bitcast(ir.F32Type.get(), kept))
