"""What `perf` measures in a process of its own: runs that may have to be ended, and runs that MIGraphX tells about."""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import iree_migraphx
from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.instruction_times import VARIABLE, WARM, InstructionTimes, read_trace
from iree_migraphx.cli.job import Job, prepare
from iree_migraphx.cli.output import say
from iree_migraphx.cli.run import compiled_program, ended_by_interrupt
from iree_migraphx.errors import IreeMigraphxError
from iree_migraphx.options import inherited_environment

if TYPE_CHECKING:
    from iree_migraphx.binding import program

# Wherever this package was imported from, the process must find the same one.
_CHILD = "import sys; sys.path.insert(0, sys.argv.pop(1)); from iree_migraphx.cli.main import main; sys.exit(main())"

#: Seconds that reading and compiling the model may take besides.
_START = 30.0

_TOOK = "iree-migraphx: seconds "


def add_trial(parser: argparse._ActionsContainer) -> None:
    """Add what `perf` starts itself with, and nobody else."""
    parser.add_argument("--trial", type=int, metavar="RUNS", help=argparse.SUPPRESS)
    parser.add_argument("--trial-program", type=Path, metavar="FILE", help=argparse.SUPPRESS)


def one_plain_run(job: Job) -> tuple[float | None, str]:
    """Seconds that MIGraphX alone takes, in a process that can be ended; None, and why, where it is not to be had."""
    limit = job.arguments.plain_limit
    if not limit:
        return None, "MIGraphX alone was not run (--plain-limit 0)"
    if job.on_gpu:
        return 0.0, ""
    say(f"Running MIGraphX alone once, for {limit:g} s at most ...")
    too_slow = f"MIGraphX alone did not run once within {limit:g} s (--plain-limit), so there is no ratio"
    try:
        ended = subprocess.run(
            _command(job, "--trial", "0", "--no-iree"),
            capture_output=True,
            text=True,
            timeout=limit + _START,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return None, too_slow
    if ended.returncode:
        raise IreeMigraphxError(f"MIGraphX alone failed: {_last_line(ended.stderr) or ended.returncode}")
    seconds = next(line.removeprefix(_TOOK) for line in ended.stdout.splitlines() if line.startswith(_TOOK))
    return (float(seconds), "") if float(seconds) <= limit else (None, too_slow)


def instruction_times(job: Job, runs: int, compiled: program, iree: bool) -> tuple[InstructionTimes | None, str]:
    """What each instruction of a program takes, in so many runs; None, and why, where it is not to be had.

    A program with kernels of the host can't be saved; the process takes them from the cache and compiles once more.
    """
    from iree_migraphx.binding import serialized

    words = ["--trial", str(runs), *([] if iree else ["--no-iree"])]
    again = iree and not job.on_gpu
    if again and not job.options.cache:
        return None, "without the cache its kernels would be compiled once more (IREE_MIGRAPHX_CACHE=0)"
    with tempfile.TemporaryDirectory(prefix="iree-migraphx-") as folder, tempfile.TemporaryFile("w+") as errors:
        if not again and not job.model.is_compiled:
            file = Path(folder, "program.mxr")
            file.write_bytes(serialized.save(compiled.handle, "msgpack"))
            words += ["--trial-program", str(file)]
        with subprocess.Popen(
            _command(job, *words),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            errors="replace",
            env=inherited_environment(**{VARIABLE: "1"}),
        ) as child:
            assert child.stdout is not None
            try:
                found = read_trace(child.stdout, job.arguments.detailed)
            except BaseException:
                child.kill()
                raise
        if child.returncode == 0 and found.times:
            return found, ""
        errors.seek(0)
        return None, _last_line(errors.read()) or f"exit status {child.returncode}"


def run_trial(arguments: argparse.Namespace) -> int:
    """Run a program once, and then as often as is asked; how long the first run took is printed."""
    from iree_migraphx import binding

    arguments.strict, arguments.verify, arguments.arch, arguments.report = False, False, [], None
    job = prepare(arguments)
    job = replace(job, options=replace(job.options, quiet=True))
    file = arguments.trial_program
    compiled = compiled_program(job, job.quantized()) if file is None else binding.load(file)
    values = job.values()
    with ended_by_interrupt():
        started = time.perf_counter()
        compiled.run(values)
        print(f"{_TOOK}{time.perf_counter() - started}\n{WARM}", flush=True)
        for _ in range(arguments.trial):
            compiled.run(values)
    return ExitCode.OK


def _command(job: Job, *words: str) -> list[str]:
    package = str(Path(iree_migraphx.__file__).parent.parent)
    return [sys.executable, "-c", _CHILD, package, *job.arguments.words, *words]


def _last_line(text: str) -> str:
    return (text.strip().splitlines() or [""])[-1]
