"""What each instruction of a program takes, as migraphx-driver's perf prints it (src/program.cpp).

MIGraphX's C interface has no perf_report. What it has is MIGRAPHX_TRACE_EVAL, which makes a run print each instruction
and its time, the device's work included (program::eval). It is read once a process, so the runs are another process's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from iree_migraphx.cli.output import milliseconds
from iree_migraphx.cli.times import Times, common_average
from iree_migraphx.splice.placeholder import symbol_in

VARIABLE = "MIGRAPHX_TRACE_EVAL"

#: What the process prints once it is warm.
WARM = "iree-migraphx: warm"

_RUN, _TIME = "Run instruction: ", "Time: "
_PRINTED = re.compile(
    r"(?P<name>.+?) = (?P<operator>[^\s\[({]+).*?(?:\((?P<inputs>[^()]*)\))?(?:, \[[^\]]*\])?"
    r" -> (?P<type>\w+), \{(?P<lens>[^}]*)\}, \{(?P<strides>[^}]*)\}"
)


@dataclass(frozen=True, slots=True)
class InstructionTime:
    """One instruction.

    Attributes:
        instruction: as MIGraphX prints it.
        group: the operator, or the kernel's symbol, with --detailed the type and the operands' lengths as well.
        seconds: the common average of its runs; that of one with a body contains its body's.
    """

    instruction: str
    group: str
    seconds: float


@dataclass(frozen=True, slots=True)
class InstructionTimes:
    """All instructions, in the order in which they ran first."""

    times: tuple[InstructionTime, ...]

    @property
    def total(self) -> float:
        """Seconds of all, a run."""
        return sum(each.seconds for each in self.times)

    def groups(self) -> list[tuple[str, float, int]]:
        """Name, seconds and number of instructions of each group, the slowest first."""
        found: dict[str, list[float]] = {}
        for each in self.times:
            found.setdefault(each.group, []).append(each.seconds)
        return sorted(((name, sum(all_), len(all_)) for name, all_ in found.items()), key=lambda group: -group[1])

    def lines(self) -> Iterator[str]:
        """Every instruction and the summary of groups."""
        for each in self.times:
            yield f"{each.instruction}: {milliseconds(each.seconds)}, {self._percent(each.seconds)}%"
        yield from ("", "Summary:")
        for name, seconds, count in self.groups():
            each_one = milliseconds(seconds / count)
            yield f"{name}: {milliseconds(seconds)} / {count} = {each_one}, {self._percent(seconds)}%"

    def overhead(self, whole: Times) -> Iterator[str]:
        """What the instructions do not account for in a run's time."""
        rest = whole.total - self.total
        yield f"Total instructions time: {milliseconds(self.total)}"
        yield f"Overhead time: {milliseconds(rest)}"
        yield f"Overhead: {100 * rest / whole.total:.0f}%"

    def _percent(self, seconds: float) -> int:
        return math.ceil(100 * seconds / self.total) if self.total else 0


def read_trace(lines: Iterable[str], detailed: bool) -> InstructionTimes:
    """Take the times out of what a process printed; what it printed before it was warm does not count."""
    measured: dict[str, list[float]] = {}
    running: list[str] = []
    lens: dict[str, str] = {}
    warm = False
    for line in lines:
        if line.startswith(WARM):
            warm = True
        elif line.startswith(_RUN):
            running.append(line.removeprefix(_RUN).rstrip("\n"))
        elif line.startswith(_TIME) and running:
            # The second time is until the device was done.
            _, done = line.removeprefix(_TIME).split(",")
            instruction = running.pop()
            if warm:
                measured.setdefault(instruction, []).append(float(done.strip().removesuffix("ms")) / 1e3)
    ordered = {name: common_average(times) for name, times in measured.items()}
    for name in ordered:
        if found := _PRINTED.match(name):
            lens[found["name"]] = _sizes(found["lens"], found["strides"])
    return InstructionTimes(
        tuple(InstructionTime(name, _group(name, lens, detailed), seconds) for name, seconds in ordered.items())
    )


def _sizes(lens: str, strides: str) -> str:
    """Lengths, and the strides of what is not in row-major order (shape::to_sizes_string)."""
    own = [int(each) for each in lens.split(", ") if each]
    packed = [math.prod(own[axis + 1 :]) for axis in range(len(own))]
    text = "x".join(map(str, own))
    return text if strides == ", ".join(map(str, packed)) else f"{text}:{strides.replace(', ', 'x')}"


def _group(instruction: str, lens: Mapping[str, str], detailed: bool) -> str:
    """Its line of the summary (perf_group in src/program.cpp); the operator that runs an IREE kernel is its symbol."""
    found = _PRINTED.match(instruction)
    if found is None:
        return instruction
    operator = found["operator"]
    symbol = re.search(r"\bsymbol_name=([^,\]]+)", instruction)
    if operator == "gpu::code_object" and symbol:
        name = f"{operator}::{symbol[1]}"
    else:
        name = operator.partition(":")[0] if operator.startswith("@") else symbol_in(operator) or operator
    if not detailed:
        return name
    operands = ", ".join(lens.get(operand.strip(), "?") for operand in (found["inputs"] or "").split(",") if operand)
    return f"{name}<{found['type']}({operands})>"
