"""A GPU kernel computed by the kernel that IREE makes of the same request for this machine's CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels.model import GpuKernel, HostKernel
from iree_migraphx.splice.runtime import LoadedKernel, device
from virtual_hip.device import KernelSpec


def computed_by(hosts: Sequence[HostKernel], kernel: GpuKernel, arguments: Sequence[Shape]) -> KernelSpec:
    """What to register for a kernel; `arguments` are the request's; each host kernel computes a result."""
    count = len(arguments) - len(hosts)
    loaded = [
        LoadedKernel(device(2), host, arguments[:count], shape)
        for host, shape in zip(hosts, arguments[count:], strict=True)
    ]
    unread = [np.zeros(shape.nbytes, np.uint8) for shape in arguments]

    def compute(buffers: list[np.ndarray]) -> None:
        # The kernel's own order leaves out what it does not read.
        given = dict(enumerate(unread)) | dict(zip(kernel.operands, buffers, strict=True))
        pointers = [given[index].ctypes.data for index in range(len(arguments))]
        for one, result in zip(loaded, pointers[count:], strict=True):
            one.run(pointers[:count], {}, result)

    sizes = tuple(arguments[index].nbytes for index in kernel.operands)
    results = tuple(at for at, index in enumerate(kernel.operands) if index >= count)
    return KernelSpec(sizes, compute, results, kernel.workgroups)
