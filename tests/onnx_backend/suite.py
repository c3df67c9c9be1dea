"""Runs the ONNX backend node tests, the onnx package's own, with plain MIGraphX and with IREE's kernels in it.

    python tests/onnx_backend/suite.py [--only softmax] [--every 10] [--jobs 2] [--json results.json] [--markdown FILE]

Both run on the target ref and are compared with what the test expects, as ONNX's own runner compares. Each model runs
in a child process: a broken invariant of MIGraphX ends it (its assertions are on in some builds), and the next child
goes on behind the model that did. The exit code is 1 where plain MIGraphX passes a test and we do not.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import tempfile
import warnings
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx.backend.test.case.node import collect_testcases
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.runner import Runner

from iree_migraphx import binding, pipeline
from iree_migraphx.errors import IreeMigraphxError
from iree_migraphx.lowering import forms
from iree_migraphx.options import Options

#: Seconds for one model, with and without us.
LIMIT = 300
PASSES, DIED = "passes", "died"


@dataclass(frozen=True)
class Result:
    """What became of one test.

    Attributes:
        plain: of MIGraphX alone: "passes", "wrong: …", "fails: …" or "died".
        ours: the same with IREE's kernels in it.
        iree: subgraphs that IREE computed, of `eligible`.
        left: reasons for those that it did not.
    """

    name: str
    plain: str = DIED
    ours: str = DIED
    iree: int = 0
    eligible: int = 0
    left: tuple[str, ...] = ()

    @property
    def worse(self) -> bool:
        """Whether we break what MIGraphX alone can."""
        return self.plain == PASSES and self.ours != PASSES

    @property
    def doubtful(self) -> bool:
        """Whether it may be another test's fault, in the same process."""
        return self.worse or DIED in (self.plain, self.ours) or self.iree < self.eligible

    @property
    def better(self) -> bool:
        """Whether we mend what MIGraphX alone gets wrong."""
        return self.ours == PASSES and self.plain != PASSES


def tests(only: str = "", every: int = 1) -> list[TestCase]:
    """The node tests whose names contain `only`, one of `every`, always the same ones."""
    warnings.simplefilter("ignore")
    found = [case for case in collect_testcases(None) if case.model is not None and only in case.name]
    return found[::every]


def run(cases: Sequence[TestCase], options: Options, jobs: int = 1) -> list[Result]:
    """Run tests, several at once, each in a process that it may end.

    This process must not have used IREE's runtime or MIGraphX before, whose threads a fork would leave behind.
    """
    with tempfile.TemporaryDirectory(prefix="onnx_backend-") as folder:
        logs = [Path(folder, str(job)) for job in range(jobs)]
        supervisors = []
        for job, log in enumerate(logs):
            if not (pid := os.fork()):
                try:
                    _supervise(cases[job::jobs], options, log)
                finally:
                    os._exit(0)
            supervisors.append(pid)
        for pid in supervisors:
            os.waitpid(pid, 0)
        facts: dict[str, dict[str, Any]] = {case.name: {} for case in cases}
        for log in logs:
            for name, fact in _facts(log):
                facts[name].update(fact)
    return [Result(name, **fact) for name, fact in facts.items()]


def run_fairly(cases: Sequence[TestCase], options: Options, jobs: int = 1) -> list[Result]:
    """As `run`; but what looks worse, left subgraphs out, or died runs once more in a process of its own.

    Some models make MIGraphX write past the end of its memory, which hurts whoever comes next in the process.
    """
    results = {result.name: result for result in run(cases, options, jobs)}
    for case in [case for case in cases if results[case.name].doubtful]:
        results[case.name] = run([case], options)[0]
    return list(results.values())


