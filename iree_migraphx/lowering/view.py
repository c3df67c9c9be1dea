"""A value of the subgraph as a tensor and the way its logical axes index it.

MIGraphX describes transposes and broadcasts by strides. A View does the same for tensors, so that these operators cost
nothing: they become part of the indexing maps of whatever reads the value.
"""

from __future__ import annotations

from dataclasses import dataclass

from iree_migraphx.lowering.bindings import ir


@dataclass(frozen=True)
class View:
    """A tensor seen with other axes.

    Attributes:
        tensor: a ranked tensor value.
        lens: the logical lengths.
        axes: for each dimension of the tensor the logical axis that indexes it, or None where index 0 is always meant.
            Logical axes that index nothing are broadcast.
        type: MIGraphX's name of the element type.
    """

    tensor: ir.Value
    lens: tuple[int, ...]
    axes: tuple[int | None, ...]
    type: str

    @property
    def identity(self) -> bool:
        """The tensor's dimensions are the logical axes, in order."""
        return self.axes == tuple(range(len(self.lens)))

    def transpose(self, permutation: tuple[int, ...]) -> View:
        """Axis i of the result is axis permutation[i] of this view."""
        position = {axis: i for i, axis in enumerate(permutation)}
        axes = tuple(None if axis is None else position[axis] for axis in self.axes)
        return View(self.tensor, tuple(self.lens[axis] for axis in permutation), axes, self.type)

    def broadcast_to(self, lens: tuple[int, ...], first: int) -> View:
        """Put the axes at `first` and following of a shape `lens`; axes of length 1 stretch."""
        axes: list[int | None] = []
        for axis in self.axes:
            stretched = axis is not None and self.lens[axis] != lens[first + axis]
            axes.append(None if axis is None or stretched else first + axis)
        return View(self.tensor, lens, tuple(axes), self.type)

    def drop_unit_axes(self, dropped: set[int]) -> View:
        """Remove logical axes of length 1."""
        kept = [axis for axis in range(len(self.lens)) if axis not in dropped]
        position = {axis: i for i, axis in enumerate(kept)}
        axes = tuple(None if axis is None else position.get(axis) for axis in self.axes)
        return View(self.tensor, tuple(self.lens[axis] for axis in kept), axes, self.type)

    def insert_unit_axes(self, lens: tuple[int, ...], inserted: set[int]) -> View:
        """Add logical axes of length 1 so that the result has lengths `lens`, with the new axes at `inserted`."""
        kept = [axis for axis in range(len(lens)) if axis not in inserted]
        axes = tuple(None if axis is None else kept[axis] for axis in self.axes)
        return View(self.tensor, lens, axes, self.type)
