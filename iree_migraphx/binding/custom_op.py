"""Operators of MIGraphX's that are written in Python (migraphx_experimental_custom_op_*, src/api/api.cpp).

MIGraphX copies an operator with every program, compile and load; it can't forget a name. So a name is registered once,
all names share one set of C callbacks, and MIGraphX's "object" is a number that stands for the Python object.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import threading
from collections.abc import Sequence
from ctypes import CFUNCTYPE, byref, c_bool, c_int, c_size_t, c_void_p
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from iree_migraphx.binding import callbacks, capi, scratch
from iree_migraphx.binding.capi import Handle
from iree_migraphx.binding.datatypes import TUPLE
from iree_migraphx.binding.shapes import shape
from iree_migraphx.errors import InputError, MigraphxError

_SUCCESS, _FAILURE = 0, 4  # migraphx_status
_REMEMBERED = 8  # signatures an operator's shapes are remembered for; one of a kernel's accepts exactly one


class CustomOp(Protocol):
    """An operator in Python. MIGraphX may call it on any thread, and on several at once.

    Attributes:
        name: its name in programs.
        runs_on_offload_target: on the gpu target, `compute` gets addresses of the device's memory.
        scratch_bytes: size of the result where nobody reads it after the run, nor a view of it: its memory is then used
            again. 0 where the result may outlive the run.
    """

    name: str
    runs_on_offload_target: bool
    scratch_bytes: int

    def output_alias(self, inputs: Sequence[shape]) -> Sequence[int]:
        """Index of the input whose memory is the result's, or nothing. May depend on the number of inputs only."""

    def compute_shape(self, inputs: Sequence[shape]) -> shape:
        """Shape of the result; pure. Raises where the operator can't take the inputs, which passes will try."""

    def compute(self, pointers: Sequence[int], output: int) -> None:
        """Compute the result.

        Args:
            pointers: addresses of the inputs.
            output: address of the result: fresh zeroed memory, the input's that output_alias names, or with
                `scratch_bytes` memory of any content.
        """

    def released(self) -> None:
        """No program holds the operator any more. A program that is loaded later may hold it again.

        Called under a lock: it must not wait for other threads.
        """


@dataclass
class _Registered:
    """What stands behind one name.

    Attributes:
        live: copies that MIGraphX holds.
        resting: copies that its table of operators holds.
        holds: who wants it kept until a program holds it.
        aliases: output_alias by the number of inputs.
        shapes: what compute_shape said, as the C interface's shapes of inputs and result. With assertions on, as Debian
            builds it, MIGraphX asks for every instruction's shape in every run.
    """

    op: CustomOp
    live: int = 0
    resting: int = 0
    holds: int = 0
    aliases: dict[int, int | None] = field(default_factory=dict)
    shapes: list[tuple[list[Handle], Handle]] = field(default_factory=list)

    def replace(self, op: CustomOp) -> None:
        """Let another object stand behind the name."""
        self.op, self.aliases, self.shapes = op, {}, []

    def release_unused(self) -> None:
        """Tell the object where nobody holds it. Under _COUNTING, so that nobody takes hold of it meanwhile."""
        if self.live == self.resting and not self.holds:
            self.op.released()

    def alias(self, inputs: Sequence[shape]) -> int | None:
        """The input whose memory the result takes."""
        named = [int(index) for index in self.op.output_alias(inputs)]
        if len(named) > 1 or any(not 0 <= index < len(inputs) for index in named):
            raise InputError(f"output_alias of {self.op.name} may name one of its {len(inputs)} inputs, not {named}")
        self.aliases[len(inputs)] = named[0] if named else None
        return self.aliases[len(inputs)]

    def shape(self, inputs: Sequence[shape]) -> Handle:
        """The result's shape."""
        if any(given.type_string() == TUPLE for given in inputs):
            raise InputError(f"the custom operator {self.op.name} can't take a tuple")
        result = self.op.compute_shape(inputs).handle()
        del self.shapes[: 1 - _REMEMBERED]
        self.shapes.append(([given.handle() for given in inputs], result))
        return result


_LOCK = threading.Lock()
_COUNTING = threading.RLock()  # collecting garbage inside it may drop a program, and so count
_tokens: dict[str, int] = {}
_registered: dict[int, _Registered] = {}
_names: list[bytes] = []  # MIGraphX stores the pointer of the type's name


