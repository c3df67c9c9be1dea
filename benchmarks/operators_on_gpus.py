"""Compiles every operator over every type that it takes for each GPU; says in how many launches, or what is refused.

    python benchmarks/operators_on_gpus.py --json docs/operators_on_gpus.json && python docs/generate.py
    python benchmarks/operators_on_gpus.py --gpus gfx942 --kinds dot pooling --types half_type bf16_type

Anchors in their kinds, attention, operators over whole tensors, and pointwise operators behind a dot: many in one
kernel, and fewer where that one is refused. Nothing is executed, no GPU is needed. What the file of --json knows is not
compiled again without --again; it is written after each part, so that a run which was stopped goes on.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

from operator_kinds import KINDS, POINTWISE_NAMES, subgraph_of, takes

from iree_migraphx.errors import Refusal
from iree_migraphx.kernels.model import GpuKernel, GpuSequence, HostKernel, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.emit import lower
from iree_migraphx.lowering.types import TYPES
from iree_migraphx.options import Options

GPUS = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201")
ONE, SEVERAL = "one launch", "several launches"
_LONGEST = 160
_PART = 64

#: Kind and type.
Case = tuple[str, str]
#: What becomes of each case for each GPU: ONE, SEVERAL (fills and copies count), or the Reason and what it says.
Results = dict[tuple[str, str, str], str]


def read(path: Path) -> Results:
    """Results as `write` leaves them; none where there is no such file."""
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {
        (gpu, kind, f"{type_}_type"): outcome
        for kind, outcomes in known.items()
        for outcome, groups in outcomes.items()
        for gpus, types in groups.items()
        for gpu in gpus.split()
        for type_ in types.split()
    }


def write(path: Path, results: Results) -> None:
    """For each kind each outcome, with the types for which these GPUs have it."""
    gpus: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for (gpu, kind, type_), outcome in sorted(results.items()):
        gpus[kind, outcome, type_].append(gpu)
    known: dict[str, dict[str, dict[str, str]]] = defaultdict(lambda: defaultdict(dict))
    for (kind, outcome, type_), names in sorted(gpus.items()):
        group, short = " ".join(names), type_.removesuffix("_type")
        known[kind][outcome][group] = f"{known[kind][outcome].get(group, '')} {short}".strip()
    lines = ",\n".join(f"{json.dumps(kind)}: {json.dumps(outcomes)}" for kind, outcomes in known.items())
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def cases(names: Collection[str], types: Sequence[str]) -> list[Case]:
    """Every kind of these names, or of operators of these names, over each type that it takes."""
    kinds = [kind.name for kind in KINDS.values() if not names or {kind.name, kind.operator} & {*names}]
    kinds += [name for name in POINTWISE_NAMES if not names or name in names]
    return [(kind, type_) for kind in kinds for type_ in types if takes(kind, type_)]


def groups(wanted: Sequence[Case], at_once: int) -> Iterator[tuple[str, list[str]]]:
    """Types with what goes into one kernel."""
    behind: dict[str, list[str]] = defaultdict(list)
    for kind, type_ in wanted:
        if kind in POINTWISE_NAMES:
            behind[type_].append(kind)
        else:
            yield type_, [kind]
    for type_, names in behind.items():
        yield from ((type_, names[start : start + at_once]) for start in range(0, len(names), at_once))


def compiled(gpu: str, together: Sequence[tuple[str, list[str]]], options: Options) -> dict[Case, str]:
    """What becomes of each case; groups of several that are not one launch are halved."""
    target = parse_target(gpu)
    said: dict[int, str] = {}
    requests: dict[int, Request] = {}
    for number, (type_, names) in enumerate(together):
        subgraph, symbol = subgraph_of(names, type_), f"k{number}"
        try:
            mlir = lower(subgraph, symbol, forms.form_for(target.gfx))
        except Refusal as refusal:
            said[number] = _text(refusal)
        else:
            requests[number] = Request(symbol, mlir, len(subgraph.operands) + 1, subgraph.anchor)
    outcomes = compile_kernels([*requests.values()], target, options)
    said |= {number: _text(outcome.kernel) for number, outcome in zip(requests, outcomes, strict=True)}
    found: dict[Case, str] = {}
    halves: list[tuple[str, list[str]]] = []
    for number, (type_, names) in enumerate(together):
        middle = len(names) // 2
        if middle and said[number] != ONE:
            halves += [(type_, names[:middle]), (type_, names[middle:])]
        else:
            found |= {(name, type_): said[number] for name in names}
    return found | (compiled(gpu, halves, options) if halves else {})


def _text(outcome: HostKernel | GpuKernel | GpuSequence | Refusal) -> str:
    if isinstance(outcome, Refusal):
        return f"{outcome.reason.value}: {outcome.detail.splitlines()[0][:_LONGEST]}"
    return SEVERAL if isinstance(outcome, GpuSequence) and len(outcome.steps) > 1 else ONE


def report(gpu: str, results: Mapping[Case, str]) -> None:
    """Print how many there are of each outcome, and all that is not one launch."""
    counts = Counter(outcome.partition(":")[0] for outcome in results.values())
    said = ", ".join(f"{number} {outcome}" for outcome, number in counts.most_common())
    print(f"{gpu}: {len(results)} pairs of kind and type: {said}")
    others: dict[tuple[str, str], list[str]] = defaultdict(list)
    for (kind, type_), outcome in results.items():
        if outcome != ONE:
            others[kind, outcome].append(type_.removesuffix("_type"))
    for (kind, outcome), types in others.items():
        print(f"  {kind} over {', '.join(types)}: {outcome}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Compile the tables of operators for GPUs.")
    parser.add_argument("--gpus", nargs="+", default=GPUS, help="such as gfx942")
    parser.add_argument("--kinds", nargs="+", default=(), help="operators, or one kind of them: 'dot, 8 rows'")
    parser.add_argument("--types", nargs="+", default=list(TYPES), help="such as half_type")
    parser.add_argument("--at-once", type=int, default=12, help="pointwise operators in one kernel")
    parser.add_argument("--json", type=Path, help="keep results in this file")
    parser.add_argument("--again", action="store_true", help="compile what the file has as well")
    given = parser.parse_args()
    options = Options(quiet=True, timeout=600, workers=1, cache=False)
    wanted = cases(given.kinds, given.types)
    results = read(given.json) if given.json else {}
    for gpu in given.gpus:
        missing = [case for case in wanted if given.again or (gpu, *case) not in results]
        together = list(groups(missing, given.at_once))
        for start in range(0, len(together), _PART):
            done = compiled(gpu, together[start : start + _PART], options)
            results |= {(gpu, *case): outcome for case, outcome in done.items()}
            if given.json:
                write(given.json, results)
        report(gpu, {case: results[(gpu, *case)] for case in wanted})


if __name__ == "__main__":
    main()
