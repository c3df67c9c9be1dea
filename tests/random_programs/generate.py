"""Random programs: instructions drawn from the lowering's own tables, over each of their types."""

from __future__ import annotations

import contextlib
import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import msgpack

from iree_migraphx.binding.datatypes import type_t
from iree_migraphx.errors import MigraphxError
from iree_migraphx.ir.model import Instruction, Module, Program
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.family import FLOATS
from iree_migraphx.lowering.pointwise import POINTWISE
from iree_migraphx.lowering.pointwise_functions import FUNCTIONS
from iree_migraphx.lowering.reductions import REDUCTIONS
from iree_migraphx.lowering.types import PAIR, TYPES, is_float
from programs import Builder, recorded
from random_programs.choices import Choices
from random_programs.values import FLOAT_KINDS, INTEGER_KINDS, Kind

#: The types of most programs come from the front.
COMMON = ("float_type", "half_type", "bf16_type")
LENGTHS = {False: (1, 2, 3, 4, 1, 2, 5), True: (1, 4, 16, 17, 3, 8, 33)}
MOST_ELEMENTS = {False: 120, True: 2000}
#: Fields of operators that have some.
FIELDS = {"elu": {"alpha": 0.75}, "leaky_relu": {"alpha": 0.3}}
#: Functions that IREE's own expansions for CPUs compute well; the form for GPUs has nothing else, and for float only.
GOOD_ON_CPU = ("exp", "log", "sigmoid", "sqrt", "rsqrt", "tanh")
QUANTIZED = {
    "int8_type": "int32_type",
    "uint8_type": "int32_type",
    **{type_: "float_type" for type_ in TYPES if type_.startswith("fp8")},
}


@dataclass(frozen=True)
class Value:
    name: str
    lens: tuple[int, ...]
    type: str


@dataclass(frozen=True)
class Example:
    """A random program with what its parameters hold.

    Attributes:
        form: in which it is lowered.
        choices: make the same program again.
    """

    program: Program
    kinds: Mapping[str, Kind]
    form: Form
    large: bool
    choices: tuple[int, ...]

    @property
    def digest(self) -> bytes:
        """Equal for programs that differ in the values of their constants at most."""
        numbers: dict[str, int] = {}
        entries = []
        for i in self.program.main.instructions:
            numbers[i.id] = len(numbers)
            fields = sorted((key, str(value)) for key, value in i.operator.items() if key != "parameter")
            inputs = [numbers[value] for value in i.inputs]
            entries.append((i.name, i.shape.type, i.shape.lens, i.shape.strides, fields, inputs))
        return hashlib.blake2b(msgpack.packb((self.form.value, entries)), digest_size=10).digest()


class NotPossible(Exception):  # noqa: N818
    """This operator can't be put behind what is there."""


