"""Several GPU kernels by one run of iree-compile: to start it takes a third of the time that a small kernel takes.

Those whose workgroups have to be made flat (flatten.py) get a second run together, in two halves. Only kernels that are
accepted are taken. Whatever goes wrong, with one kernel or with all, is tried again kernel by kernel, so that refusals
and their bundles are those of a run by itself.
"""

from __future__ import annotations

import logging
import shlex
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from iree_migraphx.errors import Reason, Refusal
from iree_migraphx.kernels.accept import accept_gpu
from iree_migraphx.kernels.compiler import Compiler, compile_command, staged_commands
from iree_migraphx.kernels.flags import sets, write_flags
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
    return alike and not first.target.is_host and not sets(first.flags, *_FLAGS)


def compile_group(orders: Sequence[Order], compiler: Compiler, stop: threading.Event) -> Grouped:
    """Compile what `can_be_grouped`, each of another symbol.

    Raises:
        StoppedError: `stop` was set.
    """
    runs = _Runs(orders, stop)
    compiled: dict[str, Compiled] = {}
    try:
        with scratch_folder() as folder:
            source, output = folder / "input.mlir", folder / "output"
            first = orders[0]
            command = compile_command(compiler, first.target, write_flags(first.flags, folder), source, output)
            command += _FLAGS
            source.write_text(_together(orders), encoding="utf-8")
            if not runs(command, folder):
                return Grouped({}, runs.peak)
            compiled, wide = runs.accepted(orders, output)
            if wide:
                # It needs iree.compiler, as below.
                from iree_migraphx.kernels.flatten import flatten_workgroups

                middle, flattened = folder / "configurations.mlir", folder / "flattened.mlir"
                first_half, second_half = staged_commands(command, middle, flattened, output)
                source.write_text(_together(wide), encoding="utf-8")
                if runs(first_half, folder):
                    flattened.write_text(flatten_workgroups(middle.read_text(encoding="utf-8")), encoding="utf-8")
                    if runs(second_half, folder):
                        compiled |= runs.accepted(wide, output)[0]
    except (OSError, ValueError, LookupError, Refusal) as error:
        _log.debug("%d kernels at once: %s", len(orders), error)
    return Grouped(compiled, runs.peak)


class _Runs:
    """The runs of iree-compile that one group takes, within its time limit together."""

    def __init__(self, orders: Sequence[Order], stop: threading.Event) -> None:
        self._count = len(orders)
        self._left = orders[0].timeout * min(1.0, max(_LEAST_TIME, len(orders) / _MOST_KERNELS))
        self._stop = stop
        self._command: tuple[str, ...] = ()
        self._seconds = 0.0
        self.peak = 0

    def __call__(self, command: Sequence[str], folder: Path) -> bool:
        """Run a command; whether it succeeded."""
        ended = run(list(command), folder, self._left, self._stop)
        said = shlex.join(command)
        _log.info("%d kernels at once: %.2f s, status %s: %s", self._count, ended.seconds, ended.status, said)
        if ended.status:
            _log.debug("%s", ended.errors)
        self._left -= ended.seconds
        self._seconds += ended.seconds
        self._command = tuple(command)
        # What was killed, most likely by a system out of memory, does not tell how much it would have taken.
        self.peak = 0 if ended.status == -signal.SIGKILL else max(self.peak, ended.peak)
        return ended.status == 0

    def accepted(self, orders: Sequence[Order], output: Path) -> tuple[dict[str, Compiled], list[Order]]:
        """The kernels among what the last run wrote, by symbol, and those whose workgroups have to be made flat."""
        apart = _apart(output.read_text(encoding="utf-8"), [order.request.symbol for order in orders])
        seconds, self._seconds = self._seconds / len(orders), 0.0
        compiled: dict[str, Compiled] = {}
        wide = []
        for order in orders:
            symbol = order.request.symbol
            try:
                kernel = accept_gpu(apart[symbol], order.request, order.target)
            except Refusal as refusal:
                _log.debug("%s, compiled with others: %s", symbol, refusal)
                if refusal.reason is Reason.BLOCK_NOT_1D:
                    wide.append(order)
                continue
            # Of two that compute the same IREE keeps one, under the other's name.
            if kernel.symbol.startswith(f"{symbol}_dispatch_"):
                compiled[symbol] = Compiled(kernel, seconds, True, self._command, peak=self.peak)
        return compiled, wide


def _together(orders: Sequence[Order]) -> str:
    """The functions of several modules in one."""
    from iree.compiler import ir

    try:
        with thread_context(), ir.Location.unknown():
            module = ir.Module.create()
            for order in orders:
                for op in ir.Module.parse(order.request.mlir).body.operations:
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
