"""Finding iree-compile, and the flags it is run with."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shlex
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

from iree_migraphx.errors import CompilerNotFoundError, OptionError
from iree_migraphx.kernels.invoke import run
from iree_migraphx.kernels.targets import Target
from iree_migraphx.options import Options

_NAME = "iree-compile"
_LIBRARY = "libIREECompiler.so"
_PROBE_SECONDS = 60.0

_log = logging.getLogger(__name__)

# Threads inside a compiler would compete with the other compilers: without them one kernel takes a tenth less time,
# even on an idle machine.
_BASE_FLAGS = ("--iree-opt-level=O3", "--mlir-disable-threading")
# The fused padding makes a padded convolution one dispatch; for CPUs it makes some depthwise convolutions fail to
# compile and others slower. The rest asks for the ELF itself, and the launch in readable form beside it.
_GPU_FLAGS = (
    "--iree-dispatch-creation-enable-fuse-padding-into-linalg-consumer-ops",
    "--compile-to=hal",
    "--iree-rocm-container-type=hsaco",
)

#: The phase in which every dispatch has its pipeline, tiles and workgroup, and no code yet.
CONFIGURATIONS = "executable-configurations"

# What this package sets itself: another value would be another device, or output that it can't read.
_RESERVED = {
    "o": "where the output goes",
    "output-format": "the output's form",
    "compile-from": "the input's form",
    "compile-to": "the output's form",
    "compile-mode": "the output's form",
    "iree-rocm-container-type": "the output's form",
    "iree-hal-target-device": "the target",
    "iree-hal-target-backends": "the target",
    "iree-hal-local-target-device-backends": "the target",
    "iree-rocm-target": "the target, which IREE_MIGRAPHX_ARCH sets",
    "iree-rocm-target-features": "the target, which IREE_MIGRAPHX_ARCH sets",
}


@dataclass(frozen=True, slots=True)
class Compiler:
    """An iree-compile that runs.

    Attributes:
        version: what it says of itself: "IREE compiler version 3.13.0 @ 89ece87".
        identity: differs between builds, even of one version.
    """

    path: Path
    version: str
    identity: str


def find_compiler(options: Options) -> Compiler:
    """Look where IREE_BIN says, or else in IREE_TOOL_PATH, the installed wheel and PATH, in this order.

    Raises:
        CompilerNotFoundError: nothing there, or what is there does not answer to --version.
    """
    path = _locate(options)
    stat = path.stat()
    return _examine(path, stat.st_mtime_ns, stat.st_size)


def compile_command(compiler: Compiler, target: Target, options: Options, source: Path, output: Path) -> list[str]:
    """The command line of one compile: our flags, then the user's, which win."""
    flags = [*_linker_flags(compiler, target, options), *compile_flags(target, options)]
    return [str(compiler.path), str(source), "-o", str(output), *flags]


def _linker_flags(compiler: Compiler, target: Target, options: Options) -> list[str]:
    """IREE's linker for CPUs by a quoted name: it is run through a shell, where a space in a folder's name ends it."""
    name = "iree-llvmcpu-embedded-linker-path"
    linker = compiler.path.resolve().with_name("iree-lld")
    quoted = shlex.quote(str(linker))
    given = name in {_flag_name(flag) for flag in options.flags}
    wanted = target.is_host and quoted != str(linker) and linker.is_file() and not given
    return [f"--{name}={quoted}"] if wanted else []


def compile_flags(target: Target, options: Options) -> list[str]:
    """Everything on the command line but the files: what decides, with the input, what comes out."""
    flags = [*_BASE_FLAGS, *target.flags(), *(() if target.is_host else _GPU_FLAGS)]
    given = {_flag_name(flag) for flag in options.flags}
    return [flag for flag in flags if _flag_name(flag) not in given] + list(options.flags)


def staged_commands(
    command: list[str], configurations: Path, flattened: Path, output: Path
) -> tuple[list[str], list[str]]:
    """A GPU kernel's command in two halves that meet in a file: up to the configurations, and on from there."""
    phase = "--compile-to="
    flags = [argument for argument in command[4:] if not argument.startswith(phase)]
    first = [*command[:3], str(configurations), *flags, phase + CONFIGURATIONS]
    second = [command[0], str(flattened), "-o", str(output), *command[4:], "--compile-from=" + CONFIGURATIONS]
    return first, second


