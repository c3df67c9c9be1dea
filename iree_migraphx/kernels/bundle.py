"""What is needed to report a failed compile to IREE, in one folder that can be attached to an issue."""

from __future__ import annotations

import contextlib
import importlib.metadata
import logging
import platform
import shlex
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.compiler import Compiler
from iree_migraphx.kernels.flags import FileFlag
from iree_migraphx.kernels.scratch import scratch_folder
from iree_migraphx.kernels.targets import host_cpu
from iree_migraphx.kernels.worker import Compiled, Order
from iree_migraphx.options import Options

#: What a bundle can help with: the compiler failed. That MIGraphX can't launch what it made is no failure of IREE's.
FAILURES = frozenset({Reason.COMPILE_ERROR, Reason.COMPILER_CRASH, Reason.TIMEOUT, Reason.BAD_COMPILER_OUTPUT})
_MOST_BUNDLES = 100
_FAILURE = "failure.txt"
_UNFINISHED = ".unfinished-"

_RERUN = """#!/bin/sh
# Compiles input.mlir again: ./rerun.sh, or IREE_COMPILE=/path/to/iree-compile ./rerun.sh
cd "$(dirname "$0")" || exit
exec {time_limit}"${{IREE_COMPILE:-iree-compile}}" {arguments}
"""

_log = logging.getLogger(__name__)


def wants_bundle(reason: Reason, options: Options) -> bool:
    """Whether a bundle is to be written: for a crash always, for other failures where it is asked for."""
    asked = options.failures is not None or options.debug_level >= 2
    return reason is Reason.COMPILER_CRASH or (asked and reason in FAILURES)


def write_bundle(order: Order, compiled: Compiled, refusal: Refusal, compiler: Compiler, options: Options) -> None:
    """Write the bundle of one failed compile.

    Trouble with the disk is a warning: the compile itself has been dealt with.
    """
    name = f"compile-{refusal.reason.value}-{order.request.symbol}-{order.target.name}"
    keep_bundle(name, refusal, options, lambda folder: _write(folder, order, compiled, refusal, compiler))


def keep_bundle(name: str, refusal: Refusal, options: Options, write: Callable[[Path], None]) -> None:
    """Keep a bundle; one of the same name is replaced, and the oldest of many goes. Trouble with the disk is a warning.

    Args:
        name: its class, reason and kernel.
        refusal: what it is about.
        options: where it goes.
        write: puts its files into a folder.
    """
    folder = options.failures if options.failures is not None else options.cache_dir / "failures"
    bundle = folder / name
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with scratch_folder(folder, _UNFINISHED) as unfinished:
            new = unfinished / "new"
            new.mkdir()
            write(new)
            with contextlib.suppress(FileNotFoundError):
                bundle.rename(unfinished / "old")
            new.rename(bundle)
        _drop_oldest(folder)
    except OSError as error:
        _log.warning("what is needed to report %s can't be kept in %s: %s", name, folder, error)
        return
    _log.warning("%s: %s; %s has what is needed to report it", name, refusal, bundle)


def describe(folder: Path, lines: Iterable[str], mlir: str, command: Iterable[str], compiler: Compiler | None) -> None:
    """Write what every bundle has: what failed, its input, the compiler's command, and versions."""
    (folder / _FAILURE).write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "input.mlir").write_text(mlir, encoding="utf-8")
    (folder / "command.txt").write_text(shlex.join(command) + "\n", encoding="utf-8")
    (folder / "versions.txt").write_text("\n".join(_versions(compiler)) + "\n", encoding="utf-8")


def flags_beside(folder: Path, flags: Iterable[str | FileFlag]) -> list[str]:
    """Flags for a script in a folder, with the files that they name beside it."""
    for flag in flags:
        if isinstance(flag, FileFlag):
            (folder / flag.name).write_bytes(flag.data)
    return [flag if isinstance(flag, str) else f"{flag.start}{flag.name}{flag.end}" for flag in flags]


def write_script(folder: Path, text: str) -> None:
    """Write what runs it again."""
    script = folder / "rerun.sh"
    script.write_text(text, encoding="utf-8")
    script.chmod(0o755)


def _write(folder: Path, order: Order, compiled: Compiled, refusal: Refusal, compiler: Compiler) -> None:
    lines = [
        "class: compile",
        f"reason: {refusal.reason.value} ({refusal.reason.description})",
        f"detail: {refusal.detail}",
        f"kernel: {order.request.symbol}, around {order.request.anchor}",
        f"target: {order.target}",
        f"seconds: {compiled.seconds:.1f} of {order.timeout:g}",
    ]
    describe(folder, lines, order.request.mlir, compiled.command, compiler)
    (folder / "stderr.txt").write_text(compiled.errors, encoding="utf-8")
    # Whoever looks into a hang does not want to wait for it without end.
    limit = f"timeout {order.timeout:g} " if refusal.reason is Reason.TIMEOUT else ""
    arguments = shlex.join(["input.mlir", "-o", "output", *flags_beside(folder, order.flags)])
    write_script(folder, _RERUN.format(time_limit=limit, arguments=arguments))


def _versions(compiler: Compiler | None) -> Iterator[str]:
    if compiler is not None:
        yield compiler.version
        yield f"build {compiler.identity}"
    for package in ("iree_migraphx", "iree-base-compiler", "iree-base-runtime"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            yield f"{package} {importlib.metadata.version(package)}"
    yield f"Python {platform.python_version()}"
    yield f"{platform.system()} {platform.release()} {platform.machine()}"
    yield host_cpu()


def _drop_oldest(folder: Path) -> None:
    bundles = [(path.stat().st_mtime, path.parent) for path in folder.glob(f"[!.]*/{_FAILURE}")]
    for _, path in sorted(bundles)[:-_MOST_BUNDLES]:
        shutil.rmtree(path, ignore_errors=True)
