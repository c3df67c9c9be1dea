"""A GPU kernel on made-up operands: alone in a program for the device, beside MIGraphX's ref target.

Both run in a process of their own, which a kernel that crashes or hangs ends. It gets a folder with the subgraph as a
program, the kernel in another one, and the operands; it leaves MIGraphX's results and then the kernel's.
"""

from __future__ import annotations

import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from iree_migraphx import binding
from iree_migraphx.capture.helper import device_and_flags, gpu_target
from iree_migraphx.errors import HelperError, MigraphxError, Reason, Refusal
from iree_migraphx.ir.model import Program
from iree_migraphx.ir.read import read_program
from iree_migraphx.ir.write import write_program
from iree_migraphx.kernels.model import GpuKernel, GpuSequence
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice.gpu import compile_gpu
from iree_migraphx.splice.trial import ACTUAL, BODY, EXPECTED, load, logical, save

SPLICED = "spliced.mxr"


def alone(subgraph: Subgraph, kernel: GpuKernel | GpuSequence, body: Program) -> binding.program:
    """A program for the current device that is a subgraph's kernel and nothing else.

    Args:
        subgraph: what the kernel computes.
        kernel: for the current device.
        body: the subgraph's body as a program.

    Raises:
        Refusal: MIGraphX can't compile it, or the kernel does not get into it.
    """
    members = tuple(i.id for i in subgraph.body.instructions if not i.name.startswith("@"))
    operands = tuple(parameter.id for parameter in subgraph.parameters)
    results = subgraph.body.instructions[-1].inputs
    whole = replace(subgraph, module="main", members=members, operands=operands, results=results)
    try:
        done = compile_gpu(
            body, [whole], {subgraph.key: kernel}, offload_copy=True, fast_math=True, exhaustive_tune=False
        )
    except (HelperError, MigraphxError) as error:
        raise Refusal(Reason.SPLICE_ERROR, f"it can't be put into a program of its own: {error}") from error
    if done.program is None or done.refusals:
        raise Refusal(Reason.SPLICE_ERROR, f"it can't be put into a program of its own: {dict(done.refusals)}")
    return done.program


def prepare(folder: Path, body: Program, spliced: binding.program, operands: Sequence[npt.NDArray[np.generic]]) -> None:
    """Write what the process needs."""
    (folder / BODY).write_bytes(write_program(body))
    binding.save(spliced, folder / SPLICED)
    for index, operand in enumerate(operands):
        save(folder, f"x{index}", operand)


def arguments(seconds: float) -> list[str]:
    """What the process is told beside the folder: the device, and how long the kernel may run."""
    return [*device_and_flags(), str(seconds)]


def child(where: str, number: str, seconds: str) -> None:
    """Compute the subgraph of a folder in both ways."""
    folder = Path(where)
    body = binding.load(folder / BODY)
    instructions = read_program((folder / BODY).read_bytes()).main.instructions
    parameters = [instruction for instruction in instructions if instruction.name == "@param"]
    values = {}
    for index, parameter in enumerate(parameters):
        memory = load(folder, f"x{index}", parameter.shape)
        if memory is None:
            raise FileNotFoundError("an operand of the trial is missing")
        values[str(parameter.operator["parameter"])] = logical(memory, parameter.shape)
    body.compile(binding.get_target("ref"))
    _keep(folder, EXPECTED, body.run(values))
    gpu_target(number)
    spliced = binding.load(folder / SPLICED)
    # The system ends us when the time is over, whatever the kernel is doing.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, float(seconds))
    _keep(folder, ACTUAL, spliced.run(values))


def _keep(folder: Path, name: str, results: Sequence[binding.argument]) -> None:
    for number, result in enumerate(results):
        save(folder, f"{name}{number}", np.asarray(result))
