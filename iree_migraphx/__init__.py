"""iree_migraphx: IREE writes the kernels of MIGraphX's fused subgraphs.

`import iree_migraphx as migraphx` gives the names of the official module; `compile` puts IREE's kernels into a program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iree_migraphx.binding import *  # noqa: F403
    from iree_migraphx.options import Options
    from iree_migraphx.pipeline import check, compile  # noqa: A004
    from iree_migraphx.report import Report

__all__ = ["Options", "Report", "check", "compile"]  # and everything in iree_migraphx.binding

_HOME = {"Options": "options", "Report": "report", "check": "pipeline", "compile": "pipeline"}


def __getattr__(name: str) -> Any:
    """Load a name's module when it is first used: importing the package costs next to nothing."""
    import importlib

    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if not name.startswith("__") or name == "__version__":
        binding = importlib.import_module(f"{__name__}.binding")
        if name in binding.__all__ or name == "__version__":
            return getattr(binding, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
