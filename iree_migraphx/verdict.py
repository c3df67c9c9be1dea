"""What became of each subgraph, from what the stages said."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Instruction, Program
from iree_migraphx.kernels.model import Outcome
from iree_migraphx.partition.subgraph import Subgraph, shape_text
from iree_migraphx.report import KernelResources, Node, SubgraphReport


def subgraph_reports(
    subgraphs: Sequence[Subgraph],
    outcomes: Mapping[str, Outcome],
    refused: Mapping[str, Exception],
    began: float = 0.0,
    dry_run: bool = False,
) -> tuple[SubgraphReport, ...]:
    """A report for each subgraph, in order.

    Args:
        subgraphs: what was eligible.
        outcomes: of the kernel compiler, by the subgraphs' key; none where it was not asked.
        refused: subgraphs, by name, that are not in the program although there may be a kernel, and why.
        began: when the compile of the program did, by time.monotonic().
        dry_run: what has no outcome is not decided yet.
    """
    reports = []
    compiled: set[str] = set()
    for subgraph in subgraphs:
        error: Exception | None = refused.get(subgraph.name)
        # What is excluded has nothing to do with the kernel of an equal subgraph.
        excluded = isinstance(error, Refusal) and error.reason is Reason.EXCLUDED
        outcome = None if excluded else outcomes.get(subgraph.key)
        kernel: KernelResources | None = None
        if outcome is not None:
            if isinstance(outcome.kernel, Refusal):
                error = outcome.kernel
            else:
                kernel = outcome.kernel.resources
        first = subgraph.key not in compiled
        if not excluded:
            compiled.add(subgraph.key)
        reason = None
        if error is not None:
            reason = error.reason if isinstance(error, Refusal) else Reason.SPLICE_ERROR
        reports.append(
            SubgraphReport(
                name=subgraph.name,
                anchor=subgraph.anchor,
                operators=subgraph.operators,
                inputs=tuple(shape_text(parameter.shape) for parameter in subgraph.parameters),
                output=", ".join(map(shape_text, subgraph.result_shapes)),
                key=subgraph.key,
                provider=_provider(kernel, error, undecided=dry_run and outcome is None),
                reason=reason,
                detail=_detail(error),
                compile_seconds=outcome.seconds if outcome is not None and first else 0.0,
                cache=("shared" if not first and outcome.cache != "off" else outcome.cache) if outcome else "off",
                started=outcome.started - began if outcome is not None and first and outcome.started else None,
                worker=outcome.worker if outcome is not None and first else None,
                kernel=kernel if error is None else None,
            )
        )
    return tuple(reports)


def _detail(error: Exception | None) -> str:
    if error is None:
        return ""
    return error.detail if isinstance(error, Refusal) else f"{type(error).__name__}: {error}"


def _provider(kernel: KernelResources | None, error: Exception | None, undecided: bool) -> str:
    if error is not None:
        return "migraphx"
    return "iree" if kernel is not None else "undecided" if undecided else "migraphx"


def graph(program: Program, subgraphs: Sequence[Subgraph]) -> tuple[Node, ...]:
    """The program in execution order, each subgraph as one node in the place of its last member; no constants."""
    owners = {member: subgraph for subgraph in subgraphs for member in subgraph.members}
    nodes: list[Node] = []
    makers: dict[str, str] = {}
    for module, instruction in program.walk():
        subgraph = owners.get(instruction.id)
        if instruction.name == "@literal" or (subgraph is not None and subgraph.members[-1] != instruction.id):
            continue
        inputs = instruction.inputs if subgraph is None else subgraph.operands
        shapes = (instruction.shape,) if subgraph is None else subgraph.result_shapes
        nodes.append(
            Node(
                id=instruction.id,
                name=_name(instruction) if subgraph is None else subgraph.name,
                shape=", ".join(map(shape_text, shapes)),
                inputs=tuple(dict.fromkeys(makers[value] for value in inputs if value in makers)),
                module=module.name,
                subgraph=subgraph is not None,
            )
        )
        makers.update(dict.fromkeys((instruction.id,) if subgraph is None else subgraph.results, instruction.id))
    return tuple(nodes)


def _name(instruction: Instruction) -> str:
    return f"@param {instruction.operator['parameter']}" if instruction.name == "@param" else instruction.name
