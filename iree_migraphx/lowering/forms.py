"""What the lowering can take, as rules for the partition."""

from __future__ import annotations

from iree_migraphx.lowering import anchors, emit
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.partition.rules import Rules


def form_for(host: bool) -> Form:
    """The layout in which convolutions are computed."""
    return Form.CHANNELS_LAST if host else Form.OPERANDS


def rules(form: Form, standard_operands: bool) -> Rules:
    """Rules by which a partition takes exactly what can be lowered."""
    return Rules(
        anchor=emit.supports_anchor,
        pointwise=emit.supports_pointwise,
        reshaper=emit.supports_reshaper,
        standard_operands=standard_operands,
        constant_order=lambda anchor, index, shape: anchors.constant_order(anchor, index, shape, form),
    )
