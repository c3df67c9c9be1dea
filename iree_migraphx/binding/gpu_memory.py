"""Values on the GPU, as ROCm's module has them (src/targets/gpu/hip.cpp); the C interface has no such functions.

HIP itself is asked, the copy of it that MIGraphX's gpu target has loaded.
"""

from __future__ import annotations

import ctypes
import sys
from ctypes import byref, c_int, c_size_t, c_void_p

import numpy as np

from iree_migraphx.binding import capi, device
from iree_migraphx.binding.arguments import argument
from iree_migraphx.binding.shapes import shape
from iree_migraphx.binding.targets import get_target
from iree_migraphx.errors import MigraphxError

_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2  # hipMemcpyKind


class _Memory:
    """Memory of the GPU, or pinned memory of the host that the GPU sees; it is given back with the last reference."""

    __slots__ = ("_free", "address")

    def __init__(self, size: int, host: bool) -> None:
        hip, pointer = _hip(), c_void_p()
        if not host and hip.hipMalloc(byref(pointer), c_size_t(size)) == 0:
            self._free = hip.hipFree
        else:  # also where the GPU has no room, as in MIGraphX
            _check(hip.hipHostMalloc(byref(pointer), c_size_t(size), 0), f"allocate {size} bytes")
            self._free = hip.hipHostFree
        self.address = pointer.value or 0

    def __del__(self) -> None:
        if not sys.is_finalizing() and hasattr(self, "address"):
            self._free(c_void_p(self.address))


def allocate_gpu(s: shape, host: bool = False) -> argument:
    """A value on the GPU with nothing in particular in it.

    Args:
        s: its shape.
        host: put it into pinned memory of the host instead.

    Raises:
        TargetError: MIGraphX's gpu target can't be loaded.
        MigraphxError: there is no room.
    """
    memory = _Memory(s.bytes() + 1, host)  # MIGraphX's one byte more, so that a value without elements has an address
    handle = capi.new("argument", "argument_create", s.handle(), memory.address)
    return argument.wrap(handle, keep=memory, of=s)


def to_gpu(arg: argument, host: bool = False) -> argument:
    """A copy of a value on the GPU, for programs compiled with offload_copy=False; arguments and errors as above."""
    copy = allocate_gpu(arg.get_shape(), host)
    _copy(copy.data_ptr(), arg.data_ptr(), arg.get_shape().bytes(), _HOST_TO_DEVICE)
    return copy


def from_gpu(arg: argument) -> argument:
    """A copy of a GPU's value in the host's memory, which numpy can see; raises as `allocate_gpu`."""
    own = arg.get_shape()
    memory = np.empty(max(own.bytes(), 1), np.uint8)
    _copy(memory.ctypes.data, arg.data_ptr(), own.bytes(), _DEVICE_TO_HOST)
    return argument.wrap(capi.new("argument", "argument_create", own.handle(), memory.ctypes.data), keep=memory, of=own)


def gpu_sync() -> None:
    """Wait until the GPU has done everything that it was given; raises as `allocate_gpu`."""
    _check(_hip().hipDeviceSynchronize(), "wait for the GPU")


def _hip() -> ctypes.CDLL:
    hip = device.loaded_hip()
    if hip is None:
        get_target("gpu")  # which loads it, or says why it can't be loaded
        hip = device.loaded_hip()
    if hip is None:
        raise MigraphxError("MIGraphX's gpu target has been loaded, but no libamdhip64 with it")
    return hip


def _copy(to: int, source: int, size: int, kind: int) -> None:
    gpu_sync()
    _check(_hip().hipMemcpy(c_void_p(to), c_void_p(source), c_size_t(size), c_int(kind)), f"copy {size} bytes")


def _check(status: int, doing: str) -> None:
    if status:
        describe = _hip().hipGetErrorString
        describe.restype = ctypes.c_char_p
        raise MigraphxError(f"HIP can't {doing}: {(describe(c_int(status)) or b'').decode()} (error {status})")
