"""The operator that stands in a program for a host kernel and runs it."""

from __future__ import annotations

import ctypes
import hashlib
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from iree_migraphx.binding import shape
from iree_migraphx.binding.snapshots import let_go
from iree_migraphx.errors import KernelError, Reason, Refusal
from iree_migraphx.ir.layout import as_stored, physical_axes
from iree_migraphx.ir.model import Literal, Shape
from iree_migraphx.kernels.model import HostKernel
from iree_migraphx.splice.runtime import Constant, Device, LoadedKernel

#: Told of a kernel that failed: the memory of all operands, and the error.
Failed = Callable[[Sequence[npt.NDArray[np.uint8]], KernelError], None]

_NAME = re.compile(r"(?P<symbol>.+)_[0-9a-f]{20}(_scratch)?")


def symbol_in(name: str) -> str | None:
    """The kernel's symbol in a placeholder's name; None for any other operator."""
    found = _NAME.fullmatch(name)
    return found["symbol"] if found else None


class Placeholder:
    """A custom operator (binding.CustomOp) around one kernel and the constants among its operands.

    It takes the operands that are not constant, each in exactly the shape that the kernel was compiled for; one in
    another order than row-major is to MIGraphX a row-major value with the axes in that order (`as_stored`). Its name is
    a digest of all it depends on: MIGraphX can't forget a name, so compiling a model again must not need a new one.
    """

    runs_on_offload_target = False

    def __init__(
        self,
        symbol: str,
        kernel: HostKernel,
        operands: Sequence[Shape],
        result: Shape,
        constants: Mapping[int, Literal],
        device: Device,
        failed: Failed | None = None,
        scratch: bool = False,
    ) -> None:
        """Load the kernel and copy the constants into aligned memory, in the layout the kernel wants.

        With `scratch`, other kernels of the same run are all that reads the result.

        Raises:
            KernelError: IREE's runtime can't load the kernel.
            Refusal: an operand's layout can't be passed.
        """
        self._operands = [as_stored(given) for index, given in enumerate(operands) if index not in constants]
        self._result = as_stored(result)
        self.scratch_bytes = result.nbytes if scratch else 0
        self._failed = failed
        self._kernel: LoadedKernel | None = device.load(kernel, operands, result)
        self._constants: dict[int, Constant] = {}
        digest = hashlib.sha256(kernel.vmfb)
        for index, literal in sorted(constants.items()):
            self._constants[index] = constant = self._kernel.constant(index, laid_out(literal, operands[index]))
            let_go(literal.data)
            digest.update(index.to_bytes(8, "little"))
            digest.update(constant.memory.data)
        self.name = f"{symbol}_{digest.hexdigest()[:20]}{'_scratch' if scratch else ''}"

    def output_alias(self, inputs: Sequence[shape]) -> Sequence[int]:
        """The result has memory of its own."""
        return ()

    def compute_shape(self, inputs: Sequence[shape]) -> shape:
        """The result's shape, for exactly the operands that the kernel was compiled for.

        Raises:
            KernelError: MIGraphX offers other operands; it then puts a `contiguous` in front, or keeps the one there.
        """
        if len(inputs) != len(self._operands):
            raise KernelError(f"{self.name} takes {len(self._operands)} operands, not {len(inputs)}")
        for index, (given, wanted) in enumerate(zip(inputs, self._operands, strict=True)):
            if not _same(given, wanted):
                raise KernelError(f"operand {index} of {self.name} must be {wanted}, not {given}")
        return shape(type=self._result.type, lens=list(self._result.lens), strides=list(self._result.strides))

    def compute(self, pointers: Sequence[int], output: int) -> None:
        """Run the kernel."""
        kernel = self._kernel
        if kernel is None:
            raise KernelError(f"the kernel of {self.name} was released; compile the model again")
        try:
            kernel.run(pointers, self._constants, output)
        except KernelError as error:
            if self._failed is not None:
                self._failed(self._memory(pointers), error)
            raise

    def _memory(self, pointers: Sequence[int]) -> list[npt.NDArray[np.uint8]]:
        given = iter(zip(pointers, self._operands, strict=True))
        memory = []
        for index in range(len(self._operands) + len(self._constants)):
            if index in self._constants:
                memory.append(self._constants[index].memory)
            else:
                pointer, shape = next(given)
                memory.append(np.frombuffer(ctypes.string_at(pointer, shape.nbytes), np.uint8))
        return memory

    def released(self) -> None:
        """Give back the kernel and the constants: no program holds the operator any more."""
        self._kernel, self._constants = None, {}


def laid_out(literal: Literal, wanted: Shape) -> npt.NDArray[Any]:
    """A view of a literal's elements in the order in which a dense buffer of the shape `wanted` holds them.

    Raises:
        Refusal: UNSUPPORTED_LAYOUT where the two have different lengths or types.
    """
    if (literal.shape.type, literal.shape.lens) != (wanted.type, wanted.lens):
        raise Refusal(Reason.UNSUPPORTED_LAYOUT, f"a constant of shape {literal.shape} where {wanted} is wanted")
    array = literal.array()
    axes = physical_axes(wanted)
    rest = [axis for axis in range(array.ndim) if axis not in axes]
    return array.transpose([*rest, *axes])


def _same(given: shape, wanted: Shape) -> bool:
    if given.type_string() != wanted.type or tuple(given.lens()) != wanted.lens:
        return False
    strides = zip(given.strides(), wanted.strides, wanted.lens, strict=True)
    return all(a == b or length == 1 for a, b, length in strides)
