"""Instructions whose operands say places: scatter and its siblings, onehot, roialign; and running sums."""

from __future__ import annotations

import math

from iree_migraphx.lowering.family import FLOATS
from iree_migraphx.lowering.types import TYPES
from random_programs.operands import MOST_ELEMENTS, NotPossible, Operands
from random_programs.values import Kind

WAYS = ("none", "add", "mul", "max", "min")


class Placed(Operands):
    """What reads or writes at computed places."""

    def scatter(self) -> None:
        """Places may be equal: the order of the updates is MIGraphX's."""
        x, way = self.any(), self.c.pick(WAYS)
        axis = self.c.below(len(x.lens))
        lens = [length if each == axis else self.c.between(1, length) for each, length in enumerate(x.lens)]
        lens[axis] = self.c.between(1, 3)
        more = list(lens)
        more[self.c.below(len(lens))] += self.c.pick((0, 0, 1))
        indices = self.places(lens, x.lens[axis])
        updates = self.source(more, x.type)
        fields = {"axis": axis, "skip_out_of_bounds": False}
        self.add(self.b.op(f"scatter_{way}", x.name, indices, updates, **fields), x.lens, x.type)

    def scatter_slices(self) -> None:
        x, way = self.any(), self.c.pick(WAYS)
        count = self.c.between(1, 3)
        # Of several axes all places are below the least length; negative ones mean nothing there (docs/facts.md).
        depth = self.c.between(1, len(x.lens))
        indices = self.places((count, depth), min(x.lens[:depth]), "inside")
        updates = self.source((count, *x.lens[depth:]), x.type)
        self.add(self.b.op(f"scatternd_{way}", x.name, indices, updates), x.lens, x.type)

    def running_sum(self) -> None:
        x = self.any()
        fields = {"exclusive": bool(self.c.below(2)), "reverse": bool(self.c.below(2))}
        self.add(self.b.op("prefix_scan_sum", x.name, axis=self.c.below(len(x.lens)), **fields), x.lens, x.type)

    def onehot(self) -> None:
        """Indices are new: one that is computed may be off by a step, and its place then is another."""
        lens = [self.length([]) for _ in range(self.c.between(1, 3))]
        axis, depth = self.c.below(len(lens) + 1), self.length(lens)
        type_, index = self.type_(), self.c.pick(("int64_type", "int32_type", *TYPES))
        places = self.param(lens, index, self.kind(index)) if self.c.below(2) else self.places(lens, depth)
        result = [*lens[:axis], depth, *lens[axis:]]
        if math.prod(result) > 4 * MOST_ELEMENTS[self.large]:
            raise NotPossible
        value = self.b.op("onehot", places, self.source((2,), type_), axis=axis, depth=depth)
        self.add(value, result, type_)

    def align(self) -> None:
        """Regions and bins whose samples lie at places that are exact in float: at the edge a step decides."""
        x = self.any(lambda v: v.type in FLOATS and len(v.lens) == 4)
        count, height, width = self.c.between(1, 3), self.c.pick((1, 2, 4)), self.c.pick((1, 2, 4))
        regions = self.param((count, 4), x.type, Kind("fraction", self.c.below(1 << 16)))
        fields = {"output_height": height, "output_width": width, "sampling_ratio": self.c.between(1, 2)}
        fields |= {"mode": self.c.below(2), "spatial_scale": self.c.pick((1.0, 0.5, 2.0))}
        fields["coordinate_transformation_mode"] = self.c.pick(("half_pixel", "output_half_pixel"))
        batches = self.places((count,), x.lens[0], "inside", "int64_type")
        value = self.b.op("roialign", x.name, regions, batches, **fields)
        self.add(value, (count, x.lens[1], height, width), x.type)
