"""A GPU kernel computed by the kernel that IREE makes of the same request for this machine's CPU."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels.model import Copy, GpuKernel, GpuSequence, HostKernel, Launch
from iree_migraphx.splice.runtime import LoadedKernel, device
from virtual_hip.device import KernelSpec, view

#: Large in every float type, and finite.
_GARBAGE = 0x7B

#: Who wants to see what a kernel did: the bytes of each of the request's arguments that it reads or writes, operands as
#: they were when its first launch began, results as its last one leaves them.
Observer = Callable[[Mapping[int, np.ndarray]], None]


def specs(
    hosts: Sequence[HostKernel],
    kernel: GpuKernel | GpuSequence,
    arguments: Sequence[Shape],
    observer: Observer | None = None,
) -> dict[str, KernelSpec]:
    """What to register for a kernel, by symbol: `computed_by` for one launch, `computed_at_the_end` for several."""
    if isinstance(kernel, GpuSequence):
        return computed_at_the_end(hosts, kernel, arguments, observer)
    return {kernel.symbol: computed_by(hosts, kernel, arguments, observer)}


def computed_by(
    hosts: Sequence[HostKernel], kernel: GpuKernel, arguments: Sequence[Shape], observer: Observer | None = None
) -> KernelSpec:
    """What to register for a kernel; `arguments` are the request's; each host kernel computes a result."""
    everything = _Hosts(hosts, arguments)

    def compute(buffers: list[np.ndarray]) -> None:
        given = dict(zip(kernel.operands, buffers, strict=True))
        before = everything.operands(given)
        everything.compute(given)
        if observer is not None:
            observer(given | before)

    sizes = tuple(arguments[index].nbytes for index in kernel.operands)
    results = tuple(at for at, index in enumerate(kernel.operands) if index >= everything.first_result)
    return KernelSpec(sizes, compute, results, (kernel.workgroups, *kernel.workgroups_yz), kernel.dynamic_lds)


def computed_at_the_end(
    hosts: Sequence[HostKernel], kernel: GpuSequence, arguments: Sequence[Shape], observer: Observer | None = None
) -> dict[str, KernelSpec]:
    """A sequence whose last launch computes everything.

    The launches before it leave garbage in the buffers between them: one that lies over what is still to be read does
    not go unnoticed then. Each operand counts as it is when it is read last: later ones may write results there.
    """
    everything = _Hosts(hosts, arguments)
    launches = [at for at, step in enumerate(kernel.steps) if isinstance(step, Launch)]
    turn = itertools.cycle(launches)
    begins: dict[int, int] = {}
    before: dict[int, np.ndarray] = {}
    read: dict[int, np.ndarray] = {}

    def compute(buffers: list[np.ndarray]) -> None:
        at = next(turn)
        for region, buffer in zip(kernel.steps[at].pointers, buffers, strict=True):
            begin = buffer.ctypes.data - region.offset
            assert begins.setdefault(region.buffer, begin) == begin, f"buffer {region.buffer} has moved"
            if region.buffer < everything.first_result and region.buffer not in before:
                before[region.buffer] = view(begin, arguments[region.buffer].nbytes).copy()
            if region.buffer >= kernel.arguments:
                buffer.fill(_GARBAGE)
        operands = {region.buffer for region in kernel.steps[at].pointers if region.buffer < everything.first_result}
        read.update({index: view(begins[index], arguments[index].nbytes).copy() for index in operands})
        if at != launches[-1]:
            return
        given = {
            index: view(begins[index], shape.nbytes) if index in begins else np.zeros(shape.nbytes, np.uint8)
            for index, shape in enumerate(arguments)
            if index in kernel.operands
        }
        everything.compute(given | read)
        for step in kernel.steps[at + 1 :]:
            # What a copy then brings to a result has to come from where it reads.
            if isinstance(step, Copy) and everything.first_result <= step.target.buffer < kernel.arguments:
                part = given[step.target.buffer][step.target.offset :][: step.target.size]
                view(begins[step.source.buffer] + step.source.offset, step.source.size)[:] = part
        if observer is not None:
            observer(given | before)
        begins.clear()
        before.clear()
        read.clear()

    return {
        launch.symbol: KernelSpec(
            tuple(region.size for region in launch.pointers),
            compute,
            (),
            (launch.workgroups, *launch.workgroups_yz),
            launch.dynamic_lds,
        )
        for launch in kernel.launches
    }


class _Hosts:
    """A request's results, each by a kernel of its own.

    Attributes:
        first_result: the number of the first argument that is a result.
    """

    def __init__(self, hosts: Sequence[HostKernel], arguments: Sequence[Shape]) -> None:
        self.first_result = len(arguments) - len(hosts)
        self._loaded = [
            LoadedKernel(device(2), host, arguments[: self.first_result], shape)
            for host, shape in zip(hosts, arguments[self.first_result :], strict=True)
        ]
        # A kernel leaves out what it does not read.
        self._unread = [np.zeros(shape.nbytes, np.uint8) for shape in arguments]

    def operands(self, given: Mapping[int, np.ndarray]) -> dict[int, np.ndarray]:
        """Copies of the operands among the arguments."""
        return {index: buffer.copy() for index, buffer in given.items() if index < self.first_result}

    def compute(self, given: Mapping[int, np.ndarray]) -> None:
        """Write the results, of arguments by their numbers."""
        everything = dict(enumerate(self._unread)) | dict(given)
        pointers = [everything[index].ctypes.data for index in sorted(everything)]
        for one, result in zip(self._loaded, pointers[self.first_result :], strict=True):
            one.run(pointers[: self.first_result], {}, result)
