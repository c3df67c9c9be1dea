"""What the exit status of `iree-migraphx` says."""

from __future__ import annotations

import enum


class ExitCode(enum.IntEnum):
    """Exit status of every subcommand; docs/reference-commands.md lists them."""

    OK = 0
    FAILED = 1
    USAGE = 2
    FALLBACK = 3
    MISMATCH = 4
    INTERRUPTED = 130

    @property
    def description(self) -> str:
        """When it is returned, in one line."""
        return _DESCRIPTIONS[self]


_DESCRIPTIONS = {
    ExitCode.OK: "done, and nothing is wrong",
    ExitCode.FAILED: "MIGraphX or IREE failed, output can't be written, or what was looked into is not in order "
    "(doctor, cache verify, precompile)",
    ExitCode.USAGE: "a wrong argument, setting, model or input, or something that is not installed; nothing was done",
    ExitCode.FALLBACK: "with --strict: a subgraph, or the whole program, was left to MIGraphX",
    ExitCode.MISMATCH: "verify, or --verify: results differ by more than they may",
    ExitCode.INTERRUPTED: "ended by Ctrl-C",
}
