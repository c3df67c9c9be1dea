"""The page of operators, from the lowering's own tables."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from iree_migraphx.ir.model import Instruction, Shape
from iree_migraphx.lowering.anchors import ANCHORS
from iree_migraphx.lowering.emit import TENSOR_OPERATORS
from iree_migraphx.lowering.pointwise import POINTWISE, RETYPING, supports_types
from iree_migraphx.lowering.reshapers import RESHAPERS
from iree_migraphx.lowering.types import PAIR, TYPES

#: Column -> its types.
COLUMNS = {
    **{name: (f"{name}_type",) for name in ("float", "half", "bf16", "double")},
    "fp8": tuple(type_ for type_ in TYPES if type_.startswith("fp8")),
    "int": tuple(type_ for type_ in TYPES if type_.startswith("int")),
    "uint": tuple(type_ for type_ in TYPES if type_.startswith("uint")),
    "bool": ("bool_type",),
}
#: Fields with which operators over tensors are asked what they take; each reads its own.
_FIELDS = {
    "axis": 1,
    "axes": [1],
    "steps": [1],
    "pads": [0] * 8,
    "mode": 0,
    "lengths": [1, 1],
    "stride": [1, 1],
    "padding": [0] * 4,
    "dilations": [1, 1],
    "padding_mode": 0,
    "lp_order": 2,
    "batch_dims": 0,
    "value": 0.0,
    "depth": 2,
    "size": 1,
    "alpha": 1.0,
    "bias": 1.0,
    "sampling_ratio": 1,
}
_LENS = (1, 2, 4, 6)


def page() -> Iterator[str]:
    """Lines of the page."""
    yield "# Operators\n"
    yield "What kernels can compute, by element type: MIGraphX's float, half, bf16 and double; fp8 are the four 8-bit"
    yield "floats, int and uint the signed and unsigned integers of 8 to 64 bits. Meanings are those of MIGraphX's"
    yield "`ref` target; where that is wrong, [facts.md](facts.md) says so. Functions marked *in double* are computed"
    yield "so on the host, as IREE's own are missing or poor there."
    yield "Which combinations compile for a GPU, `python benchmarks/operators_on_gpus.py` and"
    yield "`python benchmarks/anchors_on_gpus.py` say. Programs made up of them are compared with MIGraphX, as many as"
    yield "one likes, by `PYTHONPATH=tests python -m random_programs --examples 50000`; the tests run 2,000.\n"
    yield "## Anchors\n"
    yield from _table(((name, _anchor(name), "") for name in sorted(ANCHORS)), "")
    yield "\n## Pointwise, behind and in front of anchors\n"
    yield from _table(
        ((name, _pointwise(name), _host(name)) for name in sorted({*POINTWISE, *RETYPING})), "on the host"
    )
    yield "\n## Whole tensors\n"
    yield "On the host, without an anchor (the option `extra`).\n"
    yield from _table(((name, _tensor(name), "") for name in sorted(TENSOR_OPERATORS)), "")
    yield "\n## Views\n"
    yield "Over every type, before anchors and other operands; they cost nothing:"
    yield ", ".join(f"`{name}`" for name in sorted(RESHAPERS)) + "."


def _table(rows: Iterator[tuple[str, Callable[[str], bool], str]], last: str) -> Iterator[str]:
    columns = [*COLUMNS, *([last] if last else [])]
    yield f"| operator | {' | '.join(columns)} |"
    yield "| --- " * (len(columns) + 1) + "|"
    for name, takes, remark in rows:
        cells = [_cell([takes(type_) for type_ in types]) for types in COLUMNS.values()]
        yield f"| {name} | {' | '.join([*cells, *([remark] if last else [])])} |"


def _cell(taken: list[bool]) -> str:
    return "yes" if all(taken) else "some" if any(taken) else ""


def _anchor(name: str) -> Callable[[str], bool]:
    if name.startswith("quant_"):
        return lambda type_: type_ == "int8_type" or type_.startswith("fp8")
    return lambda type_: type_ != "bool_type"


def _pointwise(name: str) -> Callable[[str], bool]:
    arity = POINTWISE[name].arity if name in POINTWISE else RETYPING[name][-1]
    return lambda type_: supports_types(Instruction("", name, Shape(type_, _LENS)), [type_] * arity)


def _host(name: str) -> str:
    entry = POINTWISE.get(name)
    if entry is None or entry.doubles is None:
        return ""
    return "in double" if entry.through_doubles else "doubles in double"


def _tensor(name: str) -> Callable[[str], bool]:
    def takes(type_: str) -> bool:
        data = Shape.standard_of(type_, _LENS)
        # Indices of one axis, and of places, for which the result has the data's lengths again.
        indices = [Shape.standard_of("int64_type", lens) for lens in ((2,), (1, 1))]
        pair = Shape.standard_of(PAIR, _LENS)
        instruction = Instruction("", name, data, _FIELDS)
        if name == "unpack_fp4":
            return type_ == "fp8e4m3fn_type" and _asked(instruction, [pair])
        places = [*indices, Shape.standard_of("int64_type", _LENS)]
        operands = [[data], *([data, each] for each in indices), *([data, each, data] for each in places)]
        operands.append([Shape.standard_of("int64_type", (1, 4, 6)), Shape.standard_of(type_, (2,))])
        operands.append([data, Shape.standard_of(type_, (1, 4)), Shape.standard_of("int64_type", (1,))])
        return any(_asked(instruction, each) for each in operands)

    return takes


def _asked(instruction: Instruction, operands: list[Shape]) -> bool:
    try:
        return TENSOR_OPERATORS[instruction.name].supports(instruction, operands)
    except (IndexError, ValueError):
        return False
