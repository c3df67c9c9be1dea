"""What happened to each subgraph: data first, then one line, a table, or JSON."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from iree_migraphx.errors import Reason

if TYPE_CHECKING:
    from rich.table import Table

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


@dataclass(frozen=True, slots=True)
class SubgraphReport:
    """One eligible subgraph: who computes it, and why not IREE where it is not.

    `provider` is "iree" only where IREE's kernel is in the program; `compile_seconds` is 0 where the cache or an equal
    subgraph had the kernel; `cache` is "hit", "miss", "shared" (compiled once for an equal subgraph) or "off".
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
    kernel: KernelResources | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of one compile.

    Attributes:
        target: the MIGraphX target, "ref" or "gpu".
        arch: what IREE compiled for: "host" or a GPU's name.
        checked_only: the kernels were compiled and checked, but are not in any program.
        note: why the whole program was left to MIGraphX, where it was.
        seconds: wall time by stage.
    """

    target: str
    arch: str
    subgraphs: tuple[SubgraphReport, ...] = ()
    checked_only: bool = False
    reason: Reason | None = None
    note: str = ""
    seconds: dict[str, float] = field(default_factory=dict)

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

    def summary(self) -> str:
        """One line: how many subgraphs IREE computes, how many not and why."""
        if self.note and not self.subgraphs:
            return f"iree_migraphx: nothing on IREE, MIGraphX compiled the program alone: {self.note}"
        if not self.subgraphs:
            return "iree_migraphx: nothing to do: the program has no convolution or dot that IREE could take"
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

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, in the form that docs/report.md describes."""
        subgraphs = []
        for subgraph in self.subgraphs:
            entry = asdict(subgraph)
            entry["reason"] = subgraph.reason.value if subgraph.reason else None
            entry["operators"] = list(subgraph.operators)
            entry["inputs"] = list(subgraph.inputs)
            subgraphs.append(entry)
        return {
            "format": FORMAT,
            "target": self.target,
            "arch": self.arch,
            "checked_only": self.checked_only,
            "reason": self.reason.value if self.reason else None,
            "note": self.note,
            "seconds": dict(self.seconds),
            "summary": {
                "eligible": self.eligible,
                "distinct": self.distinct,
                "iree": self.swapped,
                "migraphx": self.eligible - self.swapped,
            },
            "subgraphs": subgraphs,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the JSON form to a file."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(self.to_json(), file, indent=1)
            file.write("\n")

    def table(self) -> Table:
        """A rich table with one line a distinct kernel and provider, most frequent shape of each named once."""
        from rich.table import Table

        table = Table(title=None, box=None, header_style="bold", pad_edge=False)
        for column in ("count", "operators", "output", "computed by", "kernel / why not"):
            table.add_column(column, justify="right" if column == "count" else "left", overflow="fold")
        groups: dict[tuple[str, str, Reason | None], list[SubgraphReport]] = {}
        for subgraph in self.subgraphs:
            groups.setdefault((subgraph.key, subgraph.provider, subgraph.reason), []).append(subgraph)
        for group in groups.values():
            first = group[0]
            provider = "accepted" if self.checked_only and first.provider == "iree" else first.provider
            table.add_row(
                str(len(group)), _operators(first.operators), first.output, provider, _kernel_or_reason(first)
            )
        return table


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
    return f"{kernel.workgroups} x {kernel.workgroup_size}, {kernel.lds_bytes} B lds, {registers}{spills}"
