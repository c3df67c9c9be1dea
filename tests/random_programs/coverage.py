"""What random programs had in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from iree_migraphx.lowering.anchors import ANCHORS
from iree_migraphx.lowering.emit import TENSOR_OPERATORS
from iree_migraphx.lowering.pointwise import POINTWISE, RETYPING
from iree_migraphx.lowering.reshapers import RESHAPERS
from iree_migraphx.lowering.types import TYPES, is_float
from random_programs.generate import Example

#: Everything that the lowering's tables have.
KNOWN = {*ANCHORS, *POINTWISE, *RETYPING, *RESHAPERS, *TENSOR_OPERATORS}


class Coverage:
    """Counts of operators over types."""

    def __init__(self) -> None:
        self.programs: set[bytes] = set()
        self.pairs: Counter[tuple[str, str]] = Counter()
        self.sizes: Counter[int] = Counter()

    def add(self, examples: Iterable[Example]) -> None:
        for example in examples:
            self.programs.add(example.digest)
            known = example.program.main.by_id()
            computing = [i for i in example.program.main.instructions if not i.name.startswith("@")]
            self.sizes[len(computing)] += 1
            self.pairs.update({(i.name, known[i.inputs[0]].shape.type) for i in computing})

    @property
    def missing(self) -> set[str]:
        """Operators of the tables that no program had."""
        return KNOWN - {name for name, _ in self.pairs}

    @property
    def missing_pairs(self) -> set[tuple[str, str]]:
        """Pointwise operators with a type that they take, which no program had."""

        def takes(name: str, type_: str) -> bool:
            entry = POINTWISE[name]
            return (entry.floats if is_float(type_) else entry.integers or entry.integers_as) is not None

        return {(name, type_) for name in POINTWISE for type_ in TYPES if takes(name, type_)} - set(self.pairs)

    def summary(self) -> str:
        missing = ", ".join(sorted(self.missing)) or "none"
        return (
            f"{len(self.programs)} distinct programs, {len(self.pairs)} pairs of operator and type; "
            f"operators left out: {missing}; pointwise operators over a type left out: {len(self.missing_pairs)}; "
            f"operators a program: {dict(sorted(self.sizes.items()))}"
        )
