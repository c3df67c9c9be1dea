"""The values of a kernel's body while it is made, some of them not computed before they are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction
from iree_migraphx.lowering import pointwise
from iree_migraphx.lowering.bindings import ir
from iree_migraphx.lowering.builder import elementwise, materialise, reshape
from iree_migraphx.lowering.pointwise import Element
from iree_migraphx.lowering.types import is_float
from iree_migraphx.lowering.view import View


@dataclass(frozen=True)
class Leaf:
    """A tensor whose elements are rounded to `type` when they are read (an anchor's sum is wider than its result)."""

    view: View
    type: str

    @property
    def lens(self) -> tuple[int, ...]:
        """Logical lengths."""
        return self.view.lens


@dataclass(frozen=True)
class Merged:
    """A tensor of which two axes count as one and the second is broadcast: keys or values that several heads share.

    Attributes:
        view: with both axes.
        axis: the first of them.
    """

    view: View
    axis: int

    @property
    def type(self) -> str:
        """The type in memory, which is the value's own."""
        return self.view.type

    @property
    def lens(self) -> tuple[int, ...]:
        """Logical lengths, of both axes as one."""
        before, (first, second), behind = self._parts()
        return (*before, first * second, *behind)

    @property
    def split(self) -> tuple[int, ...]:
        """The lengths of both axes."""
        return self._parts()[1]

    def transpose(self, permutation: Sequence[int]) -> Merged:
        """As View's, where both axes count as one."""
        order: list[int] = []
        for axis in permutation:
            order += (axis, axis + 1) if axis == self.axis else (axis + (axis > self.axis),)
        return Merged(self.view.transpose(tuple(order)), order.index(self.axis))

    def _parts(self) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]:
        lens, behind = self.view.lens, self.axis + 2
        return lens[: self.axis], lens[self.axis : behind], lens[behind:]


@dataclass(frozen=True)
class Scalar:
    """A literal with one element, seen with any lengths."""

    value: int | float
    type: str
    lens: tuple[int, ...]


@dataclass(frozen=True)
class Chain:
    """A pointwise instruction that is not computed yet, so that the whole chain becomes one loop nest."""

    instruction: Instruction
    operands: tuple[Leaf | Scalar | Chain, ...]
    host: bool

    @property
    def type(self) -> str:
        """The type of its elements."""
        return self.instruction.shape.type

    @property
    def lens(self) -> tuple[int, ...]:
        """Logical lengths."""
        return self.instruction.shape.lens


Value = Leaf | Merged | Scalar | Chain


@dataclass(frozen=True)
class Lazy:
    """What becomes an element of one loop, whatever else that computes.

    Attributes:
        views: the tensors to read.
        lens: logical lengths, of each view too.
        element: builds the element of one scalar a view.
        view: the whole, where that is one of the views.
    """

    views: tuple[View, ...]
    lens: tuple[int, ...]
    element: Callable[[Sequence[ir.Value]], Element]
    view: View | None = None

    def over(self, changed: Callable[[View], View]) -> Lazy:
        """The same over other logical axes."""
        views = tuple(changed(view) for view in self.views)
        return Lazy(views, views[0].lens if views else (), self.element, None if self.view is None else views[0])


def merged(source: Leaf, lens: Sequence[int]) -> Merged | None:
    """The value with two axes as one, of which the second repeats the first one's elements, if such are the lengths."""
    view, rank = source.view, len(lens)
    if view.type != source.type or len(view.lens) != rank + 1:
        return None
    for axis in range(rank):
        whole = Merged(view, axis)
        if 1 not in whole.split and axis + 1 not in view.axes and whole.lens == tuple(lens):
            return whole
    return None


def in_memory(value: Value, order: Sequence[int]) -> View:
    """A view of a tensor that holds the axes in this order, and of the others, which have length 1, none.

    They are dropped last: before, they keep the loops like those of what is fused with them.
    """
    rest = [axis for axis in range(len(value.lens)) if axis not in order]
    whole = value.view if isinstance(value, Leaf) and value.view.type == value.type else None
    return materialise(whole or computed(value, [*rest, *order]), order)


