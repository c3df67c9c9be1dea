"""Made-up programs of anchors, reshapers and pointwise operators over whole numbers, all of whose values are exact.

Each value's magnitude is bounded where it is made, so that nobody ever rounds: results must be equal.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import hypothesis.strategies as st
import numpy as np

from iree_migraphx.binding.datatypes import type_t
from programs import Builder

#: Whole numbers up to here are exact in each type, and no two of them are neighbours (op/equal.hpp).
EXACT = {
    "half_type": 1024,
    "float_type": 2**22,
    "bf16_type": 128,
    "double_type": 2**51,
    "fp8e4m3fn_type": 16,
    "fp8e4m3fnuz_type": 16,
    "fp8e5m2_type": 8,
    "fp8e5m2fnuz_type": 8,
    "int8_type": 127,
    "uint8_type": 255,
    "int16_type": 2**15 - 1,
    "uint16_type": 2**16 - 1,
    "int32_type": 2**31 - 1,
    "uint32_type": 2**32 - 1,
    "int64_type": 2**53,
    "uint64_type": 2**53,
}
#: Types of quantised anchors' operands -> of their results.
QUANTIZED = {
    "int8_type": "int32_type",
    "uint8_type": "int32_type",
    **{type_: "float_type" for type_ in EXACT if type_.startswith("fp8")},
}
#: Most programs are of these.
COMMON = ("float_type", "half_type")
TYPES = st.one_of(st.sampled_from(COMMON), st.sampled_from(list(EXACT)))
SMALL = 2
#: Most axes are short; 1 is special everywhere, and a few are as long as vectors or a little longer.
LENGTHS = st.sampled_from([1, 1, 2, 3, 4, 5, 8, 17])
MOST_ELEMENTS = 3000
UNARY = ("relu", "abs", "neg", "sign", "floor", "ceil", "nearbyint", "leaky_relu", "not")
BINARY = (
    *("add", "sub", "mul", "max", "min", "greater", "less", "equal", "prelu", "sqdiff"),
    *("logical_and", "logical_or", "logical_xor"),
)
#: What makes a negative number of others: not over unsigned types.
NEGATIVE = ("neg", "sub", "sqdiff")


@dataclass(frozen=True)
class Value:
    name: str
    lens: tuple
    type: str
    bound: int


def unsigned(type_):
    return type_.startswith("u")


def least(type_):
    """The least number that is drawn."""
    return 0 if unsigned(type_) else -SMALL


def allowed(operators, type_):
    return [name for name in operators if not unsigned(type_) or name not in NEGATIVE]


class Maker:
    """Adds instructions drawn by hypothesis to a builder."""

    def __init__(self, draw):
        self.draw = draw
        self.b = Builder()
        self.count = itertools.count()
        self.values = []

    def add(self, name, lens, type_, bound):
        self.values.append(Value(name, tuple(lens), type_, max(bound, SMALL)))
        return self.values[-1]

    def pick(self, condition=lambda value: True):
        """A value, the newest ones most often; None where there is none."""
        fitting = [value for value in self.values if condition(value)]
        if not fitting:
            return None
        return fitting[-self.draw(st.integers(1, min(len(fitting), self.draw(st.sampled_from([1, 2, 3, 100])))))]

    def source(self, lens, type_, constant=None, repeat=True):
        """A new parameter, sometimes permuted or (where it may) repeated, or a constant."""
        if constant is None:
            constant = self.draw(st.booleans())
        if constant:
            seed = next(self.count)
            array = np.random.default_rng(seed).integers(least(type_), SMALL, lens, endpoint=True)
            return self.b.literal(array, type_)
        order = self.draw(st.permutations(range(len(lens)))) if self.draw(st.booleans()) else range(len(lens))
        repeated = (
            self.draw(st.sets(st.integers(0, len(lens) - 1), max_size=1)) if repeat and self.draw(st.booleans()) else ()
        )
        strides, step = [0] * len(lens), 1
        for axis in reversed(order):
            if axis not in repeated:
                strides[axis], step = step, step * lens[axis]
        return self.b.param(f"p{next(self.count)}", lens, type_, strides)

    def shape(self, least, most):
        lens = []
        for _ in range(self.draw(st.integers(least, most))):
            lens.append(self.length(lens))
        return tuple(lens)

    def length(self, others):
        """A length beside these others, so that there are not too many elements."""
        length = self.draw(LENGTHS)
        return length if math.prod(others) * length <= MOST_ELEMENTS else 1

    def start(self):
        type_ = self.draw(TYPES)
        lens = self.shape(2, 5)
        self.add(self.source(lens, type_, constant=False), lens, type_, SMALL)

    def dot(self):
        x = self.pick(lambda v: len(v.lens) > 1)
        if x is None or x.bound * SMALL * x.lens[-1] > EXACT[x.type]:
            return self.shrink()
        n = self.length(x.lens[:-1])
        w = self.source((*x.lens[:-2], x.lens[-1], n), x.type)
        self.add(self.b.op("dot", x.name, w), (*x.lens[:-1], n), x.type, x.bound * SMALL * x.lens[-1])

    def dot_with_itself(self):
        x = self.pick(lambda v: len(v.lens) > 1)
        if x is None or x.bound**2 * x.lens[-1] > EXACT[x.type]:
            return self.shrink()
        rank = len(x.lens)
        turned = self.b.op("transpose", x.name, permutation=[*range(rank - 2), rank - 1, rank - 2])
        self.add(self.b.op("dot", x.name, turned), (*x.lens[:-1], x.lens[-2]), x.type, x.bound**2 * x.lens[-1])

    def convolution(self):
        x = self.pick(lambda v: 3 <= len(v.lens) <= 5)
        if x is None:
            return self.add_axis()
        rank, channels = len(x.lens) - 2, x.lens[1]
        group = self.draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
        filters = group * self.draw(st.integers(1, 3))
        fields = {"padding": [], "stride": [], "dilation": [], "group": group}
        low, high, kernel, out = [], [], [], []
        for length in x.lens[2:]:
            before, after = self.draw(st.integers(0, 2)), self.draw(st.integers(0, 2))
            dilation = self.draw(st.sampled_from([1, 1, 2]))
            size = self.draw(st.integers(1, min(3, (length + before + after - 1) // dilation + 1)))
            stride = self.draw(st.integers(1, 3))
            low.append(before)
            high.append(after)
            kernel.append(size)
            fields["stride"].append(stride)
            fields["dilation"].append(dilation)
            out.append((length + before + after - (size - 1) * dilation - 1) // stride + 1)
        fields["padding"] = low + high
        bound = x.bound * SMALL * math.prod(kernel) * (channels // group)
        if bound > EXACT[x.type]:
            return self.shrink()
        # In the form for GPUs, IREE's CPU backend fails on half filters that repeat along their depth.
        w = self.source((filters, channels // group, *kernel), x.type, repeat=False)
        self.add(self.b.conv(x.name, w, rank, **fields), (x.lens[0], filters, *out), x.type, bound)

    def convolution_backwards(self):
        x = self.pick(lambda v: 3 <= len(v.lens) <= 5)
        if x is None:
            return self.add_axis()
        channels = x.lens[1]
        group = self.draw(st.sampled_from([g for g in range(1, channels + 1) if channels % g == 0]))
        filters = self.draw(st.integers(1, 3))
        fields = {"padding": [], "stride": [], "dilation": [], "group": group, "padding_mode": 0}
        kernel, out = [], []
        for length in x.lens[2:]:
            stride, dilation = self.draw(st.integers(1, 3)), self.draw(st.sampled_from([1, 1, 2]))
            size = self.draw(st.integers(1, 4))
            whole = stride * (length - 1) + (size - 1) * dilation + 1
            fields["padding"].append(self.draw(st.integers(0, min(3, (whole - 1) // 2))))
            fields["stride"].append(stride)
            fields["dilation"].append(dilation)
            kernel.append(size)
            out.append(whole - 2 * fields["padding"][-1])
        lens = (x.lens[0], group * filters, *out)
        bound = x.bound * SMALL * math.prod(kernel) * (channels // group)
        if bound > EXACT[x.type] or math.prod(lens) > 4 * MOST_ELEMENTS:
            return self.shrink()
        w = self.source((channels, filters, *kernel), x.type, repeat=False)
        self.add(self.b.op("convolution_backwards", x.name, w, **fields), lens, x.type, bound)

    def quantized(self):
        """quant_dot or quant_convolution of a value of 8 bits."""
        x = self.pick(lambda v: v.type in QUANTIZED and len(v.lens) > 1)
        if x is None:
            return self.dot()
        result = QUANTIZED[x.type]
        if len(x.lens) not in (3, 4, 5) or x.type == "uint8_type" or self.draw(st.booleans()):
            if x.bound * SMALL * x.lens[-1] > EXACT[result]:
                return self.shrink()
            n = self.length(x.lens[:-1])
            w = self.source((*x.lens[:-2], x.lens[-1], n), x.type)
            return self.add(self.b.op("quant_dot", x.name, w), (*x.lens[:-1], n), result, x.bound * SMALL * x.lens[-1])
        rank, filters = len(x.lens) - 2, self.draw(st.integers(1, 4))
        w = self.source((filters, x.lens[1], *[1] * rank), x.type, repeat=False)
        fields = {"padding": [1] * rank, "stride": [2] * rank, "dilation": [1] * rank, "group": 1, "padding_mode": 0}
        lens = (x.lens[0], filters, *((length + 1) // 2 + 1 for length in x.lens[2:]))
        return self.add(self.b.op("quant_convolution", x.name, w, **fields), lens, result, x.bound * SMALL * x.lens[1])

    def shrink(self):
        """Bring a value back to small numbers."""
        x = self.pick()
        limits = [self.b.spread(self.b.literal(limit, x.type), x.lens) for limit in (least(x.type), SMALL)]
        self.add(self.b.op("clip", x.name, *limits), x.lens, x.type, SMALL)

    def unary(self):
        x = self.pick()
        operator = self.draw(st.sampled_from(allowed(UNARY, x.type)))
        fields = {"alpha": 2.0} if operator == "leaky_relu" else {}
        if x.bound * 2 > EXACT[x.type]:
            return self.shrink()
        self.add(self.b.op(operator, x.name, **fields), x.lens, x.type, x.bound * len(fields or "x") * 2)

    def binary(self):
        x = self.pick()
        operator = self.draw(st.sampled_from(allowed(BINARY, x.type)))
        y = self.pick(lambda v: (v.lens, v.type) == (x.lens, x.type))
        if self.draw(st.booleans()):
            y = self.broadcast(x)
        bound = {"mul": x.bound * y.bound, "prelu": x.bound * y.bound, "sqdiff": (x.bound + y.bound) ** 2}
        bound = bound.get(operator, x.bound + y.bound)
        if bound > EXACT[x.type]:
            return self.shrink()
        pair = [x.name, y.name] if self.draw(st.booleans()) else [y.name, x.name]
        self.add(self.b.op(operator, *pair), x.lens, x.type, bound)

    def broadcast(self, x):
        """A new operand with the lengths of `x`: a scalar, along one axis, or with some axes stretched."""
        kind = self.draw(st.sampled_from(["scalar", "axis", "stretched", "whole"]))
        if kind == "scalar":
            value = self.b.spread(self.b.literal(self.draw(st.integers(least(x.type), SMALL)), x.type), x.lens)
        elif kind == "axis":
            axis = self.draw(st.integers(0, len(x.lens) - 1))
            row = self.source((x.lens[axis],), x.type)
            value = self.b.op("broadcast", row, axis=axis, out_lens=list(x.lens))
        elif kind == "stretched":
            first = self.draw(st.integers(0, len(x.lens) - 1))
            lens = tuple(self.draw(st.sampled_from([1, length])) for length in x.lens[first:])
            value = self.b.spread(self.source(lens, x.type), x.lens)
        else:
            value = self.source(x.lens, x.type)
        return Value(value, x.lens, x.type, SMALL)

    def where(self):
        x = self.pick()
        y = self.pick(lambda v: (v.lens, v.type) == (x.lens, x.type))
        condition = self.b.param(f"p{next(self.count)}", x.lens, "bool_type")
        self.add(self.b.op("where", condition, x.name, y.name), x.lens, x.type, max(x.bound, y.bound))

    def convert(self):
        x, type_ = self.pick(), self.draw(TYPES)
        if x.bound > EXACT[type_]:
            return self.shrink()
        value = self.b.op("abs", x.name) if unsigned(type_) and not unsigned(x.type) else x.name
        self.add(self.b.op("convert", value, target_type=int(type_t[type_])), x.lens, type_, x.bound)

    def quantize(self):
        x = self.pick(lambda v: v.type in ("float_type", "half_type") and v.bound <= 127 - SMALL)
        if x is None:
            return self.convert()
        operands = [self.b.spread(self.b.literal(self.draw(st.sampled_from([1.0, -1.0])), x.type), x.lens)]
        bound = x.bound
        if self.draw(st.booleans()):
            operands.append(self.b.spread(self.b.literal(self.draw(st.integers(-SMALL, SMALL)), "int8_type"), x.lens))
            bound += SMALL
        value = self.b.op("quantizelinear", x.name, *operands, out_type=int(type_t["int8_type"]))
        self.add(value, x.lens, "int8_type", bound)

    def dequantize(self):
        x = self.pick(lambda v: v.type in ("int8_type", "uint8_type"))
        if x is None:
            return self.quantize()
        type_ = self.draw(st.sampled_from(COMMON))
        scale = self.b.spread(self.b.literal(2.0, type_), x.lens)
        zero = self.b.spread(self.b.literal(1, x.type), x.lens)
        self.add(self.b.op("dequantizelinear", x.name, scale, zero), x.lens, type_, 2 * x.bound + 2)

    def transpose(self):
        x = self.pick()
        order = self.draw(st.permutations(range(len(x.lens))))
        value = self.b.op("transpose", x.name, permutation=list(order))
        self.add(value, [x.lens[axis] for axis in order], x.type, x.bound)

    def reshape(self):
        """Merge neighbours, or split an axis, or move the axes of length 1."""
        x = self.pick()
        lens = list(x.lens)
        change = self.draw(st.sampled_from(["merge", "split", "ones"]))
        axis = self.draw(st.integers(0, len(lens) - 1))
        if change == "merge" and axis + 1 < len(lens) and len(lens) > 1:
            lens[axis : axis + 2] = [lens[axis] * lens[axis + 1]]
        elif change == "split" and len(lens) < 5:
            factor = self.draw(st.sampled_from([f for f in range(1, lens[axis] + 1) if lens[axis] % f == 0]))
            lens[axis : axis + 1] = [factor, lens[axis] // factor]
        else:
            kept = [length for length in lens if length != 1] or [1]
            while len(kept) < len(lens):
                kept.insert(self.draw(st.integers(0, len(kept))), 1)
            lens = kept
        self.add(self.b.op("reshape", x.name, dims=lens), lens, x.type, x.bound)

    def slice(self):
        x = self.pick()
        axis = self.draw(st.integers(0, len(x.lens) - 1))
        start = self.draw(st.integers(0, x.lens[axis] - 1))
        end = self.draw(st.integers(start + 1, x.lens[axis]))
        given = self.draw(st.sampled_from([start, start - x.lens[axis]]))
        lens = [*x.lens[:axis], end - start, *x.lens[axis + 1 :]]
        self.add(self.b.op("slice", x.name, axes=[axis], starts=[given], ends=[end]), lens, x.type, x.bound)

    def add_axis(self):
        x = self.pick()
        if len(x.lens) == 5:
            return self.transpose()
        axis = self.draw(st.integers(0, len(x.lens)))
        lens = [*x.lens[:axis], 1, *x.lens[axis:]]
        value = self.b.op("unsqueeze", x.name, axes=[axis], steps=[])
        if self.draw(st.booleans()):
            lens[axis] = self.length(lens)
            value = self.b.spread(value, lens)
        self.add(value, lens, x.type, x.bound)

    def drop_axes(self):
        x = self.pick(lambda v: 1 in v.lens and len(v.lens) > 1 and v.lens != (1,) * len(v.lens))
        if x is None:
            return self.transpose()
        axis = x.lens.index(1)
        lens = [*x.lens[:axis], *x.lens[axis + 1 :]]
        self.add(self.b.op("squeeze", x.name, axes=[axis]), lens, x.type, x.bound)

    def other(self):
        """Something that no kernel takes."""
        x = self.pick()
        axis = self.draw(st.integers(0, len(x.lens) - 1))
        lens = [*x.lens[:axis], 1, *x.lens[axis + 1 :]]
        self.add(self.b.op("reduce_max", x.name, axes=[axis]), lens, x.type, x.bound)


ANCHORS = (
    *(Maker.dot, Maker.convolution, Maker.convolution, Maker.convolution_backwards),
    *(Maker.dot_with_itself, Maker.quantized),
)
REST = (
    *(Maker.unary, Maker.binary, Maker.binary, Maker.binary, Maker.where, Maker.convert, Maker.shrink),
    *(Maker.quantize, Maker.dequantize),
    *(Maker.transpose, Maker.reshape, Maker.slice, Maker.add_axis, Maker.drop_axes, Maker.other),
)


@st.composite
def programs(draw, most=10):
    """A program with at least one anchor among up to `most` instructions in front of it and as many behind it."""
    maker = Maker(draw)
    maker.start()
    for step in draw(st.lists(st.sampled_from(REST), max_size=most // 2)):
        step(maker)
    draw(st.sampled_from(ANCHORS))(maker)
    for step in draw(st.lists(st.sampled_from((*REST, *ANCHORS)), max_size=most)):
        step(maker)
    results = {maker.values[-1].name: None}
    for value in draw(st.lists(st.sampled_from(maker.values[1:]), max_size=2)):
        results[value.name] = None
    return maker.b.build(*results)
