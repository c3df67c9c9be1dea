"""Constant weights in the order in which a CPU reads them for a product: a strip of sixteen columns after another.

A kernel computes sixteen columns at a time. In a row-major matrix each of its rows is then a memory page apart from the
next one, and large weights are read at a tenth of the memory's speed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace

from iree_migraphx.ir.edit import unique_ids
from iree_migraphx.ir.model import Instruction, Literal, Program, Shape

#: Columns of a strip: a vector of AVX-512 in float.
TILE = 16
#: Elements from which weights are worth it; smaller ones stay in a core's cache in any order.
LEAST_WEIGHTS = 65536
#: The same for convolutions with several taps, whose images have to be written out tap by tap: those must be small too.
LEAST_WINDOW_WEIGHTS, MOST_PIXELS = 262144, 400


def with_tiled_constants(program: Program) -> Program:
    """Let products and convolutions of float read large constants as strips, through a transpose and a reshape.

    The program computes the same. The lowering knows the three instructions (`tiled_constant`).
    """
    ids = unique_ids(program, "tiles")
    everything = {instruction.id: instruction for instruction in program.instructions()}
    for module in program.modules.values():
        instructions: list[Instruction] = []
        for instruction in module.instructions:
            found = _weights(instruction, everything)
            if found is not None:
                new = _strips(found, ids)
                value = new[-1]
                read = everything[instruction.inputs[1]]
                if read.id != found.id:
                    value = replace(read, id=next(ids), inputs=(value.id,), extra={})
                    new.append(value)
                instruction = replace(instruction, inputs=(instruction.inputs[0], value.id))
                instructions.extend(new)
            instructions.append(instruction)
        program = program.with_module(replace(module, instructions=tuple(instructions)))
    return program


def tiled_constant(instruction: Instruction, values: Mapping[str, Instruction]) -> str | None:
    """Id of the strips that the second operand of a product or convolution is read from; None where there are none."""
    if instruction.name not in ("dot", "convolution") or len(instruction.inputs) != 2:
        return None
    value = values[instruction.inputs[1]]
    if value.name == "multibroadcast" and value.shape.lens[-2:] == values[value.inputs[0]].shape.lens:
        value = values[value.inputs[0]]
    if value.name != "reshape":
        return None
    lens, value = value.shape.lens, values[value.inputs[0]]
    if value.name != "transpose" or tuple(value.operator["permutation"]) != _order(len(lens)):
        return None
    source = values[value.inputs[0]]
    return source.id if source.name in ("@param", "@literal") and source.shape.lens[-1] == TILE else None


def _weights(instruction: Instruction, values: Mapping[str, Instruction]) -> Instruction | None:
    """The literal to be read as strips."""
    if instruction.shape.type != "float_type" or len(instruction.inputs) != 2:
        return None
    value, out = values[instruction.inputs[1]], instruction.shape.lens
    if instruction.name == "dot":
        if value.name == "multibroadcast":
            value = values[value.inputs[0]]
        rows = math.prod(out[:-1])
        fits = len(value.shape.lens) == 2 and value.shape.lens == values[instruction.inputs[1]].shape.lens[-2:]
        columns, least = out[-1], LEAST_WEIGHTS
        fits = fits and rows >= 4
    elif instruction.name == "convolution" and len(out) == 4 and len(value.shape.lens) == 4:
        columns, window = value.shape.lens[0], value.shape.lens[2:] != (1, 1)
        fits = int(instruction.operator.get("group", 1)) == 1
        fits = fits and (not window or out[0] * math.prod(out[2:]) <= MOST_PIXELS)
        least = LEAST_WINDOW_WEIGHTS if window else LEAST_WEIGHTS
    else:
        return None
    fits = fits and value.literal is not None and columns % TILE == 0 and value.shape.elements >= least
    return value if fits else None


def _strips(weights: Instruction, ids: Iterator[str]) -> list[Instruction]:
    """The constant as strips, and how to come back from them."""
    assert weights.literal is not None
    array = weights.literal.array()
    if array.ndim == 2:
        rows, columns = array.shape
        strips = array.reshape(rows, columns // TILE, TILE).transpose(1, 0, 2)
    else:
        filters, *rest = array.shape
        strips = array.reshape(filters // TILE, TILE, *rest).transpose(0, 3, 4, 2, 1)
    shape = Shape.standard_of("float_type", strips.shape)
    # The strips are written out where a kernel gets them, and not at all where none does.
    strides = tuple(stride // array.itemsize for stride in strips.strides)
    stored = Literal(Shape("float_type", strips.shape, strides), weights.literal.data)
    literal = Instruction(next(ids), "@literal", shape, literal=stored)
    order = _order(array.ndim)
    lens = tuple(strips.shape[axis] for axis in order)
    strides = tuple(shape.strides[axis] for axis in order)
    fields = {"permutation": list(order)}
    back = Instruction(next(ids), "transpose", Shape("float_type", lens, strides), fields, (literal.id,))
    whole = Shape.standard_of("float_type", array.shape)
    return [literal, back, Instruction(next(ids), "reshape", whole, {"dims": list(array.shape)}, (back.id,))]


def _order(rank: int) -> tuple[int, ...]:
    """How the strips of a matrix [K, N], or of filters [F, C, H, W], are transposed to be reshaped to it."""
    return (1, 0, 2) if rank == 2 else (0, 4, 3, 1, 2)
