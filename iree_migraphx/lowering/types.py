"""Element types: MIGraphX's, MLIR's, those in which elements are computed and those in which products are summed."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.lowering.bindings import ir


class Kind(enum.Enum):
    """How the bits of an element are read; a bool is a signed byte whose truth is not being zero (MIGraphX's visit)."""

    FLOAT = "float"
    SIGNED = "signed"
    UNSIGNED = "unsigned"
    BOOL = "bool"


@dataclass(frozen=True)
class ElementType:
    """One of MIGraphX's element types.

    Attributes:
        mlir: the MLIR type of an element in memory. 8-bit floats are bytes there: several GPUs have no instructions for
            them and IREE then refuses their MLIR types, so kernels compute them from their bits.
        kind: how the bits are read.
        bits: width of an element.
        compute: MIGraphX's name of the type in which its arithmetic is done and rounded once.
        accumulator: MIGraphX's name of the type in which an anchor over it sums. MIGraphX's ref sums in double
            (op/dot.hpp, op/convolution.hpp) and its GPU kernels in float; float is what matrix instructions give.
    """

    mlir: str
    kind: Kind
    bits: int
    compute: str
    accumulator: str


def _float8() -> ElementType:
    return ElementType("i8", Kind.FLOAT, 8, "float_type", "float_type")


def _integer(bits: int, kind: Kind, own: str) -> ElementType:
    sign = "u" if kind is Kind.UNSIGNED else ""
    return ElementType(f"i{bits}", kind, bits, own, f"{sign}int{max(bits, 32)}_type")


#: MIGraphX type -> what kernels make of it.
TYPES: Mapping[str, ElementType] = {
    "bool_type": _integer(8, Kind.BOOL, "bool_type"),
    "half_type": ElementType("f16", Kind.FLOAT, 16, "half_type", "float_type"),
    "float_type": ElementType("f32", Kind.FLOAT, 32, "float_type", "float_type"),
    "double_type": ElementType("f64", Kind.FLOAT, 64, "double_type", "double_type"),
    "uint8_type": _integer(8, Kind.UNSIGNED, "uint8_type"),
    "int8_type": _integer(8, Kind.SIGNED, "int8_type"),
    "uint16_type": _integer(16, Kind.UNSIGNED, "uint16_type"),
    "int16_type": _integer(16, Kind.SIGNED, "int16_type"),
    "int32_type": _integer(32, Kind.SIGNED, "int32_type"),
    "int64_type": _integer(64, Kind.SIGNED, "int64_type"),
    "uint32_type": _integer(32, Kind.UNSIGNED, "uint32_type"),
    "uint64_type": _integer(64, Kind.UNSIGNED, "uint64_type"),
    "bf16_type": ElementType("bf16", Kind.FLOAT, 16, "float_type", "float_type"),
    "fp8e4m3fnuz_type": _float8(),
    "fp8e4m3fn_type": _float8(),
    "fp8e5m2_type": _float8(),
    "fp8e5m2fnuz_type": _float8(),
}


#: 8-bit floats that only anchors read, for GPUs that have matrix instructions for them: in memory the same bytes.
NATIVE: Mapping[str, str] = {
    "fp8e4m3fn_type": "native fp8e4m3fn",
    "fp8e4m3fnuz_type": "native fp8e4m3fnuz",
    "fp8e5m2_type": "native fp8e5m2",
    "fp8e5m2fnuz_type": "native fp8e5m2fnuz",
}
_NATIVE_MLIR = {
    NATIVE["fp8e4m3fn_type"]: "f8E4M3FN",
    NATIVE["fp8e4m3fnuz_type"]: "f8E4M3FNUZ",
    NATIVE["fp8e5m2_type"]: "f8E5M2",
    NATIVE["fp8e5m2fnuz_type"]: "f8E5M2FNUZ",
}

#: A pair of 4-bit floats in a byte, which only the operators of packed.py read and write.
PAIR = "fp4x2_type"


def element_type(type_: str) -> ElementType:
    """What kernels make of MIGraphX's type.

    Raises:
        Refusal: UNSUPPORTED_TYPE for a type that no kernel can have.
    """
    if type_ not in TYPES:
        raise Refusal(Reason.UNSUPPORTED_TYPE, f"elements of type {type_}")
    return TYPES[type_]


def memory_type(type_: str) -> str:
    """MLIR's name of the type of an element in memory; raises as `element_type`."""
    if type_ in _NATIVE_MLIR:
        return _NATIVE_MLIR[type_]
    return "i8" if type_ == PAIR else element_type(type_).mlir


def mlir_type(type_: str) -> ir.Type:
    """The element type in the current MLIR context; raises as `element_type`."""
    return ir.Type.parse(memory_type(type_))


def accumulator(type_: str) -> str:
    """MIGraphX's name of the type that an anchor over `type_` sums in; raises as `element_type`."""
    return element_type(type_).accumulator


def is_float(type_: str) -> bool:
    """True for the floating-point types that kernels know."""
    return type_ in _NATIVE_MLIR or (type_ in TYPES and TYPES[type_].kind is Kind.FLOAT)


def is_unsigned(type_: str) -> bool:
    """True for the unsigned integers; raises as `element_type`."""
    return element_type(type_).kind is Kind.UNSIGNED


def limits(type_: str) -> tuple[int, int]:
    """The least and the greatest value of an integer type."""
    known = element_type(type_)
    if known.kind is Kind.UNSIGNED:
        return 0, 2**known.bits - 1
    return -(2 ** (known.bits - 1)), 2 ** (known.bits - 1) - 1
