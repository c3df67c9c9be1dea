"""The user's choice among a program's subgraphs."""

from __future__ import annotations

from collections.abc import Sequence

from iree_migraphx.errors import Refusal
from iree_migraphx.options import Options
from iree_migraphx.partition.subgraph import Subgraph, shape_text
from iree_migraphx.selection import Pattern, exclusion


def excluded(subgraphs: Sequence[Subgraph], options: Options) -> dict[str, Refusal]:
    """The subgraphs that the options exclude, by name."""
    include, exclude = ([Pattern.parse(text) for text in texts] for texts in (options.include, options.exclude))
    found = {}
    for subgraph in subgraphs if include or exclude else ():
        refusal = exclusion(_fields(subgraph), include, exclude)
        if refusal is not None:
            found[subgraph.name] = refusal
    return found


def _fields(subgraph: Subgraph) -> dict[str, Sequence[str]]:
    return {
        "name": [subgraph.name],
        "anchor": [subgraph.anchor],
        "operator": subgraph.operators,
        "input": [shape_text(parameter.shape) for parameter in subgraph.parameters],
        "output": [shape_text(shape) for shape in subgraph.result_shapes],
        "key": [subgraph.key],
    }
