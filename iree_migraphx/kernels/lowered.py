"""MLIR that is kept on disk by its subgraph, so that a kernel is found without lowering, and without IREE's compiler.

The text depends on the subgraph, which its key stands for, and on the code that writes it: this package's own, by a
digest of its sources, and the bindings of the installed IREE. A read-only cache's texts are taken whoever wrote them:
what is made of a text is checked like any other kernel.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.cache import KernelCache
from iree_migraphx.kernels.entry import CorruptEntryError, cache_key
from iree_migraphx.options import Options

LOWERED = "lowered"
#: Packages that decide what a subgraph's MLIR is, and in front of them the module that names its function.
_SOURCES = ("kernels/requests.py", "lowering", "partition", "ir")

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Lowered:
    """A subgraph's module, or the refusal of the lowering.

    Attributes:
        mlir: empty where it was refused.
    """

    mlir: str = ""
    refusal: Refusal | None = None


class LoweredTexts:
    """The lowered subgraphs in the caches of one compile."""

    def __init__(self, options: Options) -> None:
        self._own: KernelCache | None = None
        self._shipped: list[KernelCache] = []
        if options.cache:
            # What is wrong with a cache is said when kernels are looked for.
            self._own = KernelCache(options.cache_dir, trouble=logging.DEBUG)
            self._shipped = [KernelCache(each, readonly=True, trouble=logging.DEBUG) for each in options.cache_readonly]
        self._bindings = bindings_version()

    def load(self, subgraph: str, symbol: str, form: str) -> Lowered | None:
        """What was kept for a subgraph's key, lowered under a symbol in a form."""
        name = _name(subgraph, symbol, form)
        for cache in [*self._shipped, *([self._own] if self._own else [])]:
            path = cache.folder / LOWERED / name
            if not cache.readable or not path.exists():
                continue
            try:
                meta = check_lowered(path)
            except CorruptEntryError as error:
                _log.warning("%s can't be used: %s", path, error)
                if cache is self._own:
                    cache.remove(path)
                continue
            if cache is self._own:
                if self._bindings not in ("", meta["bindings"]):
                    continue
                cache.touch(path)
            if "reason" in meta:
                return Lowered(refusal=Refusal(Reason(meta["reason"]), meta["detail"]))
            return Lowered(meta["mlir"])
        return None

    def store(self, subgraph: str, symbol: str, form: str, lowered: Lowered) -> None:
        """Keep what came of a subgraph."""
        if self._own is None:
            return
        path = self._own.folder / LOWERED / _name(subgraph, symbol, form)
        meta = {"name": path.name, "subgraph": subgraph, "symbol": symbol, "form": form, "bindings": self._bindings}
        if lowered.refusal is None:
            meta["mlir"] = lowered.mlir
        else:
            meta.update(reason=lowered.refusal.reason.value, detail=lowered.refusal.detail)
        meta["checksum"] = _checksum(meta)
        self._own.write(path, json.dumps(meta, indent=1).encode() + b"\n")


def check_lowered(path: Path) -> Mapping[str, str]:
    """Read a lowered subgraph and check that it is what was written, under the name it was written for.

    Raises:
        CorruptEntryError: it is not, or can't be read.
    """
    try:
        meta: dict[str, str] = json.loads(path.read_bytes())
        checksum = meta.pop("checksum")
        if checksum != _checksum(meta) or meta["name"] != path.name:
            raise CorruptEntryError("its checksum is wrong")
    except OSError as error:
        raise CorruptEntryError(str(error)) from error
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise CorruptEntryError(f"it is damaged ({error})") from error
    return meta


@functools.cache
def bindings_version() -> str:
    """The version of the package that the lowering writes MLIR with; empty where it is not installed."""
    try:
        return importlib.metadata.version("iree-base-compiler")
    except importlib.metadata.PackageNotFoundError:
        return ""


@functools.cache
def sources_digest() -> str:
    """A digest of the code that decides what a subgraph's MLIR is."""
    digest = hashlib.blake2b(digest_size=16)
    package = Path(__file__).parents[1]
    for part in _SOURCES:
        path = package / part
        for source in sorted(path.glob("*.py")) if path.is_dir() else [path]:
            data = source.read_bytes()
            digest.update(f"{source.relative_to(package)} {len(data)} ".encode() + data)
    return digest.hexdigest()


def _name(subgraph: str, symbol: str, form: str) -> str:
    parts = {"sources": sources_digest(), "subgraph": subgraph, "symbol": symbol, "form": form}
    return f"{cache_key(parts)}.json"


def _checksum(meta: Mapping[str, str]) -> str:
    return hashlib.blake2b(json.dumps(meta, sort_keys=True).encode(), digest_size=20).hexdigest()
