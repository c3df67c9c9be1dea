"""What is kept of many requests already, and what would have to be compiled; nothing is."""

from __future__ import annotations

from collections.abc import Mapping

from iree_migraphx.errors import CompilerNotFoundError
from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.entry import cache_key
from iree_migraphx.kernels.flags import compile_flags
from iree_migraphx.kernels.lookup import Lookup, key_entries
from iree_migraphx.kernels.model import Outcome, Request
from iree_migraphx.kernels.targets import Target
from iree_migraphx.options import Options


def kept_kernels(requests: Mapping[str, Request], target: Target, options: Options) -> dict[str, Outcome]:
    """Outcomes by the names of the requests, of those that a cache has a kernel or a refusal of.

    Raises:
        CompilerNotFoundError: IREE_BIN names no iree-compile.
        OptionError: a file that a flag names can't be read.
    """
    lookup = Lookup(target, options)
    try:
        compiler = find_compiler(options)
    except CompilerNotFoundError:
        # Kernels that were shipped need none.
        if options.iree_bin is not None or not lookup.has_shipped:
            raise
        compiler = None
    outcomes = {}
    for name, request in requests.items():
        flags = compile_flags(target, options, request.anchor)
        kept = lookup.shipped(request, flags, compiler if options.iree_bin is not None else None)
        if kept is None and compiler is not None:
            kept = lookup.kept(cache_key(key_entries(request, compiler, target, flags)), request)
        if kept is not None:
            outcomes[name] = Outcome(kept, 0.0, "hit")
    return outcomes