def register_custom_op(op: CustomOp, hold: bool = False) -> None:
    """Make an operator known to MIGraphX, before programs that use it are built or loaded.

    A name that is registered already gets the new object in place of the old one, in programs that exist too.

    Args:
        op: the operator.
        hold: whatever stands behind the name is not released before `let_go`. Other threads may register the name
            meanwhile, and drop programs that use it.

    Raises:
        InputError: the name is empty or belongs to an operator of MIGraphX's own.
        MigraphxError: MIGraphX refused it.
    """
    with _LOCK:
        token = _tokens.get(op.name)
        if token is not None:
            with _COUNTING:
                _registered[token].replace(op)
                _registered[token].holds += hold
            return
        if not op.name or _exists(op.name):
            raise InputError(f"{op.name!r} can't name a custom operator: it is empty or one of MIGraphX's own names")
        token = len(_registered) + 1
        state = _registered[token] = _Registered(op, holds=int(hold))
        _install(op.name, token, _COPY, _DELETE)
        state.resting = state.live
        _tokens[op.name] = token


def let_go(name: str) -> None:
    """End one hold of `register_custom_op`; where it was the last and no program has the operator, it is released."""
    with _COUNTING:
        state = _registered[_tokens[name]]
        state.holds -= 1
        state.release_unused()


def _exists(name: str) -> bool:
    try:
        capi.new("operation", "operation_create", name.encode(), None, doing="make the operator")
    except MigraphxError:
        return False
    return True


def _install(name: str, token: int, copy: Any, delete: Any) -> None:
    text = name.encode()
    _names.append(text)
    kind = "experimental_custom_op"
    op = capi.new(kind, f"{kind}_create", token, copy, delete, text, text)
    capi.call(f"{kind}_set_compute", op, _COMPUTE)
    capi.call(f"{kind}_set_compute_shape", op, _COMPUTE_SHAPE)
    capi.call(f"{kind}_set_output_alias", op, _OUTPUT_ALIAS)
    capi.call(f"{kind}_set_runs_on_offload_target", op, _RUNS_ON_OFFLOAD_TARGET)
    capi.guarded(f"register the operator {name!r}", f"{kind}_register", op)


@atexit.register
def _retire() -> None:
    """Put operators without Python into MIGraphX's table, which C++ destroys when there is no Python any more.

    labs stands for copy and delete: a copy that leaves its object NULL is never deleted (api.cpp, manage_generic_ptr).
    """
    harmless = ctypes.cast(ctypes.CDLL(None).labs, c_void_p)
    for name, token in _tokens.items():
        _registered[token].resting = -1  # nobody is to be told any more
        _install(name, token, harmless, harmless)


def _report(error: BaseException, text: int, size: int) -> int:
    """Tell MIGraphX that a callback failed; the exception itself waits for the call that it interrupts."""
    callbacks.note(error)
    line = callbacks.describe(error).encode()[: size - 1] + b"\0"
    ctypes.memmove(text, line, len(line))
    return _FAILURE


def _copy(out: int, token: int) -> int:
    with _COUNTING:
        _registered[token].live += 1
    c_void_p.from_address(out).value = token
    return _SUCCESS


def _delete(token: int) -> int:
    with _COUNTING:
        state = _registered[token]
        state.live -= 1
        state.release_unused()  # ctypes reports an exception as unraisable and gives MIGraphX 0, which means success
    return _SUCCESS


def _runs_on_offload_target(out: int, token: int, text: int, size: int) -> int:
    try:
        c_bool.from_address(out).value = _registered[token].op.runs_on_offload_target
    except BaseException as error:
        return _report(error, text, size)
    return _SUCCESS


def _output_alias(out: int, count: int, token: int, text: int, size: int, inputs: int) -> int:
    try:
        alias = _registered[token].alias(_shapes(inputs))
        c_size_t.from_address(count).value = 0 if alias is None else 1
        if alias is not None:
            c_size_t.from_address(out).value = alias
    except BaseException as error:
        return _report(error, text, size)
    return _SUCCESS


