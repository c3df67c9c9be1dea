"""What the parameters of a random program hold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from iree_migraphx.ir.model import DTYPES, Shape
from iree_migraphx.lowering.types import is_float
from lowering.test_pointwise import edges
from programs import strided


@dataclass(frozen=True)
class Kind:
    """The values of a parameter.

    Attributes:
        name: "whole": small whole numbers; "fraction": quarters; "normal": any, around 0; "edges": where rules change;
            "positive": 1 to 4; "places": indices of an axis; "inside": those that count from its start.
        limit: the length of that axis.
    """

    name: str
    seed: int
    limit: int = 0


FLOAT_KINDS = ("whole", "whole", "fraction", "normal", "normal", "edges")
INTEGER_KINDS = ("whole", "whole", "whole", "edges")


def made(shape: Shape, kind: Kind) -> np.ndarray:
    """An array with the shape's strides."""
    return strided(_memory(shape.type, max(shape.element_space, 1), kind), shape)


def _memory(type_: str, count: int, kind: Kind) -> np.ndarray:
    random, dtype = np.random.default_rng(kind.seed), DTYPES[type_]
    if kind.name == "places":
        return random.integers(-kind.limit, kind.limit, count).astype(dtype)
    if kind.name == "inside":
        return random.integers(0, kind.limit, count).astype(dtype)
    if kind.name == "positive":
        return random.integers(1, 5, count).astype(dtype)
    if type_ == "bool_type":
        return random.integers(0, 2, count).astype(np.bool_)
    if kind.name == "edges":
        return random.choice(edges(type_), count)
    if kind.name == "whole" or not is_float(type_):
        return random.integers(0 if type_.startswith("u") else -3, 4, count).astype(dtype)
    values = random.integers(-16, 17, count) / 4 if kind.name == "fraction" else random.normal(0.0, 2.0, count)
    return values.astype(dtype)
