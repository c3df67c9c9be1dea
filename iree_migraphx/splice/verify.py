"""Trying kernels before they are taken: each against MIGraphX's ref target, on the same made-up operands."""

from __future__ import annotations

import logging
import math
import signal
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

import iree_migraphx
from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.ir.model import Program
from iree_migraphx.kernels.invoke import Run, run
from iree_migraphx.kernels.model import HostKernel, Kernel, Outcome, Request
from iree_migraphx.kernels.progress import default_progress
from iree_migraphx.kernels.scratch import scratch_folder
from iree_migraphx.options import Options
from iree_migraphx.partition.subgraph import Subgraph
from iree_migraphx.splice import gpu_trial, trial
from iree_migraphx.splice.compare import Tolerance, terms
from iree_migraphx.splice.evidence import Evidence, keep_evidence

# Wherever this package was imported from, the process must find the same one.
_CHILD = "import sys; sys.path.insert(0, sys.argv[1]); from iree_migraphx.splice import trial; trial.child(sys.argv[2])"
_GPU_CHILD = (
    "import sys; sys.path.insert(0, sys.argv[1]); from iree_migraphx.splice import gpu_trial; "
    "gpu_trial.child(*sys.argv[2:])"
)

_log = logging.getLogger(__name__)


def verify(
    program: Program,
    subgraphs: Sequence[Subgraph],
    requests: Mapping[str, Request],
    outcomes: Mapping[str, Outcome],
    options: Options,
    target: str = "host",
) -> dict[str, Outcome]:
    """Run every kernel once, and refuse those that fail or compute something else than MIGraphX's ref target.

    Kernels for a GPU run on this process's current device, each in a program of its own.

    That target takes about 0.2 microseconds a multiplication, so this takes long for large models; several are tried at
    once. What is refused leaves a bundle.

    Args:
        program: which the subgraphs are of.
        subgraphs: by whose keys the rest goes.
        requests: what the kernels were made of.
        outcomes: of the kernel compiler.
        options: how many at once, and seconds that one kernel may run.
        target: what the kernels are for, in words.

    Returns:
        The outcomes, with the refusals RUN_ERROR and WRONG_RESULT among them.
    """
    tried = {subgraph.key: subgraph for subgraph in subgraphs}
    kernels = {key: each.kernel for key, each in outcomes.items() if not isinstance(each.kernel, Refusal)}
    verdicts = dict(outcomes)
    if not kernels:
        return verdicts
    progress = default_progress(options, "verifying")
    stop = threading.Event()
    pool = ThreadPoolExecutor(min(options.worker_count, len(kernels)), "verify")
    try:
        progress.begin(len(kernels), target, False)
        running = {
            pool.submit(_try, program, tried[key], requests[key], kernel, options, target, stop): key
            for key, kernel in kernels.items()
        }
        for future in as_completed(running):
            key, refusal = running[future], future.result()
            if refusal is not None:
                verdicts[key] = replace(outcomes[key], kernel=refusal)
            progress.done(requests[key], verdicts[key])
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)
        progress.end()
    return verdicts


def _try(
    program: Program,
    subgraph: Subgraph,
    request: Request,
    kernel: Kernel,
    options: Options,
    target: str,
    stop: threading.Event,
) -> Refusal | None:
    """The refusal of a kernel, None if it is right."""
    shapes = (*(parameter.shape for parameter in subgraph.parameters), *subgraph.result_shapes)
    tolerance = Tolerance.of(subgraph.body)
    operands = trial.made_up(subgraph.body, terms(subgraph.body))
    body = Program(program.version, program.migraphx_version, {"main": subgraph.body})
    try:
        with scratch_folder() as folder:
            if isinstance(kernel, HostKernel):
                own = tuple((s.type, s.lens, s.strides) for s in shapes)
                task = trial.Task(request.symbol, options.timeout, options.thread_count, own)
                trial.prepare(folder, body, kernel, task, operands)
                script, further, results = _CHILD, [], {"": shapes[-1]}
            else:
                gpu_trial.prepare(folder, body, gpu_trial.alone(subgraph, kernel, body), operands)
                script, further = _GPU_CHILD, gpu_trial.arguments(options.timeout)
                results = {str(number): shape for number, shape in enumerate(subgraph.result_shapes)}
            package = Path(iree_migraphx.__file__).parent.parent
            ended = run([sys.executable, "-c", script, str(package), str(folder), *further], folder, math.inf, stop)
            values = {
                end: (trial.load(folder, trial.EXPECTED + end, shape), trial.load(folder, trial.ACTUAL + end, shape))
                for end, shape in results.items()
            }
    except OSError as error:
        return Refusal(Reason.DISK, f"the files to verify it with can't be written: {error}")
    except Refusal as refused:
        return refused
    _log.info("%s: tried in %.2f s, status %s", request.symbol, ended.seconds, ended.status)
    for number, (expected, actual) in enumerate(values.values()):
        refusal = _judge(ended, expected, actual, tolerance, options)
        if refusal is not None:
            found = Evidence(request, kernel, shapes, operands, expected, actual, ended.errors, len(values), number)
            allowed = 0.0 if expected is None else tolerance.scaled_to(expected)
            keep_evidence(found, refusal, allowed, options, target)
            return refusal
    return None


def _judge(
    ended: Run,
    expected: npt.NDArray[Any] | None,
    actual: npt.NDArray[Any] | None,
    tolerance: Tolerance,
    options: Options,
) -> Refusal | None:
    if expected is None:
        # Without a word of MIGraphX's about what is right, a kernel that is to be verified can't be taken.
        return Refusal(Reason.RUN_ERROR, f"MIGraphX's ref target could not compute the subgraph: {ended.explanation}")
    if actual is None:
        status = ended.status or 0
        if status == -signal.SIGALRM:
            return Refusal(Reason.RUN_ERROR, f"it ran for more than {options.timeout:g} s")
        how = f"ended by {signal.Signals(-status).name}" if status < 0 else ended.explanation
        return Refusal(Reason.RUN_ERROR, how)
    problem = tolerance.problem(actual, expected)
    return Refusal(Reason.WRONG_RESULT, problem) if problem else None
