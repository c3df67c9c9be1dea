"""A kernel's instructions, as iree-compile writes them on its way to the binary."""

from __future__ import annotations

import re
import threading
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.flags import compile_flags
from iree_migraphx.kernels.model import Request
from iree_migraphx.kernels.scratch import scratch_folder
from iree_migraphx.kernels.targets import Target
from iree_migraphx.kernels.worker import Order, compile_order
from iree_migraphx.options import Options

_SUFFIX = {True: "*.s", False: "*.rocmasm"}

#: Kinds of instructions by their names, the first that matches (LLVM's AMDGPUUsage; x86-64 for the host).
_KINDS = {
    False: (
        ("matrix", r"v_(smfmac|mfma|wmma|swmmac)_"),
        ("global memory", r"(global|flat|buffer|scratch)_(load|store|atomic)"),
        ("local memory", r"ds_"),
        ("scalar memory", r"s_(load|buffer_load)"),
        ("waiting", r"s_(waitcnt|wait_|barrier|nop|sleep)"),
        ("vector", r"v_"),
        ("scalar", r"s_"),
    ),
    True: (
        ("matrix", r"tdp|tile|vpdp"),
        ("multiply and add", r"vfn?m(add|sub)"),
        ("other vector", r"v"),
        ("branches", r"j|call|ret"),
    ),
}


@dataclass(frozen=True, slots=True)
class Listing:
    """Instructions of a kernel.

    Attributes:
        text: the assembly of the kernel's functions.
        counts: instructions by kind, the most frequent kind first.
        matrix: matrix instructions by name, with how often each is written.
    """

    text: str
    counts: dict[str, int]
    matrix: dict[str, int]


def kernel_listing(request: Request, target: Target, options: Options) -> Listing:
    """Compile a kernel once more, and keep the assembly.

    Raises:
        Refusal: it does not compile, or the compiler writes no assembly.
        CompilerNotFoundError: no working iree-compile.
    """
    compiler = find_compiler(options)
    with scratch_folder() as folder:
        flags = (
            *compile_flags(target, options, request.anchor),
            f"--iree-hal-dump-executable-intermediates-to={folder}",
        )
        compiled = compile_order(Order(request, target, flags, options.timeout), compiler, threading.Event())
        if isinstance(compiled.result, Refusal):
            raise compiled.result
        # A kernel whose workgroup was made flat was compiled twice; the later one counts.
        files = sorted(folder.glob(_SUFFIX[target.is_host]), key=lambda path: path.stat().st_mtime_ns)
        if not files:
            raise Refusal(Reason.BAD_COMPILER_OUTPUT, "iree-compile wrote no assembly")
        text = files[-1].read_text(encoding="utf-8", errors="replace")
    return read_listing(text, target.is_host)


def read_listing(text: str, host: bool) -> Listing:
    """Take the code out of an assembly file, and count."""
    kept = [line.rstrip() for line in _code(text.splitlines())]
    names = [words[0] for line in kept if line[:1].isspace() and (words := line.split())]
    counts = Counter(_kind(name, host) for name in names)
    matrix = Counter(name for name in names if _kind(name, host) == "matrix")
    return Listing("\n".join(kept), dict(counts.most_common()), dict(matrix.most_common()))


def _code(lines: Sequence[str]) -> list[str]:
    """Labels and instructions of functions, without the assembler's directives."""
    kept, inside = [], False
    for line in lines:
        stripped = line.strip()
        if re.match(r"\.type\s+\S+,\s*@function", stripped):
            inside = True
        elif stripped.startswith((".Lfunc_end", ".section", ".amdhsa_kernel")):
            inside = False
        elif inside and stripped and not stripped.startswith((";", "#", "//")):
            is_label = re.match(r"[.\w$@]+:", stripped)
            if (is_label and not stripped.startswith((".Ltmp", ".Lfunc"))) or not stripped.startswith("."):
                kept.append(line)
    return kept


def _kind(name: str, host: bool) -> str:
    return next((kind for kind, pattern in _KINDS[host] if re.match(pattern, name)), "other")
