"""Programs in the form that MIGraphX's fusion passes leave, written by hand, and what they stand for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from iree_migraphx.capture.unfuse import Unfused
from iree_migraphx.ir.model import Instruction, Module, Program, Shape
from programs import Builder

SCALAR = Shape("float_type", (1,), (0,))


def scalar_body(prefix: str, count: int, types: Sequence[str] | None = None) -> tuple[Builder, list[str]]:
    """A pointwise submodule with parameters x0, x1, … of one element each (src/fuse_pointwise.cpp)."""
    builder = Builder(f"{prefix}:")
    types = types or ["float_type"] * count
    names = [
        builder.param(f"x{number}" if number < 10 else f"x:{number:05}", (1,), type_, (0,))
        for number, type_ in enumerate(types)
    ]
    return builder, names


def fusion(builder: Builder, name: str, body: Module, *operands: str, shape: Shape, **fields: object) -> str:
    """An instruction with a submodule; only its shape is recorded by hand, as MIGraphX can't load such programs."""
    value = builder.op(name, *operands, modules=[body.name], **fields)
    return shaped(builder, value, shape)


def shaped(builder: Builder, value: str, shape: Shape) -> str:
    """Record a shape, as MIGraphX would."""
    last = builder._instructions.pop()
    assert last.id == value
    builder._instructions.append(Instruction(last.id, last.name, shape, last.operator, last.inputs, last.modules))
    return value


def captured(builder: Builder, *results: str, modules: Sequence[Module]) -> Program:
    main = builder.module("main", *results)
    return Program(
        7, "2.14.0", {"main": main, **{module.name: module for module in modules}}, ({"name": "gpu"},), ({"events": 0},)
    )


def standard(*lens: int, type_: str = "float_type") -> Shape:
    return Shape.standard_of(type_, lens)


def tuple_of(*shapes: Shape) -> Shape:
    return Shape("tuple_type", sub_shapes=tuple(shapes))


def names_of(unfused: Unfused, fusion_id: str) -> list[str]:
    """Operator names of what a fusion became."""
    everything = {i.id: i for i in unfused.program.instructions()}
    return [everything[value].name for value in unfused.parts[fusion_id]]


def random(inputs: Mapping[str, Sequence[int]]) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(3)
    return {name: generator.standard_normal(tuple(lens)).astype(np.float32) for name, lens in inputs.items()}
