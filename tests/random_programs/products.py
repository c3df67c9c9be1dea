"""Anchors: dots, convolutions, and attention, each also over the quantised types."""

from __future__ import annotations

import math
from collections.abc import Sequence

from iree_migraphx.lowering.types import TYPES
from random_programs.operands import COMMON, MOST_ELEMENTS, NotPossible, Operands

#: Types of the operands of quantised anchors -> of their results.
QUANTIZED = {
    "int8_type": "int32_type",
    "uint8_type": "int32_type",
    **{type_: "float_type" for type_ in TYPES if type_.startswith("fp8")},
}
#: What attention's scores are multiplied with or divided by, and what becomes of a query by that at most.
SCALES = (0.5, 0.125, 1.0)
LARGEST_SCALE = 8.0


class Products(Operands):
    """The anchors."""

    def dot(self) -> None:
        x = self.any(lambda v: len(v.lens) > 1 and v.type != "bool_type")
        if x.type in QUANTIZED and self.c.below(2):
            name, type_ = "quant_dot", QUANTIZED[x.type]
        else:
            name, type_ = "dot", x.type
        *batch, m, k = x.lens
        n = self.length((*batch, m))
        if self.c.chance(4):  # from the other side
            w = self.weights((*batch, n, m), x.type)
            self.add(self.b.op(name, w, x.name), (*batch, n, k), type_)
            return
        self.add(self.b.op(name, x.name, self.weights((*batch, k, n), x.type)), (*batch, m, n), type_)

    def weights(self, lens: Sequence[int], type_: str, plain: bool = False) -> str:
        """The other factor: a new one, of which some axes in front may be stretched."""
        kind = self.kind(type_, ("whole", "fraction", "normal"))
        if len(lens) > 2 and not plain and self.c.chance(3):
            first = self.c.between(1, len(lens) - 2)
            return self.b.spread(self.source(lens[first:], type_, kind), lens)
        return self.source(lens, type_, kind)

    def convolution(self) -> None:
        x = self.any(lambda v: 3 <= len(v.lens) <= 5 and v.type not in ("bool_type",))
        channels = x.lens[1]
        group = self.c.pick([g for g in range(1, channels + 1) if channels % g == 0])
        filters = group * self.c.between(1, 3)
        low, high, kernel, out, stride, dilation = [], [], [], [], [], []
        for length in x.lens[2:]:
            before, after = self.c.pick((0, 1, 0, 2)), self.c.pick((0, 1, 0, 2))
            spread = self.c.pick((1, 1, 2))
            size = self.c.between(1, min(3, (length + before + after - 1) // spread + 1))
            low.append(before)
            high.append(after)
            kernel.append(size)
            stride.append(self.c.between(1, 3))
            dilation.append(spread)
            out.append((length + before + after - (size - 1) * spread - 1) // stride[-1] + 1)
        name, type_ = "convolution", x.type
        if x.type in QUANTIZED and x.type != "uint8_type" and self.c.below(2):
            name, type_ = "quant_convolution", QUANTIZED[x.type]
        lens = (x.lens[0], filters, *out)
        if math.prod(lens) > 4 * MOST_ELEMENTS[self.large]:
            raise NotPossible
        # In the form for GPUs, IREE's CPU backend fails on half filters that repeat along their depth.
        w = self.weights((filters, channels // group, *kernel), x.type, plain=True)
        fields = {"padding": low + high, "stride": stride, "dilation": dilation, "group": group, "padding_mode": 0}
        self.add(self.b.op(name, x.name, w, **fields), lens, type_)

    def convolution_backwards(self) -> None:
        x = self.any(lambda v: 3 <= len(v.lens) <= 5 and v.type != "bool_type")
        channels = x.lens[1]
        group = self.c.pick([g for g in range(1, channels + 1) if channels % g == 0])
        filters = self.c.between(1, 3)
        padding, stride, dilation, kernel, out = [], [], [], [], []
        for length in x.lens[2:]:
            stride.append(self.c.between(1, 3))
            dilation.append(self.c.pick((1, 1, 2)))
            kernel.append(self.c.between(1, 3))
            whole = stride[-1] * (length - 1) + (kernel[-1] - 1) * dilation[-1] + 1
            padding.append(self.c.below(min(3, (whole - 1) // 2) + 1))
            out.append(whole - 2 * padding[-1])
        lens = (x.lens[0], group * filters, *out)
        if math.prod(lens) > 4 * MOST_ELEMENTS[self.large]:
            raise NotPossible
        w = self.weights((channels, filters, *kernel), x.type, plain=True)
        fields = {"padding": padding, "stride": stride, "dilation": dilation, "group": group, "padding_mode": 0}
        self.add(self.b.op("convolution_backwards", x.name, w, **fields), lens, x.type)

    def attention(self) -> None:
        x = self.any(lambda v: 2 <= len(v.lens) <= 4 and v.type in COMMON)
        *batch, m, d = x.lens
        keys, n = self.length((*batch, m)), self.length((*batch, m))
        lens = (*batch, m, keys)
        plain = ("whole", "fraction", "normal")
        k = self.source((*batch, d, keys), x.type, self.kind(x.type, plain))
        scores = self.b.op("dot", x.name, k)
        if self.c.below(2):
            number = self.b.spread(self.b.literal(self.c.pick(SCALES), x.type), lens)
            scores = self.b.op(self.c.pick(("mul", "div")), scores, number)
        mask = self.c.pick(("none", "add", "where"))
        first = self.c.below(len(lens))
        if mask == "add":
            smaller = [self.c.pick((1, length)) for length in lens[first:]]
            smaller = self.source(smaller, x.type, self.kind(x.type, plain))
            scores = self.b.op("add", scores, self.b.spread(smaller, lens))
        elif mask == "where":
            condition = self.b.spread(self.source(lens[first:], "bool_type"), lens)
            other = self.b.spread(self.b.literal(self.c.pick((-1e4, -60000.0)), x.type), lens)
            scores = self.b.op("where", condition, scores, other)
        weights = self.b.op("softmax", scores, axis=len(lens) - 1)
        v = self.source((*batch, keys, n), x.type, self.kind(x.type, plain))
        self.add(self.b.op("dot", weights, v), (*batch, m, n), x.type)
