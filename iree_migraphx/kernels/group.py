"""Several GPU kernels by one run of iree-compile: to start it takes a third of the time that a small kernel takes.

Only kernels that are accepted are taken from such a run. Whatever goes wrong in it, with one kernel or with all, is
tried again kernel by kernel, so that refusals and their bundles are those of a run by itself.
"""

from __future__ import annotations

import logging
import shlex
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iree_migraphx.errors import Refusal
from iree_migraphx.kernels.accept import accept_gpu
from iree_migraphx.kernels.compiler import Compiler, compile_command, flag_name
from iree_migraphx.kernels.flags import write_flags
from iree_migraphx.kernels.hal import thread_context
from iree_migraphx.kernels.invoke import run
from iree_migraphx.kernels.scratch import scratch_folder
from iree_migraphx.kernels.worker import Compiled, Order

if TYPE_CHECKING:
    from iree.compiler import ir

#: What is not so for one kernel. Each one's code object is by itself, where IREE would make one of all. The rest saves
#: an eighth of the processor time on code around the launches that is not used: to record them once and not at each
#: call, and to check arguments.
_FLAGS = ("--iree-hal-link-executables=false", "--iree-hal-memoization=false", "--iree-opt-strip-assertions")

# What exceeds its time is tried once more, one by one: a group has half of one kernel's time limit, a large one all.
_LEAST_TIME = 0.5
_MOST_KERNELS = 16

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grouped:
    """What one run gave.

    Attributes:
        compiled: by symbol, of the kernels that were accepted.
        peak: bytes of memory that it had at most, as far as that was seen.
    """

    compiled: Mapping[str, Compiled]
    peak: int = 0


def can_be_grouped(first: Order, other: Order) -> bool:
    """Whether one run can compile both."""
    alike = (first.target, first.flags, first.timeout) == (other.target, other.flags, other.timeout)
    ours = set(map(flag_name, _FLAGS))
    given = any(isinstance(flag, str) and flag_name(flag) in ours for flag in first.flags)
    return alike and not first.target.is_host and not given


def compile_group(orders: Sequence[Order], compiler: Compiler, stop: threading.Event) -> Grouped:
    """Compile what `can_be_grouped`, each of another symbol.

    Raises:
        StoppedError: `stop` was set.
    """
    first = orders[0]
    symbols = [order.request.symbol for order in orders]
    try:
        together = _together([order.request.mlir for order in orders])
        with scratch_folder() as folder:
            source, output = folder / "input.mlir", folder / "output"
            source.write_text(together, encoding="utf-8")
            command = compile_command(compiler, first.target, write_flags(first.flags, folder), source, output)
            timeout = first.timeout * min(1.0, max(_LEAST_TIME, len(orders) / _MOST_KERNELS))
            ended = run([*command, *_FLAGS], folder, timeout, stop)
            _log.info(
                "%d kernels at once: %.2f s, status %s: %s",
                len(orders),
                ended.seconds,
                ended.status,
                shlex.join(command),
            )
            if ended.status:
                _log.debug("%s", ended.errors)
            if ended.status != 0:
                return Grouped({}, 0 if ended.status == -signal.SIGKILL else ended.peak)
            apart = _apart(output.read_text(encoding="utf-8"), symbols)
    except (OSError, ValueError, LookupError, Refusal) as error:
        _log.debug("%d kernels at once: %s", len(orders), error)
        return Grouped({})
    compiled: dict[str, Compiled] = {}
    for order in orders:
        symbol = order.request.symbol
        try:
            kernel = accept_gpu(apart[symbol], order.request, order.target)
        except Refusal as refusal:
            _log.debug("%s, compiled with others: %s", symbol, refusal)
            continue
        # Of two that compute the same IREE keeps one, under the other's name.
        if kernel.symbol.startswith(f"{symbol}_dispatch_"):
            seconds = ended.seconds / len(orders)
            compiled[symbol] = Compiled(kernel, seconds, True, tuple(command), peak=ended.peak)
    return Grouped(compiled, ended.peak)


def _together(texts: Sequence[str]) -> str:
    """The functions of several modules in one."""
    from iree.compiler import ir

    try:
        with thread_context(), ir.Location.unknown():
            module = ir.Module.create()
            for text in texts:
                for op in ir.Module.parse(text).body.operations:
                    module.body.append(op.operation.clone())
            return str(module)
    except ir.MLIRError as error:
        raise ValueError(str(error)) from error


def _apart(text: str, symbols: Sequence[str]) -> dict[str, str]:
    """The module of the hal phase for each function: without the others, and without what happens at load time.

    Raises:
        ValueError: it holds a function that can't be told whose it is.
    """
    from iree.compiler import ir
    from iree.compiler.dialects import hal as _hal  # noqa: F401 -- registers the operations

    try:
        with thread_context():
            return {symbol: str(_only(ir.Module.parse(text), symbol, symbols)) for symbol in symbols}
    except ir.MLIRError as error:
        raise ValueError(str(error)) from error


def _only(module: ir.Module, symbol: str, symbols: Sequence[str]) -> ir.Module:
    for op in list(module.body.operations):
        kind = op.operation.name
        if kind == "util.initializer" or (kind == "util.func" and _owner(op, symbols) != symbol):
            op.operation.erase()
    return module


def _owner(op: Any, symbols: Sequence[str]) -> str:
    """Whose a function is: itself, or one that records its command buffer."""
    name = str(op.attributes["sym_name"].value)
    for symbol in symbols:
        if name == symbol or name.startswith(f"__{symbol}_memoize"):
            return symbol
    raise ValueError(f"the function {name} belongs to nobody")
