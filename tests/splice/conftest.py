import pytest

from iree_migraphx.kernels.model import Request
from iree_migraphx.kernels.service import compile_kernels
from iree_migraphx.kernels.targets import parse_target

LENS = (4, 33)  # not a multiple of the alignment


def sub_request(symbol="iree_sub"):
    """%a - %b: an operation in which no operand can stand for the other."""
    tensor = f"tensor<{'x'.join(map(str, LENS))}xf32>"
    mlir = f"""
func.func @{symbol}(%a: {tensor}, %b: {tensor}, %out: !hal.buffer {{iree.abi.output = 0 : index}}) -> {tensor} {{
  %r = arith.subf %a, %b : {tensor}
  return %r : {tensor}
}}
"""
    return Request(symbol, mlir, 3, "sub")


@pytest.fixture(scope="session")
def sub_kernel(kernel_options):
    """A kernel of this machine that subtracts two f32 tensors of LENS."""
    return compile_kernels([sub_request()], parse_target("host"), kernel_options)[0].kernel
