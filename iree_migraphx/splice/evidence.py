"""The bundle of a kernel that fails when it runs, or computes something else than MIGraphX."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iree_migraphx.errors import CompilerNotFoundError, KernelError, Reason, Refusal
from iree_migraphx.ir.layout import physical_lens
from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels.bundle import describe, flags_beside, keep_bundle, write_script
from iree_migraphx.kernels.compiler import Compiler, compile_command, find_compiler
from iree_migraphx.kernels.flags import compile_flags, write_flags
from iree_migraphx.kernels.model import HostKernel, Kernel, Request
from iree_migraphx.kernels.targets import Target, parse_target
from iree_migraphx.options import Options
from iree_migraphx.splice import trial
from iree_migraphx.splice.placeholder import Failed

#: MIGraphX's name of a type -> IREE's, as kernels take it.
_TYPES = {
    "bool_type": "i8",
    "half_type": "f16",
    "float_type": "f32",
    "double_type": "f64",
    "bf16_type": "bf16",
    **{f"{sign}int{bits}_type": f"i{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)},
    "fp8e4m3fn_type": "f8E4M3FN",
    "fp8e5m2_type": "f8E5M2",
    "fp8e4m3fnuz_type": "f8E4M3FNUZ",
    "fp8e5m2fnuz_type": "f8E5M2FNUZ",
}

#: Types that .npy files have no name for; iree-run-module takes them from raw files.
_RAW = frozenset(name for name in _TYPES if name.startswith(("bf16", "fp8")))

#: For a kernel that something else than IREE's runtime launches.
_KERNEL_ONLY = ("--compile-to=hal", "--iree-rocm-container-type=hsaco")

_RERUN = """#!/bin/sh
# Compiles input.mlir again and runs it on the same inputs: ./rerun.sh
# IREE_COMPILE and IREE_RUN_MODULE name other tools than those in PATH; MODULE=kernel.vmfb runs the kernel as it was.
cd "$(dirname "$0")" || exit
if [ -z "$MODULE" ]; then
  MODULE=output
  "${{IREE_COMPILE:-iree-compile}}" {compile} || exit
fi
"${{IREE_RUN_MODULE:-iree-run-module}}" --module="$MODULE" {run} >result.txt
status=$?
cat result.txt
# It tells of a difference in words only.
grep -q '^\\[FAILED\\]' result.txt && exit 1
exit $status
"""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A kernel that failed.

    Attributes:
        request: what it was made of.
        shapes: of its operands, and of its results behind them.
        operands: the memory that it was given, dense.
        expected: what MIGraphX computes, likewise; None where that is not known.
        actual: what the kernel computed; None where it did not come to that.
        errors: what was said.
        results: how many results it has.
        number: which of them is meant.
    """

    request: Request
    kernel: Kernel
    shapes: tuple[Shape, ...]
    operands: Sequence[npt.NDArray[Any]]
    expected: npt.NDArray[Any] | None
    actual: npt.NDArray[Any] | None
    errors: str
    results: int = 1
    number: int = 0


def failed_run(request: Request, kernel: HostKernel, shapes: Sequence[Shape], options: Options) -> Failed | None:
    """What is to be told when a kernel in a program fails, which keeps a bundle; None where none are asked for."""
    if options.failures is None and options.debug_level < 2:
        return None

    def failed(operands: Sequence[npt.NDArray[np.uint8]], error: KernelError) -> None:
        memory = [
            each.view(shape.dtype).reshape(physical_lens(shape)) for each, shape in zip(operands, shapes, strict=False)
        ]
        evidence = Evidence(request, kernel, tuple(shapes), memory, None, None, f"{error}\n")
        keep_evidence(evidence, Refusal(Reason.RUN_ERROR, str(error)), 0.0, options)

    return failed


def keep_evidence(evidence: Evidence, refusal: Refusal, allowed: float, options: Options, target: str = "host") -> None:
    """Write the bundle.

    Args:
        evidence: what is in it.
        refusal: what is wrong: WRONG_RESULT is of the class accuracy, others are of the class run.
        allowed: by how much each element may differ.
        options: where to, and how the kernel is compiled.
        target: what for.
    """
    kind = "accuracy" if refusal.reason is Reason.WRONG_RESULT else "run"
    where = parse_target(target)
    name = f"{kind}-{refusal.reason.value}-{evidence.request.symbol}-{where.name}"
    keep_bundle(name, refusal, options, lambda folder: _write(folder, evidence, refusal, kind, allowed, options, where))


def _write(
    folder: Path, evidence: Evidence, refusal: Refusal, kind: str, allowed: float, options: Options, target: Target
) -> None:
    request = evidence.request
    flags = compile_flags(target, options, request.anchor)
    if not target.is_host:
        # A module that iree-run-module loads, with the same kernel in it.
        flags = tuple(flag for flag in flags if flag not in _KERNEL_ONLY)
    try:
        compiler: Compiler | None = find_compiler(options)
    except CompilerNotFoundError:
        compiler = None
    arguments = ["input.mlir", "-o", "output", *flags_beside(folder, flags)]
    command = ["iree-compile", *arguments]
    if compiler is not None:
        command = compile_command(compiler, target, write_flags(flags, folder), Path("input.mlir"), Path("output"))
    lines = [
        f"class: {kind}",
        f"reason: {refusal.reason.value} ({refusal.reason.description})",
        f"detail: {refusal.detail}",
        f"kernel: {request.symbol}, around {request.anchor}",
        f"target: {target}",
        f"tolerance: {allowed:g} for each element",
    ]
    describe(folder, lines, request.mlir, command, compiler)
    (folder / "stderr.txt").write_text(evidence.errors, encoding="utf-8")
    if isinstance(evidence.kernel, HostKernel):
        (folder / trial.KERNEL).write_bytes(evidence.kernel.vmfb)
    else:
        (folder / "kernel.hsaco").write_bytes(evidence.kernel.code_object)
    operands, results = evidence.shapes[: -evidence.results], evidence.shapes[-evidence.results :]
    run = [f"--function={request.symbol}", "--device=" + ("local-task" if target.is_host else "hip")]
    for index, (value, shape) in enumerate(zip(evidence.operands, operands, strict=True)):
        run.append(f"--input={_file(folder, f'input{index}', value, shape)}")
    run += [f"--input=&{_type(result)}" for result in results]
    if evidence.expected is not None:
        file = _file(folder, trial.EXPECTED, evidence.expected, results[evidence.number])
        run += [
            f"--expected_output={file if number == evidence.number else '(ignored)'}" for number in range(len(results))
        ]
        run += [f"--expected_{name}_threshold={allowed:g}" for name in ("f16", "bf16", "f32", "f64")]
        run.append("--output_max_element_count=16")
    if evidence.actual is not None:
        trial.save(folder, trial.ACTUAL, evidence.actual)
    write_script(folder, _RERUN.format(compile=shlex.join(arguments), run=shlex.join(run)))


def _file(folder: Path, name: str, value: npt.NDArray[Any], shape: Shape) -> str:
    """Write a value, and say how iree-run-module is given it."""
    trial.save(folder, name, value)
    if shape.type not in _RAW:
        return f"@{name}.npy"
    (folder / f"{name}.bin").write_bytes(value.tobytes())
    return f"{_type(shape)}=@{name}.bin"


def _type(shape: Shape) -> str:
    return "x".join([*map(str, physical_lens(shape)), _TYPES[shape.type]])
