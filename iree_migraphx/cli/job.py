"""From a command line to a compiled program: migraphx-driver's flags, ours beside them, and the reports."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.model import HALF, Model, add_half, add_model, in_half, read_model
from iree_migraphx.cli.output import OutputFile, say
from iree_migraphx.cli.values import Values, add_values, all_values, check_values
from iree_migraphx.errors import CompilerNotFoundError, OptionError, Reason, TargetError
from iree_migraphx.options import Options

if TYPE_CHECKING:
    from iree_migraphx.binding import program, target
    from iree_migraphx.report import Report

_KFD = "/dev/kfd"
_QUANTIZATIONS = (*HALF, "int8", "fp8")


@dataclass(frozen=True)
class Job:
    """A command line that was understood, with its model, before anything that takes long.

    Attributes:
        options: as the environment and the command line set them.
        architectures: GPUs whose kernels are to be compiled and checked as well.
        given: inputs that the command line gives.
        report_file: where the report goes, if anywhere.
    """

    arguments: argparse.Namespace
    options: Options
    target: target
    architectures: tuple[str, ...]
    model: Model
    given: Values
    report_file: OutputFile | None

    @property
    def on_gpu(self) -> bool:
        """It is for MIGraphX's target gpu."""
        return self.target.name == "gpu"

    def values(self, seed: int | None = None) -> Values:
        """Values for all inputs."""
        shapes = self.model.program.get_parameter_shapes()
        return all_values(self.given, shapes, self.arguments.seed if seed is None else seed)

    def quantized(self) -> program:
        """The model in the types that the command line asks for; the model itself is not changed."""
        from iree_migraphx import binding

        wanted = [name for name in _QUANTIZATIONS if getattr(self.arguments, name)]
        if not wanted:
            return self.model.program
        say(f"Quantizing to {' and '.join(wanted)} ...")
        changed = in_half(self.model.program.copy(), self.arguments)
        for name, quantize in (("int8", binding.quantize_int8), ("fp8", binding.quantize_fp8)):
            if name in wanted:
                quantize(changed, self.target, [self.values()])
        return changed

    def compile(self, model: program, offload_copy: bool, iree: bool = True) -> program:
        """Compile with IREE's kernels, or without."""
        from iree_migraphx.pipeline import compile as compile_with_iree

        options = self.options if iree else replace(self.options, disable=True, quiet=True)
        return compile_with_iree(
            model,
            self.target,
            offload_copy=offload_copy,
            fast_math=not self.arguments.disable_fast_math,
            exhaustive_tune=self.arguments.exhaustive_tune,
            options=options,
        )

    def checks(self, model: program) -> list[Report]:
        """A report for each `--arch`."""
        from iree_migraphx.pipeline import check

        return [check(model, arch, self.options) for arch in self.architectures]

    def dry_run(self, model: program) -> list[Report]:
        """What would be compiled: for each `--arch`, or for the target where none is given."""
        from iree_migraphx.study import preview

        if self.architectures:
            return [preview(model, arch=arch, options=self.options) for arch in self.architectures]
        return [preview(model, self.target, options=self.options)]

    def finish(self, reports: Sequence[Report]) -> ExitCode:
        """Write the reports where `--report` says; --strict finds out whether anything was left to MIGraphX."""
        if self.report_file is not None and reports:
            write_reports(self.report_file, reports)
        failed = (Reason.WRONG_RESULT, Reason.RUN_ERROR)
        wrong = [subgraph for report in reports for subgraph in report.subgraphs if subgraph.reason in failed]
        for subgraph in wrong:
            say(f"iree-migraphx: {subgraph.name}: {subgraph.reason and subgraph.reason.value}: {subgraph.detail}")
        if wrong:
            return ExitCode.MISMATCH
        if self.arguments.strict and any(report.fallbacks for report in reports):
            for report in reports:
                for text in report.fallbacks[:10]:
                    say(f"iree-migraphx: --strict: {text}")
            return ExitCode.FALLBACK
        return ExitCode.OK


def add_job(parser: argparse.ArgumentParser, runs: bool = True) -> None:
    """Add what all commands take that compile a model; `runs`: and run it."""
    add_model(parser)
    add_values(parser)
    add_target(parser)
    group = parser.add_argument_group("compiling")
    group.add_argument(
        "--enable-offload-copy",
        action="store_true",
        help="the program copies inputs to the device and results back" + (" (always on here)" if runs else ""),
    )
    group.add_argument("--disable-fast-math", action="store_true", help="no faster but less exact forms of operators")
    group.add_argument("--exhaustive-tune", action="store_true", help="MIGraphX tries every kernel that it knows")
    add_half(group)
    for name, text in (
        ("int8", "convolutions and dots in 8-bit integers, calibrated on the inputs"),
        ("fp8", "convolutions and dots in 8-bit floats, calibrated on the inputs"),
    ):
        group.add_argument(f"--{name}", action="store_true", help=text)
    add_iree(parser)


def add_target(parser: argparse.ArgumentParser) -> None:
    """Add MIGraphX's target."""
    group = parser.add_argument_group("target (default: gpu where there is a GPU, else ref)")
    targets = group.add_mutually_exclusive_group()
    for name, text in (
        ("gpu", "this machine's GPU"),
        ("cpu", "MIGraphX's target cpu, which IREE does nothing for"),
        ("ref", "MIGraphX's reference implementation; IREE's kernels run on this machine's CPU"),
    ):
        targets.add_argument(f"--{name}", dest="target", action="store_const", const=name, help=text)


