"""Grouped-query attention as ordinary operators, for the host: MIGraphX's own operator is slow there.

What it computes is op/group_query_attention.hpp of release rocm-7.1.1. With several queries these are a prompt: its
keys and values come first in the cache, and each query reads those up to its own. A lone one comes behind as many keys
as its length says, and reads them and itself. With a window only the last keys are read, one more than the window says.
The cache's other elements stay as they are, and are never read.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from iree_migraphx.capture.settle import settle
from iree_migraphx.ir.edit import unique_ids
from iree_migraphx.ir.model import Instruction, Literal, Module, Program, Shape

NAME = "group_query_attention"
_TYPES = frozenset({"bf16_type", "float_type", "half_type"})
_LENGTH_TYPES = frozenset({"int32_type", "int64_type"})
#: MIGraphX's number of bool_type (shape.hpp).
_BOOL = 0


def has_grouped_attention(program: Program) -> bool:
    """Whether any of it can be written out."""
    everything = {instruction.id: instruction for instruction in program.instructions()}
    readers = _readers(program)
    return any(_form(i, everything, readers) is not None for i in everything.values() if i.name == NAME)


def written_out(program: Program) -> Program:
    """The program with grouped-query attention as products, softmax and the like.

    What MIGraphX computes wrongly stays its own: several sequences that positions turn, of which it turns the first
    (batch_stride), and prompts whose heads share keys, of which it writes one row over another (hidden_size).

    Raises:
        CaptureError: MIGraphX does not take what was written.
    """
    ids = unique_ids(program, "grouped")
    everything = {instruction.id: instruction for instruction in program.instructions()}
    readers = _readers(program)
    replaced: dict[str, str] = {}
    modules: dict[str, Module] = {}
    for name, module in program.modules.items():
        instructions: list[Instruction] = []
        for instruction in module.instructions:
            form = _form(instruction, everything, readers) if instruction.name == NAME else None
            if form is not None:
                writer = _Writer(ids)
                results = _write(writer, form)
                instructions += writer.instructions
                for reader in readers[instruction.id]:
                    replaced[reader.id] = results[int(reader.operator["index"])]
            elif instruction.id not in replaced:
                instructions.append(instruction)
        modules[name] = replace(module, instructions=tuple(instructions))
    for name, module in modules.items():
        renamed = (
            replace(i, inputs=tuple(replaced.get(value, value) for value in i.inputs)) for i in module.instructions
        )
        modules[name] = replace(module, instructions=tuple(renamed))
    return settle(replace(program, modules=modules))


@dataclass(frozen=True)
class _Form:
    """One instruction's lengths and operands.

    Attributes:
        inputs: ids of its operands.
        type: of all but the lengths.
        length_type: of the lengths.
        batch: sequences.
        queries: of each sequence.
        heads: of the queries.
        shared: heads of keys and values.
        size: numbers of a head.
        most: keys that the cache holds.
        turned: numbers of a head that positions turn; 0 for none.
        interleaved: two that are turned together stand side by side.
        scale: factor of the scores.
        window: see the module; 0 for none.
    """

    inputs: tuple[str, ...]
    type: str
    length_type: str
    batch: int
    queries: int
    heads: int
    shared: int
    size: int
    most: int
    turned: int
    interleaved: bool
    scale: float
    window: int

    @property
    def group(self) -> int:
        """Heads of the queries that share one of the keys."""
        return self.heads // self.shared


def _form(
    instruction: Instruction, everything: Mapping[str, Instruction], readers: Mapping[str, Sequence[Instruction]]
) -> _Form | None:
    """What is to be written out; None for what is unknown, and what MIGraphX computes wrongly or out of bounds."""
    fields, inputs = instruction.operator, instruction.inputs
    shapes = [everything[value].shape for value in inputs]
    if any(reader.name != "get_tuple_elem" for reader in readers[instruction.id]) or len(inputs) < 7:
        return None
    heads, shared = int(fields["num_heads"]), int(fields["kv_num_heads"])
    packed, cache, lengths = shapes[0], shapes[3], shapes[5]
    if len(packed.lens) != 3 or len(cache.lens) != 4 or shared < 1 or heads % shared:
        return None
    batch, queries, width = packed.lens
    size, rest = divmod(width, heads + 2 * shared)
    most = cache.lens[2]
    right = (
        rest == 0
        and (queries == 1 or heads == shared)
        and size > 0
        and cache.lens == shapes[4].lens == (batch, shared, most, size)
        and {packed.type, cache.type, shapes[4].type} <= {packed.type} & _TYPES
        and lengths.type in _LENGTH_TYPES
        and lengths.elements == batch
        and queries <= most
    )
    turned = 0
    if fields["do_rotary"]:
        if len(inputs) < 9 or batch != 1 or shapes[7].lens != shapes[8].lens or len(shapes[7].lens) != 2:
            return None
        turned = 2 * shapes[7].lens[1]
        right = right and {shapes[7].type, shapes[8].type} == {packed.type} and 0 < turned <= size
        right = right and queries <= shapes[7].lens[0]
    if not right:
        return None
    return _Form(
        inputs=inputs,
        type=packed.type,
        length_type=lengths.type,
        batch=batch,
        queries=queries,
        heads=heads,
        shared=shared,
        size=size,
        most=most,
        turned=turned,
        interleaved=bool(fields["rotary_interleaved"]),
        scale=float(fields["scale"]) or 1 / math.sqrt(size),
        window=max(int(fields["local_window_size"]), 0),
    )


@dataclass
class _Writer:
    """Instructions that are being written; each method gives the id of the value."""

    ids: Iterator[str]
    instructions: list[Instruction] = field(default_factory=list)

    def op(self, name: str, type_: str, lens: Sequence[int], *inputs: str, **fields: Any) -> str:
        return self._add(Instruction(next(self.ids), name, Shape.standard_of(type_, tuple(lens)), fields, inputs))

    def literal(self, values: Any, type_: str) -> str:
        shape = Shape.standard_of(type_, np.shape(values) or (1,))
        data = np.asarray(values, shape.dtype).tobytes()
        return self._add(Instruction(next(self.ids), "@literal", shape, literal=Literal(shape, data)))

    def spread(self, value: str, type_: str, lens: Sequence[int]) -> str:
        return self.op("multibroadcast", type_, lens, value, out_lens=list(lens), out_dyn_dims=[])

    def reshape(self, value: str, type_: str, lens: Sequence[int]) -> str:
        return self.op("reshape", type_, lens, value, dims=list(lens))

    def part(self, value: str, type_: str, lens: Sequence[int], axis: int, start: int) -> str:
        return self.op("slice", type_, lens, value, axes=[axis], starts=[start], ends=[start + lens[axis]])

    def compared(self, operator: str, a: str, b: str, type_: str, lens: Sequence[int]) -> str:
        """A comparison of numbers of a type, both spread to these lengths, as bool."""
        wide = [self.spread(value, type_, lens) for value in (a, b)]
        return self.op("convert", "bool_type", lens, self.op(operator, type_, lens, *wide), target_type=_BOOL)

    def _add(self, instruction: Instruction) -> str:
        self.instructions.append(instruction)
        return instruction.id


def _write(w: _Writer, f: _Form) -> tuple[str, str, str]:
    """The attention's result, and the keys and values with those of the queries among them."""
    heads = f.heads + 2 * f.shared
    split = w.reshape(f.inputs[0], f.type, (f.batch, f.queries, heads, f.size))
    lens = (f.batch, heads, f.queries, f.size)
    split = w.op("transpose", f.type, lens, split, permutation=[0, 2, 1, 3])
    new = (f.batch, f.shared, f.queries, f.size)
    v = w.part(split, f.type, new, 1, f.heads + f.shared)
    both = w.part(split, f.type, (f.batch, f.heads + f.shared, f.queries, f.size), 1, 0)
    if f.turned:
        both = _turn(w, f, both)
    q = w.part(both, f.type, (f.batch, f.heads, f.queries, f.size), 1, 0)
    k = w.part(both, f.type, new, 1, f.heads)
    write = _prompt if f.queries != 1 else _token
    return write(w, f, q, k, v)


