"""What IREE would do at run time, read from its MLIR of the hal phase: dispatches, their bindings, copies, binaries."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from iree_migraphx.errors import Reason, Refusal

if TYPE_CHECKING:
    from iree.compiler import ir

# Operations that touch a buffer's contents outside of any dispatch (IREE's HALOps.td).
_TRANSFERS = frozenset(
    {
        "hal.command_buffer.fill_buffer",
        "hal.command_buffer.update_buffer",
        "hal.command_buffer.copy_buffer",
        "hal.command_buffer.collective",
        "hal.device.queue.fill",
        "hal.device.queue.update",
        "hal.device.queue.copy",
        "hal.device.queue.read",
        "hal.device.queue.write",
        "hal.buffer.load",
        "hal.buffer.store",
    }
)
_thread = threading.local()
_LOCAL_MEMORY = "workgroup_local_memory"
_EXECUTIONS = frozenset({"hal.device.queue.execute", "hal.device.queue.execute.indirect"})


@dataclass(frozen=True, slots=True)
class Binding:
    """A part of a buffer, as a dispatch gets it as a pointer, or a fill or copy writes or reads it.

    Attributes:
        argument: which argument of the function it is; None for a buffer from elsewhere.
        offset: bytes from the buffer's beginning; None where it is not a constant.
        origin: what made the buffer, for a person: an operation's name.
        size: bytes of the part; None where it is not a constant.
        transient: which of the function's own buffers it is, None for a buffer from elsewhere.
    """

    argument: int | None
    offset: int | None
    origin: str
    size: int | None = None
    transient: int | None = None


@dataclass(frozen=True, slots=True)
class Dispatch:
    """A kernel launch.

    Attributes:
        executable: the executable's name in the module.
        function: the kernel's name in it.
        workgroups: in x, y and z; None where it is not a constant.
        constants: how many push constants it gets.
        conditional: it is inside of control flow, so that it may run never or often.
        local_memory: bytes of local memory that the launch has to give beyond the kernel's own.
    """

    executable: str
    function: str
    workgroups: tuple[int | None, int | None, int | None]
    constants: int
    bindings: tuple[Binding, ...]
    conditional: bool
    local_memory: int = 0


@dataclass(frozen=True, slots=True)
class Transfer:
    """An access to a buffer's contents outside of any dispatch.

    Attributes:
        operation: its name.
        target: what it writes; None for operations other than fills and copies.
        source: what a copy reads.
        pattern: a fill's, with its width in bits; None where it is not a constant.
        conditional: as of a dispatch.
    """

    operation: str
    target: Binding | None = None
    source: Binding | None = None
    pattern: int | None = None
    conditional: bool = False


@dataclass(frozen=True, slots=True)
class HalFunction:
    """Everything that one call of the function does on the device.

    Attributes:
        operands: how many arguments of the function are operands; they come first.
        results: how many are buffers that it writes its results to.
        steps: dispatches and transfers, in order.
        transients: bytes of the buffers that it allocates for itself; None where that is not a constant.
        executions: how often a command buffer is submitted.
        binaries: executable's name -> its binaries, one a variant.
    """

    operands: int
    results: int
    steps: tuple[Dispatch | Transfer, ...]
    transients: tuple[int | None, ...]
    executions: int
    binaries: Mapping[str, tuple[bytes, ...]]

    @property
    def dispatches(self) -> tuple[Dispatch, ...]:
        """The dispatches among the steps."""
        return tuple(step for step in self.steps if isinstance(step, Dispatch))

    @property
    def transfers(self) -> tuple[Transfer, ...]:
        """The other steps."""
        return tuple(step for step in self.steps if isinstance(step, Transfer))


def thread_context() -> ir.Context:
    """This thread's context of IREE's bindings.

    Making one takes longer than reading a module, and none may be shared by threads.
    """
    # Importing the bindings takes a sixth of a second: only processes that compile pay it.
    from iree.compiler import ir

    if not hasattr(_thread, "context"):
        _thread.context = ir.Context()
    context: ir.Context = _thread.context
    return context


def read_hal(text: str, symbol: str) -> HalFunction:
    """Read the module that `iree-compile --compile-to=hal` wrote for the function `symbol`.

    Raises:
        Refusal: BAD_COMPILER_OUTPUT, where it is not such a module.
    """
    from iree.compiler import ir
    from iree.compiler.dialects import hal as _hal  # noqa: F401 -- gives the operations their named operands

    try:
        with thread_context():
            return _read(ir.Module.parse(text), symbol)
    except (ir.MLIRError, KeyError, IndexError, ValueError, TypeError, AttributeError) as error:
        line = str(error).strip().partition("\n")[0]
        raise Refusal(
            Reason.BAD_COMPILER_OUTPUT,
            f"its hal phase can't be read (is iree-compile of another version than the Python package?): {line}",
        ) from error


def _read(module: ir.Module, symbol: str) -> HalFunction:
    function = None
    ops: list[Any] = []
    binaries = {}
    local_memory: dict[tuple[str, str], int] = {}
    for op in module.body.operations:
        match op.operation.name:
            case "hal.executable":
                # IREE's ROCm backend (release 3.13) asks for none, and drops what says so with the sources.
                local_memory |= {
                    (_name(op), _name(inner)): int(inner.attributes[_LOCAL_MEMORY].value)
                    for inner in _inner(op)
                    if inner.operation.name == "hal.executable.export" and _LOCAL_MEMORY in inner.attributes
                }
                binaries[_name(op)] = tuple(
                    bytes(memoryview(inner.attributes["data"]))
                    for inner in op.regions[0].blocks[0].operations
                    if inner.operation.name == "hal.executable.binary"
                )
            case "util.func":
                # The rest, util.initializer, is what happens once at load time: constants and the like.
                ops.extend(_inner(op))
                if _name(op) == symbol:
                    function = op
    if function is None:
        raise ValueError(f"no function {symbol}")
    entry = function.regions[0].blocks[0]
    kinds = [str(argument.type) for argument in entry.arguments]
    operands = kinds.index("!hal.buffer") if "!hal.buffer" in kinds else len(kinds)
    if any(kind != "!hal.buffer" for kind in kinds[operands:]):
        raise ValueError("a result before an operand in the function's arguments")
    executions = [op for op in ops if op.operation.name in _EXECUTIONS]
    table = next((op for op in executions if op.operation.name.endswith(".indirect")), None)
    allocated = [op for op in _inner(function) if op.operation.name == "hal.device.queue.alloca"]
    recorded = [op for op in ops if op.operation.name.startswith("hal.command_buffer.")]
    # What is recorded happens where it is submitted.
    order = [
        step
        for op in _inner(function)
        if not op.operation.name.startswith("hal.command_buffer.")
        for step in (recorded if executions and op == executions[0] else [op])
    ]
    where = _Where(entry, table, allocated, executions, local_memory)
    return HalFunction(
        operands=operands,
        results=len(kinds) - operands,
        steps=tuple(step for op in order if (step := _step(op, where)) is not None),
        transients=tuple(_constant(op.result_size) for op in allocated),
        executions=len(executions),
        binaries=binaries,
    )


def _inner(op: Any) -> list[Any]:
    found = []
    for region in op.regions:
        for block in region.blocks:
            for inner in block.operations:
                found.append(inner)
                found.extend(_inner(inner))
    return found


@dataclass(frozen=True, slots=True)
class _Where:
    """What a buffer may be: an argument of the function, in the table of a submission, or allocated by the function.

    Beside it what launches need, by executable and kernel.
    """

    entry: ir.Block
    table: Any
    allocated: Sequence[Any]
    executions: Sequence[Any]
    local_memory: Mapping[tuple[str, str], int]

    def conditional(self, op: Any) -> bool:
        return any(_in_control_flow(each) for each in (op, *self.executions))


def _step(op: Any, where: _Where) -> Dispatch | Transfer | None:
    name = str(op.operation.name)
    if name.startswith("hal.command_buffer.dispatch"):
        return _dispatch(op, where)
    if name not in _TRANSFERS:
        return None
    target = source = pattern = None
    if name.endswith(("fill_buffer", "queue.fill", "copy_buffer", "queue.copy")):
        target = _binding(op.target_buffer, op.target_offset, op.length, where)
    if name.endswith(("copy_buffer", "queue.copy")):
        source = _binding(op.source_buffer, op.source_offset, op.length, where)
    if name.endswith(("fill_buffer", "queue.fill")):
        pattern = _constant(op.pattern)
    return Transfer(name, target, source, pattern, where.conditional(op))


def _dispatch(op: Any, where: _Where) -> Dispatch:
    indirect = op.operation.name.endswith(".indirect")
    grid = (None, None, None) if indirect else (op.workgroup_x, op.workgroup_y, op.workgroup_z)
    # hal.executable.lookup.function holds @executable::@variant::@function.
    path = op.entry_point.owner.attributes["entry_point"].value
    return Dispatch(
        executable=path[0],
        function=path[-1],
        workgroups=(_constant(grid[0]), _constant(grid[1]), _constant(grid[2])),
        constants=len(op.constants),
        bindings=tuple(
            _binding(buffer, offset, length, where)
            for buffer, offset, length in zip(op.binding_buffers, op.binding_offsets, op.binding_lengths, strict=True)
        ),
        conditional=where.conditional(op),
        local_memory=where.local_memory.get((path[0], path[-1]), 0),
    )


def _binding(buffer: Any, offset: Any, length: Any, where: _Where) -> Binding:
    bytes_in, size, table = _constant(offset), _constant(length), where.table
    slot = _constant(buffer)
    if slot is not None:
        # A recorded command buffer names its buffers by their place in the table of the submission.
        if slot >= len(table.binding_buffers):
            return Binding(None, bytes_in, "the table of another submission", size)
        outer = _constant(table.binding_offsets[slot])
        bytes_in = None if bytes_in is None or outer is None else bytes_in + outer
        buffer = table.binding_buffers[slot]
    if _defined_by(buffer) == "hal.buffer_view.buffer":
        buffer = buffer.owner.operands[0]
    if _is_argument_of(buffer, where.entry):
        return Binding(buffer.arg_number, bytes_in, "argument", size)
    transient = next((n for n, op in enumerate(where.allocated) if op.result == buffer), None)
    return Binding(None, bytes_in, _defined_by(buffer) or "argument of another function", size, transient)


def _constant(value: Any) -> int | None:
    if value is None or _defined_by(value) != "arith.constant":
        return None
    attribute = value.owner.attributes["value"]
    return int(attribute.value) if hasattr(attribute, "value") else None


def _defined_by(value: Any) -> str:
    """Name of the operation that made a value; empty for a block's argument."""
    operation = getattr(value.owner, "operation", None)
    return str(operation.name) if operation is not None else ""


def _is_argument_of(value: Any, block: ir.Block) -> bool:
    return not _defined_by(value) and bool(value.owner == block)


def _in_control_flow(op: Any) -> bool:
    parent = op.operation.parent
    return bool(parent.name != "util.func" or len(parent.regions[0].blocks) != 1)


def _name(op: Any) -> str:
    return str(op.attributes["sym_name"].value)
