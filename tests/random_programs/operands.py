"""A program that grows, and what its next instruction can read."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.types import PAIR, TYPES, is_float
from programs import Builder
from random_programs.choices import Choices
from random_programs.values import FLOAT_KINDS, INTEGER_KINDS, Kind

#: The types of most programs come from the front.
COMMON = ("float_type", "half_type", "bf16_type")
LENGTHS = {False: (1, 2, 3, 4, 1, 2, 5), True: (1, 4, 16, 17, 3, 8, 33)}
MOST_ELEMENTS = {False: 120, True: 2000}


@dataclass(frozen=True)
class Value:
    name: str
    lens: tuple[int, ...]
    type: str


class NotPossible(Exception):  # noqa: N818
    """This operator can't be put behind what is there."""


class Operands:
    """A program that grows: what there is to read in it, and new parameters."""

    def __init__(self, choices: Choices, form: Form, large: bool) -> None:
        self.c, self.form, self.large = choices, form, large
        self.b = Builder()
        self.values: list[Value] = []
        self.kinds: dict[str, Kind] = {}

    def add(self, name: str, lens: Sequence[int], type_: str) -> Value:
        self.values.append(Value(name, tuple(lens), type_))
        return self.values[-1]

    def any(self, condition: Callable[[Value], bool] = lambda value: True) -> Value:
        """A value, mostly one of the newest."""
        fitting = [value for value in reversed(self.values) if condition(value) and value.type != PAIR]
        if not fitting:
            raise NotPossible
        return fitting[min(self.c.pick((0, 0, 0, 1, 2, 4)), len(fitting) - 1)]

    def floating(self, types: Sequence[str]) -> Value:
        return self.any(lambda v: v.type in types)

    def type_(self) -> str:
        return self.c.pick((*COMMON, *COMMON, *TYPES))

    def kind(self, type_: str, allowed: Sequence[str] = ()) -> Kind:
        names = FLOAT_KINDS if is_float(type_) else INTEGER_KINDS
        return Kind(self.c.pick([name for name in names if not allowed or name in allowed]), self.c.below(1 << 16))

    def param(self, lens: Sequence[int], type_: str, kind: Kind, strides: Sequence[int] | None = None) -> str:
        name = f"p{len(self.kinds)}"
        self.kinds[name] = kind
        return self.b.param(name, lens, type_, strides)

    def source(self, lens: Sequence[int], type_: str, kind: Kind | None = None, plain: bool = False) -> str:
        """A new parameter: row-major, permuted, repeated along an axis, or a slice of a larger one."""
        kind = kind or self.kind(type_)
        how = "plain" if plain or not lens else self.c.pick(("plain", "plain", "permuted", "repeated", "sliced"))
        if how == "sliced":
            axis = self.c.below(len(lens))
            wider = list(lens)
            before, behind = self.c.below(2), self.c.between(1, 2)
            wider[axis] += before + behind
            whole = self.param(wider, type_, kind)
            return self.b.op("slice", whole, axes=[axis], starts=[before], ends=[before + lens[axis]])
        order = self.c.shuffled(range(len(lens))) if how != "plain" else range(len(lens))
        repeated = self.c.below(len(lens)) if how == "repeated" else -1
        strides, step = [0] * len(lens), 1
        for axis in reversed(order):
            if axis != repeated:
                strides[axis], step = step, step * lens[axis]
        return self.param(lens, type_, kind, strides)

    def like(self, x: Value, kind: Kind | None = None) -> str:
        """An operand of the same lengths and type: another value, a new one, or a smaller one stretched."""
        how = self.c.pick(("new", "old", "number", "axis", "stretched"))
        if how == "old" and kind is None:
            return self.any(lambda v: (v.lens, v.type) == (x.lens, x.type)).name
        if how == "number" and kind is None and x.type != "bool_type":
            numbers = (1, 2, 3, 0, 5) if x.type.startswith("u") else (1, 2, -1, 0, -3)
            if is_float(x.type):
                numbers = (1.0, 0.5, -2.0, 0.0, -1.25)
            return self.b.spread(self.b.literal(self.c.pick(numbers), x.type), x.lens)
        if how == "axis":
            axis = self.c.below(len(x.lens))
            row = self.source((x.lens[axis],), x.type, kind)
            return self.b.op("broadcast", row, axis=axis, out_lens=list(x.lens))
        if how == "stretched":
            first = self.c.below(len(x.lens))
            lens = [self.c.pick((1, length)) for length in x.lens[first:]]
            return self.b.spread(self.source(lens, x.type, kind), x.lens)
        return self.source(x.lens, x.type, kind)

    def places(self, lens: Sequence[int], limit: int, kind: str = "places", type_: str = "") -> str:
        """Indices of an axis; of the kind "inside" none that counts from the end."""
        type_ = type_ or self.c.pick(("int64_type", "int32_type"))
        return self.param(lens, type_, Kind(kind, self.c.below(1 << 16), limit))

    def length(self, others: Sequence[int]) -> int:
        length = self.c.pick(LENGTHS[self.large])
        return length if math.prod(others) * length <= MOST_ELEMENTS[self.large] else 1

    def start(self) -> None:
        rank, type_ = self.c.pick((2, 3, 4, 1, 4, 3, 5)), self.type_()
        lens: list[int] = []
        for _ in range(rank):
            lens.append(self.length(lens))
        self.add(self.source(lens, type_), lens, type_)
