"""MIGraphX's own optimised and fused form of a program, made in a process of its own."""

from __future__ import annotations

from iree_migraphx.capture.helper import device_and_flags, program_of_helper
from iree_migraphx.ir.model import Program
from iree_migraphx.options import capture_environment

#: The passes of the gpu target from its fusion on (src/targets/gpu/target.cpp of release rocm-7.1.1). Without them the
#: program that comes out holds ordinary operators and fusions, nothing of the device.
PASSES_AFTER_FUSION = (
    "fuse_concat",
    "auto_contiguous",
    "gpu::lowering",
    "eliminate_contiguous",
    "eliminate_concat",
    "gpu::compile_miopen",
    "gpu::fuse_ops",
    "gpu::compile_hipblaslt",
    "replace_allocate",
    "adjust_allocation",
    "gpu::compile_ops",
    "promote_literals",
    "gpu::write_literals",
    "schedule",
    "memory_coloring",
    "sync_device",
    "preallocate_param",
    "eliminate_allocation",
    "check_context",
)

_CHILD = "iree_migraphx.capture.child"


def capture(program: bytes, offload_copy: bool, fast_math: bool, timeout: float) -> Program:
    """MIGraphX's gpu compile for the current device, up to and with its fusion.

    Args:
        program: a serialized program that is not compiled.
        offload_copy: as MIGraphX's compile.
        fast_math: as MIGraphX's compile.
        timeout: seconds that it may take.

    Raises:
        CaptureError: the process failed, crashed, took too long, or left something that is no program.
    """
    flags, environment = device_and_flags(offload_copy, fast_math), capture_environment(PASSES_AFTER_FUSION)
    return program_of_helper(_CHILD, "captured.mxr", program, flags, environment, timeout)
