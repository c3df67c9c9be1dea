"""One result beside another: how far apart they are, and whether that is too far."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True)
class Comparison:
    """One result beside another.

    Attributes:
        name: of the subgraph, or of the model's output.
        against: "migraphx" (its ref target) or "onnxruntime".
        seed: of the inputs.
        provider: who computed it, "iree" or "migraphx".
        largest: the largest difference of two finite elements, over the largest finite element; NaN without any.
        rms: the root of the mean square difference, likewise.
        allowed: that `largest` may be.
        nonfinite: how many elements are NaN or infinite in both, in the same places.
        problem: what is wrong, empty where nothing is.
    """

    name: str
    against: str
    seed: int
    provider: str
    largest: float
    rms: float
    allowed: float
    nonfinite: int
    problem: str = ""


def compared(
    name: str,
    against: str,
    seed: int,
    provider: str,
    actual: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    allowed: float,
    problem: str,
) -> Comparison:
    """Two results of one shape, where it is known already whether they are too far apart."""
    a, e = (each.astype(np.float64).reshape(-1) for each in (actual, expected))
    known = np.isfinite(e) & np.isfinite(a)
    scale = _scale(e)
    apart = np.abs(a[known] - e[known]) / scale
    same = int((np.isnan(a) & np.isnan(e)).sum() + (np.isinf(e) & (a == e)).sum())
    largest, rms = (float(apart.max()), float(np.sqrt(np.mean(apart**2)))) if apart.size else (float("nan"),) * 2
    return Comparison(name, against, seed, provider, largest, rms, float(allowed / scale), same, problem)


def judged(
    name: str,
    against: str,
    seed: int,
    provider: str,
    actual: npt.NDArray[Any],
    expected: npt.NDArray[Any],
    bounds: Mapping[str, float],
) -> Comparison:
    """An output of the model by migraphx-driver's bounds, relative to the largest element, whatever its size."""
    if actual.shape != expected.shape and actual.size == expected.size:
        expected = expected.reshape(actual.shape)
    if actual.shape != expected.shape:
        problem = f"its shape is {list(actual.shape)} instead of {list(expected.shape)}"
        return Comparison(name, against, seed, provider, float("nan"), float("nan"), 0.0, 0, problem)
    a, e = actual.astype(np.float64), expected.astype(np.float64)
    scale = _scale(e)
    with np.errstate(invalid="ignore"):
        near = (a == e) | (np.abs(a - e) <= bounds["atol"] * scale + bounds["rtol"] * np.abs(e)) & np.isfinite(e)
    near |= np.isnan(a) & np.isnan(e)
    numbers = compared(name, against, seed, provider, actual, expected, bounds["atol"] * scale, "")
    problems = [*_far(near, a, e), *_rms(numbers.rms, bounds["rms_tol"])]
    return replace(numbers, problem="; ".join(problems))


def _scale(expected: npt.NDArray[Any]) -> float:
    """The largest finite element, which differences are judged by; 1 without any."""
    return float(np.abs(expected[np.isfinite(expected)]).max(initial=0.0)) or 1.0


def _far(near: npt.NDArray[np.bool_], a: npt.NDArray[Any], e: npt.NDArray[Any]) -> Iterator[str]:
    if not near.all():
        first = np.unravel_index(int(np.argmin(near)), near.shape)
        place = ", ".join(map(str, first))
        yield f"{near.size - near.sum()} of {near.size} elements; [{place}] is {a[first]:.6g} instead of {e[first]:.6g}"


def _rms(rms: float, bound: float) -> Iterator[str]:
    if rms > bound:
        yield f"RMS difference {rms:.3g} is above {bound:g}"