def _supervise(cases: Sequence[TestCase], options: Options, log: Path) -> None:
    log.touch()
    begun = 0
    while begun < len(cases):
        if not (pid := os.fork()):
            with log.open("a", buffering=1) as lines:
                for case in cases[begun:]:
                    signal.alarm(LIMIT)
                    lines.write(json.dumps([case.name, {}]) + "\n")
                    for fact in _examine(case, options):
                        lines.write(json.dumps([case.name, fact]) + "\n")
            os._exit(0)
        os.waitpid(pid, 0)
        begun = sum(not fact for _, fact in _facts(log))


def _facts(log: Path) -> list[tuple[str, dict[str, Any]]]:
    return [tuple(json.loads(line)) for line in log.read_text().splitlines()]


def _examine(case: TestCase, options: Options) -> Iterable[dict[str, Any]]:
    """Facts of a test as soon as they are known, for whoever outlives this process."""
    try:
        program = binding.parse_onnx_buffer(case.model.SerializeToString())
    except IreeMigraphxError as error:
        yield {"plain": (why := f"fails: not parsed: {_line(error)}"), "ours": why}
        return
    given, expected = case.data_sets[0]
    feed = dict(zip((value.name for value in case.model.graph.input), map(_array, given), strict=False))
    plain = program.copy()

    def compile_plain() -> binding.program:
        plain.compile(binding.get_target("ref"))
        return plain

    yield {"plain": _outcome(case, compile_plain, feed, expected)}
    made: list[binding.program] = []

    def compile_ours() -> binding.program:
        made.append(pipeline.compile(program, binding.get_target("ref"), options=options))
        return made[0]

    ours = _outcome(case, compile_ours, feed, expected)
    report = made[0].iree_report if made else None
    if report is None:
        yield {"ours": ours}
        return
    left = [f"{s.reason.value}: {' '.join(s.operators)}: {s.detail}" for s in report.subgraphs if s.reason]
    if report.reason is not None:
        left.append(f"{report.reason.value}: {report.note}")
    yield {"ours": ours, "iree": report.swapped, "eligible": report.eligible, "left": tuple(left)}


def _outcome(case: TestCase, compiled: Any, feed: dict[str, Any], expected: Sequence[Any]) -> str:
    try:
        program = compiled()
        shapes = program.get_parameter_shapes()
        # A scalar has one dimension in MIGraphX.
        values = {name: _fitting(feed[name], shape.lens()) for name, shape in shapes.items()}
        results = [np.array(result) for result in program.run(values)]
    except Exception as error:
        return f"fails: {_line(error)}"
    try:
        wanted = [_array(value) for value in expected]
        results = [_fitting(result, value.shape) for result, value in zip(results, wanted, strict=True)]
        Runner.assert_similar_outputs(wanted, results, case.rtol, case.atol)
    except Exception as error:
        return f"wrong: {_line(error)}"
    return PASSES


def _array(value: Any) -> Any:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)


def _fitting(value: Any, lens: Sequence[int]) -> Any:
    """A scalar with the rank that the other side gives it; anything else as it is."""
    return value.reshape(lens) if value.size == 1 and {value.ndim, len(lens)} == {0, 1} else value


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:300]


def markdown(results: Sequence[Result]) -> str:
    """The page docs/onnx-tests.md."""
    kinds = ("passes", "wrong", "fails", "died")
    counts = {who: Counter(getattr(r, who).partition(":")[0] for r in results) for who in ("plain", "ours")}
    models = sum(result.iree > 0 for result in results)
    computed, eligible = (sum(getattr(result, name) for result in results) for name in ("iree", "eligible"))
    rows = [f"| {label} | " + " | ".join(str(counts[who][kind]) for kind in kinds) + " |" for who, label in WHO.items()]
    better = [f"| {result.name} | {_short(result.plain)} |" for result in results if result.better]
    wrong = Counter(_family(r.name) for r in results if r.plain.startswith("wrong") and r.ours.startswith("wrong"))
    same = [f"| {name} | {count} |" for name, count in sorted(wrong.items())]
    return PAGE.format(
        total=len(results), version=onnx.__version__, migraphx=binding.__version__, rows="\n".join(rows), models=models,
        computed=computed, eligible=eligible, worse=sum(result.worse for result in results),
        better="\n".join(better) or "| none | |", same="\n".join(same),
    )  # fmt: skip


