"""Subgraphs to requests: each distinct one lowered once, under a symbol that says what it computes."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.lowered import Lowered, LoweredTexts
from iree_migraphx.kernels.model import Request
from iree_migraphx.lowering import emit
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.options import Options
from iree_migraphx.partition.subgraph import Subgraph

#: What became of a subgraph's MLIR is a word of the lowering, though it may come from the cache.
_log = logging.getLogger("iree_migraphx.lowering")

#: Longest stem of a symbol: names of long pointwise chains tell nothing more after this.
STEM = 64


def requests(
    subgraphs: Sequence[Subgraph], form: Form, options: Options | None = None
) -> tuple[dict[str, Request], dict[str, Refusal]]:
    """One request, or the refusal, for each distinct subgraph, by key; lowered now, or before and kept in a cache."""
    texts = LoweredTexts(options or Options(cache=False))
    made: dict[str, Request] = {}
    refused: dict[str, Refusal] = {}
    for subgraph in subgraphs:
        if subgraph.key in made or subgraph.key in refused:
            continue
        stem = subgraph.name.rpartition("_")[0][:STEM].rstrip("_")
        symbol = f"iree_{stem}_{subgraph.key[:8]}"
        lowered = texts.load(subgraph.key, symbol, form.value)
        if lowered is None:
            lowered = _lower(subgraph, symbol, form)
            if lowered.refusal is None or lowered.refusal.reason is not Reason.NO_COMPILER:
                texts.store(subgraph.key, symbol, form.value, lowered)
        if lowered.refusal is not None:
            _log.info("%s has no MLIR: %s", subgraph.name, lowered.refusal)
            refused[subgraph.key] = lowered.refusal
            continue
        arguments = len(subgraph.operands) + len(subgraph.results)
        _log.debug("%s as %s:\n%s", subgraph.name, symbol, lowered.mlir)
        made[subgraph.key] = Request(symbol, lowered.mlir, arguments, subgraph.anchor, cost=float(len(lowered.mlir)))
    return made, refused


def _lower(subgraph: Subgraph, symbol: str, form: Form) -> Lowered:
    try:
        return Lowered(emit.lower(subgraph, symbol, form))
    except Refusal as refusal:
        return Lowered(refusal=refusal)
    except ModuleNotFoundError as error:
        return Lowered(refusal=Refusal(Reason.NO_COMPILER, f"it is in no cache, and can't be lowered: {error}"))