def everywhere(condition: Value, lens: tuple[int, ...]) -> Value:
    """A condition with one element (op/where.hpp) as one for every element."""
    if isinstance(condition, Scalar):
        return Scalar(condition.value, condition.type, lens)
    view = reshape(computed(condition), [1] * len(lens))
    return Leaf(view.broadcast_to(lens, 0), condition.type)


def computed(value: Value, order: Sequence[int] | None = None) -> View:
    """A view whose elements have the value's own type; with `order`, of a tensor that holds the axes in this order."""
    if isinstance(value, Leaf) and value.view.type == value.type and order in (None, value.view.axes):
        return value.view
    if isinstance(value, Merged):
        value = Leaf(reshape(value.view, value.lens), value.type)
        return value.view if order is None else materialise(value.view, order)
    leaves = _leaves(value)

    def body(scalars: list[ir.Value]) -> ir.Value:
        return _element(value, _elements(leaves, scalars)).value

    axes = tuple(range(len(value.lens))) if order is None else tuple(order)
    return elementwise([leaf.view for leaf in leaves], value.lens, axes, value.type, body)


def lazily(value: Value) -> Lazy:
    """A tensor's elements for somebody else's loop."""
    if isinstance(value, Merged) or (isinstance(value, Leaf) and value.view.type == value.type):
        view = computed(value)
        return Lazy((view,), view.lens, lambda scalars: Element(scalars[0], view.type), view)
    leaves = _leaves(value)

    def element(scalars: Sequence[ir.Value]) -> Element:
        return _element(value, _elements(leaves, scalars))

    return Lazy(tuple(leaf.view for leaf in leaves), value.lens, element)


def order_of(value: Value) -> Sequence[int] | None:
    """The order of the axes in the first of the leaves that has all of them; None for a leaf, or row-major."""
    if isinstance(value, Merged) or (isinstance(value, Leaf) and value.view.type == value.type):
        return None
    moving = {axis for axis, length in enumerate(value.lens) if length != 1}
    for leaf in _leaves(value):
        held = [axis for axis in leaf.view.axes if axis is not None]
        if moving <= set(held):
            return [*(axis for axis in range(len(value.lens)) if axis not in held), *held]
    return None


def _elements(leaves: Sequence[Leaf], scalars: Sequence[ir.Value]) -> dict[int, Element]:
    return {
        id(leaf): Element(pointwise.narrow(scalar, leaf.type), leaf.type)
        for leaf, scalar in zip(leaves, scalars, strict=False)
    }


def _element(value: Value, known: dict[int, Element]) -> Element:
    if id(value) not in known:
        if isinstance(value, Scalar):
            known[id(value)] = Element(pointwise.constant(value.type, value.value), value.type, value.value)
        else:
            assert isinstance(value, Chain)
            operands = [_element(operand, known) for operand in value.operands]
            known[id(value)] = pointwise.emit(value.instruction, operands, value.host)
    return known[id(value)]


def _leaves(value: Value) -> list[Leaf]:
    found: dict[int, Leaf] = {}
    seen: set[int] = set()
    pending = [value]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, Leaf):
            found[id(current)] = current
        elif isinstance(current, Chain):
            pending.extend(reversed(current.operands))
    return list(found.values())


def scalar_of(instruction: Instruction) -> Scalar:
    """A literal's one element.

    Raises:
        Refusal: UNSUPPORTED_OPERATOR where it has several.
    """
    literal = instruction.literal
    if literal is None or literal.shape.elements != 1:
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, "a literal of several elements inside a kernel")
    type_, element = literal.shape.type, literal.array().reshape(-1)[0]
    # A bool is a byte whose value counts where it is converted.
    number = float(element) if is_float(type_) else int(element.view(np.int8) if type_ == "bool_type" else element)
    return Scalar(number, type_, literal.shape.lens)
