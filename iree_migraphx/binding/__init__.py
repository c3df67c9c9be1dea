"""MIGraphX as this package sees it: the names and signatures of ROCm's `migraphx` module, on libmigraphx_c alone."""

from iree_migraphx.binding.arguments import argument, argument_from_pointer
from iree_migraphx.binding.custom_op import CustomOp, register_custom_op
from iree_migraphx.binding.dimensions import dynamic_dimension
from iree_migraphx.binding.files import load, load_buffer, save, save_buffer
from iree_migraphx.binding.parse import parse_onnx, parse_onnx_buffer, parse_tf
from iree_migraphx.binding.programs import program
from iree_migraphx.binding.shapes import shape
from iree_migraphx.binding.targets import get_target, target

__all__ = [
    "CustomOp",
    "argument",
    "argument_from_pointer",
    "dynamic_dimension",
    "get_target",
    "load",
    "load_buffer",
    "parse_onnx",
    "parse_onnx_buffer",
    "parse_tf",
    "program",
    "register_custom_op",
    "save",
    "save_buffer",
    "shape",
    "target",
]
