"""MIGraphX's targets: what a program is compiled for."""

from __future__ import annotations

import difflib

from iree_migraphx.binding import capi, library
from iree_migraphx.errors import MigraphxError, TargetError


class target:  # noqa: N801 -- the official name
    """A device that MIGraphX compiles for; made by get_target."""

    __slots__ = ("handle", "name")

    def __init__(self, name: str) -> None:
        known = library.known_targets()
        if name not in known:
            close = difflib.get_close_matches(name, known, n=1)
            raise TargetError(
                f"this MIGraphX has no target {name!r}{f' (did you mean {close[0]!r}?)' if close else ''}; "
                f"it has {', '.join(known)}"
            )
        self.name = name
        try:
            self.handle = capi.new("target", "target_create", name.encode(), doing=f"load its target {name!r}")
        except MigraphxError as error:
            raise TargetError(
                f"{error}. The target's library is installed, but not everything it needs; the gpu target needs ROCm"
            ) from error

    def __repr__(self) -> str:
        return f"target({self.name!r})"


def get_target(name: str) -> target:
    """The target of that name, "ref" or "gpu".

    Raises:
        TargetError: there is no such target, or its libraries can't be loaded.
    """
    return target(name)
