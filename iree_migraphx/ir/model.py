"""A serialized MIGraphX program as immutable Python data.

Names and meanings follow MIGraphX's file format 7 (src/program.cpp, src/shape.cpp of release rocm-7.1.1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from iree_migraphx.errors import FormatError

#: MIGraphX's name of an element type -> its numpy dtype.
#: Types that numpy can't hold one element of (fp4x2) are left out.
DTYPES: Mapping[str, np.dtype[Any]] = {
    "bool_type": np.dtype(np.bool_),
    "half_type": np.dtype(np.float16),
    "float_type": np.dtype(np.float32),
    "double_type": np.dtype(np.float64),
    "uint8_type": np.dtype(np.uint8),
    "int8_type": np.dtype(np.int8),
    "uint16_type": np.dtype(np.uint16),
    "int16_type": np.dtype(np.int16),
    "int32_type": np.dtype(np.int32),
    "int64_type": np.dtype(np.int64),
    "uint32_type": np.dtype(np.uint32),
    "uint64_type": np.dtype(np.uint64),
    "bf16_type": np.dtype(ml_dtypes.bfloat16),
    "fp8e4m3fnuz_type": np.dtype(ml_dtypes.float8_e4m3fnuz),
    "fp8e4m3fn_type": np.dtype(ml_dtypes.float8_e4m3fn),
    "fp8e5m2_type": np.dtype(ml_dtypes.float8_e5m2),
    "fp8e5m2fnuz_type": np.dtype(ml_dtypes.float8_e5m2fnuz),
}


@dataclass(frozen=True, slots=True)
class Shape:
    """Type, lengths and strides (in elements) of a value.

    A tuple has only `sub_shapes`; a dynamic shape has only `dynamic_dimensions` (each {min, max, optimals}).
    `extra` holds keys of the file that this package does not know; they are written back as they were.
    """

    type: str
    lens: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    sub_shapes: tuple[Shape, ...] = ()
    dynamic_dimensions: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @staticmethod
    def standard_of(type_: str, lens: tuple[int, ...]) -> Shape:
        """Freshly packed row-major shape of these lengths."""
        strides, step = [], 1
        for length in reversed(lens):
            strides.append(step)
            step *= length
        return Shape(type_, tuple(lens), tuple(reversed(strides)))

    @property
    def dynamic(self) -> bool:
        """True where any dimension is not known before a run."""
        return bool(self.dynamic_dimensions) or any(sub.dynamic for sub in self.sub_shapes)

    @property
    def elements(self) -> int:
        """Product of the lengths; 0 for rank 0 (shape.cpp)."""
        return math.prod(self.lens) if self.lens else 0

    @property
    def element_space(self) -> int:
        """Elements from the first to the last touched one, gaps included; 0 for rank 0 and for empty shapes."""
        if not self.lens or 0 in self.lens:
            return 0
        return 1 + sum((length - 1) * stride for length, stride in zip(self.lens, self.strides, strict=True))

    @property
    def packed(self) -> bool:
        """Dense in some axis order: no gaps and no broadcast."""
        if self.sub_shapes or self.dynamic_dimensions:
            return False
        return self.elements == self.element_space and (self.elements == 1 or 1 in self.strides)

    @property
    def standard(self) -> bool:
        """Packed and row-major, axes of length 1 aside."""
        strides = [stride for length, stride in zip(self.lens, self.strides, strict=True) if length != 1]
        return self.packed and all(a >= b for a, b in itertools.pairwise(strides))

    @property
    def broadcasted(self) -> bool:
        """Some stride is 0."""
        return 0 in self.strides

    @property
    def dtype(self) -> np.dtype[Any]:
        """The numpy dtype of an element; KeyError for types numpy can't hold."""
        return DTYPES[self.type]

    @property
    def nbytes(self) -> int:
        """Size of a buffer of this shape, gaps included (shape.cpp: bytes); KeyError for an unknown type."""
        if self.sub_shapes:
            return sum(sub.nbytes for sub in self.sub_shapes)
        return self.element_space * (1 if self.type == "fp4x2_type" else self.dtype.itemsize)