def add_iree(parser: argparse.ArgumentParser, checks_only: bool = False) -> None:
    """Add what migraphx-driver does not have; `checks_only`: for a command that makes no program."""
    group = parser.add_argument_group("IREE")
    group.add_argument(
        "--arch",
        action="append",
        default=[],
        metavar="NAME",
        help="compile and check the kernels for this GPU"
        + ("" if checks_only else " too")
        + " (gfx942, mi300x, gfx942:sramecc+:xnack-, …); none has to be there; may be repeated",
    )
    if not checks_only:
        group.add_argument("--no-iree", action="store_true", help="plain MIGraphX")
        group.add_argument(
            "--dry-run", action="store_true", help="only say which subgraphs IREE would be given and what the cache has"
        )
        group.add_argument(
            "--verify",
            action="store_true",
            help="run each kernel once, beside MIGraphX's ref target, before it is taken; one that is "
            "wrong is left out (exit status 4). Takes long; the command verify tells more",
        )
    group.add_argument("--strict", action="store_true", help="whatever is left to MIGraphX is an error (exit status 3)")
    group.add_argument(
        "--report",
        type=Path,
        metavar="FILE",
        help="write the report: .json, .txt, or .html to look at; - is JSON on standard output",
    )
    group.add_argument("--cache-dir", type=Path, metavar="DIR", help="where kernels are kept (IREE_MIGRAPHX_CACHE_DIR)")


def prepare(arguments: argparse.Namespace) -> Job:
    """Understand a command line and read its model. What can be wrong with it is said before anything that takes long.

    Raises:
        OptionError: arguments that do not fit together, or settings that can't be.
        TargetError: no such target or GPU.
        InputError: the model, or a value for it, can't be read.
        CompilerNotFoundError: no working iree-compile, where IREE is needed.
    """
    options = options_of(arguments)
    report_file = report_of(arguments)
    from iree_migraphx.kernels.targets import parse_target

    architectures = tuple(str(parse_target(name)) for name in arguments.arch)
    where = default_target(arguments.target)
    if options.disable and (architectures or arguments.strict):
        raise OptionError("--no-iree (or IREE_DISABLE=1) leaves nothing to do for --arch and --strict")
    _require_compiler(options, needed=bool(architectures) or arguments.strict)
    model = read_model(arguments)
    for note in model.notes():
        say(f"iree-migraphx: {note}")
    if model.is_compiled:
        _check_compiled(arguments)
    given = check_values(arguments, model.program.get_parameter_shapes())
    return Job(arguments, options, where, architectures, model, given, report_file)


def options_of(arguments: argparse.Namespace) -> Options:
    """The environment's options, and what the command line says instead."""
    changes: dict[str, Any] = {}
    if getattr(arguments, "no_iree", False):
        changes["disable"] = True
    if getattr(arguments, "verify", False):
        changes["verify"] = True
    if arguments.cache_dir is not None:
        changes.update(cache=True, cache_dir=arguments.cache_dir)
    return Options.resolve(**changes)


def report_of(arguments: argparse.Namespace) -> OutputFile | None:
    """The file of --report.

    Raises:
        OptionError: it can't be written, or its name does not say in which form.
    """
    path: Path | None = arguments.report
    if path is not None and path != Path("-") and path.suffix not in (".json", ".html", ".txt"):
        raise OptionError(f"--report {path}: its name must end in .json, .html or .txt")
    return OutputFile.checked(path)


def default_target(name: str | None) -> target:
    """MIGraphX's target of that name; without one gpu where there is a GPU, else ref."""
    from iree_migraphx import binding

    if name is not None:
        return binding.get_target(name)
    # The device of AMD's kernel driver: Debian's MIGraphX has the gpu target on machines without a GPU as well.
    if os.access(_KFD, os.R_OK | os.W_OK):
        try:
            return binding.get_target("gpu")
        except TargetError:
            pass
    return binding.get_target("ref")


def write_reports(file: OutputFile, reports: Sequence[Report]) -> None:
    """Write the first report, with the others as its checks."""
    from iree_migraphx.report import written

    file.write(f"{written(reports, file.path.suffix)}\n".encode())


def _require_compiler(options: Options, needed: bool) -> None:
    if options.disable:
        return
    from iree_migraphx.kernels.compiler import find_compiler

    try:
        find_compiler(options)
    except CompilerNotFoundError:
        # Otherwise the program is MIGraphX's, or everything is in a read-only cache.
        if options.iree_bin is not None or (needed and not options.cache_readonly):
            raise


def _check_compiled(arguments: argparse.Namespace) -> None:
    wanted = [f"--{name}" for name in _QUANTIZATIONS if getattr(arguments, name)]
    if wanted or arguments.arch or arguments.dry_run:
        flags = [*wanted, *(["--arch"] if arguments.arch else []), *(["--dry-run"] if arguments.dry_run else [])]
        raise OptionError(
            f"{arguments.model} is compiled already, so {', '.join(flags)} can't be; give the model that it was made of"
        )
