"""Compiles handed to an executor of the user's, whose workers may be on other machines and may be lost."""

from __future__ import annotations

import concurrent.futures
import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from iree_migraphx.errors import IreeMigraphxError
from iree_migraphx.kernels.compiler import Compiler, find_compiler
from iree_migraphx.kernels.targets import host_cpu
from iree_migraphx.kernels.worker import Compiled, Order, compile_order
from iree_migraphx.options import Options

_log = logging.getLogger(__name__)


class UnlikeWorkerError(IreeMigraphxError):
    """A worker that would make another kernel than this machine: the message says in what it differs."""


@dataclass(frozen=True, slots=True)
class Parcel:
    """An order with what a worker needs to check that it is the right one for it.

    Attributes:
        options: where the worker finds its compiler.
        version: and what that compiler has to be.
        identity: likewise.
        cpu: what the worker has to run on, for kernels of the host.
    """

    order: Order
    options: Options
    version: str
    identity: str
    cpu: str


def make_parcel(order: Order, compiler: Compiler, where: Options) -> Parcel:
    """Pack an order; `where` is the options without what can't leave this process."""
    return Parcel(order, where, compiler.version, compiler.identity, host_cpu() if order.target.is_host else "")


def fulfil(parcel: Parcel) -> Compiled:
    """Compile an order; this is what runs on a worker.

    Raises:
        CompilerNotFoundError: the worker has no iree-compile.
        UnlikeWorkerError: it has another one, or for a kernel of the host another CPU.
    """
    compiler = find_compiler(parcel.options)
    if (compiler.version, compiler.identity) != (parcel.version, parcel.identity):
        raise UnlikeWorkerError(f"its iree-compile is {compiler.version}, not {parcel.version} of the same build")
    if parcel.cpu and parcel.cpu != host_cpu():
        raise UnlikeWorkerError("its CPU is not that of the machine which the kernel is for")
    return compile_order(parcel.order, compiler, threading.Event())


def compile_elsewhere(
    executor: concurrent.futures.Executor,
    parcels: Sequence[Parcel],
    deliver: Callable[[int, Compiled], None],
) -> list[int]:
    """Have an executor compile.

    Args:
        executor: any; a lost worker is the executor's own to replace (Dask does, a ProcessPoolExecutor does not).
        parcels: what to compile.
        deliver: is given the number of a parcel and what came of it, in this thread.

    Returns:
        The numbers of those that it did not deliver, for whatever cause, which a warning says.
    """
    futures: dict[concurrent.futures.Future[Compiled], int] = {}
    lost: list[int] = []
    cause: BaseException | None = None
    try:
        try:
            for number, parcel in enumerate(parcels):
                futures[executor.submit(fulfil, parcel)] = number
        except Exception as refused:
            cause = refused
            lost += range(len(futures), len(parcels))
        for future in concurrent.futures.as_completed(futures):
            error = concurrent.futures.CancelledError() if future.cancelled() else future.exception()
            if error is not None:
                cause = error
                lost.append(futures[future])
            else:
                deliver(futures[future], future.result())
    finally:
        # After Ctrl-C nobody waits for them. Those that run already end by their time limit.
        for future in futures:
            future.cancel()
    if lost:
        count = f"{len(lost)} of {len(parcels)}"
        why = f"{type(cause).__name__}: {cause}"
        _log.warning("%s did not compile %s kernels, which are compiled here: %s", executor, count, why)
    return sorted(lost)
