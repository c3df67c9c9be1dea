"""What happened to each subgraph: data first, then one line, a table, or JSON."""

from __future__ import annotations

import importlib.util
import io
import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from iree_migraphx.errors import Reason

if TYPE_CHECKING:
    from rich.table import Table

COLUMNS = ("count", "operators", "output", "computed by", "kernel / why not")

#: Version of the JSON form; it changes whenever a reader written for the old form would misread the new one.
FORMAT = 1


@dataclass(frozen=True, slots=True)
class KernelResources:
    """What a kernel asks of the device. Registers, LDS and wavefront are None for a kernel of the host.

    Attributes:
        symbol: the kernel's name.
        workgroups: workgroups of the grid (x).
        workgroup_size: work-items of a workgroup (x).
        lds_bytes: static local memory of a workgroup.
        vgprs: vector registers of a work-item, `agprs` accumulation registers, `sgprs` scalar registers of a wavefront.
        spills: registers spilled to memory, vector and scalar.
        wavefront: work-items of a wavefront.
        launches: how many launches the kernel is; the rest is said of the one with the most work-items.
    """

    symbol: str
    workgroups: int | None = None
    workgroup_size: int | None = None
    lds_bytes: int | None = None
    vgprs: int | None = None
    agprs: int | None = None
    sgprs: int | None = None
    spills: int | None = None
    wavefront: int | None = None
    launches: int | None = None


@dataclass(frozen=True, slots=True)
class SubgraphReport:
    """One eligible subgraph: who computes it, and why not IREE where it is not.

    Attributes:
        name: unique in the report.
        anchor: the operator that it is built around.
        operators: all its operators, in execution order.
        inputs: its operands, "1x64x56x56 float".
        output: its result, likewise.
        key: equal for subgraphs that share a kernel.
        provider: "iree" only where IREE's kernel is in the program (could be, of `check`), "migraphx", or, of a dry
            run, "undecided".
        reason: why not IREE.
        detail: what exactly.
        compile_seconds: wall time of iree-compile; 0 where the cache or an equal subgraph had the kernel.
        cache: "hit", "miss", "shared" (compiled once for an equal subgraph) or "off".
        started: seconds from the beginning of the compile of the program to that of this kernel; None where it was
            not compiled now, or elsewhere.
        worker: number of the compiler that compiled it, counted from 0, of those that ran at once.
        kernel: what the kernel asks of the device.
    """

    name: str
    anchor: str
    operators: tuple[str, ...]
    inputs: tuple[str, ...]
    output: str
    key: str
    provider: str
    reason: Reason | None = None
    detail: str = ""
    compile_seconds: float = 0.0
    cache: str = "off"
    started: float | None = None
    worker: int | None = None
    kernel: KernelResources | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """An instruction of the program beside the subgraphs, or a whole subgraph, for those who draw the program.

    Attributes:
        id: unique in the graph.
        name: the operator's name, or the subgraph's.
        shape: of its result.
        inputs: ids of the nodes that it reads; parameters are nodes, and constants are not.
        module: "main", or the body of a loop or a branch.
        subgraph: it is the subgraph of that name.
    """

    id: str
    name: str
    shape: str
    inputs: tuple[str, ...] = ()
    module: str = "main"
    subgraph: bool = False


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one compile.

    Attributes:
        target: the MIGraphX target, "ref" or "gpu".
        arch: what IREE compiled for: "host" or a GPU's name.
        subgraphs: in execution order.
        checked_only: the kernels were compiled and checked, but are not in any program.
        dry_run: nothing was compiled; where the cache does not tell, a subgraph's provider is "undecided".
        reason: why the whole program was left to MIGraphX, where it was.
        note: the same in words.
        seconds: wall time by stage.
        graph: the program in execution order, each subgraph as one node.
    """

    target: str
    arch: str
    subgraphs: tuple[SubgraphReport, ...] = ()
    checked_only: bool = False
    dry_run: bool = False
    reason: Reason | None = None
    note: str = ""
    seconds: dict[str, float] = field(default_factory=dict)
    graph: tuple[Node, ...] = field(default=(), repr=False)

    @property
    def eligible(self) -> int:
        """Subgraphs that IREE might compute."""
        return len(self.subgraphs)

    @property
    def distinct(self) -> int:
        """Kernels that serve all of them."""
        return len({subgraph.key for subgraph in self.subgraphs})

    @property
    def swapped(self) -> int:
        """Subgraphs that IREE computes."""
        return sum(subgraph.provider == "iree" for subgraph in self.subgraphs)

    @property
    def reasons(self) -> Counter[Reason]:
        """How many subgraphs stay with MIGraphX, by reason."""
        return Counter(s.reason for s in self.subgraphs if s.reason is not None)

    @property
    def fallbacks(self) -> list[str]:
        """What was left to MIGraphX although it was IREE's to take, one text each."""
        whole = [f"the whole program: {self.note or self.reason.value}"] if self.reason is not None else []
        left = [subgraph for subgraph in self.subgraphs if subgraph.provider == "migraphx"]
        return whole or [f"{s.name}: {s.reason.value if s.reason else 'no kernel'}: {s.detail}" for s in left]

    def summary(self) -> str:
        """One line: how many subgraphs IREE computes, how many not and why."""
        if self.note and not self.subgraphs:
            return f"iree_migraphx: nothing on IREE, MIGraphX compiled the program alone: {self.note}"
        if not self.subgraphs:
            return "iree_migraphx: nothing to do: the program has no convolution or dot that IREE could take"
        if self.dry_run:
            return self._preview()
        verb = f"accepted for {self.arch} (not run)" if self.checked_only else f"on IREE ({self.arch})"
        kernels = len({subgraph.key for subgraph in self.subgraphs if subgraph.provider == "iree"})
        line = f"iree_migraphx: {self.swapped} of {self.eligible} subgraphs {verb}, {kernels} distinct kernels"
        left = self.eligible - self.swapped
        if left:
            why = ", ".join(f"{count} {reason.value}" for reason, count in self.reasons.most_common())
            line += f"; {left} left to MIGraphX ({why})"
        compiled = [s for s in self.subgraphs if s.cache == "miss"]
        cached = sum(s.cache == "hit" for s in self.subgraphs)
        if compiled or cached:
            line += f"; {len(compiled)} compiled now, {cached} from the cache"
        if self.note:
            line += f"; {self.note}"
        return line

    def _preview(self) -> str:
        cached = self._kernels("iree")
        line = f"iree_migraphx: {self.eligible} subgraphs for IREE ({self.arch}), {self.distinct} distinct kernels; "
        line += f"{cached} in the cache, {self._kernels('undecided')} to be compiled (dry run)"
        left = Counter(s.reason.value for s in self.subgraphs if s.reason is not None)
        if left:
            line += f"; {sum(left.values())} left to MIGraphX ({', '.join(f'{n} {name}' for name, n in left.items())})"
        return f"{line}; {self.note}" if self.note else line

    def _kernels(self, provider: str) -> int:
        return len({subgraph.key for subgraph in self.subgraphs if subgraph.provider == provider})

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, in the form of docs/report.schema.json."""
        value = asdict(self)
        value["reason"] = self.reason.value if self.reason else None
        for entry in value["subgraphs"]:
            entry["reason"] = entry["reason"].value if entry["reason"] else None
        summary = {
            "eligible": self.eligible,
            "distinct": self.distinct,
            "iree": self.swapped,
            "migraphx": sum(subgraph.provider == "migraphx" for subgraph in self.subgraphs),
            "undecided": sum(subgraph.provider == "undecided" for subgraph in self.subgraphs),
        }
        ordered = {"format": FORMAT, "summary": summary, **value}
        plain: dict[str, Any] = finite(ordered)
        return plain

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it to a file: as text (.txt), as a page to look at (.html), else as JSON."""
        with open(path, "w", encoding="utf-8") as file:
            file.write(written([self], os.path.splitext(path)[1]) + "\n")

    def rows(self) -> list[tuple[str, ...]]:
        """The table: a line for each distinct kernel and provider, under `COLUMNS`."""
        groups: dict[tuple[str, str, Reason | None], list[SubgraphReport]] = {}
        for subgraph in self.subgraphs:
            groups.setdefault((subgraph.key, subgraph.provider, subgraph.reason), []).append(subgraph)
        rows: list[tuple[str, ...]] = []
        for group in groups.values():
            first = group[0]
            provider = "accepted" if self.checked_only and first.provider == "iree" else first.provider
            if self.dry_run and first.provider == "iree":
                provider = "in the cache"
            operators = _operators(first.operators)
            rows.append((str(len(group)), operators, first.output, provider, _kernel_or_reason(first)))
        return rows

    def table(self) -> Table:
        """The rows as a table for rich, which has to be installed."""
        from rich.table import Table

        table = Table(title=None, box=None, header_style="bold", pad_edge=False)
        for column in COLUMNS:
            table.add_column(column, justify="right" if column == "count" else "left", overflow="fold")
        for row in self.rows():
            table.add_row(*row)
        return table

    def as_text(self, width: int | None = None, color: bool = False) -> str:
        """The table as text.

        Args:
            width: columns to fold it at; None is the terminal's width. Without rich nothing is folded.
            color: with a terminal's colours, if rich is installed.
        """
        if importlib.util.find_spec("rich") is None:
            rows = [COLUMNS, *self.rows()]
            widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
            return "\n".join(
                "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
            )
        from rich.console import Console

        stream = io.StringIO()
        Console(file=stream, width=width, force_terminal=color, highlight=False).print(self.table())
        return "\n".join(line.rstrip() for line in stream.getvalue().splitlines())


