"""What becomes of random programs on a GPU, without one: `python -m random_programs.gpus`, with tests/ on PYTHONPATH.

Their numbers are those of the host's kernels, which `python -m random_programs` compares. Here each program is one
kernel for the GPU, as with `extra`: how many launches it takes, or the Reason that is left of it.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Program
from iree_migraphx.kernels.model import GpuSequence, Kernel, Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target
from iree_migraphx.lowering.emit import lower
from iree_migraphx.lowering.forms import form_for
from iree_migraphx.options import Options
from programs import text
from random_programs.check import whole
from random_programs.generate import distinct

_BATCH = 100


def gpu_kernels(programs: Sequence[Program], gpu: str, options: Options) -> list[Kernel | Refusal]:
    """Each program as one kernel, or why there is none."""
    target = parse_target(gpu)
    found: dict[int, Kernel | Refusal] = {}
    requests: dict[int, Request] = {}
    for number, program in enumerate(programs):
        subgraph, symbol = whole(program), f"k{number}"
        try:
            mlir = lower(subgraph, symbol, form_for(target.gfx))
        except Refusal as refusal:
            found[number] = refusal
        else:
            requests[number] = Request(symbol, mlir, len(subgraph.parameters) + len(subgraph.results), "")
    outcomes = compile_kernels([*requests.values()], target, options)
    found |= {number: outcome.kernel for number, outcome in zip(requests, outcomes, strict=True)}
    return [found[number] for number in range(len(programs))]


def computes_nothing(refusal: Refusal) -> bool:
    """Whether a program is just a copy of its operands, of which nobody would make a kernel."""
    return refusal.reason is Reason.FILL_OR_COPY and refusal.detail.startswith("nothing but")


def main() -> int:
    parser = argparse.ArgumentParser(prog="random_programs.gpus", description=__doc__)
    parser.add_argument("--examples", type=int, default=200, help="programs for each GPU")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--large", action="store_true", help="with lengths up to some dozens")
    parser.add_argument("gpus", nargs="*", default=["gfx942"], metavar="GPU", help="default: gfx942")
    given = parser.parse_args()
    for gpu in given.gpus:
        counts: Counter[str] = Counter()
        known, number = set[bytes](), 0
        while counts.total() < given.examples:
            wanted = min(_BATCH, given.examples - counts.total())
            examples, number = distinct(given.seed, number, wanted, known, given.large)
            kernels = gpu_kernels([example.program for example in examples], gpu, Options(quiet=True))
            for example, kernel in zip(examples, kernels, strict=True):
                if isinstance(kernel, GpuSequence):
                    counts["one launch" if len(kernel.steps) == 1 else "several launches"] += 1
                elif not isinstance(kernel, Refusal):
                    counts["one launch"] += 1
                elif computes_nothing(kernel):
                    counts["nothing to compute"] += 1
                else:
                    counts[kernel.reason.value] += 1
                    print(f"{gpu}: {kernel}\n{text(example.program)}\n", flush=True)
        print(f"{gpu}: " + ", ".join(f"{count} {what}" for what, count in counts.most_common()), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
