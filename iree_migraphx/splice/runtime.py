"""Running a host kernel with iree.runtime: IREE's CPU device, a loaded module, and memory that both sides share."""

from __future__ import annotations

import ctypes
import hashlib
import os
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from iree_migraphx.binding.scratch import ALIGNMENT as ALIGNMENT
from iree_migraphx.binding.scratch import aligned_bytes as aligned_bytes
from iree_migraphx.errors import KernelError
from iree_migraphx.ir.layout import physical_lens
from iree_migraphx.ir.model import Shape
from iree_migraphx.kernels.model import HostKernel
from iree_migraphx.lowering.types import memory_type

if TYPE_CHECKING:
    from iree import runtime as iree_runtime

#: Columns that are copied at a time: 128 bytes of a float's rows.
_COLUMNS = 32

#: Bytes up to which a kernel runs on the caller's thread. Handing it to others costs some ten microseconds on an idle
#: machine and some hundred on a busy one, as much as a core needs for so much memory.
INLINE = 512 * 1024

_DEVICE_LOCK = threading.Lock()
_devices: list[Device] = []


def copy_in_blocks(target: npt.NDArray[Any], source: npt.NDArray[Any]) -> None:
    """Copy a transposed view into dense memory a few columns at a time.

    Both sides then stay in the processor's cache; for filters of some megabytes this was 4 to 7 times faster.
    """
    if source.ndim == 0 or source.flags.c_contiguous:
        np.copyto(target, source)
        return
    for first in range(0, source.shape[-1], _COLUMNS):
        columns = slice(first, first + _COLUMNS)
        np.copyto(target[..., columns], source[..., columns])


@dataclass(frozen=True)
class Queue:
    """One of the two ways in which IREE runs kernels on the CPU, with what its modules and memory belong to."""

    runtime: Any
    instance: Any
    device: Any
    hal: Any

    @staticmethod
    def of(runtime: Any, driver: str) -> Queue:
        """The queue of a driver of IREE's by its name."""
        instance, device = runtime.VmInstance(), runtime.get_driver(driver).create_default_device()
        return Queue(runtime, instance, device, runtime.create_hal_module(instance, device))

    def buffer(self, memory: npt.NDArray[np.uint8]) -> iree_runtime.HalBuffer:
        """Aligned memory as a buffer of the device.

        The memory is kept alive by the Python object only, not by a view over the buffer: keep it as long as the view.
        """
        r = self.runtime
        kind = r.MemoryType.HOST_LOCAL | r.MemoryType.DEVICE_VISIBLE
        return self.device.allocator.import_host_allocation(memory, int(kind), int(r.BufferUsage.DEFAULT))


class Device:
    """IREE's CPU device. There is one in a process, whose threads are started with the first kernel."""

    def __init__(self, threads: int) -> None:
        from iree import runtime

        # The number of threads is a flag of the driver; it holds for the whole process.
        runtime.flags.parse_flags(f"--task_topology_max_group_count={threads}")
        self.runtime: Any = runtime
        self._process = os.getpid()
        self.inline = Queue.of(runtime, "local-sync")
        self.threads = self.inline if threads == 1 else Queue.of(runtime, "local-task")
        self.kernels: weakref.WeakValueDictionary[bytes, LoadedKernel] = weakref.WeakValueDictionary()

    def queue(self, size: int) -> Queue:
        """Where to run a kernel over operands and results of `size` bytes: on the caller's thread, or on several."""
        return self.inline if size <= INLINE else self.threads

    def check_process(self) -> None:
        """See that the process is the device's own: a fork takes its memory along, but not the threads it waits for.

        Raises:
            KernelError: it is not.
        """
        if os.getpid() != self._process:
            raise KernelError(
                "this process was forked from one that had IREE's CPU device open, so it can't run kernels; "
                "start processes with multiprocessing's method spawn or forkserver"
            )

    def load(self, kernel: HostKernel, operands: Sequence[Shape], result: Shape) -> LoadedKernel:
        """The kernel ready to run; the same object for the same kernel while anybody holds it."""
        key = hashlib.sha256(kernel.vmfb).digest()
        with _DEVICE_LOCK:
            loaded = self.kernels.get(key)
            if loaded is None:
                loaded = self.kernels[key] = LoadedKernel(self, kernel, operands, result)
            return loaded


def device(threads: int) -> Device:
    """The process's device; the number of threads of the first call holds.

    Raises:
        KernelError: the device is that of the process which this one was forked from.
    """
    with _DEVICE_LOCK:
        if not _devices:
            _devices.append(Device(threads))
        _devices[0].check_process()
        return _devices[0]


class Constant(NamedTuple):
    """An operand whose value never changes, and the memory behind it."""

    view: Any
    memory: npt.NDArray[np.uint8]


