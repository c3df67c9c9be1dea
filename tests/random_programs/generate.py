"""Random programs: instructions drawn from the lowering's own tables, over each of their types."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgpack

from iree_migraphx.errors import MigraphxError
from iree_migraphx.ir.model import Instruction, Module, Program
from iree_migraphx.lowering.anchors import Form
from programs import Builder, recorded
from random_programs.choices import Choices
from random_programs.elements import Elements
from random_programs.operands import NotPossible
from random_programs.placed import Placed
from random_programs.products import Products
from random_programs.tensors import Tensors, Views
from random_programs.values import Kind


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


class Maker(Elements, Placed, Products, Tensors, Views):
    """Adds instructions of all kinds."""


ANCHORS = (Maker.dot, Maker.convolution, Maker.dot, Maker.convolution, Maker.convolution_backwards, Maker.attention)
STEPS = (
    *(Maker.pointwise,) * 14,
    *(Maker.convert, Maker.where, Maker.bit_cast, Maker.quantize, Maker.dequantize),
    *(Maker.reduction, Maker.reduction, Maker.along, Maker.pooling, Maker.move, Maker.move, Maker.packed),
    *(Maker.scatter, Maker.scatter_slices, Maker.running_sum, Maker.onehot, Maker.align),
    *(Maker.transpose, Maker.reshape, Maker.slice, Maker.axes, Maker.same, Maker.scalar),
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
        same = i.name in (
            *("contiguous", "identity", "reshape", "transpose", "slice", "pad", "bit_cast", "convert", "reverse"),
            *("scatter_none", "scatternd_none", "prefix_scan_sum"),
        )
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
