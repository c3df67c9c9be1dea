"""The operator that stands in a program for a GPU kernel while MIGraphX compiles the rest around it."""

from __future__ import annotations

from collections.abc import Sequence

from iree_migraphx.binding import shape
from iree_migraphx.errors import KernelError
from iree_migraphx.ir.layout import same_layout
from iree_migraphx.ir.model import Shape


class GpuPlaceholder:
    """A custom operator (binding.CustomOp) with the operands that a kernel reads, and the buffers that it writes.

    MIGraphX plans memory around it and never runs it: a gpu::code_object takes its place afterwards. A custom operator
    has one result, that in the last buffer; each other result of a kernel is read through a placeholder of its own,
    over the kernel's and the buffer in question.

    Attributes:
        operands: shapes of the operands.
        result: shape of the result.
        others: bytes of each buffer in front of the last.
    """

    runs_on_offload_target = True
    scratch_bytes = 0

    def __init__(self, name: str, operands: Sequence[Shape], result: Shape, others: Sequence[int] = ()) -> None:
        self.name = name
        self.operands = tuple(operands)
        self.result = result
        self.others = tuple(others)

    def output_alias(self, inputs: Sequence[shape]) -> Sequence[int]:
        """The result is in the buffer, the last input."""
        return (len(inputs) - 1,)

    def compute_shape(self, inputs: Sequence[shape]) -> shape:
        """The result's shape.

        Operands that are row-major are taken in place of any other layout as well: MIGraphX puts a `contiguous` behind
        every other value for a while (src/auto_contiguous.cpp), and takes it away where an operator accepts what is
        before it. What is there in the end is checked when the kernel is put in.

        Raises:
            KernelError: other operands; MIGraphX then leaves the `contiguous` in front.
        """
        sizes = (*self.others, self.result.nbytes)
        if len(inputs) != len(self.operands) + len(sizes):
            takes = f"{len(self.operands)} operands and {len(sizes)} buffers"
            raise KernelError(f"{self.name} takes {takes}, not {len(inputs)} inputs")
        for index, (given, wanted) in enumerate(zip(inputs, self.operands, strict=False)):
            found = Shape(given.type_string(), tuple(given.lens()), tuple(given.strides()))
            plain = Shape.standard_of(wanted.type, wanted.lens)
            if not same_layout(found, wanted) and not same_layout(found, plain):
                raise KernelError(f"operand {index} of {self.name} must be {wanted}, not {given}")
        for given, size in zip(inputs[len(self.operands) :], sizes, strict=True):
            if given.bytes() < size:
                raise KernelError(f"a buffer of {self.name} has {given.bytes()} of {size} bytes")
        return shape(type=self.result.type, lens=list(self.result.lens), strides=list(self.result.strides))

    def compute(self, pointers: Sequence[int], output: int) -> None:
        """Refuse: only a kernel can compute it."""
        raise KernelError(f"{self.name} was to be replaced by its kernel before any run")

    def released(self) -> None:
        """Nothing is held."""
