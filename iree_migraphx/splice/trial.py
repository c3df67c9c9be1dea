"""A host kernel on made-up operands, in a process of its own, beside MIGraphX's ref target on the same subgraph.

The process gets a folder with the subgraph as a program, the kernel, and the operands; it leaves MIGraphX's result and
then the kernel's. A kernel that crashes or hangs ends that process only.
"""

from __future__ import annotations

import ast
import math
import signal
from collections.abc import Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from iree_migraphx.ir.layout import physical_axes, physical_lens
from iree_migraphx.ir.model import Module, Program, Shape
from iree_migraphx.ir.write import write_program
from iree_migraphx.kernels.model import HostKernel

BODY = "body.mxr"
KERNEL = "kernel.vmfb"
TASK = "task"
EXPECTED = "expected"
ACTUAL = "actual"

#: A whole number as an operand: small enough that sums of products stay in range, with both signs where there are.
_LARGEST_WHOLE = 8


@dataclass(frozen=True, slots=True)
class Task:
    """What the process is told.

    Attributes:
        symbol: the kernel's function.
        seconds: that one run of the kernel may take.
        threads: of the kernel.
        shapes: type, lengths and strides of each operand, and of the result behind them.
    """

    symbol: str
    seconds: float
    threads: int
    shapes: tuple[tuple[str, tuple[int, ...], tuple[int, ...]], ...]

    def operands_and_result(self) -> tuple[list[Shape], Shape]:
        """The shapes as such."""
        *operands, result = (Shape(*fields) for fields in self.shapes)
        return operands, result


def prepare(folder: Path, body: Program, kernel: HostKernel, task: Task, operands: Sequence[npt.NDArray[Any]]) -> None:
    """Write what the process needs."""
    (folder / BODY).write_bytes(write_program(body))
    (folder / KERNEL).write_bytes(kernel.vmfb)
    (folder / TASK).write_text(repr(astuple(task)), encoding="utf-8")
    for index, operand in enumerate(operands):
        save(folder, f"x{index}", operand)


def made_up(body: Module, terms: int, seed: int = 0) -> list[npt.NDArray[Any]]:
    """Operands, always the same for the same shapes, each as the dense memory that the kernel takes.

    Args:
        body: of the subgraph.
        terms: of each sum; the second operand of a sum of products is so small that sums are about 1, as they are in
            networks, where what follows would overflow or saturate otherwise.
        seed: for other operands of the same kind.
    """
    parameters = [instruction for instruction in body.instructions if instruction.name == "@param"]
    limits = _indexed(body)
    random = np.random.default_rng(len(parameters) + 1000 * seed)
    operands = []
    for index, parameter in enumerate(parameters):
        shape = parameter.shape
        lens = physical_lens(shape)
        if shape.type == "bool_type":
            operands.append(random.integers(0, 1, lens, endpoint=True).astype(np.bool_))
        elif shape.dtype.kind in "iu":
            largest = min(_LARGEST_WHOLE, limits.get(parameter.id, _LARGEST_WHOLE + 1) - 1)
            low = -largest if shape.dtype.kind == "i" else 0
            operands.append(random.integers(low, largest, lens, endpoint=True).astype(shape.dtype))
        else:
            size = 1 / math.sqrt(terms) if index == 1 else 1.0
            operands.append((random.standard_normal(lens, np.float32) * np.float32(size)).astype(shape.dtype))
    return operands


def _indexed(body: Module) -> dict[str, int]:
    """For each parameter that says places, how many places there are: MIGraphX does not check what it reads."""
    instructions, limits = body.by_id(), dict[str, int]()
    for instruction in body.instructions:
        if instruction.name not in ("gather", "gathernd"):
            continue
        lens, pending = instructions[instruction.inputs[0]].shape.lens, [instruction.inputs[1]]
        count = lens[int(instruction.operator["axis"])] if instruction.name == "gather" else min(lens)
        while pending:
            value = instructions[pending.pop()]
            limits[value.id] = min(count, limits.get(value.id, count))
            pending.extend(value.inputs)
    return limits


def logical(memory: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
    """Dense memory as the value with the shape's own lengths."""
    if shape.standard:
        return memory.reshape(shape.lens)
    steps = [stride * memory.itemsize for stride in shape.strides]
    return np.lib.stride_tricks.as_strided(memory, shape.lens, steps)


def save(folder: Path, name: str, array: npt.NDArray[Any]) -> None:
    """Write an array as .npy; a type that such files have no name for is written as whole numbers of its size."""
    np.save(folder / f"{name}.npy", _plain(np.ascontiguousarray(array)))


def load(folder: Path, name: str, shape: Shape) -> npt.NDArray[Any] | None:
    """The dense memory of a value of this shape; None where the file is not there, or not whole."""
    try:
        array = np.load(folder / f"{name}.npy")
    except (OSError, ValueError, EOFError):
        return None
    return array.view(shape.dtype) if array.dtype.itemsize == shape.dtype.itemsize else None


def child(where: str) -> None:
    """Compute the subgraph of a folder in both ways."""
    from iree_migraphx import binding
    from iree_migraphx.splice.runtime import LoadedKernel, aligned_bytes, device

    folder = Path(where)
    task = Task(*ast.literal_eval((folder / TASK).read_text(encoding="utf-8")))
    shapes, result = task.operands_and_result()
    operands = [_there(load(folder, f"x{index}", shape)) for index, shape in enumerate(shapes)]
    body = binding.load_buffer((folder / BODY).read_bytes())
    body.compile(binding.get_target("ref"))
    given = {
        f"x{index}": logical(each, shape) for index, (each, shape) in enumerate(zip(operands, shapes, strict=True))
    }
    (wanted,) = body.run(given)
    save(folder, EXPECTED, _dense(np.asarray(wanted), result))
    # The system ends us when the time is over, whatever the kernel is doing.
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, task.seconds)
    vmfb = HostKernel(task.symbol, (folder / KERNEL).read_bytes())
    kernel = LoadedKernel(device(task.threads), vmfb, shapes, result)
    held = []
    for operand in operands:
        held.append(aligned_bytes(operand.nbytes))
        held[-1][:] = np.ascontiguousarray(operand).reshape(-1).view(np.uint8)
    memory = aligned_bytes(result.nbytes)
    # A kernel that does not write everything leaves this, which is no likely result.
    memory[:] = 0xA5
    kernel.run([each.ctypes.data for each in held], {}, memory.ctypes.data)
    save(folder, ACTUAL, memory.view(result.dtype).reshape(physical_lens(result)))


def _dense(value: npt.NDArray[Any], shape: Shape) -> npt.NDArray[Any]:
    axes = physical_axes(shape)
    rest = [axis for axis in range(value.ndim) if axis not in axes]
    return np.ascontiguousarray(value.transpose([*rest, *axes])).reshape(physical_lens(shape))


def _plain(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if array.dtype.kind == "b":
        return array.view(np.int8)
    return array if array.dtype.kind in "iuf" else array.view(f"u{array.dtype.itemsize}")


def _there(array: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
    if array is None:
        raise FileNotFoundError("an operand of the trial is missing")
    return array
