"""Each kernel by itself: what it made of the buffers that it was given, against MIGraphX's ref target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from gpu.narrowed import narrowed
from iree_migraphx import binding
from iree_migraphx.ir.model import DTYPES, Instruction, Literal, Shape
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice.compare import Tolerance, terms
from programs import body_of, loaded, strided
from virtual_hip.host import Observer

#: Multiplications of a launch, of which MIGraphX's ref target does 5 million a second; channels beyond are left out.
MOST_WORK = 4_000_000


@dataclass
class ByRef:
    """What MIGraphX's ref target says of each kernel that was computed.

    Attributes:
        most: multiplications of a launch beyond which only some of a convolution's output channels are compared.
        checked: how many results were compared.
        whole: how many of them in all their elements.
        wrong: what was not as it should be, in words.
        not_finite: how many elements of the results were infinite or NaN, and had to be.
    """

    most: int = MOST_WORK
    checked: int = 0
    whole: int = 0
    wrong: list[str] = field(default_factory=list)
    not_finite: int = 0

    def observing(self, subgraph: Subgraph) -> Observer:
        """For `compiled`."""
        operands = [parameter.shape for parameter in subgraph.parameters]
        part = narrowed(subgraph, self.most)
        body = compiled_for_ref(subgraph if part is None else part.subgraph)
        # The virtual memory's numbers have bits in common: errors of a sum don't cancel, but grow with its length.
        longest = terms(subgraph.body) * float(np.finfo(np.float32).eps) / 2
        tolerance = Tolerance(Tolerance.of(subgraph.body).relative + longest)

        def observe(arguments: Mapping[int, np.ndarray]) -> None:
            # The kernel's own order leaves out what it does not read.
            given = {f"x{index}": np.zeros(shape.lens, shape.dtype) for index, shape in enumerate(operands)}
            given |= {f"x{i}": array(arguments[i], operands[i]) for i in arguments if i < len(operands)}
            actual = [array(arguments[len(operands) + n], shape) for n, shape in enumerate(subgraph.result_shapes)]
            if part is not None:
                given, actual = part.operands(given), [part.result(actual[0])]
            for number, (found, wanted) in enumerate(zip(actual, body.run(given), strict=True)):
                expected = np.array(wanted)
                problem = tolerance.problem(found, expected)
                if problem:
                    compared = subgraph if part is None else part.subgraph
                    noise = rounding(compared, given, number, expected)
                    found = np.where(at_the_limit(compared, given, expected.shape), expected, found)
                    problem = replace(tolerance, relative=tolerance.relative + noise).problem(found, expected)
                self.checked += 1
                self.whole += part is None
                self.not_finite += int(np.size(expected) - np.isfinite(expected.astype(np.float64)).sum())
                if problem:
                    self.wrong.append(f"{subgraph.name} ({' '.join(subgraph.operators)}), result {number}: {problem}")

        return observe


def compiled_for_ref(subgraph: Subgraph) -> binding.program:
    """The subgraph as a program of MIGraphX's ref target."""
    body = loaded(body_of(subgraph))
    body.compile(binding.get_target("ref"))
    return body


def rounding(subgraph: Subgraph, given: Mapping[str, np.ndarray], number: int, expected: np.ndarray) -> float:
    """How far off MIGraphX's own result is from that in double, as a share of the largest element.

    More than the types tell where a sum is made in half precision, and a sigmoid of it is next to 0.
    """
    right = computed_in_double(subgraph, given, subgraph.body.instructions[-1].inputs)[number]
    found = expected.astype(np.float64)
    both = np.isfinite(right) & np.isfinite(found)
    return float(np.abs(right - found)[both].max(initial=0.0) / (np.abs(found[both]).max(initial=0.0) or 1.0))


def at_the_limit(subgraph: Subgraph, given: Mapping[str, np.ndarray], lens: tuple[int, ...]) -> np.ndarray:
    """Where a half on the way to an element is next to the greatest: MIGraphX rounds down, kernels to infinity."""
    found = np.zeros(lens, np.bool_)
    narrow = [i for i in subgraph.body.instructions if i.shape.lens == lens and i.shape.type == "half_type"]
    narrow = [i for i in narrow if not i.name.startswith("@")]
    for value in computed_in_double(subgraph, given, [i.id for i in narrow]):
        found |= np.abs(np.abs(value) / float(np.finfo(np.float16).max) - 1) < 2.0**-8
    return found


def computed_in_double(subgraph: Subgraph, given: Mapping[str, np.ndarray], results: Sequence[str]) -> list[np.ndarray]:
    """These values of the body, over doubles."""
    *body, end = map(in_double, subgraph.body.instructions)
    module = replace(subgraph.body, instructions=(*body, replace(end, inputs=tuple(results))))
    wide = {name: value.astype(np.float64) if is_float(value.dtype) else value for name, value in given.items()}
    return [np.array(value) for value in compiled_for_ref(replace(subgraph, body=module)).run(wide)] if results else []


def in_double(instruction: Instruction) -> Instruction:
    """The same over doubles, where it was over any floats."""
    shape, literal, fields = instruction.shape, instruction.literal, dict(instruction.operator)
    if shape.type in DTYPES and is_float(shape.dtype):
        if literal is not None:
            values = np.frombuffer(literal.data, shape.dtype).astype(np.float64)
            literal = Literal(replace(shape, type="double_type"), values.tobytes())
        shape = replace(shape, type="double_type")
        if instruction.name == "convert":
            fields["target_type"] = int(binding.shape.type_t.double_type)
    return replace(instruction, shape=shape, literal=literal, operator=fields)


def is_float(dtype: np.dtype) -> bool:
    """Of numpy's own or of ml_dtypes."""
    return dtype.kind == "f" or dtype.type.__module__.startswith("ml_dtypes")


def array(buffer: np.ndarray, shape: Shape) -> np.ndarray:
    """A copy of an argument's elements."""
    return strided(buffer.view(shape.dtype), shape).copy()
