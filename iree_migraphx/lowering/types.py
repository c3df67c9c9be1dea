"""Element types: MIGraphX's, MLIR's, and the type in which a product is summed."""

from __future__ import annotations

from collections.abc import Mapping

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.lowering.bindings import ir

#: MIGraphX type -> MLIR type of one element in memory. A bool is a byte there.
MLIR_TYPES: Mapping[str, str] = {
    "half_type": "f16",
    "float_type": "f32",
    "bool_type": "i8",
    "int32_type": "i32",
    "int64_type": "i64",
}

#: Type of an anchor's element -> type of its accumulator. MIGraphX's ref sums in double (op/dot.hpp,
#: op/convolution.hpp) and its GPU kernels in float; float is what matrix instructions give.
ACCUMULATORS: Mapping[str, str] = {
    "half_type": "float_type",
    "float_type": "float_type",
}


def mlir_type(type_: str) -> ir.Type:
    """The element type in the current MLIR context.

    Raises:
        Refusal: UNSUPPORTED_TYPE for a type that no kernel can have yet.
    """
    if type_ not in MLIR_TYPES:
        raise Refusal(Reason.UNSUPPORTED_TYPE, f"elements of type {type_}")
    return ir.Type.parse(MLIR_TYPES[type_])


def accumulator(type_: str) -> str:
    """MIGraphX's name of the type that an anchor over `type_` sums in.

    Raises:
        Refusal: UNSUPPORTED_TYPE where an anchor can't have this type yet.
    """
    if type_ not in ACCUMULATORS:
        raise Refusal(Reason.UNSUPPORTED_TYPE, f"a convolution or dot over {type_}")
    return ACCUMULATORS[type_]


def is_float(type_: str) -> bool:
    """True for the floating-point types."""
    return type_ in ("half_type", "float_type")
