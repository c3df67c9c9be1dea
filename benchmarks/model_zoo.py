"""Compiles the models of zoo/ for this machine and for GPUs, and compares what they compute with onnxruntime.

    python benchmarks/model_zoo.py [--models yolo vit_b16] [--place gfx942] [--json FILE] [--markdown docs/models.md]

On this machine a model runs on the target ref with IREE's kernels in it; for a GPU, which need not be there, the
kernels are compiled and checked. Each model runs in a process of its own. With --small the models are tiny.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from rich.console import Console
from zoo.catalogue import ZOO, Architecture, inputs_of
from zoo.transformer import BASE, Bert
from zoo.vision import ConvNeXt, ResNet, ViT

import iree_migraphx as migraphx
from iree_migraphx.options import Options
from iree_migraphx.report import Report

PLACES = ("host", "gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201")
#: Models that are quantized to int8 too, with lengths at which MIGraphX can calibrate them: that is on its ref target.
CALIBRATED: Mapping[str, Architecture] = {
    "resnet50": replace(ResNet(), size=64),
    "bert_base": Bert(tokens=16, encoder=replace(BASE, layers=2)),
}
#: Models with two of each layer that they repeat, for other types than float, which gives the same kernels:
#: MIGraphX takes about 3 us for each number that it converts, and they have up to 110 million.
TWICE: Mapping[str, Architecture] = {
    "bert_base": Bert(vocabulary=1000, encoder=replace(BASE, layers=2)),
    "vit_b16": ViT(encoder=replace(BASE, layers=2)),
    "resnet50": ResNet(depths=(2, 2, 2, 2)),
    "convnext_t": ConvNeXt(depths=(2, 2, 2, 2)),
}
#: The largest difference that passes, over the largest value of the output. Roundings add up over some hundred
#: operators: 2^10 of float's; 2^6 of half's, whose sums are made in float; int8 has 127 steps to the largest value.
TOLERANCES = {"float": 2.0**-13, "half": 2.0**-4, "int8": 0.35}


@dataclass(frozen=True)
class Variant:
    """A model in one precision, on the host or checked for a GPU."""

    model: str
    precision: str
    place: str
    accepted: int
    eligible: int
    distinct: int
    left: Mapping[str, int]
    differences: tuple[float, ...] = ()
    seconds: float = 0.0

    @property
    def name(self) -> tuple[str, str, str]:
        """What a later run replaces."""
        return self.model, self.precision, self.place

    @property
    def right(self) -> bool:
        """Whether every output is near onnxruntime's; a check has none."""
        return all(difference <= TOLERANCES[self.precision] for difference in self.differences)


def measure(
    name: str, precisions: Sequence[str], places: Sequence[str], options: Options, small: bool
) -> Iterator[Variant]:
    """The variants of a model."""
    gpus = [place for place in places if place != "host"]
    for precision in precisions:
        if precision == "int8" and name not in CALIBRATED:
            continue
        if "host" in places:
            yield _on_host(name, precision, _built(name, precision, CALIBRATED, small), options)
        if gpus:
            program = _parsed(_built(name, precision, TWICE, small), precision)
            for place in gpus:
                yield _checked(name, precision, place, program, options)


def _built(name: str, precision: str, for_int8: Mapping[str, Architecture], small: bool) -> onnx.ModelProto:
    """The model with the lengths at which it can be had in a precision."""
    if small or precision == "float":
        return (ZOO[name].small if small else ZOO[name].real).build()
    return (for_int8 if precision == "int8" else TWICE).get(name, ZOO[name].real).build()


def _parsed(model: onnx.ModelProto, precision: str, calibration: Sequence[Any] = ()) -> migraphx.program:
    program = migraphx.parse_onnx_buffer(model.SerializeToString())
    if precision == "half":
        migraphx.quantize_fp16(program)
    elif precision == "int8":
        migraphx.quantize_int8(program, migraphx.get_target("ref"), list(calibration))
    return program


def _on_host(name: str, precision: str, model: onnx.ModelProto, options: Options) -> Variant:
    settings = onnxruntime.SessionOptions()
    settings.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), settings, providers=["CPUExecutionProvider"])
    feeds = [inputs_of(model, seed) for seed in (0, 1)]
    program = _parsed(model, precision, feeds[:1] if precision == "int8" else ())
    started = time.perf_counter()
    program = migraphx.compile(program, migraphx.get_target("ref"), options=options)
    seconds = time.perf_counter() - started
    differences = [_difference(program, session, feed) for feed in feeds]
    assert program.iree_report is not None
    made = _variant(name, precision, "host", program.iree_report)
    return replace(made, differences=tuple(differences), seconds=seconds)


def _difference(program: migraphx.program, session: onnxruntime.InferenceSession, feed: dict[str, Any]) -> float:
    """The largest difference of any output over that output's largest value; NaN where a number is missing."""
    worst = 0.0
    results = [np.asarray(result) for result in program.run(feed)]
    for result, expected in zip(results, session.run(None, feed), strict=True):
        if result.shape != expected.shape or not np.isfinite(result).all():
            return float("nan")
        worst = max(worst, float(np.abs(result - expected).max() / np.abs(expected).max()))
    return worst


def _checked(name: str, precision: str, arch: str, program: migraphx.program, options: Options) -> Variant:
    started = time.perf_counter()
    made = _variant(name, precision, arch, migraphx.check(program, arch, options))
    return replace(made, seconds=time.perf_counter() - started)


