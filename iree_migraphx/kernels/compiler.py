"""Finding iree-compile, and its command line."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import shlex
import shutil
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.elffile import ELFFile
from elftools.elf.sections import NoteSection

from iree_migraphx.errors import CompilerNotFoundError
from iree_migraphx.kernels.invoke import run
from iree_migraphx.kernels.scratch import scratch_folder
from iree_migraphx.kernels.targets import Target
from iree_migraphx.options import Options

_NAME = "iree-compile"
_LIBRARY = "libIREECompiler.so"
_PROBE_SECONDS = 60.0

_log = logging.getLogger(__name__)

#: The phase in which every dispatch has its pipeline, tiles and workgroup, and no code yet.
CONFIGURATIONS = "executable-configurations"


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


def compile_command(compiler: Compiler, target: Target, flags: Sequence[str], source: Path, output: Path) -> list[str]:
    """The command line of one compile."""
    return [str(compiler.path), str(source), "-o", str(output), *_linker_flags(compiler, target, flags), *flags]


def _linker_flags(compiler: Compiler, target: Target, flags: Sequence[str]) -> list[str]:
    """IREE's linker for CPUs by a quoted name: it is run through a shell, where a space in a folder's name ends it."""
    name = "iree-llvmcpu-embedded-linker-path"
    linker = compiler.path.resolve().with_name("iree-lld")
    quoted = shlex.quote(str(linker))
    given = name in map(flag_name, flags)
    wanted = target.is_host and quoted != str(linker) and linker.is_file() and not given
    return [f"--{name}={quoted}"] if wanted else []


def staged_commands(
    command: list[str], configurations: Path, flattened: Path, output: Path
) -> tuple[list[str], list[str]]:
    """A GPU kernel's command in two halves that meet in a file: up to the configurations, and on from there."""
    phase = "--compile-to="
    flags = [argument for argument in command[4:] if not argument.startswith(phase)]
    first = [*command[:3], str(configurations), *flags, phase + CONFIGURATIONS]
    second = [command[0], str(flattened), "-o", str(output), *command[4:], "--compile-from=" + CONFIGURATIONS]
    return first, second


def flag_name(flag: str) -> str:
    """What two flags have in common that set the same thing."""
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
    with scratch_folder() as folder:
        try:
            result = run([str(path), "--version"], folder, _PROBE_SECONDS, threading.Event())
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