def check_flags(compiler: Compiler, target: Target, options: Options) -> None:
    """Try the user's flags (IREE_CONFIG) on an empty module, so that a wrong one is one error and not one a kernel.

    Raises:
        OptionError: a flag that iree-compile rejects, or one that this package must set itself.
    """
    if not options.flags:
        return
    for flag in options.flags:
        if _flag_name(flag) in _RESERVED:
            raise OptionError(f"IREE_CONFIG sets {flag}, but {_RESERVED[_flag_name(flag)]} is not for it to choose")
    with TemporaryDirectory(prefix="iree_migraphx-", ignore_cleanup_errors=True) as folder:
        source, output = Path(folder, "empty.mlir"), Path(folder, "empty.out")
        source.write_text("module {}\n", encoding="utf-8")
        command = compile_command(compiler, target, options, source, output)
        # A module without a function has no .vmfb: stop before.
        result = run([*command, "--compile-to=hal"], Path(folder), _PROBE_SECONDS, threading.Event())
        if result.status == 0 and output.exists():
            return
    guilty = [flag for flag in options.flags if _flag_name(flag) in result.diagnosis]
    raise OptionError(
        f"IREE_CONFIG sets {' '.join(guilty or options.flags)}, which {compiler.path} does not take: "
        + (result.explanation if result.status else "it writes no output with it")
    )


def _flag_name(flag: str) -> str:
    return flag.lstrip("-").partition("=")[0]


def _locate(options: Options) -> Path:
    if options.iree_bin is not None:
        for candidate in (options.iree_bin, options.iree_bin / _NAME):
            if _is_program(candidate):
                return candidate.absolute()
        raise CompilerNotFoundError(
            f"IREE_BIN is {options.iree_bin}, which is neither {_NAME} nor a folder with it; "
            "correct it, or unset it to use the one of the installed iree-base-compiler"
        )
    for candidate in _candidates(options):
        if _is_program(candidate):
            return candidate.absolute()
    raise CompilerNotFoundError(
        f"no {_NAME} in IREE_TOOL_PATH, the Python environment or PATH; "
        "`pip install iree-base-compiler`, or name one with IREE_BIN"
    )


def _candidates(options: Options) -> Iterator[Path]:
    if options.iree_tool_path is not None:
        yield options.iree_tool_path / _NAME
    # The binary inside the wheel: its console script starts a Python first, which takes as long as a small kernel.
    try:
        wheel = importlib.util.find_spec("iree.compiler")
    except ModuleNotFoundError:
        wheel = None
    if wheel is not None and wheel.origin:
        yield Path(wheel.origin).parent / "_mlir_libs" / _NAME
    found = shutil.which(_NAME)
    if found:
        yield Path(found)


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)


@functools.lru_cache
def _examine(path: Path, mtime_ns: int, size: int) -> Compiler:
    with TemporaryDirectory(prefix="iree_migraphx-", ignore_cleanup_errors=True) as folder:
        try:
            result = run([str(path), "--version"], Path(folder), _PROBE_SECONDS, threading.Event())
        except OSError as error:
            raise CompilerNotFoundError(f"{path} can't be run ({error}); name another one with IREE_BIN") from error
    lines = [line.strip() for line in result.output.splitlines() if line.strip()]
    if result.status != 0 or not lines:
        raise CompilerNotFoundError(
            f"{path} does not answer to --version ({result.explanation}); name another one with IREE_BIN"
        )
    builds = [_build(path.resolve(), mtime_ns, size)]
    library = path.resolve().with_name(_LIBRARY)
    if library.is_file():
        stat = library.stat()
        builds.append(_build(library, stat.st_mtime_ns, stat.st_size))
    version = next((line for line in lines if "compiler version" in line), lines[0])
    _log.info("%s: %s", path, version)
    return Compiler(path, version, " ".join(builds))


def _build(path: Path, mtime_ns: int, size: int) -> str:
    """The linker's build id, which a reinstall of the same build keeps; date and size of a file without one."""
    try:
        with path.open("rb") as file:
            section = ELFFile(file).get_section_by_name(".note.gnu.build-id")
            if isinstance(section, NoteSection):
                for note in section.iter_notes():
                    return str(note["n_desc"])
    except (OSError, ELFError):
        pass
    return f"{mtime_ns}-{size}"
