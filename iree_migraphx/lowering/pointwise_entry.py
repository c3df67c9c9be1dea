"""What the tables of pointwise operators consist of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from iree_migraphx.lowering.bindings import ir
from iree_migraphx.lowering.element import Element

Emit: TypeAlias = "Callable[[Mapping[str, Any], Sequence[Element]], ir.Value]"


@dataclass(frozen=True)
class Pointwise:
    """How an operator over operands of one type computes one element.

    Attributes:
        arity: number of operands.
        floats: builds the result from the operator's fields and floating-point operands; None where there is none.
        integers: the same for integers and bools.
        integers_as: without `integers`, the float type in which C++ computes integers, to be truncated; None where
            the operator does not take them.
        doubles: the same as `floats`, for double operands on the host, where IREE has no such function.
        through_doubles: on the host `doubles` serves all floats, for IREE's own approximation is bad.
        on_ref: in place of `floats` on the host, where MIGraphX's ref target and its GPU kernels differ in meaning.
        wide: compute half-precision operands in float and round once, as functions of the C library do.
        truth: the result is a truth value (i1), to become 0 or 1 of the result's type.
    """

    arity: int
    floats: Emit | None
    integers: Emit | None = None
    integers_as: str | None = None
    doubles: Emit | None = None
    through_doubles: bool = False
    on_ref: Emit | None = None
    wide: bool = False
    truth: bool = False
