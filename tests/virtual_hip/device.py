"""The virtual GPU in a test: what was launched on it, what computes a launch, and what was done wrong.

Everything wrong is a fault: a line of text in `VirtualDevice.faults`. `check` raises where there is one.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import hashlib
import itertools
import os
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import numpy as np

from virtual_hip import hip, metadata

GFX = ("gfx90a", "gfx942", "gfx950", "gfx1100", "gfx1201")
OURS = "iree_"
ALIGNMENT = 16
_HOST_TO_DEVICE, _DEVICE_TO_HOST = 1, 2

Compute = Callable[[list[np.ndarray]], None]


class VirtualDeviceError(AssertionError):
    """What was done wrong on the virtual device."""


@dataclass(frozen=True)
class KernelSpec:
    """What a test knows of a kernel that IREE compiled.

    Attributes:
        sizes: bytes that the kernel reads or writes behind each of its pointers.
        compute: what the kernel does, to buffers of just these bytes, in place; None where nobody knows.
        results: indices of the pointers that it writes; negative ones count from the end.
        workgroups: how many it was compiled for, in x or in x, y and z; None where that is not to be checked.
        dynamic_lds: bytes of local memory that its launch must give beyond its own.
    """

    sizes: tuple[int, ...]
    compute: Compute | None = None
    results: tuple[int, ...] = (-1,)
    workgroups: int | tuple[int, int, int] | None = None
    dynamic_lds: int = 0


@dataclass(frozen=True)
class Launch:
    """One launch, with the addresses it was given (empty for a kernel inside libmigraphx_device).

    `computed` says whether somebody did what the kernel does.
    """

    symbol: str
    pointers: tuple[int, ...]
    global_size: tuple[int, int, int]
    local_size: tuple[int, int, int]
    computed: bool
    dynamic_lds: int = 0

    @property
    def is_ours(self) -> bool:
        return self.symbol.startswith(OURS)


@dataclass(frozen=True)
class Buffer:
    """Device memory that a test allocated."""

    address: int
    bytes: int


@final
@dataclass
class VirtualDevice:
    """The GPUs of this process, from `with` to its end. There is only one at a time.

    Attributes:
        gfx: the device's name, or several with commas between them: as many devices.
        seed: of the random finite numbers that fresh device memory starts with.
        launches: everything that was launched.
        library_calls: what MIOpen, rocBLAS or hipBLASLt were asked to compute, and did not.
        faults: what was done wrong.
    """

    gfx: str = "gfx942"
    seed: int = 1
    launches: list[Launch] = field(default_factory=list)
    library_calls: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    _kernels: dict[tuple[str, str | None], KernelSpec] = field(default_factory=dict)
    _numbers: bool = False
    _observer: hip.Observer | None = None
    _before: str | None = None

    def __enter__(self) -> VirtualDevice:
        library = hip.library()
        self._before = os.environ.get(hip.DEVICES)
        self.use(self.gfx)
        library.virtual_hip_set_seed(self.seed)
        self._observer = hip.Observer(
            hip.LAUNCH(self._launch), hip.LIBRARY_CALL(self._library_call), hip.FAULT(self._fault)
        )
        library.virtual_hip_observe(ctypes.byref(self._observer))
        return self

    def __exit__(self, *_: object) -> None:
        hip.library().virtual_hip_observe(None)
        if self._before is None:
            os.environ.pop(hip.DEVICES, None)
        else:
            os.environ[hip.DEVICES] = self._before

    def use(self, gfx: str) -> None:
        """Have another device, or several, in this process and in those that it starts from here on.

        Programs that are compiled already keep the code for the old one.
        """
        if not hip.library().virtual_hip_set_devices(gfx.encode()):
            raise ValueError(f"there is no virtual {gfx}; there are {', '.join(GFX)}")
        self.gfx = os.environ[hip.DEVICES] = gfx

    def register(self, symbol: str, spec: KernelSpec, code_object: bytes | None = None) -> None:
        """Say what a kernel is. With its code object, where several have the same symbol."""
        self._kernels[symbol, _digest(code_object) if code_object is not None else None] = spec

    @contextlib.contextmanager
    def expect_numbers(self) -> Iterator[None]:
        """A block whose results are compared: a launch or a library's call that nobody computes in it is a fault."""
        self._numbers = True
        try:
            yield
        finally:
            self._numbers = False

    @contextlib.contextmanager
    def expect_no_leaks(self) -> Iterator[None]:
        """A block that must free all it allocates: memory, streams, events and modules."""
        gc.collect()
        before, objects = set(self.live()), hip.library().virtual_hip_live_objects()
        yield
        gc.collect()
        for address, size in sorted(set(self.live()) - before):
            self.faults.append(f"leak: {size} bytes at {address:#x}")
        count = hip.library().virtual_hip_live_objects() - objects
        if count > 0:
            self.faults.append(f"leak: {count} streams, events or modules")

    def check(self) -> None:
        """Raise VirtualDeviceError where anything was done wrong so far."""
        hip.library().virtual_hip_check_guards()
        if self.faults:
            raise VirtualDeviceError("on the virtual GPU:\n  " + "\n  ".join(self.faults))

    def live(self) -> list[tuple[int, int]]:
        """Address and bytes of everything that is allocated, oldest first."""
        count = hip.library().virtual_hip_live(None, 0)
        ranges = (hip.Range * count)()
        hip.library().virtual_hip_live(ranges, count)
        return [(each.base, each.bytes) for each in ranges]

    def allocate(self, size: int) -> Buffer:
        """Fresh device memory."""
        pointer = ctypes.c_void_p()
        if status := hip.library().hipMalloc(ctypes.byref(pointer), size):
            raise MemoryError(f"hipMalloc of {size} bytes: error {status}")
        return Buffer(pointer.value or 0, size)

    def upload(self, array: np.ndarray) -> Buffer:
        """A copy of the array's elements, row-major, in device memory."""
        data = np.ascontiguousarray(array)
        buffer = self.allocate(data.nbytes)
        hip.library().hipMemcpy(buffer.address, data.ctypes.data, data.nbytes, _HOST_TO_DEVICE)
        return buffer

    def download(self, address: int, lens: Sequence[int], dtype: Any) -> np.ndarray:
        """What lies at an address, row-major."""
        result = np.empty(lens, dtype)
        hip.library().hipMemcpy(result.ctypes.data, address, result.nbytes, _DEVICE_TO_HOST)
        return result

    def free(self, *buffers: Buffer) -> None:
        for buffer in buffers:
            hip.library().hipFree(buffer.address)

    def _fault(self, text: bytes) -> None:
        self.faults.append(text.decode(errors="replace"))

    def _library_call(self, library: bytes, function: bytes) -> None:
        self.library_calls.append(function.decode())
        if self._numbers:
            self.faults.append(f"{library.decode()} was to compute ({function.decode()}), and only pretends to")

    def _launch(self, pointer: Any) -> int:
        # Nothing may be raised into the library; what is wrong is found by `check`.
        try:
            self._see(pointer.contents)
        except Exception:
            self.faults.append(f"launch of {pointer.contents.symbol.decode()}: {traceback.format_exc()}")
        return 0

    def _see(self, launch: hip.Launch) -> None:
        symbol = launch.symbol.decode()
        pointers: tuple[int, ...] = ()
        wrong: list[str] = []
        spec = None
        if launch.code_object:
            code_object = ctypes.string_at(launch.code_object, launch.code_object_bytes)
            spec = self._spec(symbol, code_object)
            buffer = ctypes.string_at(launch.arguments, launch.argument_bytes)
            kernel = metadata.kernels(code_object)[symbol]
            wrong = list(shape_faults(launch, kernel, spec))
            pointers, kinds = unpack(buffer, kernel)
            if len(pointers) == len(kernel.arguments):
                given = [p for p, kind in zip(pointers, kinds, strict=True) if kind == metadata.POINTER]
                wrong += pointer_faults(given, spec, symbol.startswith(OURS))
        computed = False
        if not wrong and spec is not None and spec.compute is not None:
            spec.compute([view(p, size) for p, size in zip(pointers, spec.sizes, strict=True)])
            computed = True
        self.faults += [f"launch of {symbol}: {text}" for text in wrong]
        if self._numbers and not computed and not wrong:
            self.faults.append(f"launch of {symbol}, which nobody here can compute")
        sizes = tuple(launch.global_size), tuple(launch.local_size)
        self.launches.append(Launch(symbol, pointers, *sizes, computed, launch.dynamic_lds))

    def _spec(self, symbol: str, code_object: bytes) -> KernelSpec | None:
        exact = self._kernels.get((symbol, _digest(code_object)))
        return exact if exact is not None else self._kernels.get((symbol, None))


