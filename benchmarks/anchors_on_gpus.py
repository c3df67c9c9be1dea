"""Compiles every anchor over every type, in its kinds and as attention, for each GPU; prints what is refused and why.

    python benchmarks/anchors_on_gpus.py                       # gfx90a gfx942 gfx950 gfx1100 gfx1201
    python benchmarks/anchors_on_gpus.py gfx942 --types half_type int8_type

Nothing is executed, no GPU is needed. The pointwise operators are in operators_on_gpus.py.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction, Module, Shape
from iree_migraphx.kernels.model import Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering import attention, forms
from iree_migraphx.lowering.emit import lower
from iree_migraphx.lowering.types import TYPES, is_float
from iree_migraphx.options import Options
from iree_migraphx.partition.subgraph import Subgraph

GPUS = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201")


@dataclass(frozen=True)
class Kind:
    """One kind of an anchor.

    Attributes:
        name: the operator; "attention" is dot, softmax, dot.
        operands: lengths of the operands.
        result: lengths of the result.
        fields: the operator's fields.
    """

    name: str
    operands: Sequence[tuple[int, ...]]
    result: tuple[int, ...]
    fields: Mapping[str, Any] = field(default_factory=dict)


def _conv(name: str, x: tuple[int, ...], w: tuple[int, ...], result: tuple[int, ...], **given: object) -> Kind:
    rank = len(x) - 2
    fields = {"padding": [1] * rank, "stride": [1] * rank, "dilation": [1] * rank, "group": 1, "padding_mode": 0}
    return Kind(name, (x, w), result, fields | given)


IMAGE = (1, 64, 14, 14)
KINDS = {
    "dot": Kind("dot", ((2, 64, 96), (2, 96, 48)), (2, 64, 48)),
    "convolution 3x3": _conv("convolution", IMAGE, (32, 64, 3, 3), (1, 32, 14, 14)),
    "convolution 1x1, stride 2": _conv(
        "convolution", IMAGE, (32, 64, 1, 1), (1, 32, 7, 7), padding=[0, 0], stride=[2, 2]
    ),
    "convolution, 4 groups": _conv("convolution", IMAGE, (32, 16, 3, 3), (1, 32, 14, 14), group=4),
    "convolution, depthwise": _conv("convolution", IMAGE, (64, 1, 3, 3), (1, 64, 14, 14), group=64),
    "convolution, 1 axis": _conv("convolution", (1, 64, 40), (32, 64, 3), (1, 32, 40)),
    "convolution, 3 axes": _conv("convolution", (1, 16, 8, 8, 8), (32, 16, 3, 3, 3), (1, 32, 8, 8, 8)),
    "convolution_backwards 2x2, stride 2": _conv(
        "convolution_backwards", IMAGE, (64, 32, 2, 2), (1, 32, 28, 28), padding=[0, 0], stride=[2, 2]
    ),
    "convolution_backwards 4x4, stride 2": _conv(
        "convolution_backwards", IMAGE, (64, 32, 4, 4), (1, 32, 28, 28), stride=[2, 2]
    ),
    "convolution_backwards, 4 groups": _conv(
        "convolution_backwards", IMAGE, (64, 8, 3, 3), (1, 32, 27, 27), stride=[2, 2], group=4
    ),
    "quant_dot": Kind("quant_dot", ((2, 64, 96), (2, 96, 48)), (2, 64, 48)),
    "quant_convolution 3x3": _conv("quant_convolution", IMAGE, (32, 64, 3, 3), (1, 32, 14, 14)),
    "dot of 8 rows": Kind("dot", ((8, 256), (256, 48)), (8, 48)),
    "convolution 3x3, 8 filters": _conv("convolution", (1, 128, 14, 14), (8, 128, 3, 3), (1, 8, 14, 14)),
    "attention of 8 queries": Kind("attention", ((4, 8, 64), (4, 64, 128), (4, 128, 64)), (4, 8, 64)),
    "attention": Kind("attention", ((4, 128, 64), (4, 64, 128), (4, 128, 64)), (4, 128, 64)),
}


def takes(kind: Kind, type_: str) -> bool:
    """Whether MIGraphX has this anchor over a type."""
    quantized = {"int8_type", *(name for name in TYPES if name.startswith("fp8"))}
    if kind.name.startswith("quant_"):
        return type_ in quantized or (kind.name == "quant_dot" and type_ == "uint8_type")
    return type_ in attention.TYPES if kind.name == "attention" else type_ != "bool_type"


def subgraph_of(kind: Kind, type_: str) -> Subgraph:
    """The anchor alone."""
    body: list[Instruction] = []

    def add(name: str, *inputs: str, lens: tuple[int, ...], type_: str = type_, **fields: Any) -> str:
        body.append(Instruction(f"@{len(body)}", name, Shape.standard_of(type_, lens), fields, inputs))
        return body[-1].id

    operands = [add("@param", lens=lens, parameter=f"x{number}") for number, lens in enumerate(kind.operands)]
    result = type_
    if kind.name == "attention":
        scores = add("dot", *operands[:2], lens=(*kind.operands[0][:-1], kind.operands[1][-1]))
        weights = add("softmax", scores, lens=body[-1].shape.lens, axis=2)
        value = add("dot", weights, operands[2], lens=kind.result)
    else:
        if kind.name.startswith("quant_"):
            result = "float_type" if is_float(type_) else "int32_type"
        value = add(kind.name, *operands, lens=kind.result, type_=result, **kind.fields)
    members = tuple(i.id for i in body if not i.name.startswith("@"))
    body.append(Instruction(f"@{len(body)}", "@return", Shape("float_type"), inputs=(value,)))
    shape = Shape.standard_of(result, kind.result)
    module = Module("main", tuple(body))
    return Subgraph("table", kind.name, "main", members, tuple(operands), (value,), module, (shape,), "")


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the anchors over every type for GPUs.")
    parser.add_argument("gpus", nargs="*", default=GPUS, help="such as gfx942")
    parser.add_argument("--types", nargs="*", default=list(TYPES), help="such as half_type")
    given = parser.parse_args()
    options = Options(quiet=True, timeout=600, workers=1)
    cases = [(name, type_) for name, kind in KINDS.items() for type_ in given.types if takes(kind, type_)]
    for gpu in given.gpus:
        target = parse_target(gpu)
        requests = []
        for number, (name, type_) in enumerate(cases):
            subgraph = subgraph_of(KINDS[name], type_)
            mlir = lower(subgraph, f"k{number}", forms.form_for(target.gfx))
            requests.append(Request(f"k{number}", mlir, len(subgraph.operands) + 1, "dot"))
        outcomes = compile_kernels(requests, target, options)
        refused = [(*case, o.kernel) for case, o in zip(cases, outcomes, strict=True) if isinstance(o.kernel, Refusal)]
        several = [
            case for case, o in zip(cases, outcomes, strict=True) if len(getattr(o.kernel, "launches", (None,))) != 1
        ]
        reasons: Counter[Reason] = Counter(refusal.reason for *_, refusal in refused)
        said = ", ".join(f"{number} {reason.value}" for reason, number in reasons.items()) or "none refused"
        print(f"{gpu}: {len(cases) - len(refused)} of {len(cases)} compile, {len(several)} in several launches; {said}")
        for name, type_, refusal in refused:
            print(f"  {name} over {type_.removesuffix('_type')}: {refusal.reason.value}: {refusal.detail[:160]}")
        for name, type_ in several:
            print(f"  {name} over {type_.removesuffix('_type')}: several launches")


if __name__ == "__main__":
    main()
