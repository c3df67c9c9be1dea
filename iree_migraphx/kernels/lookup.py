"""Where a kept kernel is looked for: read-only caches first, then the user's own; and why it was not found."""

from __future__ import annotations

import contextlib
import difflib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.accept import accept_host, check_code_object, check_sequence
from iree_migraphx.kernels.cache import ABI, KernelCache, Maker
from iree_migraphx.kernels.compiler import Compiler
from iree_migraphx.kernels.entry import META, MLIR, cache_key
from iree_migraphx.kernels.flags import FileFlag, key_text
from iree_migraphx.kernels.model import GpuSequence, HostKernel, Kernel, Request
from iree_migraphx.kernels.targets import Target, host_cpu
from iree_migraphx.options import Options

_LONGEST_VALUE = 120

_log = logging.getLogger(__name__)


def key_entries(
    request: Request, maker: Compiler | Maker, target: Target, flags: tuple[str | FileFlag, ...]
) -> dict[str, str]:
    """Everything that decides what comes out for a request, by name. `anchor` and `cost` do not."""
    return {
        "abi": str(ABI),
        "compiler": maker.version,
        "build": maker.identity,
        "flags": key_text(flags),
        "target": str(target),
        **({"grids": "x, y and z"} if target.any_grid else {}),
        "cpu": host_cpu() if target.is_host else "",
        "symbol": request.symbol,
        "arguments": str(request.arguments),
        "mlir": request.mlir,
    }


class Lookup:
    """The caches of one compile.

    Attributes:
        own: the cache that new kernels go to; None where the user wants none.
    """

    def __init__(self, target: Target, options: Options) -> None:
        self._target = target
        self._timeout = options.timeout
        self.own = KernelCache(options.cache_dir) if options.cache else None
        folders = options.cache_readonly if options.cache else ()
        self._shipped = [KernelCache(folder, readonly=True) for folder in folders]
        self._makers = {id(cache): cache.makers() for cache in self._shipped}
        self._known: dict[str, list[tuple[Path, Mapping[str, str]]]] | None = None

    @property
    def has_shipped(self) -> bool:
        """Whether there are read-only caches."""
        return bool(self._shipped)

    def shipped(
        self, request: Request, flags: tuple[str | FileFlag, ...], only: Compiler | None
    ) -> Kernel | Refusal | None:
        """A result from a read-only cache. No compiler is needed for that: such a cache says itself who made it.

        Args:
            request: what to look for.
            flags: from `compile_flags`.
            only: take this compiler's kernels and no other's.
        """
        for cache in self._shipped:
            for maker in self._makers[id(cache)]:
                if only is None or (only.version, only.identity) == (maker.version, maker.identity):
                    key = cache_key(key_entries(request, maker, self._target, flags))
                    kept = self._load(cache, key, request)
                    if kept is not None:
                        _log.info("%s: from %s", request.symbol, cache.entry(key))
                        return kept
        return None

    def kept(self, key: str, request: Request) -> Kernel | Refusal | None:
        """A result from the user's own cache."""
        return None if self.own is None else self._load(self.own, key, request)

    def explain(self, key: str, entries: Mapping[str, str]) -> None:
        """Log what a key is made of, and in what it differs from that of a similar entry."""
        if _log.isEnabledFor(logging.DEBUG):
            _log.debug("%s: the key %s is made of %s", entries["symbol"], key, json.dumps(dict(entries), indent=1))
        if self.own is None or not _log.isEnabledFor(logging.INFO):
            return
        if self._known is None:
            self._known = _by_symbol(self.own.folder)
        similar = self._known.get(entries["symbol"], [])
        differences = [(_differences(made_of, entries, path), path) for path, made_of in similar]
        if differences:
            found, path = min(differences, key=lambda pair: len(pair[0]))
            _log.info("%s: not in the cache; %s differs in %s", entries["symbol"], path, "; ".join(found))

    def _load(self, cache: KernelCache, key: str, request: Request) -> Kernel | Refusal | None:
        """A kept result that passes the checks a new one does."""
        kept = cache.load(key, self._timeout)
        if kept is None or isinstance(kept, Refusal):
            return kept
        try:
            if isinstance(kept, HostKernel) is not self._target.is_host:
                raise Refusal(Reason.WRONG_TARGET, f"it is not for {self._target}")
            if isinstance(kept, HostKernel):
                return accept_host(kept.vmfb, request)
            if isinstance(kept, GpuSequence):
                return check_sequence(kept, self._target)
            grid = (kept.workgroups, *kept.workgroups_yz)
            return check_code_object(kept.code_object, kept.symbol, grid, kept.operands, self._target, kept.dynamic_lds)
        except Refusal as refusal:
            cache.discard(key, str(refusal))
            return None


def _by_symbol(folder: Path) -> dict[str, list[tuple[Path, Mapping[str, str]]]]:
    found: dict[str, list[tuple[Path, Mapping[str, str]]]] = {}
    for path in folder.glob(f"[0-9a-f][0-9a-f]/*/{META}"):
        # Whoever looks for this very entry will be told what is wrong with it.
        with contextlib.suppress(OSError, ValueError, LookupError, TypeError):
            made_of = json.loads(path.read_bytes())["made_of"]
            found.setdefault(made_of["symbol"], []).append((path.parent, made_of))
    return found


def _differences(made_of: Mapping[str, str], entries: Mapping[str, str], path: Path) -> list[str]:
    found = []
    for name in dict.fromkeys([*made_of, *entries]):
        old, new = made_of.get(name, ""), entries.get(name, "")
        if name == "mlir":
            try:
                old = (path / MLIR).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                continue
            lines = [line for line in difflib.ndiff(old.splitlines(), new.splitlines()) if line[0] in "+-"]
            if lines:
                found.append(f"mlir ({len(lines)} lines, such as {lines[0].strip()})")
        elif name == "flags" and old != new:
            before, after = json.loads(old or "[]"), json.loads(new or "[]")
            gone, come = [f for f in before if f not in after], [f for f in after if f not in before]
            found.append(f"flags ({' '.join(gone) or 'nothing'} there, {' '.join(come) or 'nothing'} here)")
        elif old != new:
            found.append(f"{name} ({_short(old)} there, {_short(new)} here)")
    return found


def _short(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
