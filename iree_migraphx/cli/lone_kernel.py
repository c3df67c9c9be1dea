"""One kernel by itself, on operands that are made up: on this machine's CPU, or on its GPU through MIGraphX."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iree_migraphx.errors import KernelError, Refusal
from iree_migraphx.ir.model import Program
from iree_migraphx.kernels.model import GpuKernel, GpuSequence, HostKernel
from iree_migraphx.splice.compare import terms
from iree_migraphx.splice.gpu_trial import alone as gpu_alone
from iree_migraphx.splice.runtime import LoadedKernel, aligned_bytes, device
from iree_migraphx.splice.trial import logical, made_up

if TYPE_CHECKING:
    from iree_migraphx.partition.subgraph import Subgraph
    from iree_migraphx.study import Study


class LoneKernel:
    """A subgraph's kernel, ready to run.

    Args:
        study: which the kernel is of.
        subgraph: what it computes.
        alone: the subgraph's body as a program.
        threads: of a kernel for the CPU.

    Raises:
        KernelError: there is no kernel, or it could not be made ready.
    """

    def __init__(self, study: Study, subgraph: Subgraph, alone: Program, threads: int) -> None:
        kernel = study.outcomes[subgraph.key].kernel
        if len(subgraph.results) != 1:
            raise KernelError(
                f"{subgraph.name} has {len(subgraph.results)} results; only a kernel with one can be run alone"
            )
        self._subgraph = subgraph
        self._shapes = [parameter.shape for parameter in subgraph.parameters]
        if isinstance(kernel, HostKernel):
            self._run = self._on_host
            self._loaded = LoadedKernel(device(threads), kernel, self._shapes, subgraph.result_shape)
        elif isinstance(kernel, (GpuKernel, GpuSequence)):
            self._run = self._on_gpu
            try:
                self._program = gpu_alone(subgraph, kernel, alone)
            except Refusal as refusal:
                raise KernelError(f"{subgraph.name}: {refusal.detail}") from refusal
        else:
            raise KernelError(f"{subgraph.name} has no kernel: {kernel}")

    def operands(self, seed: int) -> list[npt.NDArray[Any]]:
        """The operands' memory, without gaps and broadcasts."""
        return made_up(self._subgraph.body, terms(self._subgraph.body), seed)

    def values(self, memory: Sequence[npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Operands as values of the body's parameters."""
        return {
            str(parameter.operator["parameter"]): logical(each, parameter.shape)
            for parameter, each in zip(self._subgraph.parameters, memory, strict=True)
        }

    def run(self, memory: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """The result for these operands.

        Raises:
            KernelError: the kernel failed.
        """
        return self._run(memory)

    def timed(self, memory: Sequence[npt.NDArray[Any]]) -> Callable[[], None]:
        """A call that runs a kernel for the CPU on these operands and nothing else."""
        held, output = _aligned(memory), aligned_bytes(self._subgraph.result_shape.nbytes)
        pointers = [each.ctypes.data for each in held]

        def run() -> None:
            # The arrays have to live as long as their addresses are used.
            assert len(held) == len(pointers)
            self._loaded.run(pointers, {}, output.ctypes.data)

        return run

    def _on_host(self, memory: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        result = self._subgraph.result_shape
        held, output = _aligned(memory), aligned_bytes(result.nbytes)
        # A kernel that does not write everything leaves this, which is no likely result.
        output[:] = 0xA5
        self._loaded.run([each.ctypes.data for each in held], {}, output.ctypes.data)
        return np.array(logical(output.view(result.dtype), result))

    def _on_gpu(self, memory: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        (result,) = self._program.run(self.values(memory))
        return np.array(result)


def _aligned(memory: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[np.uint8]]:
    held = []
    for each in memory:
        held.append(aligned_bytes(each.nbytes))
        held[-1][:] = np.ascontiguousarray(each).reshape(-1).view(np.uint8)
    return held
