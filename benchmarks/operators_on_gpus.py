"""Compiles every pointwise operator over every type behind a dot, for each GPU, and prints what is refused and why.

    python benchmarks/operators_on_gpus.py                       # gfx90a gfx942 gfx950 gfx1100 gfx1201
    python benchmarks/operators_on_gpus.py gfx942 --types half_type bf16_type

Many operators go into one kernel; where that is refused, each is compiled alone. Nothing is executed, no GPU is needed.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence

from iree_migraphx.binding.datatypes import type_t
from iree_migraphx.errors import Refusal
from iree_migraphx.ir.model import Instruction, Module, Shape
from iree_migraphx.kernels.model import GpuKernel, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.emit import lower
from iree_migraphx.lowering.pointwise import POINTWISE, RETYPING, supports_types
from iree_migraphx.lowering.types import TYPES, is_float
from iree_migraphx.options import Options
from iree_migraphx.partition.subgraph import Subgraph

GPUS = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201")
LENS = (32, 48)


def operators(type_: str) -> list[str]:
    """Those that take operands of a type."""
    found = []
    for name in (*POINTWISE, *RETYPING):
        arity = POINTWISE[name].arity if name in POINTWISE else RETYPING[name][-1]
        if supports_types(Instruction("", name, Shape(type_, LENS)), [type_] * arity):
            found.append(name)
    return [name for name in found if is_float(type_) or name != "quantizelinear"]


def subgraph_of(names: Sequence[str], type_: str) -> Subgraph:
    """A dot, its result as `type_`, and the greatest of all that the operators make of it."""
    body: list[Instruction] = []

    def add(name: str, *inputs: str, type_: str = type_, lens: tuple[int, ...] = LENS, **fields: object) -> str:
        body.append(Instruction(f"@{len(body)}", name, Shape.standard_of(type_, lens), fields, inputs))
        return body[-1].id

    a = add("@param", type_="float_type", lens=(32, 64), parameter="a")
    b = add("@param", type_="float_type", lens=(64, 48), parameter="b")
    y, z = add("@param", parameter="y"), add("@param", parameter="z")
    total = x = add("convert", add("dot", a, b, type_="float_type"), target_type=int(type_t[type_]))
    for name in names:
        if name in ("convert", "bit_cast"):
            for other in TYPES:
                if name == "convert" or TYPES[other].bits == TYPES[type_].bits:
                    there = add(name, x, type_=other, target_type=int(type_t[other]))
                    back = add(name, there, target_type=int(type_t[type_]))
                    total = add("max", total, back)
            continue
        if name == "quantizelinear":
            for other in ("int8_type", "uint8_type", "fp8e4m3fn_type"):
                whole = add(name, x, y, type_=other, out_type=int(type_t[other]))
                total = add("max", total, add("dequantizelinear", whole, y))
            continue
        arity = POINTWISE[name].arity if name in POINTWISE else RETYPING[name][-1]
        kind = "bool_type" if name in ("isinf", "isnan") else type_
        result = add(name, *(x, y, z)[:arity], type_=kind)
        total = add("max", total, result if kind == type_ else add("convert", result, target_type=int(type_t[type_])))
    body.append(Instruction(f"@{len(body)}", "@return", Shape("float_type"), inputs=(total,)))
    members = tuple(i.id for i in body if not i.name.startswith("@"))
    shape = Shape.standard_of(type_, LENS)
    return Subgraph("table", "dot", "main", members, (a, b, y, z), (total,), Module("main", tuple(body)), (shape,), "")


def refusals(gpu: str, groups: Sequence[tuple[str, Sequence[str]]], options: Options) -> list[tuple[str, str, Refusal]]:
    """The groups (a type, its operators) that are refused, one line an operator."""
    target = parse_target(gpu)
    form = forms.form_for(target.gfx)
    requests = [
        Request(f"k{number}", lower(subgraph_of(names, type_), f"k{number}", form), 5, "dot")
        for number, (type_, names) in enumerate(groups)
    ]
    found = []
    alone = []
    outcomes = compile_kernels(requests, target, options)
    for (type_, names), outcome in zip(groups, outcomes, strict=True):
        if isinstance(outcome.kernel, Refusal):
            if len(names) == 1:
                found.append((type_, names[0], outcome.kernel))
            else:
                middle = len(names) // 2
                alone += [(type_, names[:middle]), (type_, names[middle:])]
        else:
            assert isinstance(outcome.kernel, GpuKernel)
    return found + (refusals(gpu, alone, options) if alone else [])


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the table of pointwise operators for GPUs.")
    parser.add_argument("gpus", nargs="*", default=GPUS, help="such as gfx942")
    parser.add_argument("--types", nargs="*", default=list(TYPES), help="such as half_type")
    parser.add_argument("--at-once", type=int, default=12, help="operators in one kernel")
    given = parser.parse_args()
    options = Options(quiet=True, timeout=600, workers=1)
    for gpu in given.gpus:
        groups = []
        for type_ in given.types:
            names = operators(type_)
            groups += [(type_, names[i : i + given.at_once]) for i in range(0, len(names), given.at_once)]
        found = refusals(gpu, groups, options)
        count = sum(len(names) for _, names in groups)
        reasons = Counter(refusal.reason for _, _, refusal in found)
        said = ", ".join(f"{number} {reason.value}" for reason, number in reasons.items()) or "none refused"
        print(f"{gpu}: {count - len(found)} of {count} pairs of operator and type compile; {said}", flush=True)
        for type_, name, refusal in found:
            print(f"  {name} over {type_.removesuffix('_type')}: {refusal.reason.value}: {refusal.detail[:160]}")


if __name__ == "__main__":
    main()
