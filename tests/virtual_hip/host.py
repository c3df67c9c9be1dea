"""A GPU kernel computed by the kernel that IREE makes of the same request for this machine's CPU."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels.model import GpuKernel, GpuSequence, HostKernel
from iree_migraphx.splice.runtime import LoadedKernel, device
from virtual_hip.device import KernelSpec


def specs(
    hosts: Sequence[HostKernel], kernel: GpuKernel | GpuSequence, arguments: Sequence[Shape]
) -> dict[str, KernelSpec]:
    """What to register for a kernel, by symbol: `computed_by` for one launch, `computed_at_the_end` for several."""
    if isinstance(kernel, GpuSequence):
        return computed_at_the_end(hosts, kernel, arguments)
    return {kernel.symbol: computed_by(hosts, kernel, arguments)}


def computed_at_the_end(
    hosts: Sequence[HostKernel], kernel: GpuSequence, arguments: Sequence[Shape]
) -> dict[str, KernelSpec]:
    """A sequence whose last launch computes everything; what is between the launches is not looked at."""
    seen: dict[int, np.ndarray] = {}
    launches = itertools.cycle(kernel.launches)
    whole = GpuKernel(kernel.symbol, b"", 1, 1, kernel.resources, kernel.operands)
    everything = computed_by(hosts, whole, arguments).compute

    def compute(buffers: list[np.ndarray]) -> None:
        launch = next(launches)
        seen.update((region.buffer, buffer) for region, buffer in zip(launch.pointers, buffers, strict=True))
        if launch == kernel.launches[-1]:
            everything([seen[index] for index in kernel.operands])

    return {
        launch.symbol: KernelSpec(tuple(region.size for region in launch.pointers), compute, ())
        for launch in kernel.launches
    }


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
