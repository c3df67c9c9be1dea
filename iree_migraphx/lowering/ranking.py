"""Where the largest or smallest elements along an axis are.

Meanings follow src/include/migraphx/op/{argmax,argmin}.hpp of release rocm-7.1.1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iree_migraphx.ir.model import Instruction
from iree_migraphx.lowering.bindings import arith, ir, linalg
from iree_migraphx.lowering.builder import elementwise, filled, loop_index, materialise, slice_
from iree_migraphx.lowering.element import Element, widen
from iree_migraphx.lowering.family import Emit, TensorOperator, axis_of, over_one
from iree_migraphx.lowering.pointwise_arithmetic import equal_integers, equal_on_ref, less
from iree_migraphx.lowering.types import is_float, mlir_type
from iree_migraphx.lowering.view import View


def _place(largest: bool) -> Emit:
    """The index of the first element that no other one exceeds, or the last.

    The first element is where MIGraphX starts: a NaN there stays, others are passed over. Two are the same by its own
    notion of equality only if the last is wanted.
    """

    def place(instruction: Instruction, operands: Sequence[View]) -> View:
        x = materialise(operands[0])
        rank, last = len(x.lens), bool(instruction.operator.get("select_last_index"))
        axis = axis_of(instruction, rank)
        lens = tuple(1 if i == axis else length for i, length in enumerate(x.lens))
        first = slice_(x, [0] * rank, lens, [1] * rank).drop_unit_axes({axis})
        kept = range(rank - 1)
        best = elementwise([first], first.lens, kept, x.type, lambda scalars: scalars[0])
        places = filled(first.lens, "int64_type", 0)
        dims = [ir.AffineDimExpr.get(i) for i in range(rank)]
        rest = [dims[i] for i in range(rank) if i != axis]
        loops = ["reduction" if i == axis else "parallel" for i in range(rank)]
        op = linalg.GenericOp(
            [best.tensor.type, places.type],
            [x.tensor],
            [best.tensor, places],
            ir.ArrayAttr.get([ir.AffineMapAttr.get(ir.AffineMap.get(rank, 0, each)) for each in (dims, rest, rest)]),
            ir.ArrayAttr.get([ir.Attribute.parse(f"#linalg.iterator_type<{loop}>") for loop in loops]),
        )
        element, index = mlir_type(x.type), mlir_type("int64_type")
        block = op.regions[0].blocks.append(element, element, index)
        with ir.InsertionPoint(block):
            value, so_far, where = block.arguments
            new, old = widen(Element(value, x.type)), widen(Element(so_far, x.type))
            beyond = less(old, new) if largest else less(new, old)
            here = arith.index_cast(index, loop_index(axis))
            moves = arith.ori(beyond, _same(old, new)) if last else beyond
            linalg.YieldOp([arith.select(beyond, value, so_far), arith.select(moves, here, where)])
        return View(op.results[1], first.lens, tuple(kept), "int64_type").insert_unit_axes(lens, {axis})

    return place


def _same(a: Element, b: Element) -> ir.Value:
    return equal_on_ref({}, [a, b]) if is_float(a.type) else equal_integers({}, [a, b])


#: Operator -> how it is computed. Adding one is one entry here and one row in tests/lowering/test_tensor_operators.py.
RANKING: Mapping[str, TensorOperator] = {
    "argmax": TensorOperator(_place(largest=True), over_one),
    "argmin": TensorOperator(_place(largest=False), over_one),
}