def _variant(name: str, precision: str, place: str, report: Report) -> Variant:
    left = Counter(
        f"{s.reason.value}: {s.anchor}: {s.detail.splitlines()[0] if s.detail else ''}"
        for s in report.subgraphs
        if s.reason is not None
    )
    if report.reason is not None:
        left[f"{report.reason.value}: {report.note}"] += 1
    return Variant(name, precision, place, report.swapped, report.eligible, report.distinct, dict(left))


def markdown(variants: Sequence[Variant]) -> str:
    """The page docs/models.md."""
    places = [place for place in PLACES if any(variant.place == place for variant in variants)]
    cells = {variant.name: variant for variant in variants}
    rows = ["| model | precision | " + " | ".join(places) + " | difference |", "|" + " --- |" * (len(places) + 3)]
    for model, precision in sorted({(v.model, v.precision) for v in variants}):
        row = [cells.get((model, precision, place)) for place in places]
        worst = max((d for v in row if v for d in v.differences), default=None)
        counts = [f"{v.accepted}/{v.eligible}" if v else "" for v in row]
        rows.append(
            f"| {model} | {precision} | " + " | ".join(counts) + f" | {'' if worst is None else f'{worst:.1e}'} |"
        )
    left: dict[tuple[str, str, str], list[str]] = {}
    for variant in variants:
        for why, count in variant.left.items():
            left.setdefault((variant.model, variant.precision, why), []).append(f"{variant.place} ({count})")
    refused = [
        f"| {model} | {precision} | {', '.join(where)} | {_cell(why)} |"
        for (model, precision, why), where in left.items()
    ]
    return PAGE.format(rows="\n".join(rows), refused="\n".join(refused) or "| none | | | |", **TOLERANCES)


def _line(variant: Variant) -> str:
    """One line of the output."""
    v, places = variant, f"{variant.model:16}{variant.precision:6}{variant.place:8}"
    text = f"{places}{v.accepted:4} of {v.eligible:3} subgraphs, {v.distinct:3} kernels, {v.seconds:6.1f} s"
    if v.differences:
        text += f", differences {' '.join(f'{each:.1e}' for each in v.differences)}" + ("" if v.right else " WRONG")
    return "\n".join([text, *(f"    {count} left: {why[:130]}" for why, count in v.left.items())])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")[:160]


PAGE = """# Models

Models with the published structures and lengths, and random weights that keep activations in range. Written by

<!-- not run: it takes hours -->
```bash
python benchmarks/model_zoo.py --markdown docs/models.md
```

which builds them (benchmarks/zoo/), compiles them for this machine's CPU, compares two runs with onnxruntime, and
compiles and checks their kernels for GPUs, none of which was there. A cell is subgraphs accepted/eligible; what is
eligible is in [architecture.md](architecture.md); an empty cell was not tried. Half is after `quantize_fp16`,
int8 after `quantize_int8`; ResNet-50, ConvNeXt, BERT and ViT then have two of each layer that they repeat, which gives
the same kernels, or, where a cell counts far more than its neighbours, all of them.

*difference* is the largest of any output to onnxruntime's in float, over that output's largest value; {float:.1e}
passes for float, {half:.1e} for half, {int8:.2f} for int8. MIGraphX calibrates int8 on its ref target, which is too
slow for the real lengths: the int8 models of column `host` are ResNet-50 at 64x64 and BERT of 2 layers with 16 tokens.

{rows}

## What is refused

| model | precision | where (subgraphs) | why |
| --- | --- | --- | --- |
{refused}
"""


def main() -> int:
    """Run the command and return its exit code: 1 where numbers are wrong or a share is below --share."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=ZOO, default=list(ZOO), metavar="NAME", help=", ".join(ZOO))
    parser.add_argument("--precision", nargs="+", choices=TOLERANCES, default=list(TOLERANCES))
    parser.add_argument("--place", nargs="+", default=list(PLACES), metavar="NAME", help="default: %(default)s")
    parser.add_argument("--share", type=float, default=0.95, help="of subgraphs that have to be accepted")
    parser.add_argument("--small", action="store_true", help="the same structures made tiny")
    parser.add_argument("--cache", type=Path, help="a folder that keeps kernels for the next run")
    parser.add_argument("--json", type=Path, help="write every result to this file; others that it has are kept")
    parser.add_argument("--markdown", type=Path, help="write the page of docs/ to this file")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        options = Options.resolve(cache_dir=given.cache, quiet=True, cache_size=0)
        for variant in measure(given.measure, given.precision, given.place, options, given.small):
            print(json.dumps(asdict(variant)), flush=True)
        return 0
    console = Console(width=160, highlight=False)
    known = json.loads(given.json.read_text()) if given.json and given.json.exists() else []
    variants = {each.name: each for each in (Variant(**values) for values in known)}
    seen = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.models:
            command = [sys.executable, __file__, "--measure", name, "--cache", str(given.cache or folder)]
            command += ["--precision", *given.precision, "--place", *given.place, *["--small"] * given.small]
            with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
                for line in process.stdout or ():
                    seen.append(Variant(**json.loads(line)))
                    console.print(_line(seen[-1]))
                    variants[seen[-1].name] = seen[-1]
                    if given.json:
                        text = json.dumps([asdict(each) for each in variants.values()], indent=1)
                        given.json.write_text(f"{text}\n")
            if process.returncode:
                raise SystemExit(f"{name} ended with {process.returncode}")
    if given.markdown:
        given.markdown.write_text(markdown(list(variants.values())))
    good = all(each.right and each.accepted >= given.share * each.eligible for each in seen)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