def _turn(w: _Writer, f: _Form, x: str) -> str:
    """Queries and keys turned by their positions: from 0 on, or a lone one by the length of what comes before it."""
    half, heads = f.turned // 2, f.heads + f.shared
    lens = (f.batch, heads, f.queries, half)
    factors = []
    for table in f.inputs[7:9]:
        if f.queries == 1:
            row = w.op("gather", f.type, (1, half), table, w.reshape(f.inputs[5], f.length_type, (1,)), axis=0)
        else:
            row = w.part(table, f.type, (f.queries, half), 0, 0)
        factors.append(w.spread(row, f.type, lens))
    cos, sin = factors
    if f.interleaved:
        turned = w.part(x, f.type, (*lens[:3], f.turned), 3, 0)
        pairs = w.reshape(turned, f.type, (*lens, 2))
        a, b = (w.reshape(w.part(pairs, f.type, (*lens, 1), 4, at), f.type, lens) for at in (0, 1))
    else:
        a, b = (w.part(x, f.type, lens, 3, at) for at in (0, half))

    def times(value: str, factor: str) -> str:
        return w.op("mul", f.type, lens, value, factor)

    a, b = (
        w.op("sub", f.type, lens, times(a, cos), times(b, sin)),
        w.op("add", f.type, lens, times(b, cos), times(a, sin)),
    )
    if f.interleaved:
        a, b = (w.reshape(value, f.type, (*lens, 1)) for value in (a, b))
        pairs = w.op("concat", f.type, (*lens, 2), a, b, axis=4)
        parts = [w.reshape(pairs, f.type, (*lens[:3], f.turned))]
    else:
        parts = [a, b]
    if f.turned < f.size:
        parts.append(w.part(x, f.type, (*lens[:3], f.size - f.turned), 3, f.turned))
    if len(parts) == 1:
        return parts[0]
    return w.op("concat", f.type, (*lens[:3], f.size), *parts, axis=3)


