"""What limits a kernel for a GPU: how many wavefronts fit, and whether memory or arithmetic is the roof above it."""

from __future__ import annotations

from dataclasses import dataclass

from iree_migraphx.cli.devices import ComputeUnit, chip_of
from iree_migraphx.cli.work import Work
from iree_migraphx.report import KernelResources


@dataclass(frozen=True, slots=True)
class Occupancy:
    """How full a SIMD unit can be.

    Attributes:
        waves: wavefronts of this kernel that a SIMD unit keeps at once.
        most: that it could keep.
        limited_by: what there is least of: "vgprs", "sgprs", "lds", "workgroups", or "nothing".
        limits: wavefronts a SIMD unit that each of them allows.
        filled: share of the chip's compute units that get a workgroup at once at all; None where it is not known.
    """

    waves: int
    most: int
    limited_by: str
    limits: dict[str, int]
    filled: float | None = None


@dataclass(frozen=True, slots=True)
class Roof:
    """The least time that a chip takes for some work, and why.

    Attributes:
        chip: the product that the numbers are of.
        bound: "memory" or "arithmetic".
        seconds: least time.
        intensity: operations a byte of the work.
        ridge: operations a byte from which on arithmetic is the roof.
        teraflops: the peak for the work's element type.
        terabytes: of the memory, a second.
    """

    chip: str
    bound: str
    seconds: float
    intensity: float
    ridge: float
    teraflops: float
    terabytes: float


def occupancy(kernel: KernelResources, unit: ComputeUnit, units: int | None = None) -> Occupancy | None:
    """How many wavefronts of a kernel a SIMD unit keeps (LLVM's AMDGPUBaseInfo.cpp); None for the host.

    Args:
        kernel: of a GPU.
        unit: what a compute unit holds.
        units: how many the chip has.
    """
    if kernel.vgprs is None or kernel.workgroup_size is None or kernel.workgroups is None:
        return None
    per_workgroup = -(-kernel.workgroup_size // unit.wavefront)
    registers = kernel.vgprs if unit.unified else max(kernel.vgprs, kernel.agprs or 0)
    limits = {"vgprs": min(unit.waves, unit.vgprs // _rounded(max(1, registers), unit.granule))}
    if unit.sgprs is not None:
        limits["sgprs"] = min(unit.waves, unit.sgprs // _rounded(max(1, kernel.sgprs or 1), 16))
    if kernel.lds_bytes:
        limits["lds"] = _of_workgroups(unit.lds // kernel.lds_bytes, per_workgroup, unit)
    if per_workgroup > 1:
        limits["workgroups"] = _of_workgroups(unit.workgroups, per_workgroup, unit)
    waves = min(limits.values())
    name = min(limits, key=lambda each: limits[each]) if waves < unit.waves else "nothing"
    filled = min(1.0, kernel.workgroups / units) if units else None
    return Occupancy(waves, unit.waves, name, limits, filled)


def roof(work: Work, name: str, gfx: str) -> Roof | None:
    """The roof above some work on a chip, None where the chip or its peak for the work's type is not known."""
    found = chip_of(name, gfx)
    if found is None:
        return None
    product, chip = found
    peak = chip.peaks.get("fp8" if work.type.startswith("fp8") else work.type)
    if not peak:
        return None
    arithmetic, memory = work.flops / (peak * 1e12), work.bytes / (chip.bandwidth * 1e12)
    bound = "arithmetic" if arithmetic > memory else "memory"
    ridge = peak / chip.bandwidth
    return Roof(product, bound, max(arithmetic, memory), work.intensity, ridge, peak, chip.bandwidth)


def _rounded(count: int, granule: int) -> int:
    return -(-count // granule) * granule


def _of_workgroups(workgroups: int, per_workgroup: int, unit: ComputeUnit) -> int:
    """Wavefronts a SIMD unit, of so many workgroups a compute unit."""
    return min(unit.waves, -(-workgroups * per_workgroup // unit.simds))
