"""Small modules in the form that the lowering writes, and stand-ins for iree-compile."""

import stat
from pathlib import Path

from iree_migraphx.kernels.compiler import find_compiler
from iree_migraphx.kernels.flags import compile_flags
from iree_migraphx.kernels.model import Request
from iree_migraphx.kernels.worker import Order
from iree_migraphx.options import Options

RESULT = "%out: !hal.buffer {iree.abi.output = 0 : index}"


def dot(
    name="iree_dot_add", m=64, n=48, k=32, type_="f16", accumulator="f32", order=("a", "b", "bias"), unused=False
) -> Request:
    """A dot with a bias; `order` is the order of the arguments, `unused` adds an operand nobody reads."""
    types = {
        "a": f"tensor<{m}x{k}x{type_}>",
        "b": f"tensor<{k}x{n}x{type_}>",
        "bias": f"tensor<{n}x{type_}>",
        "extra": f"tensor<7x{type_}>",
    }
    order = (order[0], "extra", *order[1:]) if unused else order
    narrow = f"%t = arith.truncf %x : {accumulator} to {type_}" if accumulator != type_ else ""
    value = "%t" if narrow else "%x"
    mlir = f"""
func.func @{name}({", ".join(f"%{each}: {types[each]}" for each in order)}, {RESULT}) -> tensor<{m}x{n}x{type_}> {{
  %zero = arith.constant 0.0 : {accumulator}
  %empty = tensor.empty() : tensor<{m}x{n}x{accumulator}>
  %start = linalg.fill ins(%zero : {accumulator}) outs(%empty : tensor<{m}x{n}x{accumulator}>)
    -> tensor<{m}x{n}x{accumulator}>
  %dot = linalg.matmul ins(%a, %b : {types["a"]}, {types["b"]}) outs(%start : tensor<{m}x{n}x{accumulator}>)
    -> tensor<{m}x{n}x{accumulator}>
  %place = tensor.empty() : tensor<{m}x{n}x{type_}>
  %r = linalg.generic {{
    indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (j)>, affine_map<(i, j) -> (i, j)>],
    iterator_types = ["parallel", "parallel"]
  }} ins(%dot, %bias : tensor<{m}x{n}x{accumulator}>, {types["bias"]}) outs(%place : tensor<{m}x{n}x{type_}>) {{
  ^bb0(%x: {accumulator}, %y: {type_}, %w: {type_}):
    {narrow}
    %s = arith.addf {value}, %y : {type_}
    linalg.yield %s : {type_}
  }} -> tensor<{m}x{n}x{type_}>
  return %r : tensor<{m}x{n}x{type_}>
}}
"""
    return Request(name, mlir, len(order) + 1, "dot")


def elementwise(
    body: str, name="iree_elementwise", arguments="%a: tensor<16x512xf16>", count=2, before="", operand="%a"
) -> Request:
    """A module that computes %q of each %x of a 16x512 tensor."""
    mlir = f"""
func.func @{name}({arguments}, {RESULT}) -> tensor<16x512xf16> {{
  {before}
  %o = tensor.empty() : tensor<16x512xf16>
  %r = linalg.generic {{
    indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
    iterator_types = ["parallel", "parallel"]
  }} ins({operand} : tensor<16x512xf16>) outs(%o : tensor<16x512xf16>) {{
  ^bb0(%x: f16, %w: f16):
    {body}
    linalg.yield %q : f16
  }} -> tensor<16x512xf16>
  return %r : tensor<16x512xf16>
}}
"""
    return Request(name, mlir, count, "add")


EXP = "%q = math.exp %x : f16"

TWO_RESULTS = Request(
    "iree_two_results",
    """
func.func @iree_two_results(%a: tensor<16x512xf16>, %o0: !hal.buffer {iree.abi.output = 0 : index},
    %o1: !hal.buffer {iree.abi.output = 1 : index}) -> (tensor<16x512xf16>, tensor<16x512xf16>) {
  %o = tensor.empty() : tensor<16x512xf16>
  %r:2 = linalg.generic {
    indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>],
    iterator_types = ["parallel", "parallel"]
  } ins(%a : tensor<16x512xf16>) outs(%o, %o : tensor<16x512xf16>, tensor<16x512xf16>) {
  ^bb0(%x: f16, %w: f16, %v: f16):
    %p = arith.mulf %x, %x : f16
    %q = math.exp %x : f16
    linalg.yield %p, %q : f16, f16
  } -> (tensor<16x512xf16>, tensor<16x512xf16>)
  return %r#0, %r#1 : tensor<16x512xf16>, tensor<16x512xf16>
}
""",
    3,
    "add",
)

