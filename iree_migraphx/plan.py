"""What is to be done with a program, from one stage to the next."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from iree_migraphx.errors import Refusal
from iree_migraphx.ir.model import Program
from iree_migraphx.partition.subgraph import Subgraph

if TYPE_CHECKING:
    from iree_migraphx.kernels.model import Request


@dataclass(frozen=True, slots=True)
class How:
    """The options of MIGraphX's compile."""

    offload_copy: bool
    fast_math: bool
    exhaustive_tune: bool


@dataclass(frozen=True)
class Found:
    """The subgraphs of a program that are tried; the rest as in Plan."""

    program: Program
    subgraphs: tuple[Subgraph, ...]
    captured: bool


@dataclass(frozen=True)
class Plan:
    """What to compile for a program.

    Attributes:
        program: with its constants folded.
        requests: by the key of the subgraphs that it serves.
        refusals: by key, where there is no MLIR.
        excluded: by name, what the options exclude; an equal subgraph that they don't may have a kernel.
        captured: the program is what MIGraphX itself made of the user's.
    """

    program: Program
    subgraphs: Sequence[Subgraph]
    requests: Mapping[str, Request]
    refusals: Mapping[str, Refusal]
    excluded: Mapping[str, Refusal]
    captured: bool = False

    @property
    def tried(self) -> list[Subgraph]:
        """The subgraphs that may have a kernel."""
        return [subgraph for subgraph in self.subgraphs if subgraph.name not in self.excluded]
