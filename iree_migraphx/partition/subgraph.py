"""A subgraph: the instructions that one kernel replaces."""

from __future__ import annotations

from dataclasses import dataclass

from iree_migraphx.ir.model import Instruction, Module, Shape


@dataclass(frozen=True, slots=True)
class Subgraph:
    """A convex set of instructions of one module around an anchor; with one result, but for fusions of MIGraphX's own.

    Attributes:
        name: unique in the program, after its operators: "convolution_add_relu_3".
        anchor: operator name of the anchor.
        module: the module that holds it.
        members: ids of the instructions it replaces, in execution order.
        operands: ids of the values it reads, in the order of the kernel's arguments; no value twice.
        results: ids of the members that others read, in the order in which the kernel computes them.
        body: the same computation by itself: one @param "x0", "x1", … an operand with the operand's own type,
            lengths and strides, the members, and a @return. MIGraphX can run it as a program's main module.
        result_shapes: type, lengths and strides that readers of each result expect.
        key: equal for subgraphs that one kernel can serve: a digest of the body with names taken out.
    """

    name: str
    anchor: str
    module: str
    members: tuple[str, ...]
    operands: tuple[str, ...]
    results: tuple[str, ...]
    body: Module
    result_shapes: tuple[Shape, ...]
    key: str

    @property
    def parameters(self) -> tuple[Instruction, ...]:
        """The body's parameters, in the order of `operands`."""
        return tuple(instruction for instruction in self.body.instructions if instruction.name == "@param")

    @property
    def operators(self) -> tuple[str, ...]:
        """Operator names of the members, in order."""
        return tuple(i.name for i in self.body.instructions if not i.name.startswith("@"))

    @property
    def result(self) -> str:
        """Id of the value that the kernel computes, where it is only one."""
        (result,) = self.results
        return result

    @property
    def result_shape(self) -> Shape:
        """Its shape."""
        (shape,) = self.result_shapes
        return shape


def shape_text(shape: Shape) -> str:
    """A shape in short: "1x64x56x56 float"."""
    lens = "x".join(str(length) for length in shape.lens)
    return f"{lens} {shape.type.removesuffix('_type')}"