class LoadedKernel:
    """One kernel in IREE's virtual machine, with the aligned memory that operands and result pass through.

    MIGraphX's memory is rarely aligned as IREE's code needs it; then operands and result are copied through buffers
    that are made once. One call runs at a time.
    """

    def __init__(self, device: Device, kernel: HostKernel, operands: Sequence[Shape], result: Shape) -> None:
        r = device.runtime
        self.symbol = kernel.symbol
        self._device = device
        self._queue = queue = device.queue(sum(shape.nbytes for shape in (*operands, result)))
        try:
            module = r.VmModule.copy_buffer(queue.instance, kernel.vmfb)
            self._context = r.VmContext(queue.instance, [queue.hal, module])
            self._function = module.lookup_function(kernel.symbol)
        except (RuntimeError, ValueError) as error:
            raise KernelError(f"IREE's runtime can't load the kernel {kernel.symbol}: {error}") from error
        if self._function is None:
            raise KernelError(f"the kernel's module has no function {kernel.symbol}")
        self._views = [_View(r, shape) for shape in operands]
        self._result_bytes = result.nbytes
        self._lock = threading.Lock()
        self._staged: dict[int, tuple[npt.NDArray[np.uint8], Any]] = {}
        self._staged_result: tuple[npt.NDArray[np.uint8], Any] | None = None

    def constant(self, index: int, data: npt.NDArray[Any]) -> Constant:
        """Operand `index` with a value that never changes, to be passed to `run`; `data` in the order of memory."""
        memory = aligned_bytes(data.nbytes)
        copy_in_blocks(memory.view(data.dtype).reshape(data.shape), data)
        return Constant(self._views[index].over(self._queue.buffer(memory)), memory)

    def run(self, pointers: Sequence[int], constants: Mapping[int, Constant], output: int) -> None:
        """Compute the result.

        Args:
            pointers: addresses of the operands that are not constant, in order.
            constants: the others, by index.
            output: address of the result.

        Raises:
            KernelError: IREE's runtime refused the call, or the process was forked.
        """
        r = self._device.runtime
        self._device.check_process()
        given = iter(pointers)
        with self._lock:
            arguments = r.VmVariantList(len(self._views) + 1)
            for index, view in enumerate(self._views):
                constant = constants.get(index)
                arguments.push_ref(self._operand(index, view, next(given)) if constant is None else constant.view)
            direct = output % ALIGNMENT == 0
            memory, buffer = (None, self._wrap(output, self._result_bytes)) if direct else self._result()
            arguments.push_ref(buffer)
            try:
                self._context.invoke(self._function, arguments, r.VmVariantList(1))
            except (RuntimeError, ValueError) as error:
                raise KernelError(f"the kernel {self.symbol} failed: {error}") from error
            if memory is not None:
                ctypes.memmove(output, memory.ctypes.data, self._result_bytes)

    def _operand(self, index: int, view: _View, pointer: int) -> Any:
        if pointer % ALIGNMENT == 0:
            return view.over(self._wrap(pointer, view.bytes))
        if index not in self._staged:
            memory = aligned_bytes(view.bytes)
            self._staged[index] = (memory, view.over(self._queue.buffer(memory)))
        memory, staged = self._staged[index]
        ctypes.memmove(memory.ctypes.data, pointer, view.bytes)
        return staged

    def _result(self) -> tuple[npt.NDArray[np.uint8], Any]:
        if self._staged_result is None:
            memory = aligned_bytes(self._result_bytes)
            self._staged_result = (memory, self._queue.buffer(memory))
        return self._staged_result

    def _wrap(self, pointer: int, size: int) -> Any:
        memory = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(pointer))
        return self._queue.buffer(memory)


class _View:
    """How IREE sees an operand: the dense shape of its memory and its element type."""

    def __init__(self, runtime: Any, shape: Shape) -> None:
        self._make = runtime.HalBufferView
        self._element = _element_type(runtime, shape.type)
        self._lens = list(physical_lens(shape))
        self.bytes = shape.nbytes

    def over(self, buffer: Any) -> Any:
        return self._make(buffer, self._lens, self._element)


#: MLIR's element types -> the runtime's. What is not a float is bits, whatever MIGraphX makes of them.
_ELEMENT_TYPES = {
    "bf16": "BFLOAT_16", "f16": "FLOAT_16", "f32": "FLOAT_32", "f64": "FLOAT_64",
    "i8": "INT_8", "i16": "INT_16", "i32": "INT_32", "i64": "INT_64",
}  # fmt: skip


def _element_type(runtime: Any, type_: str) -> Any:
    return getattr(runtime.HalElementType, _ELEMENT_TYPES[memory_type(type_)])
