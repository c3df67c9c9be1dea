"""Putting a program into an object of ROCm's `migraphx` module, which has no function for that.

ROCm's objects are made by pybind11 (detail/common.h, `struct instance`): behind Python's own head come the address of
the C++ object and the unique_ptr that owns it, then the list of weak references, then four flags. libmigraphx_c's
handle of a program is a struct of nothing but the C++ program (src/api/api.cpp), so its functions work on that address;
and a C++ program is one pointer to what it consists of (src/include/migraphx/program.hpp). Nobody promises any of this:
it is checked, on programs of our own, before the first one of the user's is touched.
"""

from __future__ import annotations

import ctypes
import functools
from typing import Any

from iree_migraphx.binding import capi, library, official, serialized
from iree_migraphx.binding.modules import op
from iree_migraphx.binding.programs import program
from iree_migraphx.binding.shapes import shape
from iree_migraphx.errors import MigraphxError

_WORD = ctypes.sizeof(ctypes.c_size_t)
_HEAD = object.__basicsize__ // _WORD
#: pybind11's flags: owned, simple_layout, simple_holder_constructed, simple_instance_registered.
_FLAGS = 0b1111


def assign(theirs: Any, other: Any) -> None:
    """Make one of ROCm's programs the same as another one, ROCm's or this package's.

    Raises:
        MigraphxError: ROCm's module is built in a way that this does not know; nothing has been changed.
    """
    check()
    capi.call("program_assign_to", ctypes.c_void_p(_address(theirs)), ctypes.c_void_p(_address(other)))


def exchange(theirs: Any, other: Any) -> None:
    """Let one of ROCm's programs and another one, ROCm's or this package's, change what they are; raises as `assign`.

    Unlike an assignment this destroys nothing: module objects of either stay valid while the other one lives.
    """
    check()
    _swap(_address(theirs), _address(other))
    if isinstance(other, program):
        other.rewritten()


@functools.cache
def check() -> None:
    """Assign once where nothing can be lost, and look at the outcome with ROCm's own functions.

    Raises:
        MigraphxError: as `assign`.
    """
    _check_sizes(official.module().program)
    name = "iree_migraphx_probe"
    own = program()
    main = own.get_main_module()
    main.add_return([main.add_instruction(op("relu"), [main.add_parameter(name, shape(lens=[2, 3]))])])
    theirs, other = official.module().program(), official.load(serialized.save(own.handle))
    # Read before anything is written: C++ must see at the address what Python sees in the object.
    if not capi.truth("program_equal", ctypes.c_void_p(_address(other)), own.handle):
        raise _unknown("the address is not a program's")
    capi.call("program_assign_to", ctypes.c_void_p(_address(theirs)), own.handle)
    if list(theirs.get_parameter_names()) != [name] or theirs != other:
        raise _unknown("an assignment had another effect")
    empty = program()
    _swap(_address(theirs), empty.handle.pointer)
    if list(theirs.get_parameter_names()) or list(empty.get_parameter_shapes()) != [name] or empty != own:
        raise _unknown("an exchange had another effect")


def _swap(one: int, other: int) -> None:
    a, b = ctypes.c_size_t.from_address(one), ctypes.c_size_t.from_address(other)
    a.value, b.value = b.value, a.value


def _address(theirs: Any) -> int:
    """The address of the C++ program of an object."""
    if isinstance(theirs, program):
        return theirs.handle.pointer
    kind = official.module().program
    if not isinstance(theirs, kind):
        raise TypeError(f"a program of ROCm's module is wanted, not {type(theirs).__name__}")
    _check_sizes(kind)
    words = (ctypes.c_size_t * (_HEAD + 5)).from_address(id(theirs))
    address, owner, flags = words[_HEAD], words[_HEAD + 1], words[_HEAD + 4]
    if address == 0 or address % _WORD or owner != address or flags & _FLAGS != _FLAGS:
        raise _unknown("an object holds something else than a program and its owner")
    return address


def _check_sizes(kind: type[Any]) -> None:
    # address, unique_ptr (room for two words), weak references, flags
    expected = ((_HEAD + 5) * _WORD, (_HEAD + 3) * _WORD)
    found = (kind.__basicsize__, kind.__weakrefoffset__)
    if found != expected:
        raise _unknown(f"an object has the sizes {found}, not {expected}")


def _unknown(detail: str) -> MigraphxError:
    where = getattr(official.module(), "__file__", "memory")
    return MigraphxError(
        f"kernels can't be put into a program of ROCm's module in {where}: {detail}; it is laid out otherwise than by "
        f"pybind11 2.2 to 3.1 with {library.core_path().name}. iree_migraphx.compile gives a program of its own instead"
    )
