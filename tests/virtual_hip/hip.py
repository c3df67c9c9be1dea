"""The virtual HIP library as Python sees it: its own control functions and the few of HIP's that tests call."""

from __future__ import annotations

import ctypes
import functools
import sys
from pathlib import Path

SONAME = "libamdhip64.so.6"
#: The variable that names the devices.
DEVICES = "VIRTUAL_HIP_GFX"
NONE, DEVICE, PINNED, REGISTERED, FREED = range(5)


class Launch(ctypes.Structure):
    """virtual_hip_launch of src/virtual_hip.h."""

    _fields_ = (
        ("symbol", ctypes.c_char_p),
        ("code_object", ctypes.c_void_p),
        ("code_object_bytes", ctypes.c_size_t),
        ("arguments", ctypes.c_void_p),
        ("argument_bytes", ctypes.c_size_t),
        ("global_size", ctypes.c_uint32 * 3),
        ("local_size", ctypes.c_uint32 * 3),
        ("dynamic_lds", ctypes.c_uint32),
    )


LAUNCH = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(Launch))
LIBRARY_CALL = ctypes.CFUNCTYPE(None, ctypes.c_char_p, ctypes.c_char_p)
FAULT = ctypes.CFUNCTYPE(None, ctypes.c_char_p)


class Observer(ctypes.Structure):
    """virtual_hip_observer of src/virtual_hip.h."""

    _fields_ = (("launch", LAUNCH), ("library_call", LIBRARY_CALL), ("fault", FAULT))


class Range(ctypes.Structure):
    """virtual_hip_range of src/virtual_hip.h: an allocation, and whether it is live."""

    _fields_ = (("base", ctypes.c_size_t), ("bytes", ctypes.c_size_t), ("kind", ctypes.c_int))


@functools.cache
def library() -> ctypes.CDLL:
    """The virtual library.

    Raises:
        RuntimeError: this interpreter finds none, or a real one.
    """
    try:
        hip = ctypes.CDLL(SONAME)
        hip.virtual_hip_observe.argtypes = (ctypes.POINTER(Observer),)
    except (OSError, AttributeError) as error:
        raise RuntimeError(
            f"there is no virtual GPU in this process; run {python()} (made by ./setup.sh install_virtual_gpu)"
        ) from error
    hip.virtual_hip_observe.restype = None
    hip.virtual_hip_set_devices.argtypes = (ctypes.c_char_p,)
    hip.virtual_hip_set_devices.restype = ctypes.c_bool
    hip.virtual_hip_set_seed.argtypes = (ctypes.c_uint64,)
    hip.virtual_hip_set_seed.restype = None
    hip.virtual_hip_find.argtypes = (ctypes.c_void_p,)
    hip.virtual_hip_find.restype = Range
    hip.virtual_hip_live.argtypes = (ctypes.POINTER(Range), ctypes.c_size_t)
    hip.virtual_hip_live.restype = ctypes.c_size_t
    hip.virtual_hip_live_objects.restype = ctypes.c_size_t
    hip.virtual_hip_check_guards.restype = ctypes.c_size_t
    hip.hipMalloc.argtypes = (ctypes.POINTER(ctypes.c_void_p), ctypes.c_size_t)
    hip.hipFree.argtypes = (ctypes.c_void_p,)
    hip.hipMemcpy.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
    return hip


def available() -> bool:
    """Whether this interpreter has the virtual GPU."""
    try:
        library()
    except RuntimeError:
        return False
    return True


def python() -> Path:
    """The interpreter that has the virtual GPU, in the same virtual environment as this one."""
    return Path(sys.prefix) / "bin" / "python-virtual-gpu"
