"""Many requests at once: from the caches where possible, the others through several compilers in parallel."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from iree_migraphx.errors import CompilerNotFoundError, Reason, Refusal
from iree_migraphx.kernels.batch import Batch, Job, unkept
from iree_migraphx.kernels.cache import Maker
from iree_migraphx.kernels.compiler import Compiler, find_compiler
from iree_migraphx.kernels.entry import cache_key
from iree_migraphx.kernels.flags import FileFlag, check_flags, check_names, compile_flags
from iree_migraphx.kernels.lookup import Lookup, key_entries
from iree_migraphx.kernels.model import Outcome, Request
from iree_migraphx.kernels.progress import Progress, default_progress
from iree_migraphx.kernels.targets import Target
from iree_migraphx.kernels.upkeep import keep_within
from iree_migraphx.kernels.worker import Order
from iree_migraphx.options import Options

_NOBODY = Maker("", "")


def prepare(target: Target, options: Options) -> None:
    """Check, before any work, that there is a compiler which takes the user's flags.

    Where there are read-only caches everything may be in them, so that there need be no compiler, and none is started.

    Raises:
        CompilerNotFoundError: no working iree-compile.
        OptionError: a flag of `options.flags` that can't be.
    """
    if options.cache and options.cache_readonly and options.iree_bin is None:
        check_names(options)
    else:
        check_flags(find_compiler(options), target, options)


def compile_kernels(
    requests: Sequence[Request], target: Target, options: Options, progress: Progress | None = None
) -> list[Outcome]:
    """Compile every request for the target, or take it from the cache; the outcomes come in the order of the requests.

    What goes wrong with one kernel is its Refusal and does not touch the others. Equal requests are compiled once;
    `seconds` counts for the first. Ctrl-C ends the compilers at once; what was finished by then is in the cache.
    `progress` is told about the compiles, if there are any; by default it is what stderr and `options` call for.

    Raises:
        CompilerNotFoundError: no working iree-compile. With read-only caches that is the Refusal of what they lack.
        OptionError: a flag of `options.flags` that iree-compile does not take.
    """
    if not requests:
        return []
    lookup = Lookup(target, options)
    # Who names a compiler wants its kernels.
    compiler = find_compiler(options) if options.iree_bin is not None or not lookup.has_shipped else None
    flags = {anchor: compile_flags(target, options, anchor) for anchor in {request.anchor for request in requests}}
    outcomes: dict[str, Outcome] = {}
    missing: dict[str, Request] = {}
    names = []
    for request in requests:
        # Whoever compiles it, equal requests have equal outcomes.
        name = cache_key(key_entries(request, _NOBODY, target, flags[request.anchor]))
        names.append(name)
        if name in outcomes or name in missing:
            continue
        kept = lookup.shipped(request, flags[request.anchor], compiler)
        if kept is None:
            missing[name] = request
        else:
            outcomes[name] = Outcome(kept, 0.0, "hit")
    if missing:
        try:
            compiler = compiler or find_compiler(options)
        except CompilerNotFoundError as error:
            if not lookup.has_shipped:
                raise
            absent = Outcome(Refusal(Reason.NO_COMPILER, f"it is in no cache, and there is {error}"), 0.0, "miss")
            outcomes.update(dict.fromkeys(missing, absent))
        else:
            outcomes.update(_own_or_new(missing, compiler, lookup, target, flags, options, progress))
    results = []
    for name in names:
        results.append(outcomes[name])
        outcomes[name] = dataclasses.replace(outcomes[name], seconds=0.0)
    return results


def _own_or_new(
    missing: dict[str, Request],
    compiler: Compiler,
    lookup: Lookup,
    target: Target,
    flags: dict[str, tuple[str | FileFlag, ...]],
    options: Options,
    progress: Progress | None,
) -> dict[str, Outcome]:
    """Outcomes by name, of what is in the user's cache and of what has to be compiled."""
    outcomes: dict[str, Outcome] = {}
    jobs: dict[str, Job] = {}
    for name, request in missing.items():
        entries = key_entries(request, compiler, target, flags[request.anchor])
        key = cache_key(entries)
        kept = lookup.kept(key, request)
        if kept is not None and not unkept(kept, options):
            outcomes[name] = Outcome(kept, 0.0, "hit")
            continue
        lookup.explain(key, entries)
        order = Order(request, target, flags[request.anchor], options.timeout)
        jobs[name] = Job(order, key, entries, request.cost)
    if jobs:
        check_flags(compiler, target, options)
        new = _compile(list(jobs.values()), compiler, lookup, options, progress or default_progress(options))
        outcomes.update({name: new[job.key] for name, job in jobs.items()})
        if lookup.own is not None:
            keep_within(lookup.own, options.cache_size)
    return outcomes


def _compile(
    jobs: Sequence[Job], compiler: Compiler, lookup: Lookup, options: Options, progress: Progress
) -> dict[str, Outcome]:
    return Batch(compiler, lookup, options, progress).compile(jobs)
