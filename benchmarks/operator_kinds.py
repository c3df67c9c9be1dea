"""What operators_on_gpus.py compiles: each operator in its kinds, as subgraphs over every type that it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iree_migraphx import binding
from iree_migraphx.binding.datatypes import type_t
from iree_migraphx.errors import MigraphxError
from iree_migraphx.ir.model import Instruction, Module, Program, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program
from iree_migraphx.lowering import attention
from iree_migraphx.lowering.emit import TENSOR_OPERATORS
from iree_migraphx.lowering.pointwise import POINTWISE, RETYPING, supports_types
from iree_migraphx.lowering.types import PAIR, TYPES
from iree_migraphx.partition.subgraph import Subgraph

#: Lengths of an operand of the type in question, or with a type of its own.
Operand = tuple[int, ...] | tuple[str, tuple[int, ...]]


@dataclass(frozen=True)
class Kind:
    """One kind of an operator.

    Attributes:
        name: the operator, and behind a comma what is particular; "attention" is dot, softmax, dot.
        operands: lengths of the operands, with a type where that is not the one in question.
        fields: the operator's fields.
    """

    name: str
    operands: Sequence[Operand]
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def operator(self) -> str:
        """The operator's name."""
        return self.name.partition(",")[0]


def _conv(name: str, x: tuple[int, ...], w: tuple[int, ...], **given: object) -> Kind:
    rank = len(x) - 2
    fields = {"padding": [1] * rank, "stride": [1] * rank, "dilation": [1] * rank, "group": 1, "padding_mode": 0}
    return Kind(name, (x, w), fields | given)


def _pool(name: str, mode: int, lengths: Sequence[int], stride: Sequence[int], padding: int, **given: object) -> Kind:
    rank = len(lengths)
    fields = {"mode": mode, "lengths": list(lengths), "stride": list(stride), "padding": [padding] * 2 * rank}
    fields |= {"dilations": [1] * rank, "padding_mode": 0, "ceil_mode": False, "lp_order": 2, "dyn_global": False}
    return Kind(f"pooling, {name}", (IMAGE[: rank + 2],), fields | {"count_include_pad": False} | given)


def _along(name: str, lens: tuple[int, ...], axis: int, **given: object) -> Kind:
    return Kind(name, (lens,), {"axis": axis} | given)


def _regions(name: str, mode: int) -> Kind:
    fields = {"mode": mode, "coordinate_transformation_mode": "half_pixel", "spatial_scale": 0.5}
    fields |= {"output_height": 7, "output_width": 7, "sampling_ratio": 2}
    return Kind(f"roialign, {name}", (IMAGE, (6, 4), (INT64, (6,))), fields)


IMAGE, ROWS, HEADS = (1, 64, 14, 14), (48, 96), (4, 128, 64)
AVERAGE, MAX, NORM = 0, 1, 2
INT32, INT64 = "int32_type", "int64_type"

ANCHOR_KINDS = (
    Kind("dot", ((2, 64, 96), (2, 96, 48))),
    Kind("dot, 8 rows", ((8, 256), (256, 48))),
    _conv("convolution, 3x3", IMAGE, (32, 64, 3, 3)),
    _conv("convolution, 1x1, stride 2", IMAGE, (32, 64, 1, 1), padding=[0, 0], stride=[2, 2]),
    _conv("convolution, 4 groups", IMAGE, (32, 16, 3, 3), group=4),
    _conv("convolution, depthwise", IMAGE, (64, 1, 3, 3), group=64),
    _conv("convolution, 1 axis", (1, 64, 40), (32, 64, 3)),
    _conv("convolution, 3 axes", (1, 16, 8, 8, 8), (32, 16, 3, 3, 3)),
    _conv("convolution, 8 filters", (1, 128, 14, 14), (8, 128, 3, 3)),
    _conv("convolution_backwards, 2x2, stride 2", IMAGE, (64, 32, 2, 2), padding=[0, 0], stride=[2, 2]),
    _conv("convolution_backwards, 4x4, stride 2", IMAGE, (64, 32, 4, 4), stride=[2, 2]),
    _conv("convolution_backwards, 4 groups", IMAGE, (64, 8, 3, 3), stride=[2, 2], group=4),
    Kind("quant_dot", ((2, 64, 96), (2, 96, 48))),
    _conv("quant_convolution, 3x3", IMAGE, (32, 64, 3, 3)),
    Kind("attention", (HEADS, (4, 64, 128), HEADS)),
    Kind("attention, 8 queries", ((4, 8, 64), (4, 64, 128), HEADS)),
)

