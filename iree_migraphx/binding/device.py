"""The GPU that MIGraphX compiles for and runs on: HIP's current device, or what the kernel driver says there is."""

from __future__ import annotations

import ctypes
import re
from ctypes import byref, c_char, c_int
from dataclasses import dataclass
from pathlib import Path

from iree_migraphx.binding import capi, library
from iree_migraphx.errors import MigraphxError, TargetError

#: The driver's description of the machine's processors, one folder each.
KFD_NODES = Path("/sys/class/kfd/kfd/topology/nodes")

#: More than any release's hipDeviceProp_t needs (1472 bytes in ROCm 6 and 7).
_PROPERTIES_BYTES = 16384
_ARCHITECTURE = re.compile(rb"gfx[0-9a-f]{3,}(?::[a-z]+[+-])*(?=\0)")


@dataclass(frozen=True, slots=True)
class Device:
    """A GPU.

    Attributes:
        arch: its target id, "gfx942:sramecc+:xnack-", or the gfx alone where only the driver was asked.
        product: what it is sold as, "AMD Instinct MI300X"; empty where it is not known.
        number: HIP's number of it in this process; None where HIP is not there.
    """

    arch: str
    product: str = ""
    number: int | None = None


def current_device() -> Device:
    """HIP's current device, where this process has loaded HIP with MIGraphX's gpu target, else the driver's GPU.

    Raises:
        TargetError: there is no GPU, or the driver has several kinds and can't say which one is meant.
    """
    hip = loaded_hip()
    if hip is not None:
        return _hip_device(hip)
    found = list(dict.fromkeys(_driver_gpus(KFD_NODES)))
    if len(found) != 1:
        what = f"the GPUs {', '.join(found)}" if found else "no GPU"
        raise TargetError(f"HIP is not loaded and the kernel driver lists {what}; IREE_MIGRAPHX_ARCH names one")
    return Device(found[0])


def choose_device(number: int) -> None:
    """Make a device the current one of this thread.

    Raises:
        TargetError: there is no such device.
    """
    hip = loaded_hip()
    if hip is None or hip.hipSetDevice(c_int(number)):
        raise TargetError(f"HIP can't use the device number {number}")


def loaded_hip() -> ctypes.CDLL | None:
    """HIP, where this process has loaded it."""
    paths = library.mapped_files("libamdhip64")
    return ctypes.CDLL(paths[0]) if paths else None


def _hip_device(hip: ctypes.CDLL) -> Device:
    number = c_int()
    if hip.hipGetDevice(byref(number)):
        raise TargetError("HIP has no device; `rocminfo` shows whether the driver sees one")
    # This is its name since ROCm 6. The fields move between releases, so the one that matters is looked for.
    properties_of = getattr(hip, "hipGetDevicePropertiesR0600", None) or hip.hipGetDeviceProperties
    memory = (c_char * _PROPERTIES_BYTES)()
    if properties_of(byref(memory), number):
        raise TargetError(f"HIP can't tell the properties of device {number.value}")
    arch = _ARCHITECTURE.search(memory.raw)
    if arch is None:
        raise TargetError(f"HIP does not say which processor device {number.value} has")
    return Device(arch.group().decode(), memory.value.decode(errors="replace"), number.value)


def _driver_gpus(nodes: Path) -> list[str]:
    """The gfx of each GPU, in the driver's order (drivers/gpu/drm/amd/amdkfd/kfd_topology.c)."""
    found = []
    for file in sorted(nodes.glob("*/properties"), key=lambda path: int(path.parent.name)):
        try:
            text = file.read_text(encoding="ascii")
        except OSError:  # a node that a container may not see
            continue
        version = re.search(r"^gfx_target_version (\d+)$", text, re.M)
        if version and int(version.group(1)):
            rest, step = divmod(int(version.group(1)), 100)
            major, minor = divmod(rest, 100)
            found.append(f"gfx{major}{minor:x}{step:x}")
    return found


def has_launch_dims() -> bool:
    """Whether the gpu target, which is loaded, can launch grids and workgroups in y and z (patches/)."""
    fields = b"{global_y: 1, global_z: 1, local_y: 1, local_z: 1, dynamic_lds: 0}"
    try:
        capi.new("operation", "operation_create", b"gpu::code_object", fields, doing="make the operator")
    except MigraphxError:
        return False
    return True


def has_mlir() -> bool:
    """Whether the gpu target, which is loaded, was built with rocMLIR (src/targets/gpu/fuse_mlir.cpp)."""
    try:
        capi.new("operation", "operation_create", b"gpu::mlir_op", None, doing="make the operator")
    except MigraphxError:
        return False
    return True
