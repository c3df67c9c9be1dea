"""iree_migraphx: IREE writes the kernels of MIGraphX's fused subgraphs.

`import iree_migraphx as migraphx` gives the names of ROCm's module, with a `program.compile` that puts IREE's kernels
in. `install` does the same for scripts that import migraphx; `compile` gives another program.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from iree_migraphx.dropin.compiling import compile as compile  # noqa: A004
    from iree_migraphx.dropin.own import *  # noqa: F403
    from iree_migraphx.hook import Hook as Hook
    from iree_migraphx.hook import install as install
    from iree_migraphx.hook import uninstall as uninstall
    from iree_migraphx.options import Options as Options
    from iree_migraphx.pipeline import check as check
    from iree_migraphx.report import Report as Report

    __version__: str

_HOME = {
    "Hook": "hook",
    "Options": "options",
    "Report": "report",
    "check": "pipeline",
    "compile": "dropin.compiling",
    "install": "hook",
    "uninstall": "hook",
}


def __getattr__(name: str) -> Any:
    """Load a name's module when it is first used: importing the package costs next to nothing."""
    import importlib

    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    if name == "__all__":
        return [*_HOME, *importlib.import_module(f"{__name__}.dropin.lookup").namespace()]
    if name == "__version__" or not (name.startswith("__") or _is_submodule(name)):
        return importlib.import_module(f"{__name__}.dropin.lookup").lookup(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _is_submodule(name: str) -> bool:
    """`from iree_migraphx import options` asks for an attribute first."""
    from importlib.util import find_spec

    from iree_migraphx.dropin.names import OFFICIAL

    return name not in OFFICIAL and find_spec(f"{__name__}.{name}") is not None


def __dir__() -> list[str]:
    """This package's own names, and every one that the installed MIGraphX has, if there is one."""
    import importlib

    try:
        found = importlib.import_module(f"{__name__}.dropin.lookup").namespace()
    except ImportError:
        found = ()
    return sorted({*globals(), *_HOME, *found})