#: Without an anchor. A new operator is one row here, and one of the test's.
TENSOR_KINDS = (
    _along("argmax", ROWS, 1),
    _along("argmax, the last", ROWS, 1, select_last_index=True),
    _along("argmin", ROWS, 0),
    Kind("concat", ((2, 32, 48), (2, 16, 48)), {"axis": 1}),
    Kind("gather", ((40, 64), (INT64, (3, 8))), {"axis": 0}),
    Kind("gathernd", ((12, 8, 64), (INT64, (20, 2)))),
    _along("logsoftmax", ROWS, 1),
    Kind("lrn", (IMAGE,), {"alpha": 1e-4, "beta": 0.75, "bias": 1.0, "size": 5}),
    Kind("onehot", ((INT64, (8, 6)), (2,)), {"axis": 1, "depth": 16}),
    _along("pack_fp4", ROWS, 1),
    _along("pack_int4", ROWS, 1),
    Kind("pad", (IMAGE,), {"pads": [0, 0, 1, 2, 0, 0, 3, 1], "value": 1.5, "mode": 0}),
    _pool("average", AVERAGE, (2, 2), (2, 2), 0),
    _pool("average, padded", AVERAGE, (3, 3), (2, 2), 1),
    _pool("average, global", AVERAGE, (14, 14), (1, 1), 0),
    _pool("maximum", MAX, (2, 2), (2, 2), 0),
    _pool("maximum, padded", MAX, (3, 3), (2, 2), 1),
    _pool("maximum, 1 axis", MAX, (3,), (2,), 1),
    _pool("norm", NORM, (3, 3), (2, 2), 1),
    _along("prefix_scan_sum", ROWS, 1, exclusive=False, reverse=False),
    *(Kind(name, ((8, 32, 48),), {"axes": [2]}) for name in sorted(TENSOR_OPERATORS) if name.startswith("reduce_")),
    Kind("reduce_mean, of images", (IMAGE,), {"axes": [2, 3]}),
    Kind("reduce_sum, of columns", (ROWS,), {"axes": [0]}),
    Kind("reverse", ((8, 32, 48),), {"axes": [0, 2]}),
    _regions("average", AVERAGE),
    _regions("maximum", MAX),
    *(
        Kind(f"scatter_{name}", (ROWS, (INT64, (8, 96)), (8, 96)), {"axis": 0, "skip_out_of_bounds": False})
        for name in ("add", "max", "min", "mul", "none")
    ),
    *(
        Kind(f"scatternd_{name}", ((12, 8, 64), (INT64, (20, 2)), (20, 64)))
        for name in ("add", "max", "min", "mul", "none")
    ),
    _along("softmax", ROWS, 1),
    Kind("step", ((8, 32, 48),), {"axes": [0, 2], "steps": [3, 2]}),
    Kind("step, of images", ((1, 64, 56, 56),), {"axes": [2, 3], "steps": [2, 2]}),
    Kind("unpack_fp4", ((PAIR, (48, 48)),), {"axis": 1}),
    _along("unpack_int4", ROWS, 1),
)
KINDS = {kind.name: kind for kind in (*ANCHOR_KINDS, *TENSOR_KINDS)}
POINTWISE_NAMES = tuple(sorted({*POINTWISE, *RETYPING}))
_POINTWISE_LENS = (32, 48)


def takes(name: str, type_: str) -> bool:
    """Whether the tables have this kind, or this pointwise operator, over a type."""
    if name in POINTWISE_NAMES:
        arity = POINTWISE[name].arity if name in POINTWISE else RETYPING[name][-1]
        return supports_types(Instruction("", name, Shape(type_, _POINTWISE_LENS)), [type_] * arity)
    kind = KINDS[name]
    if kind.operator in TENSOR_OPERATORS:
        return _takes_tensors(kind, type_)
    if kind.operator == "attention":
        return type_ in attention.TYPES
    if kind.operator.startswith("quant_"):
        quantized = {"int8_type", *(name for name in TYPES if name.startswith("fp8"))}
        return type_ in quantized or (kind.operator == "quant_dot" and type_ == "uint8_type")
    return type_ != "bool_type"


