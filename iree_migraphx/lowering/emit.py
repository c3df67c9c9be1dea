"""One subgraph as the text of an MLIR module with one function.

The function's interface is described in kernels/model.py: a tensor an operand, then an output buffer a result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.layout import physical_axes, physical_lens
from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.ir.tiles import tiled_constant
from iree_migraphx.lowering import anchors, attention, pointwise, reshapers
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.bindings import func, ir
from iree_migraphx.lowering.builder import elementwise, materialise, reshape, tensor_type
from iree_migraphx.lowering.family import TensorOperator, has_elements
from iree_migraphx.lowering.moves import MOVES
from iree_migraphx.lowering.native import parameter_types
from iree_migraphx.lowering.packed import PACKED
from iree_migraphx.lowering.pointwise import Element
from iree_migraphx.lowering.pooling import POOLING
from iree_migraphx.lowering.ranking import RANKING
from iree_migraphx.lowering.reductions import REDUCTIONS
from iree_migraphx.lowering.regions import REGIONS
from iree_migraphx.lowering.rounding import round_bf16
from iree_migraphx.lowering.scatter import SCATTER
from iree_migraphx.lowering.types import is_float
from iree_migraphx.lowering.view import View
from iree_migraphx.partition.attention import attention_of
from iree_migraphx.partition.rules import Attention
from iree_migraphx.partition.subgraph import Subgraph


@dataclass(frozen=True)
class _Leaf:
    """A tensor whose elements are rounded to `type` when they are read (an anchor's sum is wider than its result)."""

    view: View
    type: str

    @property
    def lens(self) -> tuple[int, ...]:
        return self.view.lens


@dataclass(frozen=True)
class _Scalar:
    """A literal with one element, seen with any lengths."""

    value: int | float
    type: str
    lens: tuple[int, ...]


@dataclass(frozen=True)
class _Chain:
    """A pointwise instruction that is not computed yet, so that the whole chain becomes one loop nest."""

    instruction: Instruction
    operands: tuple[_Leaf | _Scalar | _Chain, ...]
    host: bool

    @property
    def type(self) -> str:
        return self.instruction.shape.type

    @property
    def lens(self) -> tuple[int, ...]:
        return self.instruction.shape.lens


_Value = _Leaf | _Scalar | _Chain

#: Operators over whole tensors, of all families.
_FAMILIES = (MOVES, PACKED, POOLING, RANKING, REDUCTIONS, REGIONS, SCATTER)
TENSOR_OPERATORS: Mapping[str, TensorOperator] = {name: each for table in _FAMILIES for name, each in table.items()}


def supports_anchor(instruction: Instruction) -> bool:
    """Whether a subgraph may form around this instruction."""
    return instruction.name in anchors.ANCHORS


def supports_reshaper(instruction: Instruction) -> bool:
    """Whether this instruction may be fused as a mere change of view."""
    return instruction.name in reshapers.RESHAPERS and len(instruction.inputs) == 1


def supports_attention(found: Attention, known: Mapping[str, Instruction], form: Form) -> bool:
    """Whether an attention can be lowered as a whole, among instructions given by their ids."""
    if form is Form.CHANNELS_LAST:
        members = (known[value] for value in found.members)
        return all(supports_anchor(i) or supports_extra(i, [known[value].shape for value in i.inputs]) for i in members)
    try:
        attention.check(found, _numbers(found, known))
    except Refusal:
        return False
    return True


def _numbers(found: Attention, known: Mapping[str, Instruction]) -> dict[str, float]:
    """The scalar constants that an attention reads, through their broadcasts."""
    numbers = {}
    for value in {value for step in found.chain for value in step.inputs}:
        source = known[value]
        while supports_reshaper(source):
            source = known[source.inputs[0]]
        if source.literal is not None and source.literal.shape.elements == 1:
            numbers[value] = float(source.literal.array().reshape(-1)[0])
    return numbers


def supports_extra(instruction: Instruction, operands: Sequence[Shape]) -> bool:
    """Whether this instruction, over operands of these shapes, may be in a subgraph without an anchor."""
    if instruction.name in TENSOR_OPERATORS:
        return TENSOR_OPERATORS[instruction.name].supports(instruction, operands)
    if not has_elements(instruction, operands):
        return False
    if supports_reshaper(instruction):
        return True
    return (
        pointwise.supports(instruction)
        and pointwise.supports_types(instruction, [shape.type for shape in operands])
        and all(shape.lens == instruction.shape.lens for shape in operands)
    )


@functools.cache
def _context() -> ir.Context:
    """One context for all modules: making one takes longer than building a module."""
    return ir.Context()


def lower(subgraph: Subgraph, symbol: str, form: Form = Form.OPERANDS) -> str:
    """The subgraph as an MLIR module of linalg on tensors, verified.

    Args:
        subgraph: what to compute; its body's parameters may have any dense strides, zeros included.
        symbol: the function's name.
        form: the layout in which convolutions are computed.

    Raises:
        Refusal: with the reason for which this subgraph has no kernel.
    """
    with _context(), ir.Location.unknown():
        module = ir.Module.create()
        types: list[ir.Type] = [
            tensor_type(physical_lens(parameter.shape), type_)
            for parameter, type_ in zip(subgraph.parameters, parameter_types(subgraph, form).values(), strict=True)
        ]
        results = [tensor_type(physical_lens(shape), shape.type) for shape in subgraph.result_shapes]
        with ir.InsertionPoint(module.body):
            function = func.FuncOp(symbol, ([*types, *[ir.Type.parse("!hal.buffer")] * len(results)], results))
            numbers = [ir.IntegerAttr.get(ir.IndexType.get(), number) for number in range(len(results))]
            outputs = [ir.DictAttr.get({"iree.abi.output": number}) for number in numbers]
            function.arg_attrs = [*[ir.DictAttr.get({}) for _ in types], *outputs]
            block = function.add_entry_block()
        try:
            with ir.InsertionPoint(block):
                func.ReturnOp(_emit_body(subgraph, list(block.arguments)[: len(types)], form))
            if form is Form.CHANNELS_LAST:
                round_bf16(module)
            else:
                _remove_barriers(block)
            module.operation.verify()
        except ir.MLIRError as error:
            said = "; ".join(diagnostic.message for diagnostic in error.error_diagnostics)
            raise Refusal(Reason.LOWERING_ERROR, said or error.message) from error
        return str(module)


def _remove_barriers(block: ir.Block) -> None:
    """What CPUs want apart is one dispatch on a GPU: IREE would submit it in two, which MIGraphX can't launch."""
    for op in list(block.operations):
        if op.operation.name == "util.optimization_barrier":
            op.operation.results[0].replace_all_uses_with(op.operation.operands[0])
            op.operation.erase()


def _emit_body(subgraph: Subgraph, arguments: Sequence[ir.Value], form: Form) -> list[ir.Value]:
    values: dict[str, _Value] = {}
    body, types = subgraph.body.by_id(), parameter_types(subgraph, form)
    tensors = iter(arguments)
    fused = _attentions(subgraph, form)
    inside = {member for found in fused.values() for member in found.members}
    for instruction in subgraph.body.instructions:
        name = instruction.name
        if name == "@return":
            returned = zip(instruction.inputs, subgraph.result_shapes, strict=True)
            return [_in_memory(values[value], physical_axes(shape)).tensor for value, shape in returned]
        if name == "@param":
            shape, type_ = instruction.shape, types[instruction.id]
            values[instruction.id] = _Leaf(View(next(tensors), shape.lens, physical_axes(shape), type_), type_)
        elif name == "@literal":
            values[instruction.id] = _scalar(instruction)
        elif instruction.id in fused:
            values[instruction.id] = _attention(fused[instruction.id], values)
        elif instruction.id not in inside:
            strips = tiled_constant(instruction, body)
            if strips is not None:
                operands = [_materialise(values[each]) for each in (instruction.inputs[0], strips)]
                values[instruction.id] = _Leaf(anchors.apply_tiled(instruction, *operands), instruction.shape.type)
                continue
            values[instruction.id] = _compute(instruction, [values[i] for i in instruction.inputs], form)
    raise Refusal(Reason.LOWERING_ERROR, f"the body of {subgraph.name} returns nothing")


def _attentions(subgraph: Subgraph, form: Form) -> dict[str, Attention]:
    """What is one operation, by the id of its last instruction; CPUs want none, and what it can't do is several."""
    if form is Form.CHANNELS_LAST:
        return {}
    known = subgraph.body.by_id()
    found = (attention_of(instruction, known, pointwise.supports) for instruction in known.values())
    return {
        each.output.id: each
        for each in found
        if each is not None and _stays_inside(each, known.values()) and supports_attention(each, known, form)
    }


def _stays_inside(found: Attention, everything: Iterable[Instruction]) -> bool:
    inner = found.members - {found.output.id}
    return all(i.id in found.members or inner.isdisjoint(i.inputs) for i in everything)


def _attention(found: Attention, values: Mapping[str, _Value]) -> _Value:
    scores = attention.Scores()
    for step, place in found.steps():
        others = {at: values[value] for at, value in enumerate(step.inputs) if at != place}
        scores.apply(step, {at: _number_or_view(value) for at, value in others.items()})
    q, k = (_materialise(values[value]) for value in found.scores.inputs)
    v = _materialise(values[found.output.inputs[1]])
    return _Leaf(attention.attention(q, k, v, scores, found.output), found.output.shape.type)


def _number_or_view(value: _Value) -> View | float:
    return float(value.value) if isinstance(value, _Scalar) else _materialise(value)


def _compute(instruction: Instruction, operands: list[_Value], form: Form) -> _Value:
    if supports_anchor(instruction):
        views = [_materialise(operand) for operand in operands]
        return _Leaf(anchors.apply(instruction, views, form), instruction.shape.type)
    if instruction.name in TENSOR_OPERATORS:
        views = [_materialise(operand, _order_of(operand)) for operand in operands]
        return _Leaf(TENSOR_OPERATORS[instruction.name].emit(instruction, views), instruction.shape.type)
    if supports_reshaper(instruction):
        source = operands[0]
        if isinstance(source, _Scalar):
            return _Scalar(source.value, source.type, instruction.shape.lens)
        if isinstance(source, _Chain):
            source = _Leaf(_materialise(source), source.type)
        return _Leaf(reshapers.apply(instruction, source.view), source.type)
    if instruction.name == "where" and math.prod(operands[0].lens) == 1:
        operands = [_everywhere(operands[0], instruction.shape.lens), *operands[1:]]
    for operand in operands:
        if operand.lens != instruction.shape.lens:
            lengths = f"{list(operand.lens)} where {list(instruction.shape.lens)} is computed"
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} over an operand of lengths {lengths}")
    return _Chain(instruction, tuple(operands), host=form is Form.CHANNELS_LAST)


