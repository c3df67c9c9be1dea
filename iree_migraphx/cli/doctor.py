"""`iree-migraphx doctor`: what is installed, whether it works together, and what to do about what does not."""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import os
import platform
import stat
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.cli.exit_codes import ExitCode
from iree_migraphx.cli.output import print_json
from iree_migraphx.errors import IreeMigraphxError, Refusal
from iree_migraphx.options import Options, available_cores, likely_typos, variables_set

if TYPE_CHECKING:
    from iree_migraphx.kernels.targets import Target

OK, WARNING, ERROR = "ok", "warning", "error"
_MARKS = {OK: "ok", WARNING: "!", ERROR: "FAIL"}
_KFD = Path("/dev/kfd")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        subject: what it is about.
        status: "ok", "warning" (something does without) or "error" (nothing works).
        text: what was found.
        advice: what to do about it; empty where nothing has to be done.
    """

    subject: str
    status: str
    text: str
    advice: str = ""


def register(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the subcommand."""
    text = "look over the installation, and say what to do about each finding"
    parser = commands.add_parser("doctor", help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.add_argument("--json", action="store_true", help="as JSON")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> int:
    findings = list(examine())
    if arguments.json:
        print_json({"findings": [asdict(finding) for finding in findings]})
    else:
        width = max(len(finding.subject) for finding in findings)
        for finding in findings:
            print(f"{_MARKS[finding.status]:<5}{finding.subject:<{width}}  {finding.text}", flush=True)
            if finding.advice:
                print(f"{'':<{width + 5}}  -> {finding.advice}", flush=True)
    return ExitCode.FAILED if any(finding.status == ERROR for finding in findings) else ExitCode.OK


def examine() -> Iterator[Finding]:
    """Look at everything, in an order in which the first error explains those that follow."""
    yield Finding("python", OK, f"{platform.python_version()}, {platform.system()} {platform.machine()}")
    try:
        options = Options.resolve()
    except IreeMigraphxError as error:
        yield Finding("settings", ERROR, str(error), "correct that setting; everything else is examined without it")
        options = Options()
    else:
        yield from _settings(options)
    for look in (_migraphx, _compiler, _runtime, _gpu, _cache, _memory, _packages):
        yield from _guarded(look, options)
    yield from _guarded(_trial, options)


def versions() -> list[str]:
    """The versions of this package, MIGraphX and IREE, a line each."""
    lines = [f"iree-migraphx {_version('iree_migraphx') or 'not installed'}"]
    try:
        from iree_migraphx import binding

        lines.append(f"MIGraphX {binding.__version__}")
    except IreeMigraphxError as error:
        lines.append(f"MIGraphX: {error}")
    try:
        from iree_migraphx.kernels.compiler import find_compiler

        lines.append(find_compiler(Options.resolve()).version)
    except IreeMigraphxError as error:
        lines.append(f"IREE compiler: {error}")
    return lines


def _guarded(look: Callable[[Options], Iterator[Finding]], options: Options) -> Iterator[Finding]:
    subject = look.__name__.strip("_")
    try:
        yield from look(options)
    except Refusal as refusal:
        yield Finding(subject, WARNING, str(refusal))
    except (IreeMigraphxError, OSError) as error:
        yield Finding(subject, ERROR, str(error))


def _settings(options: Options) -> Iterator[Finding]:
    known = variables_set()
    yield Finding("settings", OK, " ".join(f"{name}={value}" for name, value in known.items()) or "all by default")
    for name, meant in likely_typos().items():
        yield Finding("settings", WARNING, f"{name} is set, which nothing reads", f"if {meant} is meant, correct it")
    if options.disable:
        yield Finding("settings", WARNING, "IREE is switched off", "unset IREE_DISABLE, or disable in IREE_CONFIG")


def _migraphx(options: Options) -> Iterator[Finding]:
    from iree_migraphx import binding
    from iree_migraphx.binding import library, official

    targets = library.known_targets()
    yield Finding("migraphx", OK, f"{binding.__version__}, {library.core_path()}, targets {', '.join(targets)}")
    if importlib.util.find_spec("migraphx") is None:
        yield Finding("migraphx", OK, "ROCm's Python module migraphx is not installed; iree_migraphx has its names")
        return
    try:
        yield Finding("migraphx", OK, f"ROCm's Python module: {official.module().__file__}")
    except IreeMigraphxError as error:
        advice = "uninstall PyPI's placeholder, or put ROCm's lib folder on PYTHONPATH, if a script imports migraphx"
        yield Finding("migraphx", WARNING, str(error), advice)


def _compiler(options: Options) -> Iterator[Finding]:
    from iree_migraphx.kernels.compiler import find_compiler
    from iree_migraphx.kernels.flags import check_flags
    from iree_migraphx.kernels.targets import parse_target

    compiler = find_compiler(options)
    yield Finding("compiler", OK, f"{compiler.version}, {compiler.path}")
    if options.scoped_flags:
        check_flags(compiler, parse_target("host"), options)
        yield Finding("compiler", OK, "it takes the flags of IREE_CONFIG")
    bindings = _version("iree-base-compiler")
    if bindings is None:
        advice = "pip install iree-base-compiler"
        yield Finding("compiler", ERROR, "its Python bindings, which lower subgraphs, are not installed", advice)
    elif not _same_release(bindings, compiler.version):
        advice = "unset IREE_BIN, or install iree-base-compiler of its version"
        text = f"the Python bindings are of version {bindings}, the compiler is another"
        yield Finding("compiler", WARNING, text, advice)


def _runtime(options: Options) -> Iterator[Finding]:
    version, compiler = _version("iree-base-runtime"), _version("iree-base-compiler")
    if version is None:
        advice = "pip install iree-base-runtime, unless this machine only runs programs on its GPU"
        yield Finding("runtime", WARNING, "iree-base-runtime is not installed, so no kernel can run on the CPU", advice)
        return
    yield Finding("runtime", OK, f"iree-base-runtime {version}")
    if compiler is not None and not _same_release(version, compiler):
        advice = "pip install iree-base-compiler and iree-base-runtime of one version"
        yield Finding("runtime", WARNING, f"iree-base-compiler is of version {compiler}", advice)


def _gpu(options: Options) -> Iterator[Finding]:
    from iree_migraphx import binding
    from iree_migraphx.binding import library
    from iree_migraphx.binding.device import current_device, has_mlir

    if not _KFD.exists():
        advice = "with a GPU in it: install AMD's kernel driver, or give the container /dev/kfd and /dev/dri"
        yield Finding("gpu", WARNING, "there is no GPU: kernels run on the CPU in the target ref", advice)
        return
    if not os.access(_KFD, os.R_OK | os.W_OK):
        advice = "add your user to the groups render and video, and log in again"
        yield Finding("gpu", ERROR, f"{_KFD} may not be read and written", advice)
        return
    if "gpu" not in library.known_targets():
        yield Finding("gpu", ERROR, "this MIGraphX has no target gpu", "install ROCm's migraphx package")
        return
    binding.get_target("gpu")
    device = current_device()
    from iree_migraphx.gpu import device_target

    yield Finding("gpu", OK, f"{device.arch} {device.product}, compiled for as {device_target(options)}".strip())
    if has_mlir():
        yield Finding("gpu", OK, "MIGraphX has MLIR: what IREE does not take goes to rocMLIR")
    else:
        advice = "nothing has to be done; ROCm's own migraphx package has MLIR"
        text = "MIGraphX was built without MLIR: what IREE does not take goes to MIOpen, rocBLAS or hipBLASLt"
        yield Finding("gpu", WARNING, text, advice)


def _cache(options: Options) -> Iterator[Finding]:
    from iree_migraphx.kernels.cache import KernelCache
    from iree_migraphx.kernels.upkeep import items

    if not options.cache:
        yield Finding("cache", WARNING, "it is switched off: each start compiles again", "unset IREE_MIGRAPHX_CACHE")
        return
    folder = options.cache_dir
    if not folder.is_dir():
        yield Finding("cache", OK, f"{folder}, which the first compile will make")
    else:
        kept = list(items(folder))
        size = sum(item.size for item in kept) / (1 << 20)
        limit = f"of {options.cache_size} MB" if options.cache_size else "without a limit"
        yield Finding("cache", OK, f"{folder}: {len(kept)} entries, {size:.1f} MB {limit}")
        if stat.S_IMODE(folder.stat().st_mode) & stat.S_IWOTH:
            yield Finding("cache", ERROR, "everybody may write to it, so it is not used", f"chmod o-w {folder}")
        elif not KernelCache(folder).writable:
            advice = "give yourself the right to write, or name another folder with IREE_MIGRAPHX_CACHE_DIR"
            yield Finding("cache", WARNING, "it can't be written to, so nothing new is kept", advice)
    for shipped in options.cache_readonly:
        if (shipped / "compilers").is_dir():
            yield Finding("cache", OK, f"{shipped} (read-only)")
        else:
            advice = "correct IREE_MIGRAPHX_CACHE_READONLY; `iree-migraphx precompile` makes such folders"
            yield Finding("cache", WARNING, f"{shipped} holds no kernels", advice)


def _memory(options: Options) -> Iterator[Finding]:
    from iree_migraphx.kernels.memory import available_memory

    free, workers = available_memory(), options.worker_count
    text = f"{available_cores()} cores, {workers} compilers at once"
    if free is None:
        yield Finding("machine", OK, text)
        return
    text += f", {free / (1 << 30):.1f} GB of memory free"
    # What iree-compile 3.13.0 took at most for the convolutions of ResNet-50 (kernels/memory.py).
    if free < workers * (300 << 20):
        yield Finding("machine", WARNING, text, "lower IREE_MIGRAPHX_WORKERS, or fewer will run than it says")
    else:
        yield Finding("machine", OK, text)


def _packages(options: Options) -> Iterator[Finding]:
    wanted = {"rich": "tables and a bar that fold", "onnxruntime": "verify --onnxruntime"}
    for name, use in wanted.items():
        version = _version(name)
        if version is None:
            yield Finding("packages", OK, f"{name} is not installed, which only {use} would need")
        else:
            yield Finding("packages", OK, f"{name} {version}")


def _trial(options: Options) -> Iterator[Finding]:
    """Compile one small kernel, and run it where there is a target to run it on."""
    import numpy as np

    from iree_migraphx import binding, pipeline

    program = binding.program()
    main = program.get_main_module()
    kind = binding.shape(type="float", lens=[8, 8])
    x, y = main.add_parameter("x", kind), main.add_parameter("y", kind)
    main.add_return([main.add_instruction(binding.op("dot"), [x, y])])
    # Not from the cache, which would prove nothing, and whatever the settings say of gpus and of including subgraphs.
    tried = replace(
        Options(), iree_bin=options.iree_bin, iree_tool_path=options.iree_tool_path, cache=False, quiet=True
    )
    compiled = pipeline.compile(program, binding.get_target("ref"), options=tried)
    report = compiled.iree_report
    if report is None or report.swapped != 1:
        why = "; ".join(report.fallbacks) if report else "no report"
        yield Finding("trial", ERROR, f"a small kernel for the CPU could not be had: {why}", "IREE_DEBUG=2 tells more")
        return
    a, b = np.random.default_rng(0).uniform(-1, 1, (2, 8, 8)).astype(np.float32)
    (result,) = compiled.run({"x": a, "y": b})
    if not np.allclose(np.asarray(result), a @ b, rtol=1e-5, atol=1e-5):
        yield Finding("trial", ERROR, "a small kernel for the CPU gives wrong numbers", "report it as a bug")
        return
    yield Finding(
        "trial", OK, f"a kernel for the CPU was compiled in {report.seconds['compile']:.1f} s, ran, and is right"
    )
    target = _gpu_target(options)
    accepted = pipeline.check(program, str(target), tried)
    if accepted.swapped == 1:
        yield Finding("trial", OK, f"a kernel for {target} was compiled and can be launched")
    else:
        yield Finding("trial", ERROR, f"a kernel for {target} could not be had: {'; '.join(accepted.fallbacks)}")


def _gpu_target(options: Options) -> Target:
    """This machine's GPU, or an MI300X where there is none."""
    from iree_migraphx.gpu import device_target
    from iree_migraphx.kernels.targets import parse_target

    try:
        return device_target(options)
    except IreeMigraphxError:
        return parse_target("mi300x")


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _same_release(one: str, other: str) -> bool:
    """Whether two texts name the same release, as 3.13.0 and "IREE compiler version 3.13.0rc2 @ 89ece" do."""
    return ".".join(one.split(".")[:2]) in other