def _takes_tensors(kind: Kind, type_: str) -> bool:
    try:
        body = subgraph_of([kind.name], type_).body
    except MigraphxError:
        return False
    *operands, instruction = (i for i in body.instructions if i.name != "@return")
    shapes = [operand.shape for operand in operands]
    concerned = type_ in (shape.type for shape in (*shapes, instruction.shape))
    return concerned and TENSOR_OPERATORS[kind.operator].supports(instruction, shapes)


def _recorded(module: Module) -> Module:
    """A program's main module as MIGraphX saves it, with the shapes that it computes."""
    program = Program(7, "2.14.0", {"main": module})
    return read_program(binding.save_buffer(binding.load_buffer(write_program(program)))).main


class _Body:
    """A module written down instruction by instruction."""

    def __init__(self) -> None:
        self._instructions: list[Instruction] = []

    def param(self, lens: tuple[int, ...], type_: str) -> str:
        number = len(self._instructions)
        return self._add("@param", Shape.standard_of(type_, lens), {"parameter": f"x{number}"})

    def op(self, name: str, *inputs: str, **fields: object) -> str:
        return self._add(name, Shape.standard_of("float_type", (1,)), fields, inputs)

    def convert(self, value: str, type_: str) -> str:
        return self.op("convert", value, target_type=int(type_t[type_]))

    def subgraph(self, anchor: str, result: str) -> Subgraph:
        """All of it as a subgraph with one result.

        Raises:
            MigraphxError: MIGraphX does not take it.
        """
        self._add("@return", Shape("float_type"), {}, (result,))
        body = _recorded(Module("main", tuple(self._instructions)))
        operands = tuple(i.id for i in body.instructions if i.name == "@param")
        members = tuple(i for i in body.instructions if not i.name.startswith("@"))
        (returned,) = body.instructions[-1].inputs
        shapes = tuple(Shape.standard_of(i.shape.type, i.shape.lens) for i in members if i.id == returned)
        return Subgraph("table", anchor, "main", tuple(i.id for i in members), operands, (returned,), body, shapes, "")

    def _add(self, name: str, shape: Shape, fields: Mapping[str, Any], inputs: tuple[str, ...] = ()) -> str:
        self._instructions.append(Instruction(f"@{len(self._instructions)}", name, shape, fields, inputs))
        return self._instructions[-1].id


def subgraph_of(names: Sequence[str], type_: str) -> Subgraph:
    """One kind by itself, or pointwise operators behind one dot.

    Raises:
        MigraphxError: MIGraphX does not take it.
    """
    if names[0] in POINTWISE_NAMES:
        return _behind_a_dot(names, type_)
    (name,) = names
    kind, body = KINDS[name], _Body()
    operands = []
    for operand in kind.operands:
        match operand:
            case (str(own), tuple(lens)):
                operands.append(body.param(lens, own))
            case _:
                operands.append(body.param(operand, type_))
    if kind.operator != "attention":
        anchor = "" if kind.operator in TENSOR_OPERATORS else kind.operator
        return body.subgraph(anchor, body.op(kind.operator, *operands, **kind.fields))
    weights = body.op("softmax", body.op("dot", *operands[:2]), axis=2)
    return body.subgraph("dot", body.op("dot", weights, operands[2]))


def _behind_a_dot(names: Sequence[str], type_: str) -> Subgraph:
    """A dot, its result as `type_`, and the greatest of all that the operators make of it."""
    body = _Body()
    a, b = body.param((32, 64), "float_type"), body.param((64, 48), "float_type")
    y, z = (body.param(_POINTWISE_LENS, type_) for _ in range(2))
    total = x = body.convert(body.op("dot", a, b), type_)
    for name in names:
        if name in ("convert", "bit_cast"):
            alike = [other for other in TYPES if name == "convert" or TYPES[other].bits == TYPES[type_].bits]
            there = [body.op(name, x, target_type=int(type_t[other])) for other in alike]
            results = [body.op(name, value, target_type=int(type_t[type_])) for value in there]
        elif name == "quantizelinear":
            wholes = [
                body.op(name, x, y, out_type=int(type_t[other]))
                for other in ("int8_type", "uint8_type", "fp8e4m3fn_type")
            ]
            results = [body.op("dequantizelinear", whole, y) for whole in wholes]
        else:
            arity = POINTWISE[name].arity if name in POINTWISE else RETYPING[name][-1]
            results = [body.convert(body.op(name, *(x, y, z)[:arity]), type_)]
        for result in results:
            total = body.op("max", total, result)
    return body.subgraph("dot", total)