def _compute_shape(out: int, token: int, text: int, size: int, inputs: int) -> int:
    try:
        c, state = _hot(), _registered[token]
        number, slot, equal = c_size_t(), c_void_p(), c_bool()
        c.shapes_size(byref(number), inputs)
        for known, result in state.shapes:
            if len(known) != number.value:
                continue
            for index, each in enumerate(known):
                c.shapes_get(byref(slot), inputs, index)
                c.shape_equal(byref(equal), each, slot)
                if not equal:
                    break
            else:
                c.shape_assign_to(out, result)
                return _SUCCESS
        c.shape_assign_to(out, state.shape(_shapes(inputs)))
    except BaseException as error:
        return _report(error, text, size)
    return _SUCCESS


def _compute(out: int, token: int, text: int, size: int, context: int, output: int, inputs: int) -> int:
    """The hot path of inference: no Python object is made of a shape or an argument."""
    try:
        c, state = _hot(), _registered[token]
        number, slot, fresh = c_size_t(), c_void_p(), c_void_p()
        c.arguments_size(byref(number), inputs)
        pointers = []
        for index in range(number.value):
            c.arguments_get(byref(slot), inputs, index)
            c.argument_buffer(byref(slot), slot)
            pointers.append(slot.value or 0)
        try:
            alias = state.aliases[number.value]
        except KeyError:
            alias = state.alias(_argument_shapes(inputs))
        if alias is not None:
            c.arguments_get(byref(slot), inputs, alias)
            _check_alias(state.op.name, slot, output)
            state.op.compute(pointers, pointers[alias])
            c.argument_assign_to(out, slot)
            return _SUCCESS
        memory = scratch.take(state.op.scratch_bytes) if state.op.scratch_bytes else None
        if memory is None:
            capi.call("argument_create_empty", byref(fresh), output)
        else:
            capi.call("argument_create", byref(fresh), output, memory)
        try:
            c.argument_buffer(byref(slot), fresh)
            state.op.compute(pointers, slot.value or 0)
            c.argument_assign_to(out, fresh)
        finally:
            c.argument_destroy(fresh)
    except BaseException as error:
        return _report(error, text, size)
    return _SUCCESS


def _check_alias(name: str, value: c_void_p, output: int) -> None:
    """Refuse memory of another shape than the result's, for which an assertion of MIGraphX's would end the process."""
    c, own, equal = _hot(), c_void_p(), c_bool()
    c.argument_shape(byref(own), value)
    c.shape_equal(byref(equal), own, output)
    if equal:
        return
    given, wanted = shape.from_pointer(own.value or 0), shape.from_pointer(output)
    if (given.type_string(), given.lens()) != (wanted.type_string(), wanted.lens()):
        raise InputError(f"the result of {name} is {wanted}, but the input whose memory it takes is {given}")


class _Hot(NamedTuple):
    """C functions of the hot path, looked up once. They can't fail on what MIGraphX itself hands over."""

    arguments_size: Any
    arguments_get: Any
    argument_buffer: Any
    argument_assign_to: Any
    argument_destroy: Any
    argument_shape: Any
    shapes_size: Any
    shapes_get: Any
    shape_equal: Any
    shape_assign_to: Any


@functools.cache
def _hot() -> _Hot:
    return _Hot(*map(capi.function, _Hot._fields))


def _shapes(pointer: int) -> tuple[shape, ...]:
    count = capi.size("shapes_size", pointer)
    return tuple(shape.from_pointer(capi.borrow("shapes_get", pointer, index)) for index in range(count))


def _argument_shapes(pointer: int) -> tuple[shape, ...]:
    count = capi.size("arguments_size", pointer)
    values = (capi.borrow("arguments_get", pointer, index) for index in range(count))
    return tuple(shape.from_pointer(capi.borrow("argument_shape", value)) for value in values)


# Prototypes of migraphx.h; these objects must outlive every copy, so they live as long as the process.
_COPY = CFUNCTYPE(c_int, c_void_p, c_void_p)(_copy)
_DELETE = CFUNCTYPE(c_int, c_void_p)(_delete)
_RUNS_ON_OFFLOAD_TARGET = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_size_t)(_runs_on_offload_target)
_OUTPUT_ALIAS = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p)(_output_alias)
_COMPUTE_SHAPE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p)(_compute_shape)
_COMPUTE = CFUNCTYPE(c_int, c_void_p, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p, c_void_p)(_compute)