def _in_memory(value: _Value, order: Sequence[int]) -> View:
    """A view of a tensor that holds the axes in this order, and of the others, which have length 1, none.

    They are dropped last: before, they keep the loops like those of what is fused with them.
    """
    rest = [axis for axis in range(len(value.lens)) if axis not in order]
    whole = value.view if isinstance(value, _Leaf) and value.view.type == value.type else None
    return materialise(whole or _materialise(value, [*rest, *order]), order)


def _everywhere(condition: _Value, lens: tuple[int, ...]) -> _Value:
    """A condition with one element (op/where.hpp) as one for every element."""
    if isinstance(condition, _Scalar):
        return _Scalar(condition.value, condition.type, lens)
    view = reshape(_materialise(condition), [1] * len(lens))
    return _Leaf(view.broadcast_to(lens, 0), condition.type)


def _materialise(value: _Value, order: Sequence[int] | None = None) -> View:
    """A view whose elements have the value's own type; with `order`, of a tensor that holds the axes in this order."""
    if isinstance(value, _Leaf) and value.view.type == value.type and order in (None, value.view.axes):
        return value.view
    leaves = _leaves(value)

    def body(scalars: list[ir.Value]) -> ir.Value:
        elements = {
            id(leaf): Element(pointwise.narrow(scalar, leaf.type), leaf.type)
            for leaf, scalar in zip(leaves, scalars, strict=False)
        }
        return _element(value, elements).value

    axes = tuple(range(len(value.lens))) if order is None else tuple(order)
    return elementwise([leaf.view for leaf in leaves], value.lens, axes, value.type, body)


