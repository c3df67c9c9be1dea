"""What IREE compiles for: this machine's CPU, or an AMD GPU by its gfx or product name."""

from __future__ import annotations

import difflib
import functools
import platform
from dataclasses import dataclass
from pathlib import Path

from iree_migraphx.errors import TargetError

HOST = "host"


@dataclass(frozen=True, slots=True)
class _Processor:
    """What IREE knows of a gfx.

    Attributes:
        lds: bytes of local memory that one workgroup may have.
        features: the target features that its code objects can be built for or against.
    """

    lds: int = 65536
    features: tuple[str, ...] = ()


# The processors that iree-compile 3.13.0 takes with --iree-rocm-target, each tried with a dot, with the
# max_workgroup_memory_bytes that it prints for them (KnownTargets.cpp) and the features that it accepts.
# gfx1102 and gfx103x are in KnownTargets.cpp as well, but the ROCm backend rejects them.
_PROCESSORS = {
    "gfx908": _Processor(features=("sramecc", "xnack")),
    "gfx90a": _Processor(features=("sramecc", "xnack")),
    "gfx942": _Processor(features=("sramecc", "xnack")),
    "gfx950": _Processor(lds=163840, features=("sramecc", "xnack")),
    "gfx1100": _Processor(),
    "gfx1101": _Processor(),
    "gfx1103": _Processor(),
    "gfx1150": _Processor(),
    "gfx1151": _Processor(),
    "gfx1200": _Processor(),
    "gfx1201": _Processor(),
    "gfx1250": _Processor(lds=327680, features=("sramecc",)),
}

# normalizeAMDGPUTarget in IREE's KnownTargets.cpp; cdna5 and mi455x as iree-compile 3.13.0 answers.
_PRODUCTS = {
    "cdna1": "gfx908",
    "cdna2": "gfx90a",
    "cdna5": "gfx1250",
    "mi100": "gfx908",
    "mi210": "gfx90a",
    "mi250": "gfx90a",
    "mi250x": "gfx90a",
    "mi300a": "gfx942",
    "mi300x": "gfx942",
    "mi308x": "gfx942",
    "mi325x": "gfx942",
    "mi350x": "gfx950",
    "mi355x": "gfx950",
    "mi455x": "gfx1250",
    "phoenix": "gfx1103",
    "r9700": "gfx1201",
    "rx7700xt": "gfx1101",
    "rx7800xt": "gfx1101",
    "rx7900xt": "gfx1100",
    "rx7900xtx": "gfx1100",
    "rx9060xt": "gfx1200",
    "rx9070": "gfx1201",
    "rx9070xt": "gfx1201",
    "strix-halo": "gfx1151",
    "strix-point": "gfx1150",
    "v710": "gfx1101",
    "w7700": "gfx1101",
    "w7800": "gfx1100",
    "w7900": "gfx1100",
}


@dataclass(frozen=True, slots=True)
class Target:
    """One device to compile for.

    Attributes:
        name: as IREE's ROCm backend knows it ("mi300x", "gfx942"), or "host".
        gfx: the processor; empty for the host.
        features: target features in the order of a target id, each with its sign: ("sramecc+", "xnack-").
        lds: bytes of local memory that one workgroup may have.
        any_grid: the MIGraphX that is to launch the kernels has patches/: grids and workgroups in y and z as well, and
            local memory beyond the kernel's own.
    """

    name: str
    gfx: str = ""
    features: tuple[str, ...] = ()
    lds: int = 0
    any_grid: bool = False

    @property
    def is_host(self) -> bool:
        """True for this machine's CPU."""
        return not self.gfx

    @property
    def target_id(self) -> str:
        """What a code object for it says it is for: "gfx942:sramecc+:xnack-" (LLVM's AMDGPUUsage, Target ID)."""
        return ":".join((self.gfx, *self.features))

    def __str__(self) -> str:
        return ":".join((self.name, *self.features))

    def flags(self) -> tuple[str, ...]:
        """iree-compile's flags for it."""
        if self.is_host:
            return (
                "--iree-hal-target-device=local",
                "--iree-hal-local-target-device-backends=llvm-cpu",
                "--iree-llvmcpu-target-cpu=host",
            )
        flags = ["--iree-hal-target-device=hip", f"--iree-rocm-target={self.name}"]
        if self.features:
            # IREE wants LLVM's form, the sign first.
            features = ",".join(feature[-1] + feature[:-1] for feature in self.features)
            flags.append(f"--iree-rocm-target-features={features}")
        return tuple(flags)


def parse_target(name: str) -> Target:
    """Understand "host", a gfx with or without features ("gfx942:sramecc+:xnack-"), or a product name ("mi300x").

    Raises:
        TargetError: a name that IREE's ROCm backend does not know, or a feature that the processor does not have.
    """
    base, *features = name.strip().lower().split(":")
    if base == HOST and not features:
        return Target(HOST)
    gfx = _PRODUCTS.get(base, base)
    processor = _PROCESSORS.get(gfx)
    if processor is None:
        close = difflib.get_close_matches(base, [HOST, *_PROCESSORS, *_PRODUCTS], n=3)
        hint = f"did you mean {' or '.join(close)}?" if close else f"known are {HOST}, {', '.join(_PROCESSORS)}"
        raise TargetError(f"IREE can't compile for {name!r}; {hint}")
    for feature in features:
        if feature[:-1] not in processor.features or feature[-1:] not in "+-":
            known = " or ".join(f"{known}+, {known}-" for known in processor.features)
            raise TargetError(
                f"{feature!r} in {name!r} is not a feature of {gfx}, which has {known or 'no features to choose'}"
            )
    if len({feature[:-1] for feature in features}) != len(features):
        raise TargetError(f"{name!r} names a feature twice")
    return Target(base, gfx, tuple(sorted(features)), processor.lds)


def name_of_product(arch: str, product: str) -> str:
    """A target id with the product's name, by which IREE tunes, in place of the gfx: "mi300x:sramecc+:xnack-".

    Args:
        arch: "gfx942:sramecc+:xnack-".
        product: what HIP calls the device, "AMD Instinct MI300X"; where IREE does not know it, `arch` comes back.
    """
    gfx, colon, features = arch.partition(":")
    letters = "".join(filter(str.isalnum, product.lower()))
    known = [name for name, its in _PRODUCTS.items() if its == gfx and name.replace("-", "") in letters]
    return max(known, key=len, default=gfx) + colon + features


@functools.cache
def host_cpu() -> str:
    """Name and features of this machine's CPU, for the keys of kernels compiled with --iree-llvmcpu-target-cpu=host.

    Linux lists what the kernel lets programs use, which is also what LLVM detects; elsewhere the platform's own name.
    """
    wanted = ("vendor_id", "cpu family", "model", "model name", "flags", "Features", "CPU implementer", "CPU part")
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    # Cores may differ (big and little ones): take each distinct line once.
    lines = dict.fromkeys(line for line in text.splitlines() if line.partition(":")[0].strip() in wanted)
    return "\n".join([platform.machine(), *lines])
