"""What goes into and comes out of the kernel compiler.

The interface of a kernel, on every target: one function whose arguments are the operands in order, each a tensor of
the operand's physical shape, then one `!hal.buffer {iree.abi.output = N : index}` a result, which is written in
place. The pointers of a GPU's code object follow IREE's order, which is that of use: `GpuKernel.operands` says which is
which.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from iree_migraphx.errors import Refusal
from iree_migraphx.report import KernelResources


@dataclass(frozen=True, slots=True)
class Request:
    """One distinct subgraph to compile.

    Attributes:
        symbol: the function's name, also the kernel's public name.
        mlir: the module's text.
        arguments: how many arguments the function has, results included.
        anchor: the anchor's operator name, for progress and for flags by kind.
        cost: a guess of how long the compile takes; only the order matters (slowest first).
    """

    symbol: str
    mlir: str
    arguments: int
    anchor: str
    cost: float = 0.0


@dataclass(frozen=True, slots=True)
class HostKernel:
    """An IREE module (.vmfb) for this machine's CPU with one exported function `symbol`."""

    symbol: str
    vmfb: bytes

    @property
    def resources(self) -> KernelResources:
        """What reports say of it: its name."""
        return KernelResources(self.symbol)


@dataclass(frozen=True, slots=True)
class GpuKernel:
    """A code object (ELF) that MIGraphX can launch: pointers only, one grid dimension, one workgroup dimension.

    Attributes:
        symbol: the kernel's symbol in the code object.
        workgroups: number of workgroups in x.
        workgroup_size: work-items of a workgroup in x.
        operands: for each pointer the kernel takes, in order, which of the request's arguments it is. Every result is
            there once; an operand that the computation does not read is not.
    """

    symbol: str
    code_object: bytes
    workgroups: int
    workgroup_size: int
    resources: KernelResources
    operands: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: a kernel, or the refusal that says why not.

    Attributes:
        seconds: time iree-compile took; 0 where the cache had the answer.
        cache: "hit", "miss" or "off".
        started: when, by time.monotonic(); None where it was not compiled now, or by an executor of the user's.
        worker: which of the compilers that ran at once.
    """

    kernel: HostKernel | GpuKernel | Refusal
    seconds: float
    cache: str
    started: float | None = field(default=None, compare=False)
    worker: int | None = field(default=None, compare=False)
