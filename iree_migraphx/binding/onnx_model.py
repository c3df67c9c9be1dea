"""Checks of an ONNX model before MIGraphX reads it.

MIGraphX's parser (src/onnx/) counts on what the ONNX checker would have checked: an operator without its inputs, a
weight with fewer bytes than its dimensions say or a stride of 0 ends the process. This walks protobuf's wire format, so
it needs no ONNX package, skips the weights' bytes, and leaves what it does not know to MIGraphX.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn

from iree_migraphx.errors import MigraphxError

#: Fewest inputs of ONNX's own operators over all opsets, where that is not 1 (from the ONNX operator schemas).
_INPUTS = {
    0: "Constant Optional OptionalHasElement RandomNormal RandomUniform SequenceEmpty",
    2: """
        Add And BitShift BitwiseAnd BitwiseOr BitwiseXor CastLike CenterCropPad Compress Conv ConvInteger ConvTranspose
        CumSum DequantizeLinear Div Equal Expand Gather GatherElements GatherND Gemm Greater GreaterOrEqual GridSample
        LayerNormalization Less LessOrEqual MatMul MatMulInteger MaxRoiPool MaxUnpool Mod Mul NegativeLogLikelihoodLoss
        NonMaxSuppression Or PRelu Pow QuantizeLinear ReverseSequence SequenceAt SequenceInsert SoftmaxCrossEntropyLoss
        Sub Tile Xor""",
    3: """
        Col2Im DeformConv GRU GroupNormalization InstanceNormalization LSTM OneHot RNN Range RoiAlign Scatter
        ScatterElements ScatterND Where""",
    5: "BatchNormalization MelWeightMatrix",
    8: "QLinearConv QLinearMatMul",
}
_FEWEST = {name: count for count, names in _INPUTS.items() for name in names.split()} | {"Loop": 0, "Scan": 0}
#: Attributes that divide, or that a length is counted with.
_POSITIVE = {"strides", "dilations", "kernel_shape", "group", "blocksize"}
#: ONNX's data types -> bits of an element in raw_data (onnx.proto, TensorProto.DataType).
_BITS = {1: 32, 2: 8, 3: 8, 4: 16, 5: 16, 6: 32, 7: 64, 9: 8, 10: 16, 11: 64, 12: 32, 13: 64, 16: 16}
_BITS |= {17: 8, 18: 8, 19: 8, 20: 8, 21: 4, 22: 4, 23: 4}
#: Fields of TensorProto that hold the elements one by one -> bytes of each; None for varints.
_ELEMENTS = {4: 4, 5: None, 7: None, 10: 8, 11: None}

_Field = tuple[int, int | memoryview]


class _DamagedError(Exception):
    """Not protobuf, which MIGraphX notices by itself."""


def check_model(data: bytes | memoryview, name: str) -> None:
    """Check the nodes and weights of a serialized ModelProto.

    Args:
        data: the model.
        name: what to call it in messages.

    Raises:
        MigraphxError: it has a node or a weight that would end the process.
    """
    try:
        for field, value in _fields(memoryview(data)):
            if field == 7 and isinstance(value, memoryview):
                _check_graph(value)
    except _DamagedError:
        return
    except _Problem as problem:
        raise MigraphxError(f"MIGraphX can't read the {name}: {problem}") from None


#: Of an input: a name or None for each length that the model leaves open, None where it has no rank.
Lengths = tuple[int | str | None, ...] | None


@dataclass(frozen=True, slots=True)
class Face:
    """What a model takes, its weights aside, and the names of what it gives.

    Attributes:
        inputs: their lengths. MIGraphX takes every length below 1 for an open one (onnx_parser.cpp).
    """

    inputs: Mapping[str, Lengths]
    outputs: tuple[str, ...]


def model_face(data: bytes | memoryview) -> Face | None:
    """The face of a serialized ModelProto; None for what is none, or not a whole one."""
    inputs: dict[str, Lengths] = {}
    outputs: list[str] = []
    weights: set[str] = set()
    try:
        graphs = list(_parts(data, 7))
        for graph in graphs:
            for value in _parts(graph, 11):
                inputs[_name(value)] = _lengths(value)
            outputs += map(_name, _parts(graph, 12))
            weights.update(_text(name) for tensor in _parts(graph, 5) for name in _parts(tensor, 8))
    except _DamagedError:
        return None
    taken = {name: lens for name, lens in inputs.items() if name not in weights}
    return Face(taken, tuple(outputs)) if graphs else None


def _name(value: memoryview) -> str:
    """Of a ValueInfoProto."""
    return next((_text(name) for name in _parts(value, 1)), "")


def _lengths(value: memoryview) -> Lengths:
    """Of a ValueInfoProto: type (2), tensor_type (1), shape (2), dim (1)."""
    for kind in _parts(value, 2):
        for tensor in _parts(kind, 1):
            for shape in _parts(tensor, 2):
                return tuple(_length(dim) for dim in _parts(shape, 1))
    return None


def _length(dim: memoryview) -> int | str | None:
    """Of a Dimension: dim_value (1) or dim_param (2)."""
    for field, value in _fields(dim):
        if field == 1 and isinstance(value, int) and value > 0:
            return value
        if field == 2 and isinstance(value, memoryview):
            return _text(value) or None
    return None


def _parts(message: bytes | memoryview, number: int) -> Iterator[memoryview]:
    return (value for field, value in _fields(memoryview(message)) if field == number and isinstance(value, memoryview))


class _Problem(Exception):  # noqa: N818 -- it never leaves this module
    """What is wrong with a model."""


def _check_graph(graph: memoryview) -> None:
    for field, value in _fields(graph):
        if isinstance(value, memoryview):
            if field == 1:
                _check_node(value)
            elif field == 5:
                _check_tensor(value)


def _check_node(node: memoryview) -> None:
    inputs: list[str] = []
    texts = {3: "", 4: "", 7: ""}  # name, op_type, domain
    attributes = []
    for field, value in _fields(node):
        if not isinstance(value, memoryview):
            continue
        if field == 1:
            inputs.append(_text(value))
        elif field in texts:
            texts[field] = _text(value)
        elif field == 5:
            attributes.append(value)
    label = f"node {texts[3]!r} ({texts[4]})"
    if texts[7] in ("", "ai.onnx"):
        fewest = _FEWEST.get(texts[4], 1)
        if len(inputs) < fewest or "" in inputs[:fewest]:
            _refuse(f"{label} has the inputs {inputs}, but needs at least {fewest}")
    for attribute in attributes:
        _check_attribute(attribute, label)


def _check_attribute(attribute: memoryview, label: str) -> None:
    name, numbers = "", []
    for field, value in _fields(attribute):
        if field == 1 and isinstance(value, memoryview):
            name = _text(value)
        elif field in (3, 8):
            numbers += _numbers(value)
        elif field in (5, 10) and isinstance(value, memoryview):
            _check_tensor(value)
        elif field in (6, 11) and isinstance(value, memoryview):
            _check_graph(value)
    if name in _POSITIVE and any(number < 1 for number in numbers):
        _refuse(f"{label} has {name} = {numbers}, which must be 1 or more")


def _check_tensor(tensor: memoryview) -> None:
    dims: list[int] = []
    kind, name, raw, count, external = 0, "", None, 0, list[str]()
    for field, value in _fields(tensor):
        if field == 1:
            dims += _numbers(value)
        elif field == 2 and isinstance(value, int):
            kind = value
        elif field == 8 and isinstance(value, memoryview):
            name = _text(value)
        elif field == 9 and isinstance(value, memoryview):
            raw = len(value)
        elif field in _ELEMENTS:
            count += _count(value, _ELEMENTS[field])
        elif field == 13 and isinstance(value, memoryview):
            external.append(next((_text(text) for key, text in _fields(value) if key == 2), ""))  # type: ignore[arg-type]
    if any(length < 0 for length in dims):
        _refuse(f"the weight {name!r} has a negative dimension: {dims}")
    elements, bits = math.prod(dims), _BITS.get(kind)
    if len(external) > 2 and external[2].isdecimal():  # MIGraphX takes location, offset and length by their places
        raw = int(external[2])
    elif external:
        return
    if bits is None:
        return
    if raw is not None and raw < (elements * bits + 7) // 8:
        _refuse(f"the weight {name!r} has {raw} bytes for its {elements} elements {dims} of {bits} bits")
    if raw is None and bits >= 8 and count != elements:
        _refuse(f"the weight {name!r} has {count} elements for its dimensions {dims}")


def _fields(message: memoryview) -> Iterator[_Field]:
    """Numbers and values of a message's fields: numbers as int, what has a length as a view."""
    at, end = 0, len(message)
    while at < end:
        key, at = _varint(message, at)
        wire = key & 7
        if wire == 0:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        if wire == 2:
            size, at = _varint(message, at)
        elif wire in (1, 5):
            size = 8 if wire == 1 else 4
        else:
            raise _DamagedError
        if size > end - at:
            raise _DamagedError
        yield key >> 3, message[at : at + size]
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    """The signed 64-bit number at a place, and the place behind it."""
    result = 0
    for shift in range(0, 70, 7):
        if at >= len(message):
            break
        byte = message[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            result &= 2**64 - 1
            return (result - 2**64 if result >> 63 else result), at
    raise _DamagedError


def _numbers(value: int | memoryview) -> list[int]:
    """A repeated number's values, one by one or packed."""
    if isinstance(value, int):
        return [value]
    found, at = [], 0
    while at < len(value):
        number, at = _varint(value, at)
        found.append(number)
    return found


def _count(value: int | memoryview, size: int | None) -> int:
    """How many values a repeated field's entry holds."""
    if isinstance(value, int):
        return 1
    return len(value) // size if size else sum(byte < 0x80 for byte in value)


def _text(value: memoryview) -> str:
    return bytes(value).decode("utf-8", "replace")


def _refuse(problem: str) -> NoReturn:
    raise _Problem(problem)
