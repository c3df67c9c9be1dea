"""Dynamic dimensions: lengths that are known at run time only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from iree_migraphx.binding import capi
from iree_migraphx.binding.capi import Handle


@dataclass
class dynamic_dimension:  # noqa: N801 -- the official name
    """A dimension between min and max, both included, with the lengths that are worth being optimised for."""

    min: int = 0
    max: int = 0
    optimals: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.optimals = set(self.optimals)

    def is_fixed(self) -> bool:
        """Only one length is possible."""
        return self.min == self.max

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, dynamic_dimension):
            return NotImplemented
        same = (self.min, self.max) == (other.min, other.max)
        return same and (self.is_fixed() or self.optimals == other.optimals)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"[ {self.min}, {self.max}, {{{', '.join(map(str, sorted(self.optimals)))}}} ]"

    def handle(self) -> Handle:
        """The same dimension for the C interface."""
        if not self.optimals:
            return capi.new("dynamic_dimension", "dynamic_dimension_create_min_max", self.min, self.max)
        values = sorted(self.optimals)
        optimals = capi.new("optimals", "optimals_create", capi.sizes(values), len(values))
        return capi.new("dynamic_dimension", "dynamic_dimension_create_min_max_optimals", self.min, self.max, optimals)


def dynamic_dimensions_handle(dimensions: Sequence[dynamic_dimension]) -> Handle:
    """A list of dimensions for the C interface."""
    members = [dimension.handle() for dimension in dimensions]
    return capi.new("dynamic_dimensions", "dynamic_dimensions_create", capi.handles(members), len(members))
