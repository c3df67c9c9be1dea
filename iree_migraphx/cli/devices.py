"""AMD's GPUs as data: what a compute unit holds, and what a chip can do at most.

Compute units: LLVM (IsaInfo in llvm/lib/Target/AMDGPU/Utils/AMDGPUBaseInfo.cpp, features in AMDGPU.td).
Chips: IREE's table (compiler/src/iree/compiler/Codegen/Dialect/GPU/TargetUtils/KnownTargets.cpp), which cites AMD.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ComputeUnit:
    """What workgroups share: a compute unit (CDNA), or the two of a workgroup processor (RDNA).

    Attributes:
        simds: SIMD units.
        waves: wavefronts that one SIMD unit keeps at most.
        vgprs: vector registers of one SIMD unit, for one lane.
        granule: in which they are given to a wavefront.
        sgprs: scalar registers of one SIMD unit; None where they limit nothing.
        lds: bytes of local memory.
        workgroups: of more than one wavefront at most, since each takes a barrier.
        wavefront: lanes.
        unified: vector and accumulation registers are one file, whose sum `.vgpr_count` is.
    """

    simds: int
    waves: int
    vgprs: int
    granule: int
    sgprs: int | None
    lds: int
    workgroups: int
    wavefront: int
    unified: bool = False


_CDNA1 = ComputeUnit(simds=4, waves=10, vgprs=256, granule=4, sgprs=800, lds=65536, workgroups=16, wavefront=64)
_CDNA2 = ComputeUnit(4, 8, 512, 8, 800, 65536, 16, 64, unified=True)
_CDNA4 = ComputeUnit(4, 8, 512, 8, 800, 163840, 16, 64, unified=True)
_RDNA3_SMALL = ComputeUnit(4, 16, 1024, 16, None, 131072, 32, 32)
_RDNA3 = ComputeUnit(4, 16, 1536, 24, None, 131072, 32, 32)

#: gfx -> what a compute unit of it holds. gfx1250 is left out: nothing public says it.
COMPUTE_UNITS: Mapping[str, ComputeUnit] = {
    "gfx908": _CDNA1,
    "gfx90a": _CDNA2,
    "gfx942": _CDNA2,
    "gfx950": _CDNA4,
    "gfx1100": _RDNA3,
    "gfx1101": _RDNA3,
    "gfx1103": _RDNA3_SMALL,
    "gfx1150": _RDNA3_SMALL,
    "gfx1151": _RDNA3,
    "gfx1200": _RDNA3,
    "gfx1201": _RDNA3,
}


@dataclass(frozen=True, slots=True)
class Chip:
    """A product.

    Attributes:
        units: compute units, or workgroup processors (RDNA).
        bandwidth: of its memory, in terabytes a second.
        peaks: teraflops of matrix instructions, by the number of bits of an element and its kind.
    """

    gfx: str
    units: int
    bandwidth: float
    peaks: Mapping[str, float] = field(default_factory=dict)


def _chip(gfx: str, units: int, bandwidth: float, float_: float, half: float, int8: float, fp8: float = 0.0) -> Chip:
    peaks = {"float_type": float_, "half_type": half, "bf16_type": half, "int8_type": int8, "uint8_type": int8}
    return Chip(gfx, units, bandwidth, {**peaks, **({"fp8": fp8} if fp8 else {})})


#: IREE's name of a product -> the product. MI250 and MI250X are two devices, each with half of it.
CHIPS: Mapping[str, Chip] = {
    "mi100": _chip("gfx908", 120, 1.23, 46.1, 184.6, 184.6),
    "mi210": _chip("gfx90a", 104, 1.6, 45.3, 181.0, 181.0),
    "mi250": _chip("gfx90a", 104, 1.6, 45.25, 181.05, 181.05),
    "mi250x": _chip("gfx90a", 110, 1.6, 47.85, 191.5, 191.5),
    "mi300x": _chip("gfx942", 304, 5.3, 163.4, 1307.4, 2614.9, 2614.9),
    "mi300a": _chip("gfx942", 228, 5.3, 122.6, 980.6, 1961.2, 1961.2),
    "mi308x": _chip("gfx942", 80, 5.3, 29.0, 188.4, 176.8, 176.8),
    # IREE's table repeats the MI300X's bandwidth here.
    "mi325x": _chip("gfx942", 304, 5.3, 163.4, 1307.4, 2614.9, 2614.9),
    "mi355x": _chip("gfx950", 256, 8.0, 157.3, 2500.0, 5000.0, 5000.0),
    "mi350x": _chip("gfx950", 256, 8.0, 144.2, 2300.0, 4600.0, 4600.0),
    "rx7900xtx": _chip("gfx1100", 48, 0.96, 61.4, 123.0, 123.0),
    "rx7900xt": _chip("gfx1100", 42, 0.80, 51.6, 103.0, 103.0),
    "w7900": _chip("gfx1100", 48, 0.86, 61.3, 123.0, 123.0),
    "w7800": _chip("gfx1100", 35, 0.58, 45.2, 90.4, 90.4),
    "rx7800xt": _chip("gfx1101", 30, 0.62, 37.3, 74.6, 74.6),
    "rx7700xt": _chip("gfx1101", 27, 0.43, 35.2, 70.3, 70.3),
    "w7700": _chip("gfx1101", 24, 0.58, 28.3, 56.6, 56.6),
    "rx9060xt": _chip("gfx1200", 16, 0.32, 25.6, 103.0, 205.0, 205.0),
    "rx9070xt": _chip("gfx1201", 32, 0.64, 48.7, 195.0, 389.0, 389.0),
    "rx9070": _chip("gfx1201", 28, 0.64, 36.1, 145.0, 289.0, 289.0),
    "r9700": _chip("gfx1201", 32, 0.64, 47.8, 191.0, 383.0, 383.0),
}


def chip_of(name: str, gfx: str) -> tuple[str, Chip] | None:
    """A product by its name; for a gfx the first product that has it; None where nothing is known."""
    if name in CHIPS:
        return name, CHIPS[name]
    return next(((known, chip) for known, chip in CHIPS.items() if chip.gfx == gfx), None)
