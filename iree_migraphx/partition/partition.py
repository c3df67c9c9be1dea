"""A program's subgraphs."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeAlias

import msgpack

from iree_migraphx.ir.layout import in_order
from iree_migraphx.ir.model import Instruction, Literal, Module, Program, Shape
from iree_migraphx.ir.operators import PRODUCTS
from iree_migraphx.partition.attention import core_of
from iree_migraphx.partition.extra import regions, telling
from iree_migraphx.partition.grow import Surroundings, before, grow
from iree_migraphx.partition.rules import Rules
from iree_migraphx.partition.subgraph import Subgraph


def has_dynamic_shapes(program: Program) -> bool:
    """True where some value's lengths are not known before a run; such a program is left alone."""
    return any(instruction.shape.dynamic for instruction in program.instructions())


#: Ids of instructions of one module, in execution order, and of the values that are their results.
Fusion: TypeAlias = "tuple[Sequence[str], Sequence[str]]"


def partition(
    program: Program,
    rules: Rules,
    within: Mapping[str, frozenset[str]] | None = None,
    fusions: Sequence[Fusion] = (),
) -> tuple[Subgraph, ...]:
    """Find the subgraphs of every module: around anchors in execution order, then those without.

    Each is convex, has one result, changes no value that is read elsewhere, and stays inside its module. No two compute
    the same instruction, reshapers aside. As only results leave a subgraph, no two can wait for each other in a circle.

    Args:
        program: ordinary operators.
        rules: what may be in a subgraph.
        within: the anchors that may have one, by id, with all that may be behind them; None leaves it to the rules, as
            attention always is.
        fusions: what is a subgraph of its own before all others, as in `take_whole`, several results included. None of
            its operands may depend on any of its results.
    """
    counts: Counter[str] = Counter()
    found: list[Subgraph] = []
    for around in _surroundings(program):
        for parts, returned in fusions:
            if parts[-1] in around.index:
                found.append(_whole(parts, returned, around, rules, counts))
                around.taken.update(parts)
        for instruction in around.module.instructions:
            attention = core_of(instruction, around, rules)
            if attention is not None:
                own = rules if within is None else _limited(rules, within.get(instruction.id, frozenset()))
                core = grow(instruction, around, own, attention[0])
                around.taken.update(core)
                own = _recomputing(rules, attention[1])
                found.append(_subgraph(around.instructions[core[0]], core, around, own, counts))
        for instruction in around.module.instructions:
            if not rules.anchor(instruction) or instruction.id in around.taken:
                continue
            own = rules
            if within is not None:
                if instruction.id not in within:
                    continue
                own = _limited(rules, within[instruction.id])
            core = grow(instruction, around, own)
            around.taken.update(core)
            found.append(_subgraph(instruction, core, around, rules, counts))
        if rules.extra is not None:
            found.extend(
                _subgraph(telling(members, around, rules.extra), members, around, rules, counts)
                for members in regions(around, rules.extra)
            )
    return tuple(found)


def take_whole(program: Program, rules: Rules, fusions: Iterable[Fusion]) -> tuple[Subgraph, ...]:
    """A subgraph of each set of instructions as it is, whether or not anything can compute it.

    Args:
        program: ordinary operators.
        rules: what may be in front of a subgraph.
        fusions: their results that nobody reads, or that are no instruction's of the fusion, are left out.
    """
    counts: Counter[str] = Counter()
    surroundings = {i.id: around for around in _surroundings(program) for i in around.module.instructions}
    return tuple(_whole(parts, returned, surroundings[parts[-1]], rules, counts) for parts, returned in fusions)


def _whole(
    parts: Sequence[str], returned: Sequence[str], around: Surroundings, rules: Rules, counts: Counter[str]
) -> Subgraph:
    # A literal is an operand, or inside if it has one element, as everywhere.
    core = [value for value in parts if around.instructions[value].literal is None]
    anchors = [around.instructions[value] for value in core]
    anchor = next((i for i in anchors if rules.anchor(i)), next((i for i in anchors if i.name in PRODUCTS), anchors[0]))
    inside = set(core)
    read = {v for v in core if v in around.pinned or any(user.id not in inside for user in around.users[v])}
    results = [value for value in dict.fromkeys(returned) if value in read] or core[-1:]
    return _subgraph(anchor, core, around, rules, counts, results)


def _limited(rules: Rules, allowed: frozenset[str]) -> Rules:
    return replace(
        rules,
        pointwise=lambda instruction: instruction.id in allowed and rules.pointwise(instruction),
        reshaper_behind=lambda instruction: instruction.id in allowed and rules.reshaper_behind(instruction),
    )


def _recomputing(rules: Rules, values: frozenset[str]) -> Rules:
    return replace(rules, reshaper=lambda instruction: instruction.id in values or rules.reshaper(instruction))


