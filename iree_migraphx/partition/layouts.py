"""The order in which values between kernels lie in memory: decided once all subgraphs are known.

Convolutions of the host compute channels-last. A value that only kernels read stays in that order, which spares two
copies; one that MIGraphX's own operators read, or that leaves the program, is row-major.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace

from iree_migraphx.ir.layout import in_order
from iree_migraphx.ir.model import Instruction, Module, Program, Shape
from iree_migraphx.partition.partition import key_of
from iree_migraphx.partition.rules import Rules
from iree_migraphx.partition.subgraph import Subgraph


def read_by_others(program: Program, subgraphs: Sequence[Subgraph]) -> set[str]:
    """Values that are read by anything but these subgraphs' kernels, once those stand in the members' place."""
    results = {result: subgraph for subgraph in subgraphs for result in subgraph.results}
    local = {i.id: module.name for module in program.modules.values() for i in module.instructions}
    read: set[str] = set()
    needed: set[str] = set()
    # Submodules come after what they read from outside, whichever module that is in.
    for module in program.modules.values():
        for instruction in module.instructions:
            foreign = {value for value in instruction.inputs if local[value] != module.name}
            read |= foreign
            needed |= foreign
    for module in program.modules.values():
        for instruction in reversed(module.instructions):
            if instruction.id in results:
                needed.update(results[instruction.id].operands)
            elif instruction.id in needed or instruction.name == "@return" or instruction is module.instructions[-1]:
                read.update(instruction.inputs)
                needed.update(instruction.inputs)
    return read


def with_layouts(program: Program, subgraphs: Sequence[Subgraph], rules: Rules) -> tuple[Subgraph, ...]:
    """The subgraphs with the memory order of each value between them, in their own order; keys follow."""
    read = read_by_others(program, subgraphs)
    position = {i.id: number for number, i in enumerate(program.instructions())}
    orders: dict[str, tuple[int, ...]] = {}
    for subgraph in sorted(subgraphs, key=lambda subgraph: position[subgraph.results[-1]]):
        if len(subgraph.results) == 1 and subgraph.result not in read:
            lens = subgraph.result_shape.lens
            last = (0, *range(2, len(lens)), 1)
            # Other lengths are in the same order either way.
            moved = len(lens) > 2 and lens[1] > 1 and any(length > 1 for length in lens[2:])
            if moved and _channels_last(subgraph, orders, rules):
                orders[subgraph.result] = last
    return tuple(_relaid(subgraph, orders) for subgraph in subgraphs)


def _channels_last(subgraph: Subgraph, orders: Collection[str], rules: Rules) -> bool:
    """Whether the kernel comes to its result in channels-last order, and keeps it up to the end."""
    rank = len(subgraph.result_shape.lens)
    following: set[str] = set()
    for instruction in subgraph.body.instructions:
        if instruction.name == "@param":
            value = subgraph.operands[int(instruction.id.removeprefix("x"))]
            if value in orders and len(instruction.shape.lens) == rank:
                following.add(instruction.id)
            continue
        keeps = len(instruction.shape.lens) == rank and rules.keeps_order(instruction)
        if rules.channels_last(instruction) or (keeps and following.intersection(instruction.inputs)):
            following.add(instruction.id)
        elif instruction.name == "@return":
            return bool(following.intersection(instruction.inputs))
    return False


def _relaid(subgraph: Subgraph, orders: Mapping[str, tuple[int, ...]]) -> Subgraph:
    changed = [value for value in (*subgraph.operands, *subgraph.results) if value in orders]
    if not changed:
        return subgraph
    places = {f"x{number}": value for number, value in enumerate(subgraph.operands)}

    def relaid(instruction: Instruction) -> Instruction:
        order = orders.get(places.get(instruction.id, ""))
        return instruction if order is None else replace(instruction, shape=in_order(instruction.shape, order))

    body = tuple(relaid(instruction) for instruction in subgraph.body.instructions)
    shapes: list[Shape] = []
    for value, shape in zip(subgraph.results, subgraph.result_shapes, strict=True):
        shapes.append(in_order(shape, orders[value]) if value in orders else shape)
    return replace(
        subgraph, body=Module(subgraph.body.name, body), result_shapes=tuple(shapes), key=key_of(body, shapes)
    )
