"""Which names ROCm's `migraphx` module has (src/py/migraphx_py.cpp, releases rocm-6.0 to rocm-7.2 and later)."""

from __future__ import annotations

_GPU = "it was built without the gpu target"

#: Every name that some release has.
OFFICIAL = frozenset(
    {
        "allocate_gpu",
        "argument",
        "argument_from_pointer",
        "autocast_fp8",
        "create_argument",
        "fill_argument",
        "from_gpu",
        "generate_argument",
        "get_onnx_operators",
        "get_target",
        "gpu_sync",
        "instruction_ref",
        "load",
        "load_buffer",
        "macro",
        "module",
        "op",
        "parse_onnx",
        "parse_onnx_buffer",
        "parse_tf",
        "program",
        "quantize_bf16",
        "quantize_fp16",
        "quantize_fp8",
        "quantize_int8",
        "save",
        "save_buffer",
        "shape",
        "target",
        "to_gpu",
    }
)

#: Where a name is to be had, for those that an installed MIGraphX may lack.
ELSEWHERE = {
    "allocate_gpu": _GPU,
    "autocast_fp8": "it came with release 6.2",
    "from_gpu": _GPU,
    "get_onnx_operators": "ROCm's Python module has it since release 7.2",
    "gpu_sync": _GPU,
    "macro": "ROCm's Python module has it after release 7.2",
    "quantize_bf16": "it came with release 6.4, and with 7.0 in the C interface",
    "quantize_fp8": "it came with release 6.4",
    "save_buffer": "it came with release 7.1",
    "load_buffer": "it came with release 7.1",
    "to_gpu": _GPU,
}

#: Names that stand on a C function that not every release has.
C_FUNCTIONS = {
    "quantize_bf16": "quantize_bf16_with_op_names",
    "quantize_fp8": "quantize_fp8",
}