def _surroundings(program: Program) -> Iterator[Surroundings]:
    read_from_outside = _read_by_other_modules(program)
    everything = {instruction.id: instruction for instruction in program.instructions()}
    for module in program.modules.values():
        users = module.users()
        returned = {value for i in module.instructions if i.name == "@return" for value in i.inputs}
        yield Surroundings(
            module=module,
            instructions=everything,
            index={instruction.id: position for position, instruction in enumerate(module.instructions)},
            users=users,
            pinned=frozenset(returned | read_from_outside),
            taken=set(),
            read=set(),
        )


def _read_by_other_modules(program: Program) -> set[str]:
    read: set[str] = set()
    for module in program.modules.values():
        own = {instruction.id for instruction in module.instructions}
        read.update(i for instruction in module.instructions for i in instruction.inputs if i not in own)
    return read


def _subgraph(
    anchor: Instruction,
    core: Sequence[str],
    around: Surroundings,
    rules: Rules,
    counts: Counter[str],
    results: Sequence[str] = (),
) -> Subgraph:
    results = results or core[-1:]
    chosen = {*core, *before(core, around, rules)}
    around.taken.update(value for value in chosen if rules.producer(around.instructions[value]))
    members = sorted(chosen, key=lambda value: around.index[value])
    operands: dict[str, Instruction] = {}
    body: list[Instruction] = []
    # The anchor's operands come first, as in MIGraphX's own fused modules.
    reading_order = [anchor.id, *(member for member in core if member != anchor.id)]
    for value in _outside_values(reading_order, chosen, around):
        source = around.instructions[value]
        if source.literal is None or source.literal.shape.elements != 1:
            operands[value] = source
    around.read.update(operands)
    names = {value: f"x{number}" for number, value in enumerate(operands)}
    for value, operand in operands.items():
        shape = operand.shape
        if rules.standard_operands:
            shape = Shape.standard_of(shape.type, shape.lens)
        if operand.literal is not None and value in anchor.inputs:
            order = rules.constant_order(anchor, anchor.inputs.index(value), shape)
            shape = shape if order is None else in_order(shape, order)
        body.append(Instruction(names[value], "@param", shape, {"parameter": names[value]}))
    for member in members:
        instruction = around.instructions[member]
        for value in instruction.inputs:
            if value not in names:
                names[value] = f"@{len(body)}"
                body.append(replace(around.instructions[value], id=names[value], extra={}))
        names[member] = f"@{len(body)}"
        body.append(
            replace(instruction, id=names[member], inputs=tuple(names[value] for value in instruction.inputs), extra={})
        )
    shapes = tuple(around.instructions[value].shape for value in results)
    if rules.standard_operands:
        shapes = tuple(Shape.standard_of(shape.type, shape.lens) for shape in shapes)
    returned = tuple(names[value] for value in results)
    body.append(Instruction(f"@{len(body)}", "@return", Shape("float_type"), inputs=returned))
    behind = (around.instructions[value] for value in core if value != anchor.id)
    operators = [instruction.name for instruction in behind if rules.pointwise(instruction)]
    stem = "_".join([anchor.name, *operators])
    counts[stem] += 1
    return Subgraph(
        name=f"{stem}_{counts[stem]}",
        anchor=anchor.name,
        module=around.module.name,
        members=tuple(members),
        operands=tuple(operands),
        results=tuple(results),
        body=Module("main", tuple(body)),
        result_shapes=shapes,
        key=key_of(body, shapes),
    )


def _outside_values(reading_order: Sequence[str], chosen: set[str], around: Surroundings) -> list[str]:
    """Values that the subgraph reads and does not compute, in the order in which its instructions come upon them."""
    found: dict[str, None] = {}

    def visit(value: str) -> None:
        if value not in chosen:
            found.setdefault(value)
        elif value not in visited:
            visited.add(value)
            for source in around.instructions[value].inputs:
                visit(source)

    visited: set[str] = set()
    for value in reading_order:
        visit(value)
    return list(found)


def key_of(body: Iterable[Instruction], results: Iterable[Shape]) -> str:
    """A digest of everything that a kernel depends on; names of values are positions in the body already."""
    digest = hashlib.blake2b(digest_size=16)
    for instruction in body:
        literal = instruction.literal
        entry = (
            instruction.name,
            _shape(instruction.shape),
            _plain(instruction.operator),
            instruction.inputs,
            None if literal is None else _literal(literal),
        )
        digest.update(msgpack.packb(entry))
    for shape in results:
        digest.update(msgpack.packb(_shape(shape)))
    return digest.hexdigest()


def _shape(shape: Shape) -> tuple[object, ...]:
    return (shape.type, shape.lens, shape.strides)


def _literal(literal: Literal) -> tuple[object, ...]:
    return (_shape(literal.shape), bytes(literal.data))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in sorted(value.items())}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