def _short(outcome: str) -> str:
    """What is wrong, without the arrays."""
    text = outcome.partition(": ")[2].partition(": ")[2]
    text = text[max(text.find("Mismatched elements"), 0) :]
    return text.split(" Mismatch at ")[0].split(" First ")[0][:80]


def _family(name: str) -> str:
    words = name.removeprefix("test_").split("_")
    return " ".join(words[: 2 if words[0] in ("reduce", "training") else 1])


WHO = {"plain": "MIGraphX alone", "ours": "with IREE's kernels"}
PAGE = """# The ONNX backend node tests

The {total} node tests of the package onnx {version}, on the target `ref` of MIGraphX {migraphx}. Written by

<!-- not run: it takes minutes -->
```bash
python tests/onnx_backend/suite.py --markdown docs/onnx-tests.md
```

which runs every test with MIGraphX alone and with IREE's kernels in the program. Both are compared with what the test
expects, by ONNX's own rule. The tests of this repository run a part of them.

|  | passes | wrong | fails | died |
| --- | --- | --- | --- | --- |
{rows}

IREE computed {computed} of {eligible} subgraphs, in {models} models. Tests that only MIGraphX alone passes: {worse}.
*Fails*: MIGraphX does not parse, compile or run the model, and says so. *Died*: the process ended, by one of MIGraphX's
assertions or because it wrote past the end of its memory (reductions whose negative axes are computed).

## Right with IREE's kernels, wrong without

MIGraphX's ref target rounds each element of a half result down and sums in half; the kernels sum in float and round to
the nearest.

| test | MIGraphX alone |
| --- | --- |
{better}

## Wrong in both

This is how MIGraphX parses the model, converts, or rounds to half.

| tests of | count |
| --- | --- |
{same}
"""


def summary(results: Sequence[Result]) -> str:
    """Both counts, and where they differ."""
    kinds = ("passes", "wrong", "fails", "died")
    lines = []
    for who in ("plain", "ours"):
        counts = Counter(getattr(result, who).partition(":")[0] for result in results)
        lines.append(f"{who:>5}: " + ", ".join(f"{counts[kind]} {kind}" for kind in kinds))
    lines.insert(0, f"{len(results)} node tests of onnx {onnx.__version__}")
    touched = sum(result.iree > 0 for result in results)
    subgraphs = sum(result.iree for result in results), sum(result.eligible for result in results)
    lines.append(f"IREE computed {subgraphs[0]} of {subgraphs[1]} subgraphs in {touched} models")
    lines += [f"worse: {result.name}: {result.ours}" for result in results if result.worse]
    lines += [f"better: {result.name}: plain {_short(result.plain)}" for result in results if result.better]
    return "\n".join(lines)


def main() -> int:
    """Run the command and return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", metavar="TEXT", help="tests with this in their names")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="one test of N")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="tests at once")
    parser.add_argument("--cache", type=Path, help="a folder that keeps kernels for the next run")
    parser.add_argument("--json", type=Path, help="write every result to this file")
    parser.add_argument("--markdown", type=Path, help="write the page of docs/ to this file")
    parser.add_argument(
        "--all-kernels", action="store_true", help="kernels also of what is too little work for one, as most tests are"
    )
    given = parser.parse_args()
    if given.all_kernels:
        forms.rules = partial(forms.rules, least_work=1)
    with tempfile.TemporaryDirectory() as folder:
        cache = given.cache or Path(folder)
        options = Options.resolve(cache_dir=cache, quiet=True, workers=1, threads=1, cache_size=0)
        results = run_fairly(tests(given.only, given.every), options, given.jobs)
    print(summary(results))
    if given.json:
        given.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    if given.markdown:
        given.markdown.write_text(markdown(results))
    return int(any(result.worse for result in results))


if __name__ == "__main__":
    sys.exit(main())