def written(reports: Sequence[Report], suffix: str = ".json") -> str:
    """Reports as the text of a file: of several, the first with the others as its `checks`."""
    if suffix == ".html":
        from iree_migraphx.page import page

        return page(reports)
    if suffix == ".txt":
        return "\n\n".join(f"{report.summary()}\n\n{report.as_text(width=160)}" for report in reports)
    value = reports[0].to_json()
    if len(reports) > 1:
        value["checks"] = [report.to_json() for report in reports[1:]]
    return json.dumps(value, indent=1)


def finite(value: Any) -> Any:
    """Plain data with None for NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _operators(operators: Sequence[str]) -> str:
    shapes = {"multibroadcast", "broadcast", "reshape", "unsqueeze", "squeeze", "transpose", "contiguous", "flatten"}
    return " ".join(name for name in operators if name not in shapes) or " ".join(operators)


def _kernel_or_reason(subgraph: SubgraphReport) -> str:
    if subgraph.reason is not None:
        return f"{subgraph.reason.value}: {subgraph.detail}" if subgraph.detail else subgraph.reason.value
    kernel = subgraph.kernel
    if kernel is None or kernel.workgroups is None:
        return ""
    registers = (
        f"{kernel.vgprs}+{kernel.agprs} vgpr {kernel.sgprs} sgpr"
        if kernel.agprs
        else (f"{kernel.vgprs} vgpr {kernel.sgprs} sgpr")
    )
    spills = f" {kernel.spills} spilled" if kernel.spills else ""
    several = f"{kernel.launches} launches, " if kernel.launches and kernel.launches > 1 else ""
    return f"{several}{kernel.workgroups} x {kernel.workgroup_size}, {kernel.lds_bytes} B lds, {registers}{spills}"
