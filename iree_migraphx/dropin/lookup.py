"""What each name of ROCm's module stands for on this machine."""

from __future__ import annotations

import functools
import importlib
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from iree_migraphx.binding import library, official, serialized
from iree_migraphx.dropin.names import ELSEWHERE, OFFICIAL
from iree_migraphx.errors import IreeMigraphxError

_log = logging.getLogger(__name__)


def lookup(name: str) -> Any:
    """What a name of ROCm's module stands for here.

    Raises:
        AttributeError: ROCm's module has no such name, or the installed MIGraphX lacks it; the message says which.
    """
    found = namespace()
    if name in found:
        return found[name]
    if name == "__version__":
        return serialized.migraphx_version()
    if name in OFFICIAL:
        raise AttributeError(
            f"MIGraphX {serialized.migraphx_version()} as installed ({library.core_path()}) has no {name!r}: "
            f"{ELSEWHERE.get(name, 'its release does not have it')}"
        )
    raise AttributeError(f"neither MIGraphX nor iree_migraphx has {name!r}")


@functools.cache
def namespace() -> Mapping[str, Any]:
    """All names, by what this machine has.

    Raises:
        LibraryNotFoundError: there is no MIGraphX.
    """
    library.load()
    if official.installed():
        try:
            from iree_migraphx.dropin import rocm

            return MappingProxyType(rocm.namespace())
        except IreeMigraphxError as error:
            _log.warning("ROCm's module is left aside, its names stand on libmigraphx_c instead: %s", error)
    own = importlib.import_module("iree_migraphx.dropin.own")
    return MappingProxyType({name: getattr(own, name) for name in own.available()})
