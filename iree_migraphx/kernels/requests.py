"""Subgraphs to requests: each distinct one lowered once, under a symbol that says what it computes."""

from __future__ import annotations

from collections.abc import Sequence

from iree_migraphx.errors import Refusal
from iree_migraphx.kernels.model import Request
from iree_migraphx.lowering import emit
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.partition.subgraph import Subgraph

#: Longest stem of a symbol: names of long pointwise chains tell nothing more after this.
STEM = 64


def requests(subgraphs: Sequence[Subgraph], form: Form) -> tuple[dict[str, Request], dict[str, Refusal]]:
    """One request, or the refusal, for each distinct subgraph, by key."""
    made: dict[str, Request] = {}
    refused: dict[str, Refusal] = {}
    for subgraph in subgraphs:
        if subgraph.key in made or subgraph.key in refused:
            continue
        stem = subgraph.name.rpartition("_")[0][:STEM].rstrip("_")
        symbol = f"iree_{stem}_{subgraph.key[:8]}"
        try:
            mlir = emit.lower(subgraph, symbol, form)
        except Refusal as refusal:
            refused[subgraph.key] = refusal
            continue
        arguments = len(subgraph.operands) + 1
        made[subgraph.key] = Request(symbol, mlir, arguments, subgraph.anchor, cost=float(len(mlir)))
    return made, refused
