"""MIGraphX as this package sees it: the names and signatures of ROCm's `migraphx` module, on libmigraphx_c alone."""

from typing import Any

from iree_migraphx.binding.arguments import (
    argument,
    argument_from_pointer,
    create_argument,
    fill_argument,
    generate_argument,
)
from iree_migraphx.binding.custom_op import CustomOp, register_custom_op
from iree_migraphx.binding.datatypes import dynamic_dimension
from iree_migraphx.binding.files import (
    autocast_fp8,
    from_official,
    load,
    load_buffer,
    own_program,
    own_target,
    save,
    save_buffer,
    snapshot,
    to_official,
)
from iree_migraphx.binding.gpu_memory import allocate_gpu, from_gpu, gpu_sync, to_gpu
from iree_migraphx.binding.modules import instruction_ref, module, op
from iree_migraphx.binding.parse import parse_onnx, parse_onnx_buffer, parse_tf
from iree_migraphx.binding.programs import program
from iree_migraphx.binding.quantize import quantize_bf16, quantize_fp8, quantize_fp16, quantize_int8
from iree_migraphx.binding.shapes import shape
from iree_migraphx.binding.targets import get_target, target

__all__ = [
    "CustomOp",
    "allocate_gpu",
    "argument",
    "argument_from_pointer",
    "autocast_fp8",
    "create_argument",
    "dynamic_dimension",
    "fill_argument",
    "from_gpu",
    "from_official",
    "generate_argument",
    "get_target",
    "gpu_sync",
    "instruction_ref",
    "load",
    "load_buffer",
    "module",
    "op",
    "own_program",
    "own_target",
    "parse_onnx",
    "parse_onnx_buffer",
    "parse_tf",
    "program",
    "quantize_bf16",
    "quantize_fp8",
    "quantize_fp16",
    "quantize_int8",
    "register_custom_op",
    "save",
    "save_buffer",
    "shape",
    "snapshot",
    "target",
    "to_gpu",
    "to_official",
]


def __getattr__(name: str) -> Any:
    """`__version__`, MIGraphX's own, which only the library itself can tell."""
    if name == "__version__":
        from iree_migraphx.binding import serialized

        return serialized.migraphx_version()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
