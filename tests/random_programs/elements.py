"""Pointwise instructions, all that the lowering's tables have, over each of their types."""

from __future__ import annotations

from collections.abc import Sequence

from iree_migraphx.binding.datatypes import type_t
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.pointwise import POINTWISE
from iree_migraphx.lowering.pointwise_functions import FUNCTIONS
from iree_migraphx.lowering.types import PAIR, TYPES, is_float
from random_programs.operands import COMMON, Operands
from random_programs.values import Kind

#: Fields of operators that have some.
FIELDS = {"elu": {"alpha": 0.75}, "leaky_relu": {"alpha": 0.3}}
#: Functions that IREE's own expansions for CPUs compute well; the form for GPUs has nothing else, and for float only.
GOOD_ON_CPU = ("exp", "log", "sigmoid", "sqrt", "rsqrt", "tanh")


class Elements(Operands):
    """What computes each element by itself."""

    def pointwise(self) -> None:
        x = self.any()
        names = [name for name in POINTWISE if self.takes(name, x.type)]
        name = self.c.pick(names)
        operands = [x.name]
        operands.extend(self.like(x) for _ in range(POINTWISE[name].arity - 1))
        if name in ("div", "recip") and not is_float(x.type):
            # A division of integers by zero ends MIGraphX's process.
            operands[-1] = self.like(x, Kind("positive", self.c.below(1 << 16)))
        elif len(operands) == 2 and self.c.chance(3):
            operands.reverse()
        result = "bool_type" if name in ("isinf", "isnan") else x.type
        self.add(self.b.op(name, *operands, **FIELDS.get(name, {})), x.lens, result)

    def takes(self, name: str, type_: str) -> bool:
        entry = POINTWISE[name]
        floats = is_float(type_)
        if self.form is not Form.CHANNELS_LAST:
            if name in FUNCTIONS and (name not in GOOD_ON_CPU or not floats or type_ == "double_type"):
                return False
            if name == "equal" and floats:  # where ref and GPU kernels differ in meaning
                return False
        possible = entry.floats if floats else entry.integers or entry.integers_as
        return possible is not None

    def where(self) -> None:
        x = self.any()
        conditions = [v for v in self.values if v.lens == x.lens and v.type != PAIR]
        condition = self.c.pick(conditions).name if self.c.chance(2) else self.source(x.lens, "bool_type")
        self.add(self.b.op("where", condition, x.name, self.like(x)), x.lens, x.type)

    def convert(self) -> None:
        x, type_ = self.any(), self.type_()
        self.add(self.b.op("convert", x.name, target_type=int(type_t[type_])), x.lens, type_)

    def bit_cast(self) -> None:
        x = self.any()
        type_ = self.c.pick([t for t in TYPES if TYPES[t].bits == TYPES[x.type].bits and t != "bool_type"])
        self.add(self.b.op("bit_cast", x.name, target_type=int(type_t[type_])), x.lens, type_)

    def quantize(self) -> None:
        x = self.floating(("float_type", "half_type", "bf16_type", "double_type"))
        type_ = self.c.pick(("int8_type", "uint8_type", "int32_type", "fp8e4m3fn_type", "fp8e5m2fnuz_type"))
        operands = [x.name, self.scale(x.lens, x.type)]
        if self.c.chance(2):
            operands.append(self.zero(x.lens, type_))
        value = self.b.op("quantizelinear", *operands, out_type=int(type_t[type_]))
        self.add(value, x.lens, type_)

    def dequantize(self) -> None:
        x = self.floating(("int8_type", "uint8_type", "int32_type", "fp8e4m3fn_type", "fp8e5m2fnuz_type"))
        type_ = self.c.pick(COMMON)
        operands = [x.name, self.scale(x.lens, type_)]
        # Without a zero MIGraphX reads behind its buffer where x is the wider one (docs/facts.md).
        if self.c.chance(2) or TYPES[x.type].bits > TYPES[type_].bits:
            operands.append(self.zero(x.lens, x.type))
        self.add(self.b.op("dequantizelinear", *operands), x.lens, type_)

    def scale(self, lens: Sequence[int], type_: str) -> str:
        if self.c.chance(2):
            return self.b.spread(self.b.literal(self.c.pick((1.0, 0.5, 0.1, 3.0, -2.0)), type_), lens)
        axis = self.c.below(len(lens))
        row = self.source((lens[axis],), type_, Kind("positive", self.c.below(1 << 16)))
        return self.b.op("broadcast", row, axis=axis, out_lens=list(lens))

    def zero(self, lens: Sequence[int], type_: str) -> str:
        return self.b.spread(self.b.literal(self.c.pick((0, 1, 3)), type_), lens)