def _prompt(w: _Writer, f: _Form, q: str, k: str, v: str) -> tuple[str, str, str]:
    caches = []
    for new, cache in ((k, f.inputs[3]), (v, f.inputs[4])):
        rest = (f.batch, f.shared, f.most - f.queries, f.size)
        old = [w.part(cache, f.type, rest, 2, f.queries)] if f.most > f.queries else []
        lens = (f.batch, f.shared, f.most, f.size)
        caches.append(w.op("concat", f.type, lens, new, *old, axis=2))
    rows = np.arange(f.queries).reshape(-1, 1)
    last, places = (w.literal(values, "int32_type") for values in (rows, rows.ravel()))
    scores = (f.queries, f.queries)
    hidden = [w.compared("greater", places, last, "int32_type", scores)]
    if f.window:
        first = w.literal(rows - f.window, "int32_type")
        hidden.append(w.compared("greater", first, places, "int32_type", scores))
    return _attention(w, f, q, k, v, hidden), caches[0], caches[1]


def _token(w: _Writer, f: _Form, q: str, k: str, v: str) -> tuple[str, str, str]:
    lens = (f.batch, f.shared, f.most, f.size)
    length = w.reshape(f.inputs[5], f.length_type, (f.batch, 1))
    places = w.literal(np.arange(f.most), f.length_type)

    def where(operator: str, a: str, b: str) -> str:
        condition = w.compared(operator, a, b, f.length_type, (f.batch, f.most))
        return w.reshape(condition, "bool_type", (f.batch, 1, f.most, 1))

    here, behind = where("equal", places, length), where("greater", places, length)
    hidden = [behind]
    if f.window:
        window = w.spread(w.literal(f.window, f.length_type), f.length_type, (f.batch, 1))
        first = w.op("sub", f.length_type, (f.batch, 1), length, window)
        hidden.append(where("greater", first, places))
    caches = []
    for new, cache in ((k, f.inputs[3]), (v, f.inputs[4])):
        here_everywhere = w.spread(here, "bool_type", lens)
        caches.append(w.op("where", f.type, lens, here_everywhere, w.spread(new, f.type, lens), cache))
    # Weights of 0 don't hide what is infinite or no number.
    nothing = w.spread(w.literal(0, f.type), f.type, lens)
    seen = w.op("where", f.type, lens, w.spread(behind, "bool_type", lens), nothing, caches[1])
    hidden = [w.reshape(value, "bool_type", (f.batch, 1, 1, f.most)) for value in hidden]
    return _attention(w, f, q, caches[0], seen, hidden), caches[0], caches[1]


def _attention(w: _Writer, f: _Form, q: str, k: str, v: str, hidden: Sequence[str]) -> str:
    """softmax(q k * scale, without what is hidden) v as [batch, queries, heads * size]."""
    # A lone query of each head of a group counts as the group's several queries.
    rows, keys = f.group * f.queries, f.most if f.queries == 1 else f.queries
    lens = (f.batch, f.shared, rows, keys)
    q = w.reshape(q, f.type, (f.batch, f.shared, rows, f.size))
    k = w.op("transpose", f.type, (f.batch, f.shared, f.size, keys), k, permutation=[0, 1, 3, 2])
    scores = w.op("dot", f.type, lens, q, k)
    scores = w.op("mul", f.type, lens, scores, w.spread(w.literal(f.scale, f.type), f.type, lens))
    nothing = w.spread(w.literal(-math.inf, f.type), f.type, lens)
    for condition in hidden:
        scores = w.op("where", f.type, lens, w.spread(condition, "bool_type", lens), nothing, scores)
    weights = w.op("softmax", f.type, lens, scores, axis=3)
    result = w.op("dot", f.type, (f.batch, f.shared, rows, f.size), weights, v)
    result = w.reshape(result, f.type, (f.batch, f.heads, f.queries, f.size))
    lens = (f.batch, f.queries, f.heads, f.size)
    result = w.op("transpose", f.type, lens, result, permutation=[0, 2, 1, 3])
    return w.reshape(result, f.type, (f.batch, f.queries, f.heads * f.size))


def _readers(program: Program) -> dict[str, list[Instruction]]:
    """All who read each instruction of this kind, in any module."""
    readers: dict[str, list[Instruction]] = {i.id: [] for i in program.instructions() if i.name == NAME}
    for instruction in program.instructions():
        for value in readers.keys() & {*instruction.inputs}:
            readers[value].append(instruction)
    return readers
