"""What goes into and comes out of the kernel compiler.

The interface of a kernel, on every target: one function whose arguments are the operands in order, each a tensor of
the operand's physical shape, then one `!hal.buffer {iree.abi.output = N : index}` a result, which is written in
place. The pointers of a GPU's code object follow IREE's order, which is that of use: `GpuKernel.operands` says which is
which.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

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
    """A code object (ELF) that MIGraphX can launch, once, over whole arguments.

    Attributes:
        symbol: the kernel's symbol in the code object.
        workgroups: number of workgroups in x.
        workgroup_size: work-items of a workgroup in x.
        operands: for each pointer the kernel takes, in order, which of the request's arguments it is. Every result is
            there once; an operand that the computation does not read is not.
        workgroups_yz: number of workgroups in y and z; only a MIGraphX with patches/ launches others than 1.
        workgroup_size_yz: work-items of a workgroup in y and z, likewise.
        dynamic_lds: bytes of local memory that a launch gives beyond the kernel's own, likewise.
    """

    symbol: str
    code_object: bytes
    workgroups: int
    workgroup_size: int
    resources: KernelResources
    operands: tuple[int, ...]
    workgroups_yz: tuple[int, int] = (1, 1)
    workgroup_size_yz: tuple[int, int] = (1, 1)
    dynamic_lds: int = 0


@dataclass(frozen=True, slots=True)
class Region:
    """Bytes of a buffer: of one of the request's arguments, by number, or of a temporary, numbered after those."""

    buffer: int
    offset: int
    size: int


@dataclass(frozen=True, slots=True)
class Launch:
    """One launch of a sequence.

    Attributes:
        symbol: the kernel's symbol in the code object.
        workgroups: number of workgroups in x.
        workgroup_size: work-items of a workgroup in x.
        pointers: what the kernel's pointers are to, in order.
        workgroups_yz: number of workgroups in y and z; only a MIGraphX with patches/ launches others than 1.
        workgroup_size_yz: work-items of a workgroup in y and z, likewise.
        dynamic_lds: bytes of local memory that a launch gives beyond the kernel's own, likewise.
    """

    symbol: str
    workgroups: int
    workgroup_size: int
    resources: KernelResources
    pointers: tuple[Region, ...]
    workgroups_yz: tuple[int, int] = (1, 1)
    workgroup_size_yz: tuple[int, int] = (1, 1)
    dynamic_lds: int = 0


@dataclass(frozen=True, slots=True)
class Fill:
    """Zeros into a region."""

    target: Region


@dataclass(frozen=True, slots=True)
class Copy:
    """One region's bytes into another one."""

    source: Region
    target: Region


@dataclass(frozen=True, slots=True)
class GpuSequence:
    """What is done one after the other where a kernel is not one launch over whole arguments.

    Attributes:
        symbol: the request's.
        code_object: the ELF with the kernels of all launches.
        arguments: how many the request has; the results come last.
        results: how many of them are results.
        temporaries: bytes of each buffer that only the sequence itself uses.
    """

    symbol: str
    code_object: bytes
    steps: tuple[Launch | Fill | Copy, ...]
    arguments: int
    results: int
    temporaries: tuple[int, ...]

    @property
    def launches(self) -> tuple[Launch, ...]:
        """The launches among the steps."""
        return tuple(step for step in self.steps if isinstance(step, Launch))

    @property
    def regions(self) -> tuple[Region, ...]:
        """All that the steps read or write, in order."""
        found: list[Region] = []
        for step in self.steps:
            match step:
                case Launch():
                    found += step.pointers
                case Fill():
                    found.append(step.target)
                case Copy():
                    found += (step.source, step.target)
        return tuple(found)

    @property
    def operands(self) -> tuple[int, ...]:
        """The arguments that the steps read or write, each once."""
        return tuple(sorted({region.buffer for region in self.regions if region.buffer < self.arguments}))

    @property
    def resources(self) -> KernelResources:
        """What reports say of it: the resources of the launch with the most work-items, and how many launches."""
        most = max(self.launches, key=lambda launch: launch.workgroups * launch.workgroup_size)
        return replace(most.resources, launches=len(self.launches))


#: What a request may come to.
Kernel = HostKernel | GpuKernel | GpuSequence


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: a kernel, or the refusal that says why not.

    Attributes:
        seconds: time iree-compile took; 0 where the cache had the answer.
        cache: "hit", "miss" or "off".
        started: when, by time.monotonic(); None where it was not compiled now, or by an executor of the user's.
        worker: which of the compilers that ran at once.
    """

    kernel: Kernel | Refusal
    seconds: float
    cache: str
    started: float | None = field(default=None, compare=False)
    worker: int | None = field(default=None, compare=False)