TWO_DOTS = Request(
    "iree_two_dots",
    f"""
func.func @iree_two_dots(%a: tensor<64x64xf32>, %b: tensor<64x64xf32>, %c: tensor<64x64xf32>, {RESULT})
    -> tensor<64x64xf32> {{
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<64x64xf32>
  %start = linalg.fill ins(%zero : f32) outs(%empty : tensor<64x64xf32>) -> tensor<64x64xf32>
  %m = linalg.matmul ins(%a, %b : tensor<64x64xf32>, tensor<64x64xf32>) outs(%start : tensor<64x64xf32>)
    -> tensor<64x64xf32>
  %r = linalg.matmul ins(%m, %c : tensor<64x64xf32>, tensor<64x64xf32>) outs(%start : tensor<64x64xf32>)
    -> tensor<64x64xf32>
  return %r : tensor<64x64xf32>
}}
""",
    4,
    "dot",
)

#: The same of two operands, as one kernel that is launched twice, and then the sum of the products.
TWICE_THE_SAME = Request(
    "iree_twice",
    f"""
func.func @iree_twice(%a: tensor<64x512xf32>, %b: tensor<64x512xf32>, {RESULT}) -> tensor<1xf32> {{
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<64xf32>
  %start = linalg.fill ins(%zero : f32) outs(%empty : tensor<64xf32>) -> tensor<64xf32>
  %s = linalg.reduce {{ arith.addf }} ins(%a : tensor<64x512xf32>) outs(%start : tensor<64xf32>) dimensions = [1]
  %t = linalg.reduce {{ arith.addf }} ins(%b : tensor<64x512xf32>) outs(%start : tensor<64xf32>) dimensions = [1]
  %one = tensor.empty() : tensor<1xf32>
  %begin = linalg.fill ins(%zero : f32) outs(%one : tensor<1xf32>) -> tensor<1xf32>
  %r = linalg.generic {{
    indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>, affine_map<(i) -> (0)>],
    iterator_types = ["reduction"]
  }} ins(%s, %t : tensor<64xf32>, tensor<64xf32>) outs(%begin : tensor<1xf32>) {{
  ^bb0(%x: f32, %y: f32, %w: f32):
    %p = arith.mulf %x, %y : f32
    %q = arith.addf %w, %p : f32
    linalg.yield %q : f32
  }} -> tensor<1xf32>
  return %r : tensor<1xf32>
}}
""",
    3,
    "reduce_sum",
)

COPY = Request(
    "iree_copy",
    f"func.func @iree_copy(%a: tensor<64xf16>, {RESULT}) -> tensor<64xf16> {{ return %a : tensor<64xf16> }}",
    2,
    "add",
)

# An operation that IREE does not know but accepts: iree-compile 3.13.0 dies of it with SIGSEGV.
CRASHING = Request(
    "iree_crash",
    f"""
func.func @iree_crash(%a: tensor<4xf32>, {RESULT}) -> tensor<4xf32> {{
  %b = "foo.bar"(%a) : (tensor<4xf32>) -> tensor<4xf32>
  return %b : tensor<4xf32>
}}
""",
    2,
    "add",
)

INVALID = Request(
    "iree_invalid",
    f"func.func @iree_invalid(%a: tensor<4xf32>, {RESULT}) -> tensor<4xf32> {{ return %b : tensor<4xf32> }}",
    2,
    "add",
)


def order(request, options, target) -> Order:
    return Order(request, target, compile_flags(target, options, request.anchor), options.timeout)


def real_compiler() -> Path:
    return find_compiler(Options()).path


def fake_compiler(folder: Path, body: str, version: str = "echo IREE compiler version 0.0") -> Path:
    """A shell script that answers to --version; otherwise $1 is the input, $3 the output, and `body` runs."""
    path = folder / "iree-compile"
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(f'#!/bin/sh\nif [ "$1" = --version ]; then {version}; exit; fi\n{body}\n')
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def counting_compiler(folder: Path) -> tuple[Path, Path]:
    """The real compiler, and the file that gets a line with the name of each function it compiles."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "runs"
    log.touch()
    names = f"grep -o 'func.func @iree[a-z0-9_]*' \"$1\" | cut -d' ' -f2 >>{log}"
    return fake_compiler(folder, f'{names}\nexec {real_compiler()} "$@"'), log