def _order_of(value: _Value) -> Sequence[int] | None:
    """The order of the axes in the first of the leaves that has all of them; None for a leaf, or row-major."""
    if isinstance(value, _Leaf) and value.view.type == value.type:
        return None
    moving = {axis for axis, length in enumerate(value.lens) if length != 1}
    for leaf in _leaves(value):
        held = [axis for axis in leaf.view.axes if axis is not None]
        if moving <= set(held):
            return [*(axis for axis in range(len(value.lens)) if axis not in held), *held]
    return None


def _element(value: _Value, known: dict[int, Element]) -> Element:
    if id(value) not in known:
        if isinstance(value, _Scalar):
            known[id(value)] = Element(pointwise.constant(value.type, value.value), value.type, value.value)
        else:
            assert isinstance(value, _Chain)
            operands = [_element(operand, known) for operand in value.operands]
            known[id(value)] = pointwise.emit(value.instruction, operands, value.host)
    return known[id(value)]


def _leaves(value: _Value) -> list[_Leaf]:
    found: dict[int, _Leaf] = {}
    seen: set[int] = set()
    pending = [value]
    while pending:
        current = pending.pop()
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, _Leaf):
            found[id(current)] = current
        elif isinstance(current, _Chain):
            pending.extend(reversed(current.operands))
    return list(found.values())


def _scalar(instruction: Instruction) -> _Scalar:
    literal = instruction.literal
    if literal is None or literal.shape.elements != 1:
        raise Refusal(Reason.UNSUPPORTED_OPERATOR, "a literal of several elements inside a kernel")
    type_, element = literal.shape.type, literal.array().reshape(-1)[0]
    # A bool is a byte whose value counts where it is converted.
    number = float(element) if is_float(type_) else int(element.view(np.int8) if type_ == "bool_type" else element)
    return _Scalar(number, type_, literal.shape.lens)
