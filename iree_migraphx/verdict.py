"""What became of each subgraph, from what the stages said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels.model import Outcome
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.report import KernelResources, SubgraphReport


def subgraph_reports(
    subgraphs: Sequence[Subgraph], outcomes: Mapping[str, Outcome], refused: Mapping[str, Exception]
) -> tuple[SubgraphReport, ...]:
    """A report for each subgraph, in order.

    Args:
        subgraphs: what was eligible.
        outcomes: of the kernel compiler, by the subgraphs' key; none where it was not asked.
        refused: subgraphs, by name, that are not in the program although there may be a kernel, and why.
    """
    reports = []
    compiled: set[str] = set()
    for subgraph in subgraphs:
        outcome = outcomes.get(subgraph.key)
        error: Exception | None = refused.get(subgraph.name)
        kernel: KernelResources | None = None
        if outcome is not None:
            if isinstance(outcome.kernel, Refusal):
                error = outcome.kernel
            else:
                kernel = outcome.kernel.resources
        first = subgraph.key not in compiled
        compiled.add(subgraph.key)
        reason = None
        if error is not None:
            reason = error.reason if isinstance(error, Refusal) else Reason.SPLICE_ERROR
        reports.append(
            SubgraphReport(
                name=subgraph.name,
                anchor=subgraph.anchor,
                operators=subgraph.operators,
                inputs=tuple(_text(parameter.shape) for parameter in subgraph.parameters),
                output=", ".join(map(_text, subgraph.result_shapes)),
                key=subgraph.key,
                provider="iree" if kernel is not None and error is None else "migraphx",
                reason=reason,
                detail=_detail(error),
                compile_seconds=outcome.seconds if outcome is not None and first else 0.0,
                cache=("shared" if not first and outcome.cache != "off" else outcome.cache) if outcome else "off",
                kernel=kernel if error is None else None,
            )
        )
    return tuple(reports)


def _detail(error: Exception | None) -> str:
    if error is None:
        return ""
    return error.detail if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"


def _text(shape: Shape) -> str:
    """A shape in short: "1x64x56x56 float"."""
    lens = "x".join(str(length) for length in shape.lens)
    return f"{lens} {shape.type.removesuffix('_type')}"
