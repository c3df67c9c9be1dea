"""How far results are from onnxruntime's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True)
class Difference:
    """How an output differs from onnxruntime's.

    Attributes:
        absolute: the largest difference.
        relative: that, over the largest magnitude of onnxruntime's output.
        tolerance: the largest `relative` that passes.
        problem: why the outputs can't be compared at all; empty where they can.
    """

    name: str
    absolute: float = 0.0
    relative: float = 0.0
    tolerance: float = 0.0
    problem: str = ""

    @property
    def passes(self) -> bool:
        """Whether the outputs agree."""
        return not self.problem and self.relative <= self.tolerance

    def __str__(self) -> str:
        if self.problem:
            return f"check {self.name}: FAILED, {self.problem}"
        return (
            f"check {self.name}: {'ok' if self.passes else 'FAILED'}, max. difference {self.absolute:.3g}, "
            f"relative {self.relative:.3g} (tolerance {self.tolerance:g})"
        )


def compare(
    names: Sequence[str], results: Sequence[npt.NDArray[Any]], expected: Sequence[npt.NDArray[Any]]
) -> list[Difference]:
    """How far each output is from onnxruntime's."""
    return [_difference(*each) for each in zip(names, results, expected, strict=True)]


def _difference(name: str, result: npt.NDArray[Any], expected: npt.NDArray[Any]) -> Difference:
    expected = np.asarray(expected)
    if result.dtype != expected.dtype or result.size != expected.size or _lens(result) != _lens(expected):
        given, wanted = (f"{array.dtype} {array.shape}" for array in (result, expected))
        return Difference(name, problem=f"{given} is not onnxruntime's {wanted}")
    result = result.reshape(expected.shape)
    if result.dtype.kind in "biu":
        wrong = np.count_nonzero(result != expected)
        return Difference(name, problem=f"{wrong} of {result.size} elements are not equal" if wrong else "")
    tolerance = tolerance_of(result.dtype)
    ours, theirs = result.astype(np.float64), expected.astype(np.float64)
    finite = np.isfinite(theirs)
    if not np.array_equal(ours[~finite], theirs[~finite], equal_nan=True):
        return Difference(name, problem="infinities or NaNs are not where onnxruntime has them")
    if not finite.any():
        return Difference(name, tolerance=tolerance)
    absolute = float(np.abs(ours[finite] - theirs[finite]).max())
    largest = float(np.abs(theirs[finite]).max())
    if np.isnan(absolute):
        return Difference(name, problem="NaNs where onnxruntime has numbers")
    return Difference(name, absolute, absolute / largest if largest else absolute, tolerance)


def _lens(array: npt.NDArray[Any]) -> tuple[int, ...]:
    """The lengths; a scalar is one element in MIGraphX."""
    return array.shape or (1,)


def tolerance_of(dtype: np.dtype[Any]) -> float:
    """The largest difference that passes, relative to the largest value of the output.

    A deep net that sums in another order, or with fused multiply-adds, is many roundings away: 2^13 of them pass for
    float (0.001) and double, and 2^4 for the short types, which both sides accumulate in float.
    """
    import ml_dtypes

    bits = int(ml_dtypes.finfo(dtype).nmant)  # type: ignore[no-untyped-call]
    return float(min(2.0 ** ((13 if bits >= 23 else 4) - bits), 0.25))
