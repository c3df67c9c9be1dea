"""What the lowering can take, as rules for the partition."""

from __future__ import annotations

from iree_migraphx.ir.model import Instruction
from iree_migraphx.lowering import anchors, emit, pointwise
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.partition.rules import Extra, Rules

#: GPUs for which iree-compile 3.13.0 computes products of few rows by instructions that it can't emit for them, and
#: those with matrix instructions for 8-bit floats, of one standard or the other.
_FORMS = {
    "gfx908": Form.DENSE,
    "gfx90a": Form.DENSE,
    "gfx940": Form.FNUZ,
    "gfx941": Form.FNUZ,
    "gfx942": Form.FNUZ,
    "gfx950": Form.DENSE_OCP,
    "gfx1200": Form.OCP,
    "gfx1201": Form.OCP,
}


def form_for(gfx: str) -> Form:
    """How anchors are computed for a processor; no name is the host."""
    return _FORMS.get(gfx, Form.OPERANDS) if gfx else Form.CHANNELS_LAST


#: Behind an anchor these would make the kernel compute another number of elements than the anchor has: IREE then makes
#: two dispatches, and MIGraphX does not fuse them either (fuse_mlir.cpp). A host kernel may have several dispatches.
RESIZING = frozenset({"broadcast", "multibroadcast", "scalar", "slice"})


#: Beside pointwise operators, those that compute in the order of their first operand.
KEEP_ORDER = frozenset(
    {"concat", "identity", "pad", "pooling", "reduce_max", "reduce_mean", "reduce_min", "reduce_sum", "step"}
)

#: MIGraphX's `ref` needs about 0.2 ms for as many elements; a kernel needs a second once, and a call some 20 us.
LEAST_WORK = 4096
#: What takes it longer by the element, 100 to 500 ns where an addition takes 50 (docs/facts.md).
PRICES = {"argmax": 5, "argmin": 5, "logsoftmax": 6, "lrn": 8, "pooling": 4, "roialign": 8, "softmax": 6}


#: What host kernels compute in front of an anchor: MIGraphX's `ref` is slow at these, and what they read is small.
PRODUCERS = frozenset({"convert", "dequantizelinear", "unpack_fp4", "unpack_int4"})


def rules(
    form: Form, standard_operands: bool, extra: bool = False, least_work: int = LEAST_WORK, slices: bool = True
) -> Rules:
    """Rules by which a partition takes exactly what can be lowered.

    Args:
        form: the layout in which convolutions are computed.
        standard_operands: for the host, see `Rules`.
        extra: subgraphs without an anchor too.
        least_work: of a subgraph without an anchor, see `Extra`.
        slices: may be in subgraphs. Those of an unrolled layer are others at each step, and so would the kernels be.
    """

    def reshapes(instruction: Instruction) -> bool:
        return emit.supports_reshaper(instruction) and (slices or instruction.name != "slice")

    return Rules(
        anchor=emit.supports_anchor,
        pointwise=pointwise.supports,
        reshaper=reshapes,
        reshaper_behind=lambda instruction: (
            reshapes(instruction) and (standard_operands or instruction.name not in RESIZING)
        ),
        standard_operands=standard_operands,
        constant_order=lambda anchor, index, shape: anchors.constant_order(anchor, index, shape, form),
        channels_last=lambda instruction: form is Form.CHANNELS_LAST and anchors.channels_last(instruction),
        keeps_order=lambda instruction: instruction.name in KEEP_ORDER or pointwise.supports(instruction),
        producer=lambda instruction: form is Form.CHANNELS_LAST and instruction.name in PRODUCERS,
        extra=_extra(least_work, slices) if extra else None,
        attention=lambda found, known: emit.supports_attention(found, known, form),
    )


def _extra(least_work: int, slices: bool) -> Extra:
    def view(instruction: Instruction) -> bool:
        return emit.supports_reshaper(instruction) and instruction.name != "contiguous"

    return Extra(
        supports=lambda instruction, operands: (
            (slices or instruction.name != "slice") and emit.supports_extra(instruction, [i.shape for i in operands])
        ),
        works=lambda instruction: not view(instruction),
        elementwise=lambda instruction: view(instruction) or pointwise.supports(instruction),
        price=lambda instruction: PRICES.get(instruction.name, 1),
        least_work=least_work,
    )
