"""The page of operators, from the lowering's own tables and from what benchmarks/operators_on_gpus.py found."""

from __future__ import annotations

import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from iree_migraphx.errors import Reason
from iree_migraphx.lowering.pointwise import POINTWISE
from iree_migraphx.lowering.reshapers import RESHAPERS
from iree_migraphx.lowering.types import TYPES

sys.path.append(str(Path(__file__).resolve().parents[1] / "benchmarks"))
from operator_kinds import ANCHOR_KINDS, KINDS, POINTWISE_NAMES, TENSOR_KINDS, takes
from operators_on_gpus import GPUS, ONE, SEVERAL, Results, read

#: What the benchmark found.
ON_GPUS = Path(__file__).with_name("operators_on_gpus.json")
COMMAND = "python benchmarks/operators_on_gpus.py --json docs/operators_on_gpus.json && python docs/generate.py"

#: Column -> its types.
COLUMNS = {
    **{name: (f"{name}_type",) for name in ("float", "half", "bf16", "double")},
    "fp8": tuple(type_ for type_ in TYPES if type_.startswith("fp8")),
    "int": tuple(type_ for type_ in TYPES if type_.startswith("int")),
    "uint": tuple(type_ for type_ in TYPES if type_.startswith("uint")),
    "bool": ("bool_type",),
}
#: Why what is refused for a reason is not mended. Each reason that occurs needs an entry.
_EXPLAINED: dict[Reason, str] = {}
_NOT_TRIED = "not tried"


def page() -> Iterator[str]:
    """The lines of the page."""
    results = read(ON_GPUS)
    yield "# Operators\n"
    yield "What kernels can compute, by element type: MIGraphX's float, half, bf16 and double; fp8 are the four 8-bit"
    yield "floats, int and uint the signed and unsigned integers of 8 to 64 bits. Meanings are those of MIGraphX's"
    yield "`ref` target; where that is wrong, [facts.md](facts.md) says so. Functions marked *in double* are computed"
    yield "so on the host, as IREE's own are missing or poor there. Programs made up of them are compared with"
    yield "MIGraphX, as many as one likes, by `PYTHONPATH=tests python -m random_programs --examples 50000`; the tests"
    yield "run 2,000.\n"
    yield f"On the host everything here is computed. The column *GPUs* is about {_listed(GPUS)}:"
    yield "*yes* is one launch for each of them and each type; *several launches* counts fills and copies, which become"
    yield "instructions of MIGraphX's. It is of kernels that were compiled and checked, not run, by\n"
    yield f"<!-- not run: it takes an hour -->\n```bash\n{COMMAND}\n```\n"
    yield "## Anchors\n"
    yield "Attention over other types is two dots and a softmax.\n"
    yield from _table([kind.name for kind in ANCHOR_KINDS], results)
    yield "\n## Pointwise, behind and in front of anchors\n"
    yield from _table(POINTWISE_NAMES, results, host=True)
    yield "\n## Whole tensors\n"
    yield "Without an anchor (the option `extra`, which is on for the host). On GPUs a scatter is a launch that"
    yield "copies its first operand, one that changes the copy, and a copy of that.\n"
    yield from _table([kind.name for kind in TENSOR_KINDS], results)
    yield "\n## Views\n"
    yield "Over every type, before anchors and other operands; they cost nothing:"
    yield ", ".join(f"`{name}`" for name in sorted(RESHAPERS)) + ".\n"
    yield "## Refused on GPUs\n"
    yield from _refused(results)


def _table(names: Sequence[str], results: Results, host: bool = False) -> Iterator[str]:
    columns = [*COLUMNS, "GPUs", *(["on the host"] if host else [])]
    yield f"| operator | {' | '.join(columns)} |"
    yield "| --- " * (len(columns) + 1) + "|"
    for name in names:
        taken = [type_ for type_ in TYPES if takes(name, type_)]
        cells = [_cell([type_ in taken for type_ in types]) for types in COLUMNS.values()]
        cells += [_gpus(name, taken, results), *([_host(name)] if host else [])]
        yield f"| {name} | {' | '.join(cells)} |"


def _cell(taken: list[bool]) -> str:
    return "yes" if all(taken) else "some" if any(taken) else ""


def _gpus(name: str, taken: Sequence[str], results: Results) -> str:
    phrases = []
    outcomes = {(gpu, type_): results.get((gpu, name, type_), _NOT_TRIED) for gpu in GPUS for type_ in taken}
    for word, matches in (
        ("host only", lambda said: said not in (ONE, SEVERAL, _NOT_TRIED)),
        (SEVERAL, lambda said: said == SEVERAL),
        (_NOT_TRIED, lambda said: said == _NOT_TRIED),
    ):
        for gpus, types in _grouped(case for case, said in outcomes.items() if matches(said)):
            where = "" if gpus == GPUS else f" on {_listed(gpus)}"
            phrases.append(word + where + ("" if len(types) == len(taken) else f" over {_types(types)}"))
    return "; ".join(phrases) or "yes"


def _grouped(cases: Iterable[tuple[str, str]]) -> Iterator[tuple[tuple[str, ...], list[str]]]:
    """GPUs with the types for which just these are there."""
    gpus: dict[str, list[str]] = defaultdict(list)
    for gpu, type_ in cases:
        gpus[type_].append(gpu)
    types: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for type_, names in gpus.items():
        types[tuple(names)].append(type_)
    yield from types.items()


def _types(types: Sequence[str]) -> str:
    found, rest = [], list(types)
    for column, members in COLUMNS.items():
        if {*members} <= {*rest}:
            found.append(column)
            rest = [type_ for type_ in rest if type_ not in members]
    return _listed([*found, *(type_.removesuffix("_type") for type_ in rest)])


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def _host(name: str) -> str:
    entry = POINTWISE.get(name)
    if entry is None or entry.doubles is None:
        return ""
    return "in double" if entry.through_doubles else "doubles in double"


def _refused(results: Results) -> Iterator[str]:
    cases: dict[str, dict[str, list[tuple[str, str]]]] = defaultdict(lambda: defaultdict(list))
    for name in (*KINDS, *POINTWISE_NAMES):
        for type_ in (type_ for type_ in TYPES if takes(name, type_)):
            for gpu in GPUS:
                said = results.get((gpu, name, type_), _NOT_TRIED)
                if said not in (ONE, SEVERAL, _NOT_TRIED):
                    cases[said][name].append((gpu, type_))
    reasons = sorted({said.partition(":")[0] for said in cases})
    if not reasons:
        yield "Nothing of this. A larger subgraph may still be: [reasons.md](reasons.md)."
    for reason in reasons:
        yield f"[{reason}](reasons.md): {_EXPLAINED[Reason(reason)]}\n"
        for said, kinds in cases.items():
            word, _, detail = said.partition(": ")
            for name, found in kinds.items() if word == reason else ():
                for gpus, types in _grouped(found):
                    where = "" if gpus == GPUS else f" on {_listed(gpus)}"
                    yield f"- {name} over {_types(types)}{where}: `{detail}`"
        yield ""
