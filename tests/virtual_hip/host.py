"""A GPU kernel computed by the kernel that IREE makes of the same request for this machine's CPU."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels.model import GpuKernel, HostKernel
from iree_migraphx.splice.runtime import LoadedKernel, device
from virtual_hip.device import KernelSpec


def computed_by(host: HostKernel, kernel: GpuKernel, arguments: Sequence[Shape]) -> KernelSpec:
    """What to register for a kernel of one result; `arguments` are the request's, the result last."""
    loaded = LoadedKernel(device(2), host, arguments[:-1], arguments[-1])
    unread = [np.zeros(shape.nbytes, np.uint8) for shape in arguments]

    def compute(buffers: list[np.ndarray]) -> None:
        # The kernel's own order leaves out what it does not read.
        given = dict(enumerate(unread)) | dict(zip(kernel.operands, buffers, strict=True))
        *operands, result = (given[index].ctypes.data for index in range(len(arguments)))
        loaded.run(operands, {}, result)

    sizes = tuple(arguments[index].nbytes for index in kernel.operands)
    return KernelSpec(sizes, compute, workgroups=kernel.workgroups)
