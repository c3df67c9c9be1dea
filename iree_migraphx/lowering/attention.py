"""Attention as one operation of IREE, which makes one dispatch of it on GPUs.

IREE's `iree_linalg_ext.attention` (compiler/src/iree/compiler/Dialect/LinalgExt/IR/LinalgExtOps.td) computes
softmax(Q K^T * scale + mask) V without ever holding all scores. It scales the queries, in their own type, and its
softmax takes rows that are wholly -inf to NaN, as MIGraphX's does. On CPUs it took 15 to 30 times as long as two dots
and a softmax (12 heads of 64, 128 to 512 long): there attention is lowered instruction by instruction.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction
from iree_migraphx.lowering.bindings import arith, ir, tensor
from iree_migraphx.lowering.builder import elementwise, materialise
from iree_migraphx.lowering.element import Element, constant, widen
from iree_migraphx.lowering.pointwise_arithmetic import truth
from iree_migraphx.lowering.products import widened
from iree_migraphx.lowering.types import mlir_type
from iree_migraphx.lowering.values import Lazy
from iree_migraphx.lowering.view import View
from iree_migraphx.partition.rules import Attention

TYPES = frozenset({"half_type", "bf16_type", "float_type"})

#: What is not to be attended to is given this much less: enough that no score is left of the sum, so that a row of
#: nothing else has equal weights, as with MIGraphX's select of one number.
_FAR = -(2.0**100)
#: Queries by which IREE 3.13.0 chooses sparse MFMA, and the tiles of keys and depths, and then fails on every CDNA.
_SPARSE_QUERIES, _SPARSE_TILE = 8, 64
#: Selected scores from here on are taken for ones that are not to be attended to.
_MASKED = -1e4


@dataclass(frozen=True)
class Mask:
    """What is added to the scores.

    Attributes:
        operand: numbers to add; or, with `unmasked`, a condition; None where it is only asked whether there may be one.
        unmasked: the truth of the condition where a score stays; None where numbers are added.
        value: what is put in the place of the other scores.
        factor: of the numbers.
    """

    operand: Lazy | None
    unmasked: bool | None = None
    value: float = 0.0
    factor: float = 1.0


@dataclass
class Scores:
    """What becomes of the scores before softmax, as far as IREE's operation can do it.

    Attributes:
        scale: factor.
        masks: added after that.
    """

    scale: float = 1.0
    masks: list[Mask] = field(default_factory=list)

    def apply(self, step: Instruction, others: Mapping[int, Lazy | float | None]) -> None:
        """Take in one pointwise instruction.

        Args:
            step: the instruction.
            others: by their place its operands that are not the scores: numbers where they are scalars, else tensors,
                or None where it is only asked whether there is a place for it.

        Raises:
            Refusal: UNSUPPORTED_OPERATOR where IREE's operation has no place for it.
        """
        first = next(iter(others.values()), None)
        if isinstance(first, Lazy) and first.lens != step.shape.lens:
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{step.name} of {list(first.lens)} in attention")
        match step.name, [*others]:
            case "convert", _ if step.shape.type in TYPES:
                return
            case ("mul", _) | ("div", [1]) if isinstance(first, float) and self._scaled(first, step.name):
                return
            case ("add", _) | ("sub", [1]) if not isinstance(first, float):
                self.masks.append(Mask(first, factor=-1.0 if step.name == "sub" else 1.0))
                return
            case "where", [0, place] if not isinstance(first, float):
                value = others[place]
                if isinstance(value, float) and value <= _MASKED:
                    self.masks.append(Mask(first, unmasked=place == 2, value=value))
                    return
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{step.name} between the scores of attention and softmax")

    def _scaled(self, number: float, operator: str) -> bool:
        """Take in a factor or divisor, of the masks before it too; False where their meaning would change."""
        if operator == "div" and number == 0:
            return False
        factor = number if operator == "mul" else 1 / number
        hidden = [mask.value * factor for mask in self.masks if mask.unmasked is not None]
        if self.masks and (not 0 < factor < math.inf or any(value > _MASKED for value in hidden)):
            return False
        self.masks = [replace(each, value=each.value * factor, factor=each.factor * factor) for each in self.masks]
        self.scale = self.scale * number if operator == "mul" else self.scale / number
        return True

    def over(self, changed: Callable[[View], View]) -> Scores:
        """The same with each view changed, for scores with other axes."""
        operands = (None if mask.operand is None else mask.operand.over(changed) for mask in self.masks)
        masks = [replace(mask, operand=operand) for mask, operand in zip(self.masks, operands, strict=True)]
        return Scores(self.scale, masks)

    def mask(self, lens: Sequence[int]) -> View | None:
        """All masks in one, over the axes that matter; their own computation is part of its loop."""
        operands = [mask.operand for mask in self.masks if mask.operand is not None]
        if not operands:
            return None
        whole, only = operands[0].view, self.masks[0]
        if len(operands) == 1 and whole is not None and only.unmasked is None and only.factor == 1.0:
            return whole
        views = [view for operand in operands for view in operand.views]
        held = {axis for view in views for axis in view.axes if axis is not None and lens[axis] != 1}

        def total(scalars: list[ir.Value]) -> ir.Value:
            value, rest = None, scalars
            for mask, operand in zip(self.masks, operands, strict=True):
                own, rest = rest[: len(operand.views)], rest[len(operand.views) :]
                term = _term(mask, operand.element(own))
                value = term if value is None else arith.addf(value, term)
            return value

        return elementwise(views, lens, sorted(held), "float_type", total)


def check(found: Attention, numbers: Mapping[str, float]) -> None:
    """See that IREE's operation can compute an attention.

    Args:
        found: the instructions.
        numbers: the scalars among their operands, by id.

    Raises:
        Refusal: UNSUPPORTED_TYPE or UNSUPPORTED_OPERATOR.
    """
    types = {found.scores.shape.type, found.output.shape.type}
    if len(types) != 1 or not types <= TYPES:
        raise Refusal(Reason.UNSUPPORTED_TYPE, f"attention over {' and '.join(sorted(types))}")
    if found.scores.shape.lens[-1] == 1:
        # IREE 3.13.0 crashes for gpus.
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, "attention over one key")
    scores = Scores()
    for step, place in found.steps():
        scores.apply(step, {at: numbers.get(value) for at, value in enumerate(step.inputs) if at != place})


def attention(q: View, k: View, v: View, scores: Scores, type_: str) -> View:
    """softmax(q k * scale + mask) v for q [..., m, d], k [..., d, k], v [..., k, n] as [..., m, n] of a type.

    Axes along which neither k nor v differs are further axes of queries: nothing is copied.
    """
    rank, lens = len(q.lens), (*q.lens[:-1], v.lens[-1])
    batch = [axis for axis in range(rank - 2) if q.lens[axis] != 1]
    own = [axis for axis in batch if axis in k.axes or axis in v.axes]
    loops = [*batch, "m", "d", "k", "n"]
    names = {
        role: [*range(rank - 2), *last]
        for role, last in {"q": "md", "k": "dk", "v": "kn", "mask": "mk", "out": "mn"}.items()
    }
    dims = {loop: ir.AffineDimExpr.get(number) for number, loop in enumerate(loops)}

    def affine(axes: Sequence[int | None], role: str) -> ir.Attribute:
        indices = [dims[names[role][axis]] for axis in axes if axis is not None]
        return ir.AffineMapAttr.get(ir.AffineMap.get(len(loops), 0, indices))

    q = _holding(q, [*batch, rank - 2, rank - 1])
    k, v = (_holding(view, [*own, rank - 2, rank - 1]) for view in (k, v))
    maps = [affine(view.axes, role) for role, view in (("q", q), ("k", k), ("v", v))]
    maps.append(ir.AffineMapAttr.get(ir.AffineMap.get(len(loops), 0, [])))
    # Without axes of length 1, those of the queries end with what IREE tiles as such.
    queries = [q.lens[axis] for axis in (*(axis for axis in batch if axis not in own), rank - 2) if q.lens[axis] != 1]
    if q.type != "float_type" and queries and _sparse(queries[-1], q.lens[-1], k.lens[-1]):
        # No instruction takes float with half.
        q = widened(q, "float_type")
    inputs = [q.tensor, k.tensor, v.tensor, constant("float_type", scores.scale)]
    mask = scores.mask((*q.lens[:-1], k.lens[-1]))
    if mask is not None:
        mask = _without_unit_axes(mask)
        maps.append(affine(mask.axes, "mask"))
        inputs.append(mask.tensor)
    kept = [*batch, rank - 2, rank - 1]
    empty = tensor.empty([lens[axis] for axis in kept], mlir_type(type_))
    maps.append(affine(kept, "out"))
    op = ir.Operation.create(
        "iree_linalg_ext.attention",
        results=[empty.type],
        operands=[*inputs, empty],
        attributes={
            "indexing_maps": ir.ArrayAttr.get(maps),
            "operandSegmentSizes": ir.DenseI32ArrayAttr.get([1, 1, 1, 1, 0 if mask is None else 1, 1]),
        },
        regions=1,
    )
    block = op.regions[0].blocks.append(mlir_type("float_type"))
    with ir.InsertionPoint(block):
        ir.Operation.create("iree_linalg_ext.yield", operands=[block.arguments[0]])
    return View(op.results[0], lens, tuple(kept), type_)


def _sparse(queries: int, depth: int, keys: int) -> bool:
    """Whether IREE takes the one tile that divides the lengths exactly, which is that of sparse MFMA."""
    return queries % (2 * _SPARSE_QUERIES) == _SPARSE_QUERIES and depth % _SPARSE_TILE == keys % _SPARSE_TILE == 0


def _holding(view: View, axes: Sequence[int]) -> View:
    """The view of a tensor with exactly these axes, in whatever order it has them."""
    held = [axis for axis in view.axes if axis is not None and axis in axes]
    if any(view.lens[axis] != 1 for axis in axes if axis not in held):
        return materialise(view, axes)
    return materialise(view, [*(axis for axis in axes if axis not in held), *held])


def _without_unit_axes(view: View) -> View:
    return materialise(view, [axis for axis in view.axes if axis is not None and view.lens[axis] != 1])


def _term(mask: Mask, element: Element) -> ir.Value:
    if mask.unmasked is None:
        value = widen(element).value
        if mask.factor in (1.0, -1.0):
            return arith.negf(value) if mask.factor < 0 else value
        return arith.mulf(value, constant("float_type", mask.factor))
    zero = constant("float_type", 0.0)
    out = constant("float_type", mask.value if math.isinf(mask.value) else _FAR)
    there = truth(element)
    return arith.select(there, zero, out) if mask.unmasked else arith.select(there, out, zero)
