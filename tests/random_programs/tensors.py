"""Instructions over whole tensors: reductions, pooling, what moves elements and packs them, and changes of view."""

from __future__ import annotations

import math

from iree_migraphx.binding.datatypes import type_t
from iree_migraphx.lowering.family import FLOATS
from iree_migraphx.lowering.reductions import REDUCTIONS
from iree_migraphx.lowering.types import is_float
from random_programs.operands import MOST_ELEMENTS, NotPossible, Operands


class Tensors(Operands):
    """Reductions, pooling, moves and packing."""

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


class Views(Operands):
    """Changes of view."""

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

    def same(self) -> None:
        x = self.any()
        self.add(self.b.op(self.c.pick(("contiguous", "identity")), x.name), x.lens, x.type)

    def scalar(self) -> None:
        x = self.any()
        number = self.b.op("scalar", self.source((1,), x.type), scalar_bcst_dims=list(x.lens))
        self.add(self.b.op("min", x.name, number), x.lens, x.type)