class Maker:
    """Adds instructions to a builder."""

    def __init__(self, choices: Choices, form: Form, large: bool) -> None:
        self.c, self.form, self.large = choices, form, large
        self.b = Builder()
        self.values: list[Value] = []
        self.kinds: dict[str, Kind] = {}

    # What there is to read.

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

    def length(self, others: Sequence[int]) -> int:
        length = self.c.pick(LENGTHS[self.large])
        return length if math.prod(others) * length <= MOST_ELEMENTS[self.large] else 1

    def start(self) -> None:
        rank, type_ = self.c.pick((2, 3, 4, 1, 4, 3, 5)), self.type_()
        lens: list[int] = []
        for _ in range(rank):
            lens.append(self.length(lens))
        self.add(self.source(lens, type_), lens, type_)

    # Pointwise operators.

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

    # Whole tensors.

    def reduction(self) -> None:
        x = self.any()
        name = self.c.pick([name for name in REDUCTIONS if name.startswith("reduce_")])
        axes = sorted({self.c.below(len(x.lens)) for _ in range(self.c.between(1, 2))})
        lens = [1 if axis in axes else length for axis, length in enumerate(x.lens)]
        self.add(self.b.op(name, x.name, axes=axes), lens, x.type)

    def along(self) -> None:
        name = self.c.pick(("softmax", "argmax", "logsoftmax", "argmin"))
        if name in ("softmax", "logsoftmax"):
            x = self.floating(FLOATS)
            self.add(self.b.op(name, x.name, axis=self.c.below(len(x.lens))), x.lens, x.type)
        else:
            x = self.any()
            axis = self.c.below(len(x.lens))
            lens = [1 if each == axis else length for each, length in enumerate(x.lens)]
            last = bool(self.c.below(2))
            self.add(self.b.op(name, x.name, axis=axis, select_last_index=last), lens, "int64_type")

    def pooling(self) -> None:
        mode = self.c.below(3)
        x = self.any(lambda v: (mode == 1 or v.type in FLOATS) and 3 <= len(v.lens) <= 5)
        fields = {"mode": mode, "padding_mode": 0, "ceil_mode": False, "dyn_global": False}
        fields |= {
            "lp_order": self.c.pick((2, 1) if x.type == "double_type" else (2, 1, 3)),
            "count_include_pad": bool(self.c.below(2)),
        }
        lengths, stride, dilations, low, high, out = [], [], [], [], [], []
        for length in x.lens[2:]:
            lengths.append(self.c.between(1, 3))
            dilations.append(self.c.pick((1, 1, 2)))
            stride.append(self.c.between(1, 3))
            reach = (lengths[-1] - 1) * dilations[-1] + 1
            low.append(self.c.below(min(reach, 3)))
            high.append(self.c.below(min(reach, 3)))
            whole = length + low[-1] + high[-1] - reach
            if whole < 0:
                raise NotPossible
            out.append(whole // stride[-1] + 1)
        fields |= {"lengths": lengths, "stride": stride, "dilations": dilations, "padding": low + high}
        self.add(self.b.op("pooling", x.name, **fields), (*x.lens[:2], *out), x.type)

    def move(self) -> None:
        x = self.any()
        axis, rank = self.c.below(len(x.lens)), len(x.lens)
        name = self.c.pick(("concat", "pad", "gather", "step", "reverse", "gathernd"))
        lens = list(x.lens)
        if name == "concat":
            others = []
            for _ in range(self.c.between(1, 2)):
                other = [*lens]
                other[axis] = self.length([])
                others.append((self.source(other, x.type), other[axis]))
            parts = [(x.name, lens[axis]), *others]
            parts = self.c.shuffled(parts)
            lens[axis] = sum(length for _, length in parts)
            value = self.b.op("concat", *(part for part, _ in parts), axis=axis)
        elif name == "pad":
            pads = [self.c.pick((0, 1, 0, 2)) for _ in range(2 * rank)]
            lens = [length + pads[i] + pads[i + rank] for i, length in enumerate(lens)]
            fill = self.c.pick((0.0, 1.0, 3.0))
            value = self.b.op("pad", x.name, pads=pads, value=fill, mode=0)
        elif name == "reverse":
            value = self.b.op("reverse", x.name, axes=[axis])
        elif name == "step":
            step = self.c.between(1, 3)
            lens[axis] = -(-lens[axis] // step)
            value = self.b.op("step", x.name, axes=[axis], steps=[step])
        elif name == "gather":
            places = [self.length(lens[:-1]) for _ in range(self.c.between(1, 2))]
            indices = self.places(places, x.lens[axis])
            lens[axis : axis + 1] = places
            value = self.b.op("gather", x.name, indices, axis=axis)
        else:
            batch = self.c.below(2) if rank > 1 else 0
            given = [*lens[:batch], self.length(lens[:-1])]
            indices = self.places((*given, 1), x.lens[batch])
            lens = [*given, *lens[batch + 1 :]]
            value = self.b.op("gathernd", x.name, indices, batch_dims=batch)
        if math.prod(lens) > 4 * MOST_ELEMENTS[self.large] or len(lens) > 6:
            raise NotPossible
        self.add(value, lens, x.type)

    def places(self, lens: Sequence[int], limit: int) -> str:
        type_ = self.c.pick(("int64_type", "int32_type"))
        return self.param(lens, type_, Kind("places", self.c.below(1 << 16), limit))

    def packed(self) -> None:
        if self.c.below(2):
            if not any(v.type in ("int8_type", "uint8_type") for v in self.values):
                x, type_ = self.any(), self.c.pick(("int8_type", "uint8_type"))
                self.add(self.b.op("convert", x.name, target_type=int(type_t[type_])), x.lens, type_)
            x = self.any(lambda v: v.type in ("int8_type", "uint8_type"))
            axis = self.c.pick([axis for axis, length in enumerate(x.lens) if length % 2 == 0] or [0])
            lens = list(x.lens)
            if lens[axis] % 2 == 0 and self.c.below(2):
                lens[axis] //= 2
                self.add(self.b.op("pack_int4", x.name, axis=axis), lens, x.type)
            else:
                lens[axis] *= 2
                self.add(self.b.op("unpack_int4", x.name, axis=axis), lens, x.type)
            return
        x = self.any(lambda v: is_float(v.type) and any(length % 2 == 0 for length in v.lens))
        axis = self.c.pick([axis for axis, length in enumerate(x.lens) if length % 2 == 0])
        pairs = self.b.op("pack_fp4", x.name, axis=axis)
        self.add(self.b.op("unpack_fp4", pairs, axis=axis), x.lens, "fp8e4m3fn_type")

    # Anchors.

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
            number = self.b.spread(self.b.literal(self.c.pick((0.5, 0.125, 1.0)), x.type), lens)
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

    # Changes of view.

    def transpose(self) -> None:
        x = self.any()
        order = self.c.shuffled(range(len(x.lens)))
        value = self.b.op("transpose", x.name, permutation=order)
        self.add(value, [x.lens[axis] for axis in order], x.type)

    def reshape(self) -> None:
        x = self.any()
        lens, axis = list(x.lens), self.c.below(len(x.lens))
        change = self.c.pick(("merge", "split", "ones", "flat", "flatten"))
        if change == "flatten":
            lens = [math.prod(lens[:axis]), math.prod(lens[axis:])]
            self.add(self.b.op("flatten", x.name, axis=axis), lens, x.type)
            return
        if change == "merge" and axis + 1 < len(lens):
            lens[axis : axis + 2] = [lens[axis] * lens[axis + 1]]
        elif change == "split" and len(lens) < 5:
            factor = self.c.pick([f for f in range(1, lens[axis] + 1) if lens[axis] % f == 0])
            lens[axis : axis + 1] = [factor, lens[axis] // factor]
        elif change == "flat":
            lens = [math.prod(lens)]
        else:
            kept = [length for length in lens if length != 1] or [1]
            while len(kept) < len(lens):
                kept.insert(self.c.between(0, len(kept)), 1)
            lens = kept
        self.add(self.b.op("reshape", x.name, dims=lens), lens, x.type)

    def slice(self) -> None:
        x = self.any()
        axis = self.c.below(len(x.lens))
        start = self.c.below(x.lens[axis])
        end = self.c.between(start + 1, x.lens[axis])
        given = self.c.pick((start, start - x.lens[axis]))
        lens = [*x.lens[:axis], end - start, *x.lens[axis + 1 :]]
        self.add(self.b.op("slice", x.name, axes=[axis], starts=[given], ends=[end]), lens, x.type)

    def axes(self) -> None:
        """unsqueeze, perhaps stretched; or squeeze."""
        x = self.any(lambda v: len(v.lens) < 5)
        if self.c.below(2) and 1 in x.lens and len(x.lens) > 1:
            axis = x.lens.index(1)
            lens = [*x.lens[:axis], *x.lens[axis + 1 :]]
            self.add(self.b.op("squeeze", x.name, axes=[axis]), lens, x.type)
            return
        axis = self.c.between(0, len(x.lens))
        lens = [*x.lens[:axis], 1, *x.lens[axis:]]
        value = self.b.op("unsqueeze", x.name, axes=[axis], steps=[])
        if self.c.below(2):
            lens[axis] = self.length(lens)
            value = self.b.spread(value, lens)
        self.add(value, lens, x.type)

    def contiguous(self) -> None:
        x = self.any()
        self.add(self.b.op("contiguous", x.name), x.lens, x.type)


ANCHORS = (Maker.dot, Maker.convolution, Maker.dot, Maker.convolution, Maker.convolution_backwards, Maker.attention)
STEPS = (
    *(Maker.pointwise,) * 14,
    *(Maker.convert, Maker.where, Maker.bit_cast, Maker.quantize, Maker.dequantize),
    *(Maker.reduction, Maker.reduction, Maker.along, Maker.pooling, Maker.move, Maker.move, Maker.packed),
    *(Maker.transpose, Maker.reshape, Maker.slice, Maker.axes, Maker.contiguous),
    *ANCHORS,
)


def example(choices: Choices, large: bool = False) -> Example:
    """A program of up to seven instructions beside those that prepare operands."""
    form = choices.pick((Form.CHANNELS_LAST,) * 5 + (Form.OPERANDS,) * 2 + (Form.DENSE,))
    maker = Maker(choices, form, large)
    maker.start()
    steps = [STEPS[choices.below(len(STEPS))] for _ in range(choices.between(1, 6))]
    if choices.below(2):
        steps.insert(choices.below(len(steps) + 1), choices.pick(ANCHORS))
    for step in steps:
        with contextlib.suppress(NotPossible):
            step(maker)
    made = maker.values[1:] or maker.values
    results = {made[-1].name: None}
    if choices.chance(4):
        results[choices.pick(made).name] = None
    if choices.chance(8):
        results[choices.pick(made).name] = None
    return Example(_program(maker.b, tuple(results)), maker.kinds, form, large, tuple(choices.made))


def distinct(seed: str, number: int, count: int, known: set[bytes], large: bool = False) -> tuple[list[Example], int]:
    """Examples that are not equal to a known one, which they become; and the number of the next one."""
    found: list[Example] = []
    while len(found) < count:
        try:
            made = example(Choices(f"{seed}/{number}"), large)
        except MigraphxError:  # it has rules of its own for types
            made = None
        number += 1
        if made is not None and made.digest not in known:
            known.add(made.digest)
            found.append(made)
    return found, number


def _program(b: Builder, results: Sequence[str]) -> Program:
    """The program without what nobody reads, as MIGraphX records it; of equal results there is one."""
    instructions = live(b.module("main", *results).instructions)
    known: dict[str, tuple[object, ...]] = {}
    for i in instructions:
        inputs = [known[value] for value in i.inputs]
        same = i.name in ("contiguous", "reshape", "transpose", "slice", "pad", "bit_cast", "convert", "reverse")
        data = i.literal.data if i.literal is not None else b""
        known[i.id] = inputs[0] if same else (i.name, str(i.operator), data, *inputs)
    kept = {known[result]: result for result in results}
    if len(kept) < len(results):
        instructions = live(b.module("main", *kept.values()).instructions)
    return recorded(Program(7, "2.14.0", {"main": Module("main", instructions)}))


def live(instructions: Sequence[Instruction]) -> tuple[Instruction, ...]:
    read: set[str] = set()
    kept = []
    for instruction in reversed(instructions):
        if instruction.name == "@return" or instruction.id in read:
            read.update(instruction.inputs)
            kept.append(instruction)
    return tuple(reversed(kept))
