"""One subgraph as the text of an MLIR module with one function.

The function's interface is described in kernels/model.py: a tensor an operand, then an output buffer a result.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.layout import physical_axes, physical_lens
from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.ir.tiles import tiled_constant
from iree_migraphx.lowering import anchors, attention, pointwise, reshapers
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.bindings import func, ir
from iree_migraphx.lowering.builder import merge_axes, split_axis, tensor_type
from iree_migraphx.lowering.family import TensorOperator, has_elements
from iree_migraphx.lowering.moves import MOVES
from iree_migraphx.lowering.native import parameter_types
from iree_migraphx.lowering.packed import PACKED
from iree_migraphx.lowering.pooling import POOLING
from iree_migraphx.lowering.ranking import RANKING
from iree_migraphx.lowering.reductions import REDUCTIONS
from iree_migraphx.lowering.regions import REGIONS
from iree_migraphx.lowering.rounding import round_bf16
from iree_migraphx.lowering.scatter import SCATTER
from iree_migraphx.lowering.values import (
    Chain,
    Lazy,
    Leaf,
    Merged,
    Scalar,
    Value,
    computed,
    everywhere,
    in_memory,
    lazily,
    merged,
    order_of,
    scalar_of,
)
from iree_migraphx.lowering.view import View
from iree_migraphx.partition.attention import attention_of
from iree_migraphx.partition.rules import Attention
from iree_migraphx.partition.subgraph import Subgraph

#: Operators over whole tensors, of all families.
_FAMILIES = (MOVES, PACKED, POOLING, RANKING, REDUCTIONS, REGIONS, SCATTER)
TENSOR_OPERATORS: Mapping[str, TensorOperator] = {name: each for table in _FAMILIES for name, each in table.items()}

_RESHAPES = frozenset({"reshape", "reshape_lazy"})


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
        elements = parameter_types(subgraph, form)
        types: list[ir.Type] = [tensor_type(physical_lens(p.shape), elements[p.id]) for p in subgraph.parameters]
        results = [tensor_type(physical_lens(shape), shape.type) for shape in subgraph.result_shapes]
        with ir.InsertionPoint(module.body):
            function = func.FuncOp(symbol, ([*types, *[ir.Type.parse("!hal.buffer")] * len(results)], results))
            numbers = [ir.IntegerAttr.get(ir.IndexType.get(), number) for number in range(len(results))]
            outputs = [ir.DictAttr.get({"iree.abi.output": number}) for number in numbers]
            function.arg_attrs = [*[ir.DictAttr.get({}) for _ in types], *outputs]
            block = function.add_entry_block()
        try:
            with ir.InsertionPoint(block):
                func.ReturnOp(_emit_body(subgraph, list(block.arguments)[: len(types)], elements, form))
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


def _emit_body(
    subgraph: Subgraph, arguments: Sequence[ir.Value], types: Mapping[str, str], form: Form
) -> list[ir.Value]:
    values: dict[str, Value] = {}
    body = subgraph.body.by_id()
    tensors = iter(arguments)
    fused = _attentions(subgraph, form)
    inside = {member for found in fused.values() for member in found.members}
    for instruction in subgraph.body.instructions:
        name = instruction.name
        if name == "@return":
            returned = zip(instruction.inputs, subgraph.result_shapes, strict=True)
            return [in_memory(values[value], physical_axes(shape)).tensor for value, shape in returned]
        if name == "@param":
            shape, type_ = instruction.shape, types[instruction.id]
            values[instruction.id] = Leaf(View(next(tensors), shape.lens, physical_axes(shape), type_), type_)
        elif name == "@literal":
            values[instruction.id] = scalar_of(instruction)
        elif instruction.id in fused:
            values[instruction.id] = _attention(fused[instruction.id], values, body)
        elif instruction.id not in inside:
            strips = tiled_constant(instruction, body)
            if strips is not None:
                factors = [computed(values[each]) for each in (instruction.inputs[0], strips)]
                values[instruction.id] = Leaf(anchors.apply_tiled(instruction, *factors), instruction.shape.type)
                continue
            parts = _parts_of_slice(instruction, values, body) if form is not Form.CHANNELS_LAST else None
            operands = [values[each] for each in instruction.inputs]
            values[instruction.id] = parts or _compute(instruction, operands, form)
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


def _attention(found: Attention, values: Mapping[str, Value], body: Mapping[str, Instruction]) -> Value:
    scores = attention.Scores()
    for step, place in found.steps():
        others = {at: values[value] for at, value in enumerate(step.inputs) if at != place}
        scores.apply(step, {at: _number_or_lazy(value) for at, value in others.items()})
    (q, k), v, type_ = found.scores.inputs, values[found.output.inputs[1]], found.output.shape.type
    shared = values[k]
    if isinstance(shared, Merged) and isinstance(v, Merged) and (shared.axis, shared.split) == (v.axis, v.split):
        axis, split = shared.axis, shared.split
        queries = _split_queries(body[q], values, axis, split)
        result = attention.attention(
            queries, shared.view, v.view, scores.over(lambda view: split_axis(view, axis, split)), type_
        )
        return Leaf(merge_axes(result, axis), type_)
    return Leaf(attention.attention(computed(values[q]), computed(shared), computed(v), scores, type_), type_)


def _split_queries(q: Instruction, values: Mapping[str, Value], axis: int, split: tuple[int, ...]) -> View:
    """Queries with the axis of the heads as two, of which keys and values have only the first."""
    whole = computed(values[q.id])
    lens = (*whole.lens[:axis], *split, *whole.lens[axis + 1 :])
    parts = reshapers.split_slice(q, computed(values[q.inputs[0]]), lens) if q.name == "slice" else None
    return split_axis(whole, axis, split) if parts is None else parts


def _number_or_lazy(value: Value) -> Lazy | float:
    return float(value.value) if isinstance(value, Scalar) else lazily(value)


def _parts_of_slice(
    instruction: Instruction, values: Mapping[str, Value], body: Mapping[str, Instruction]
) -> Value | None:
    """A reshape of a slice, as the slice of a reshape where that is possible; else None."""
    if instruction.name not in _RESHAPES or body[instruction.inputs[0]].name != "slice":
        return None
    slice_ = body[instruction.inputs[0]]
    source = values[slice_.inputs[0]]
    if not isinstance(source, Leaf) or source.view.type != source.type:
        return None
    view = reshapers.split_slice(slice_, source.view, instruction.shape.lens)
    return None if view is None else Leaf(view, source.type)


def _compute(instruction: Instruction, operands: list[Value], form: Form) -> Value:
    on_gpu = form is not Form.CHANNELS_LAST
    if supports_anchor(instruction):
        views = [computed(operand) for operand in operands]
        return Leaf(anchors.apply(instruction, views, form), instruction.shape.type)
    if instruction.name in TENSOR_OPERATORS:
        views = [computed(operand, order_of(operand)) for operand in operands]
        entry = TENSOR_OPERATORS[instruction.name]
        emit = entry.on_gpus or entry.emit if on_gpu else entry.emit
        return Leaf(emit(instruction, views), instruction.shape.type)
    if supports_reshaper(instruction):
        source = operands[0]
        if isinstance(source, Scalar):
            return Scalar(source.value, source.type, instruction.shape.lens)
        if isinstance(source, Merged) and instruction.name == "contiguous":
            return source
        if isinstance(source, Merged) and instruction.name == "transpose":
            return source.transpose(instruction.operator["permutation"])
        if not isinstance(source, Leaf):
            source = Leaf(computed(source), source.type)
        whole = merged(source, instruction.shape.lens) if instruction.name in _RESHAPES and on_gpu else None
        if whole is not None:
            return whole
        return Leaf(reshapers.apply(instruction, source.view), source.type)
    if instruction.name == "where" and math.prod(operands[0].lens) == 1:
        operands = [everywhere(operands[0], instruction.shape.lens), *operands[1:]]
    for operand in operands:
        if operand.lens != instruction.shape.lens:
            lengths = f"{list(operand.lens)} where {list(instruction.shape.lens)} is computed"
            raise Refusal(Reason.UNSUPPORTED_OPERATOR, f"{instruction.name} over an operand of lengths {lengths}")
    leaves = (Leaf(computed(each), each.type) if isinstance(each, Merged) else each for each in operands)
    return Chain(instruction, tuple(leaves), host=not on_gpu)