@dataclass(frozen=True, slots=True)
class Literal:
    """A constant: its shape and its bytes (element_space x item size; a strided literal stores the span it touches).

    Raises:
        FormatError: the bytes are not what the shape needs. MIGraphX does not check and would read past the end.
    """

    shape: Shape
    data: bytes | memoryview

    def __post_init__(self) -> None:
        shape = self.shape
        if shape.sub_shapes or shape.dynamic_dimensions or (shape.type not in DTYPES and shape.type != "fp4x2_type"):
            raise FormatError(f"a literal can't be of type {shape.type}, or dynamic; only tensors of known types can")
        if len(self.data) != shape.nbytes:
            raise FormatError(
                f"a literal of {shape.type} with lengths {list(shape.lens)} and strides {list(shape.strides)} "
                f"needs {shape.nbytes} bytes, not {len(self.data)}"
            )

    def array(self) -> npt.NDArray[Any]:
        """The value as a read-only numpy view with the literal's own lengths and strides; nothing is copied.

        The view may be unaligned (`flags.aligned`), for the bytes lie anywhere in a file. Rank 0, which is an empty
        value to MIGraphX, comes back with the lengths (0,). KeyError for types numpy can't hold.
        """
        dtype = self.shape.dtype
        if not self.shape.lens:
            return np.empty(0, dtype)
        strides = [stride * dtype.itemsize for stride in self.shape.strides]
        array: npt.NDArray[Any] = np.ndarray(self.shape.lens, dtype, self.data, strides=strides)
        array.flags.writeable = False
        return array


@dataclass(frozen=True, slots=True)
class Instruction:
    """One node of a module.

    Attributes:
        id: the unique name that `inputs` of later instructions refer to ("output" in the file).
        name: operator name; "@param", "@literal" and "@return" are special.
        operator: the operator's fields.
        modules: names of submodules ("module_inputs" in the file).
        literal: the value of an @literal.
        normalized: whether MIGraphX's normalize_ops has run over it.
        extra: keys of the file that this package does not know; written back as they were.
    """

    id: str
    name: str
    shape: Shape
    operator: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ()
    modules: tuple[str, ...] = ()
    literal: Literal | None = None
    normalized: bool = False
    extra: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Module:
    """Instructions in execution order."""

    name: str
    instructions: tuple[Instruction, ...]
    extra: Mapping[str, Any] = field(default_factory=dict)

    def by_id(self) -> dict[str, Instruction]:
        """Instructions by the name that inputs refer to."""
        return {instruction.id: instruction for instruction in self.instructions}

    def users(self) -> dict[str, list[Instruction]]:
        """Instructions of this module that read each value, in order, one entry a user."""
        users: dict[str, list[Instruction]] = {instruction.id: [] for instruction in self.instructions}
        for instruction in self.instructions:
            for value in dict.fromkeys(instruction.inputs):
                users.setdefault(value, []).append(instruction)
        return users


@dataclass(frozen=True, slots=True)
class Program:
    """A whole program: `modules` holds "main" and every submodule."""

    version: int
    migraphx_version: str
    modules: Mapping[str, Module]
    targets: tuple[Any, ...] = ()
    contexts: tuple[Any, ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def main(self) -> Module:
        """The module that a run starts in."""
        return self.modules["main"]

    def instructions(self) -> Iterator[Instruction]:
        """Every instruction of every module."""
        for module in self.modules.values():
            yield from module.instructions

    def walk(self, name: str = "main") -> Iterator[tuple[Module, Instruction]]:
        """Instructions in the order MIGraphX loads them: those of submodules right before the one that owns them.

        Raises:
            FormatError: an instruction has a submodule that is not there.
        """
        if name not in self.modules:
            raise FormatError(f"the program has no module {name!r}, which an instruction refers to")
        module = self.modules[name]
        for instruction in module.instructions:
            for submodule in instruction.modules:
                yield from self.walk(submodule)
            yield module, instruction

    def check(self) -> None:
        """See that MIGraphX could load it: its loader aborts the process, or wires values wrongly, where it can't.

        Raises:
            FormatError: an input that is not defined earlier, two values with one id, or a submodule that is missing.
        """
        defined: set[str] = set()
        for module, instruction in self.walk():
            for value in instruction.inputs:
                if value not in defined:
                    raise FormatError(
                        f"{instruction.id!r} ({instruction.name}) of module {module.name!r} reads {value!r}, "
                        "which is not defined before it"
                    )
            if instruction.id in defined:
                raise FormatError(f"two values of the program have the id {instruction.id!r}")
            defined.add(instruction.id)

    def with_module(self, module: Module) -> Program:
        """The same program with one module replaced."""
        return replace(self, modules={**self.modules, module.name: module})
