"""Constant expressions become literals: what depends on weights only is computed once, by MIGraphX itself.

Kernels then see a batch norm's factors or a converted weight as the constants they are. MIGraphX's gpu target does
the same on its own (src/propagate_constant.cpp); its ref target, and a program that was only parsed, do not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from iree_migraphx.binding.snapshots import let_go
from iree_migraphx.errors import FormatError, IreeMigraphxError
from iree_migraphx.ir.edit import remove_dead
from iree_migraphx.ir.model import DTYPES, Instruction, Literal, Module, Program, Shape
from iree_migraphx.ir.operators import PRODUCTS, PURE, SAME_ORDER, VIEWS, WHOLE_VIEWS, WIDENING
from iree_migraphx.ir.write import write_program

#: Runs a serialized program that has no inputs, and gives its outputs with the program's own lengths and types.
Evaluate = Callable[[bytes], Sequence[npt.NDArray[Any]]]

#: A constant up to this size is worth a literal of its own even where the value it is a view of has other readers.
SMALL_BYTES = 1 << 16

#: A larger constant that is more than twice the size of what it is made of is not written out.
EXPANDED_BYTES = 1 << 25

#: MIGraphX holds what it computes with seven times over on the way, so this much at a time.
BATCH_BYTES = 1 << 26

#: More multiplications than this are left to a kernel: MIGraphX's ref target needs about 0.2 microseconds for each.
MULTIPLICATIONS = 1 << 20

_log = logging.getLogger(__name__)


def fold_constants(program: Program, evaluate: Evaluate, keep: Collection[str] = WIDENING) -> Program:
    """Replace constant expressions by literals of the same value, type, lengths and strides.

    Every constant that something not constant reads becomes a literal, except broadcasts, large slices, and transposes
    of a large constant that others read as well: those stay views, of a literal. All modules that MIGraphX interprets
    (main, and those of `if` and `loop`) take part. Nothing is computed twice, and nothing at all where reshaping is all
    there is to do; constants of more than `BATCH_BYTES` are computed a part at a time.

    Args:
        program: a parsed program; its recorded shapes must be MIGraphX's own.
        evaluate: MIGraphX's ref target, see `iree_migraphx.ir.evaluate`.
        keep: operators that are not computed. By default those that widen quantized weights.

    Returns:
        The folded program, or `program` itself where there is nothing to fold or the evaluation failed.
    """
    plan = _Plan(program, frozenset(keep))
    if not plan.sources:
        return program
    try:
        literals = plan.literals(evaluate)
    except IreeMigraphxError as error:
        _log.warning("constants are not folded: %s", error)
        return program
    return remove_dead(replace(program, modules={m.name: _fold(m, literals) for m in program.modules.values()}))


def _fold(module: Module, literals: dict[str, Literal]) -> Module:
    return replace(
        module,
        instructions=tuple(
            Instruction(i.id, "@literal", i.shape, literal=literals[i.id], extra=i.extra) if i.id in literals else i
            for i in module.instructions
        ),
    )


class _Plan:
    """What to compute, and which values become literals.

    Attributes:
        sources: each value that becomes a literal -> the value that has its bytes: a literal of the program, or one
            that must be computed.
    """

    def __init__(self, program: Program, keep: frozenset[str]) -> None:
        self._program = program
        self._constants: dict[str, Instruction] = {}
        self._expanded: set[str] = set()
        self._readers: dict[str, int] = {}
        self.sources: dict[str, str] = {}
        interpreted = _interpreted_modules(program)
        pure = PURE - keep
        wanted: list[str] = []
        for module, instruction in program.walk():
            for value in set(instruction.inputs):
                self._readers[value] = self._readers.get(value, 0) + 1
            if module.name in interpreted and self._is_constant(instruction, pure):
                self._constants[instruction.id] = instruction
            else:
                wanted += [value for value in instruction.inputs if value in self._constants]
        seen: set[str] = set()
        while wanted:
            value = wanted.pop()
            instruction = self._constants[value]
            if value in seen or instruction.name == "@literal":
                continue
            seen.add(value)
            source = self._source(instruction)
            if source is None:
                wanted += instruction.inputs
            else:
                self.sources[value] = source.id

    def literals(self, evaluate: Evaluate) -> dict[str, Literal]:
        """The new literals by the id of the value they replace."""
        computed = [value for value in dict.fromkeys(self.sources.values()) if not self._constants[value].literal]
        data = self._evaluate(computed, evaluate) if computed else {}
        literals = {}
        for value, source in self.sources.items():
            literal = self._constants[source].literal
            literals[value] = Literal(self._constants[value].shape, literal.data if literal else data[source])
        return literals

    def _is_constant(self, instruction: Instruction, pure: frozenset[str]) -> bool:
        if instruction.name == "@literal":
            return instruction.shape.elements > 0  # empty ones MIGraphX up to 7.1 writes in a form it can't read
        if instruction.name not in pure or instruction.shape.dynamic:
            return False
        if not instruction.inputs or any(value not in self._constants for value in instruction.inputs):
            return False
        inputs = [self._constants[value].shape for value in instruction.inputs]
        if instruction.name in PRODUCTS and _multiplications(instruction, inputs[1]) > MULTIPLICATIONS:
            return False
        size = _size(instruction.shape)
        if size > EXPANDED_BYTES and (
            size > 2 * sum(map(_size, inputs)) or not self._expanded.isdisjoint(instruction.inputs)
        ):
            self._expanded.add(instruction.id)
        return True

    def _source(self, instruction: Instruction) -> Instruction | None:
        """The constant whose bytes are those of this one; None where this one stays as it is."""
        while instruction.name in WHOLE_VIEWS | SAME_ORDER:
            operand = self._constants[instruction.inputs[0]]
            if _broadcasts(instruction.shape) or not _same_bytes(instruction, operand):
                break
            shared = self._readers[operand.id] > 1 and _size(instruction.shape) > SMALL_BYTES
            if shared and instruction.name in WHOLE_VIEWS:
                return None
            instruction = operand
        if instruction.name == "@literal":
            return instruction
        shape = instruction.shape
        if shape.type not in DTYPES or instruction.id in self._expanded or 0 in shape.lens or not shape.lens:
            return None
        if instruction.name in VIEWS and (_broadcasts(shape) or _size(shape) > SMALL_BYTES):
            return None
        return instruction

    def _evaluate(self, values: list[str], evaluate: Evaluate) -> dict[str, bytes]:
        """The bytes of constants, in the layout the program recorded for them."""
        data: dict[str, bytes] = {}
        for batch, needed in self._batches(values):
            body = [instruction for value, instruction in self._constants.items() if value in needed]
            result = Instruction("@return", "@return", Shape("tuple_type"), inputs=tuple(batch))
            main = Module("main", (*body, result))
            outputs = evaluate(
                write_program(Program(self._program.version, self._program.migraphx_version, {"main": main}))
            )
            if len(outputs) != len(batch):
                raise FormatError(f"MIGraphX gave {len(outputs)} values for {len(batch)} constants")
            for value, output in zip(batch, outputs, strict=True):
                data[value] = _laid_out(output, self._constants[value])
            for instruction in body:
                if instruction.literal is not None:
                    let_go(instruction.literal.data)
        return data

    def _batches(self, values: list[str]) -> Iterator[tuple[list[str], set[str]]]:
        """Values to compute together, and all that they are computed from; nothing but literals is in two batches."""
        everything = self._cone(*values)
        if sum(_size(self._constants[value].shape) for value in everything) <= BATCH_BYTES:
            yield values, everything
            return
        batch: list[str] = []
        needed: set[str] = set()
        size = 0
        for group, cone in self._groups(values):
            size += sum(_size(self._constants[value].shape) for value in cone - needed)
            if batch and size > BATCH_BYTES:
                yield batch, needed
                batch, needed = [], set()
                size = sum(_size(self._constants[value].shape) for value in cone)
            batch += group
            needed |= cone
        yield batch, needed

    def _groups(self, values: list[str]) -> Iterator[tuple[list[str], set[str]]]:
        """Values that have something computed in common, and their cones."""
        groups: dict[int, tuple[list[str], set[str]]] = {}
        owner: dict[str, int] = {}
        for number, value in enumerate(values):
            group, cone = [value], self._cone(value)
            computed = {each for each in cone if self._constants[each].literal is None}
            for other in {owner[each] for each in computed if each in owner}:
                others, theirs = groups.pop(other)
                group, cone = others + group, cone | theirs
            groups[number] = (group, cone)
            owner.update(dict.fromkeys((each for each in cone if self._constants[each].literal is None), number))
        yield from groups.values()

    def _cone(self, *values: str) -> set[str]:
        """Constants and all that they are computed from."""
        cone, pending = set(values), list(values)
        while pending:
            fresh = [each for each in self._constants[pending.pop()].inputs if each not in cone]
            cone.update(fresh)
            pending += fresh
        return cone


def _interpreted_modules(program: Program) -> set[str]:
    found, pending = set(), ["main"]
    while pending:
        name = pending.pop()
        found.add(name)
        for instruction in program.modules[name].instructions:
            if instruction.name in ("if", "loop"):
                pending += instruction.modules
    return found


def _same_bytes(instruction: Instruction, operand: Instruction) -> bool:
    if instruction.name in SAME_ORDER and not (operand.shape.standard and instruction.shape.standard):
        return False
    return _size(instruction.shape) == _size(operand.shape)


def _size(shape: Shape) -> int:
    """Bytes of the span that a value touches; a tuple's parts added up."""
    if shape.sub_shapes:
        return sum(map(_size, shape.sub_shapes))
    return shape.element_space * (DTYPES[shape.type].itemsize if shape.type in DTYPES else 1)


def _broadcasts(shape: Shape) -> bool:
    return shape.element_space < shape.elements


def _multiplications(instruction: Instruction, weights: Shape) -> int:
    if instruction.name in ("dot", "quant_dot"):
        return instruction.shape.elements * weights.lens[-2]
    return instruction.shape.elements * weights.elements // max(1, weights.lens[0])


def _laid_out(value: npt.NDArray[Any], instruction: Instruction) -> bytes:
    shape = instruction.shape
    if value.shape != shape.lens or value.dtype != shape.dtype:
        raise FormatError(
            f"MIGraphX computed {instruction.id!r} ({instruction.name}) as {value.dtype} {list(value.shape)}, "
            f"but recorded {shape.dtype} {list(shape.lens)}"
        )
    if shape.standard:
        return value.tobytes()
    buffer = bytearray(shape.nbytes)
    strides = [stride * value.itemsize for stride in shape.strides]
    np.ndarray(shape.lens, value.dtype, buffer, strides=strides)[...] = value
    return bytes(buffer)