def view(address: int, size: int) -> np.ndarray:
    """The memory itself."""
    return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))


def unpack(buffer: bytes, kernel: metadata.Kernel) -> tuple[tuple[int, ...], list[str]]:
    """The argument buffer as the words it is made of, and the kinds of the kernel's arguments."""
    words = np.frombuffer(buffer[: len(buffer) // 8 * 8], np.uint64)
    return tuple(int(word) for word in words), [argument.kind for argument in kernel.arguments]


def shape_faults(launch: hip.Launch, kernel: metadata.Kernel, spec: KernelSpec | None) -> Iterator[str]:
    """Where grid, workgroup or the number of arguments disagree with the code object or the spec."""
    grid, group = tuple(launch.global_size), tuple(launch.local_size)
    expected = sum(argument.size for argument in kernel.arguments)
    if launch.argument_bytes != expected:
        yield f"{launch.argument_bytes} bytes of arguments, but the kernel takes {expected}"
    if kernel.workgroup is not None and kernel.workgroup != group:
        yield f"workgroups of {group}, but it was compiled for {kernel.workgroup}"
    if np.prod(group) > kernel.most:
        yield f"workgroups of {group}, but at most {kernel.most} work-items were compiled for"
    # MIGraphX's own kernels do with a last workgroup that is cut short.
    if launch.symbol.startswith(OURS.encode()) and any(total % size for total, size in zip(grid, group, strict=True)):
        yield f"{grid} work-items are not whole workgroups of {group}"
    if spec is not None:
        wanted = (spec.workgroups, 1, 1) if isinstance(spec.workgroups, int) else spec.workgroups
        if wanted is not None and grid != tuple(count * size for count, size in zip(wanted, group, strict=True)):
            yield f"{grid} work-items in workgroups of {group}, but it was compiled for {wanted} workgroups"
        if spec.dynamic_lds != launch.dynamic_lds:
            yield f"{launch.dynamic_lds} bytes of dynamic local memory, but it needs {spec.dynamic_lds}"
        if len(spec.sizes) != len(kernel.arguments):
            yield f"its spec has {len(spec.sizes)} buffers, the kernel {len(kernel.arguments)} arguments"


def pointer_faults(pointers: Sequence[int], spec: KernelSpec | None, ours: bool) -> Iterator[str]:
    """Which pointers can't be what the kernel needs, and why."""
    sizes: Sequence[int] = spec.sizes if spec is not None and len(spec.sizes) == len(pointers) else [1] * len(pointers)
    for index, (pointer, size) in enumerate(zip(pointers, sizes, strict=True)):
        found = hip.library().virtual_hip_find(pointer)
        if found.kind == hip.FREED:
            yield f"use after free: argument {index} ({pointer:#x})"
        elif found.kind == hip.NONE:
            yield f"argument {index} ({pointer:#x}) is no memory of the device"
        elif pointer + size > found.base + found.bytes:
            yield f"argument {index} needs {size} bytes, and {found.base + found.bytes - pointer} are left there"
        if ours and pointer % ALIGNMENT:
            yield f"argument {index} ({pointer:#x}) is not aligned to {ALIGNMENT} bytes"
    if spec is not None and spec.results:
        ends = [(p, p + size, index) for index, (p, size) in enumerate(zip(pointers, sizes, strict=True))]
        written = [ends[index] for index in spec.results]
        for (first, end, index), (other, other_end, at) in itertools.product(written, ends):
            if index != at and first < other_end and other < end:
                yield f"it writes argument {index} over argument {at}"


def _digest(code_object: bytes) -> str:
    return hashlib.sha256(code_object).hexdigest()
