"""The flags that iree-compile is run with: ours, and the user's for every kernel, a target or an anchor."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from iree_migraphx.config import did_you_mean
from iree_migraphx.errors import OptionError, TargetError
from iree_migraphx.kernels.compiler import Compiler, compile_command, flag_name
from iree_migraphx.kernels.invoke import run
from iree_migraphx.kernels.scratch import scratch_folder
from iree_migraphx.kernels.targets import Target, parse_target
from iree_migraphx.options import Options

_PROBE_SECONDS = 60.0

# Threads inside a compiler would compete with the other compilers: without them one kernel takes a tenth less time,
# even on an idle machine.
# Unasked, doubles would become floats, in the kernel's interface too.
_BASE_FLAGS = ("--iree-opt-level=O3", "--mlir-disable-threading", "--iree-input-demote-f64-to-f32=false")
# The fused padding makes a padded convolution one dispatch; for CPUs it makes some depthwise convolutions fail to
# compile and others slower. The rest asks for the ELF itself, and the launch in readable form beside it.
_GPU_FLAGS = (
    "--iree-dispatch-creation-enable-fuse-padding-into-linalg-consumer-ops",
    "--compile-to=hal",
    "--iree-rocm-container-type=hsaco",
)

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
class FileFlag:
    """A flag that names a file, such as a tuning specification, with what is in the file.

    The file is read once, before the key of a kernel is made, and every compiler gets a copy of its own: the kernel is
    made of what the key says even if the file changes meanwhile, and on a machine that does not have it.

    Attributes:
        start: the flag up to the file's name, "--iree-codegen-tuning-spec-path=".
        name: the file's name, without folders.
        end: what follows the name, "@library" in --iree-codegen-transform-dialect-library=file.mlir@library.
    """

    start: str
    name: str
    end: str
    data: bytes

    def __str__(self) -> str:
        return f"{self.start}<{hashlib.blake2b(self.data, digest_size=20).hexdigest()}>{self.end}"

    def written_to(self, folder: Path) -> str:
        """The flag with the file in `folder`."""
        path = folder / self.name
        path.write_bytes(self.data)
        return f"{self.start}{path}{self.end}"


def compile_flags(target: Target, options: Options, anchor: str = "") -> tuple[str | FileFlag, ...]:
    """Everything on the command line but the files: what decides, with the input, what comes out.

    Raises:
        OptionError: a file that a flag names can't be read.
    """
    given = user_flags(target, options, anchor)
    names = {flag_name(flag) for flag in given}
    flags = [*_BASE_FLAGS, *target.flags(), *(() if target.is_host else _GPU_FLAGS)]
    return (*(flag for flag in flags if flag_name(flag) not in names), *map(_with_contents, given))


def key_text(flags: Iterable[str | FileFlag]) -> str:
    """Flags as part of a kernel's key: what is in a file counts, and not where it is."""
    return json.dumps([str(flag) for flag in flags])


def write_flags(flags: Iterable[str | FileFlag], folder: Path) -> list[str]:
    """Flags for a command line, with the files that they name in a folder.

    Raises:
        OSError: a file can't be written.
    """
    return [flag if isinstance(flag, str) else flag.written_to(folder) for flag in flags]


def sets(flags: Iterable[str | FileFlag], *ours: str) -> bool:
    """Whether flags of a kernel, which may be the user's, set what one of ours does, to whatever value."""
    names = set(map(flag_name, ours))
    return any(isinstance(flag, str) and flag_name(flag) in names for flag in flags)


def user_flags(target: Target, options: Options, anchor: str = "") -> list[str]:
    """The user's flags for one kind of kernel; of two with one name the more particular one counts."""
    scoped = options.scoped_flags
    scopes = [scoped.everywhere]
    for name in dict.fromkeys(["host" if target.is_host else "gpu", target.gfx, target.name, str(target)]):
        scopes += [flags for known, flags in scoped.targets.items() if known.lower() == name]
    scopes.append(scoped.anchors.get(anchor, ()))
    flags: list[str] = []
    for scope in scopes:
        names = {flag_name(flag) for flag in scope}
        flags = [flag for flag in flags if flag_name(flag) not in names] + list(scope)
    return flags


def check_flags(compiler: Compiler, target: Target, options: Options) -> None:
    """Try the user's flags (IREE_CONFIG) on an empty module, so that a wrong one is one error and not one a kernel.

    Raises:
        OptionError: a flag that iree-compile rejects, one that this package must set itself, or flags for a target or
            an anchor that does not exist.
    """
    check_names(options)
    anchors = (*options.scoped_flags.anchors, "")
    combinations = {tuple(user_flags(target, options, anchor)): anchor for anchor in anchors}
    for given, anchor in combinations.items():
        if given:
            _try(given, compiler, target, compile_flags(target, options, anchor))


def check_names(options: Options) -> None:
    """Check for what and for which names the user's flags are, without a compiler.

    Raises:
        OptionError: flags for a target or an anchor that does not exist, or one that this package must set itself.
    """
    scoped = options.scoped_flags
    for name in scoped.targets:
        if name.lower() != "gpu":
            try:
                parse_target(name)
            except TargetError as error:
                raise OptionError(f"IREE_CONFIG has flags for the target {name!r}: {error}, or gpu for all") from error
    if scoped.anchors:
        # Few set these, and the lowering takes a while to import.
        from iree_migraphx.lowering.anchors import ANCHORS

        for name in scoped.anchors:
            if name not in ANCHORS:
                hint = did_you_mean(name, ANCHORS) or f"; known are {', '.join(ANCHORS)}"
                raise OptionError(f"IREE_CONFIG has flags for the anchor {name!r}, and no kernel has that{hint}")
    for flag in (each for scope in _scopes(options) for each in scope):
        if flag_name(flag) in _RESERVED:
            raise OptionError(f"IREE_CONFIG sets {flag}, but {_RESERVED[flag_name(flag)]} is not for it to choose")


def _scopes(options: Options) -> list[tuple[str, ...]]:
    scoped = options.scoped_flags
    return [scoped.everywhere, *scoped.targets.values(), *scoped.anchors.values()]


def _try(given: Sequence[str], compiler: Compiler, target: Target, flags: Iterable[str | FileFlag]) -> None:
    with scratch_folder() as folder:
        source, output = folder / "empty.mlir", folder / "empty.out"
        source.write_text("module {}\n", encoding="utf-8")
        command = compile_command(compiler, target, write_flags(flags, folder), source, output)
        # A module without a function has no .vmfb: stop before.
        result = run([*command, "--compile-to=hal"], folder, _PROBE_SECONDS, threading.Event())
        if result.status == 0 and output.exists():
            return
    guilty = [flag for flag in given if flag_name(flag) in result.diagnosis]
    raise OptionError(
        f"IREE_CONFIG sets {' '.join(guilty or given)}, which {compiler.path} does not take: "
        + (result.explanation if result.status else "it writes no output with it")
    )


def _with_contents(flag: str) -> str | FileFlag:
    start, equals, value = flag.partition("=")
    # A word such as "host" is no file, whatever the current folder holds; a program is run and not read.
    for name, at in ((value, ""), (value.partition("@")[0], "@" + value.partition("@")[2])):
        path = Path(name)
        if not any(sign in name for sign in "./") or not path.is_file() or os.access(path, os.X_OK):
            continue
        try:
            return FileFlag(start + equals, path.name, at, path.read_bytes())
        except OSError as error:
            raise OptionError(f"IREE_CONFIG sets {flag}, a file that can't be read: {error}") from error
    return flag
