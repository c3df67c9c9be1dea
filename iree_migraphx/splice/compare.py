"""Whether a kernel's numbers are MIGraphX's: how far apart they may be follows from types and lengths of sums."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from iree_migraphx.ir.model import DTYPES, Instruction, Module, Shape

#: Ulps of the largest element that two ways to compute the same may differ by, beside what sums and functions add.
_BASE = 8.0
#: And for each operator: IREE computes exp, erf, tanh and the like by polynomials.
_EACH = 4.0
#: The share of elements of a bool result that may differ where it was made of floats: two that are almost equal.
_FLIPPED = 1e-3


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far results may be apart.

    Attributes:
        relative: share of the largest finite element; 0 where all is computed in whole numbers.
    """

    relative: float

    @classmethod
    def of(cls, body: Module) -> Tolerance:
        """For a subgraph: its least exact type, its longest sum (errors of which grow with the root), its operators."""
        types = {i.shape.type for i in body.instructions if i.name != "@return"}
        exact = [_epsilon(type_) for type_ in types if type_ in DTYPES]
        operators = sum(not i.name.startswith("@") for i in body.instructions)
        return cls(max(exact, default=0.0) * (_BASE + math.sqrt(terms(body)) + _EACH * operators))

    def scaled_to(self, expected: npt.NDArray[Any]) -> float:
        """The difference that is allowed to each element of a result."""
        if expected.dtype.kind in "iu":
            return 1.0 if self.relative else 0.0
        finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
        return self.relative * (finite.max(initial=0.0) or 1.0)

    def problem(self, actual: npt.NDArray[Any], expected: npt.NDArray[Any]) -> str:
        """What is wrong with a result, in words; empty where it is right. NaN is right where NaN is expected.

        Infinity is the number after a type's largest: which of the two a sum beyond it becomes is up to its rounding.
        """
        if expected.dtype.kind == "b":
            wrong = actual.view(np.uint8) != expected.view(np.uint8)
            few = wrong.sum() <= (_FLIPPED * wrong.size if self.relative else 0)
            return "" if few else f"{wrong.sum()} of {wrong.size} elements differ"
        allowed = self.scaled_to(expected)
        a, e = _with_limit(actual), _with_limit(expected)
        with np.errstate(invalid="ignore"):
            near = (a == e) | (np.abs(a - e) <= allowed) | (np.isnan(a) & np.isnan(e))
        if near.all():
            return ""
        first = np.unravel_index(int(np.argmin(near)), near.shape)
        place = ", ".join(map(str, first))
        return (
            f"{near.size - near.sum()} of {near.size} elements differ by more than {allowed:.3g}; "
            f"[{place}] is {float(actual[first]):.6g} instead of {float(expected[first]):.6g}"
        )


def _with_limit(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Numbers in double, with the power of two behind a type's largest number in infinity's place."""
    wide = values.astype(np.float64)
    if values.dtype.kind in "iu" or values.dtype == np.float64:
        return wide
    limit = float(np.exp2(np.ceil(np.log2(float(ml_dtypes.finfo(values.dtype).max)))))  # type: ignore[no-untyped-call]
    return wide.clip(-limit, limit)


def terms(body: Module) -> int:
    """The number of terms of the longest sum in a subgraph; 1 where there is none."""
    shapes = {i.id: i.shape for i in body.instructions}
    return max((_terms(i, [shapes[value] for value in i.inputs]) for i in body.instructions), default=1)


def _terms(instruction: Instruction, operands: list[Shape]) -> int:
    name = instruction.name
    if name in ("dot", "quant_dot"):
        return operands[0].lens[-1]
    if name in ("convolution", "quant_convolution"):
        return math.prod(operands[1].lens[1:])
    if name == "convolution_backwards":
        return operands[1].elements // operands[1].lens[1]
    if name.startswith("reduce_"):
        return max(1, operands[0].elements // max(1, instruction.shape.elements))
    if name in ("softmax", "logsoftmax"):
        return operands[0].lens[int(instruction.operator.get("axis", 1))]
    return math.prod(instruction.operator["lengths"]) if name == "pooling" else 1


def _epsilon(type_: str) -> float:
    dtype = DTYPES[type_]
    return 0.0 if dtype.kind in "biu" else float(ml_dtypes.finfo(dtype).eps)  # type: ignore[no-untyped-call]
