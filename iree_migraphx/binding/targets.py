"""MIGraphX's targets: what a program is compiled for."""

from __future__ import annotations

import difflib

from iree_migraphx.binding import capi, library
from iree_migraphx.errors import MigraphxError, TargetError


class target:  # noqa: N801 -- the official name
    """A device that MIGraphX compiles for; made by get_target."""

    __slots__ = ("handle", "name")

    def __init__(self, name: str) -> None:
        self.name = name
        try:
            self.handle = capi.new("target", "target_create", name.encode(), doing=f"load its target {name!r}")
        except MigraphxError as error:
            raise TargetError(_explanation(name, error)) from error

    def __repr__(self) -> str:
        return f"target({self.name!r})"


def _explanation(name: str, error: MigraphxError) -> str:
    known = library.known_targets()
    if name in known:
        return f"{error}. Its library is installed, but not everything it needs; the gpu target needs ROCm"
    close = difflib.get_close_matches(name, known, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    return f"this MIGraphX has no target {name!r}{hint}; it has {', '.join(known)}"


def get_target(name: str) -> target:
    """The target of that name, "ref" or "gpu".

    Raises:
        TargetError: there is no such target, or its libraries can't be loaded.
    """
    return target(name)
