"""Which kernels of real models MIGraphX could launch, on GPUs that need not be there.

    python benchmarks/gpu_acceptance.py [--models det magika] [--gfx gfx942 gfx1100] [--precision f16] [--json all.json]

Prints a line for each model, precision and GPU, in Markdown: how many subgraphs were accepted and refused, and why.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import iree_migraphx as migraphx
import models
from iree_migraphx.errors import Reason
from iree_migraphx.report import Report

GFX = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201")
PRECISIONS = ("f16", "f32")


def parsed(name: str, precision: str) -> migraphx.program:
    """A known model or a file, with the weights of its own type or in half precision."""
    model = models.find(name)
    program = migraphx.parse_onnx(str(model.path), map_input_dims={key: list(lens) for key, lens in model.lens.items()})
    if precision == "f16":
        migraphx.quantize_fp16(program)
    return program


def line(name: str, precision: str, gfx: str, report: Report) -> str:
    """One row of the table."""
    why = "; ".join(
        f"{count} {reason.value}: {first(report, reason)}" for reason, count in report.reasons.most_common()
    )
    share = f"{100 * report.swapped / max(report.eligible, 1):.0f} %"
    launches = [s.kernel.launches or 1 for s in report.subgraphs if s.kernel is not None]
    several = sum(count > 1 for count in launches)
    return f"| {name} | {precision} | {gfx} | {report.eligible} | {report.swapped} ({share}) | {several} | {why} |"


def first(report: Report, reason: Reason) -> str:
    """What the first refusal for this reason says."""
    return next(s.detail for s in report.subgraphs if s.reason is reason)


def main(arguments: Sequence[str] | None = None) -> None:
    """Check and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", nargs="+", default=["light_resnet50", "det", "magika"], help="known names or files")
    parser.add_argument("--gfx", nargs="+", default=GFX, help="GPUs, as IREE knows them")
    parser.add_argument("--precision", nargs="+", default=PRECISIONS, choices=PRECISIONS)
    parser.add_argument("--cache", type=Path, help="a folder to keep kernels in; without it they are all compiled anew")
    parser.add_argument("--json", type=Path, help="write all reports to this file")
    given = parser.parse_args(arguments)
    reports: list[dict[str, Any]] = []
    print("| model | precision | GPU | subgraphs | accepted | of several launches | refused |")
    print("| --- | --- | --- | --- | --- | --- | --- |", flush=True)
    with tempfile.TemporaryDirectory() as scratch:
        options = migraphx.Options.resolve(cache_dir=given.cache or Path(scratch), quiet=True)
        for precision in given.precision:
            for name in given.models:
                program = parsed(name, precision)
                for gfx in given.gfx:
                    report = migraphx.check(program, gfx, options)
                    print(line(name, precision, gfx, report), flush=True)
                    reports.append({"model": name, "precision": precision, "report": report.to_json()})
    if given.json is not None:
        given.json.write_text(json.dumps(reports, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
