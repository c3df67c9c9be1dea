"""Which subgraphs are tried on the gpu: MIGraphX's own choice for its kernel compiler, or all."""

from dataclasses import replace

import numpy as np
import pytest

from capture.fused import captured, fusion, scalar_body, shaped, standard
from gpu import nets
from gpu.harness import compiled
from gpu.test_programs import assert_right, inputs_of
from iree_migraphx import binding, gpu, pipeline
from iree_migraphx.capture.unfuse import Unfused, unfuse
from iree_migraphx.errors import Reason
from iree_migraphx.kernels.requests import requests
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.options import Options
from programs import Builder, recorded

RULES = forms.rules(Form.OPERANDS, standard_operands=False)
DOT = {"name": "dot", "operator": []}


def found(program):
    """Unfused, with MIGraphX's shapes: those inside of the fusions here are not written down."""
    unfused = unfuse(program)
    main = unfused.program.main
    given = zip(main.instructions, recorded(unfused.program).main.instructions, strict=True)
    settled = tuple(replace(mine, shape=its.shape) for mine, its in given)
    settled_program = unfused.program.with_module(replace(main, instructions=settled))
    return gpu.Captured(program, Unfused(settled_program, unfused.parts, unfused.results))


def operators(chosen):
    return [subgraph.operators for subgraph in chosen]


def mlir_dot(prefix, *behind):
    """A gpu::mlir_op's submodule: a dot over a transposed operand, an addition, and more."""
    inside = Builder(f"{prefix}:")
    x, w, b = inside.param("x0", (4, 2)), inside.param("x1", (4, 6)), inside.param("x2", (2, 6))
    value = inside.op("add", inside.op("dot", inside.op("transpose", x, permutation=[1, 0]), w), b)
    for name in behind:
        value = inside.op(name, value)
    return inside, value


def dot_program(module, shape=None, *more):
    main = Builder()
    operands = main.param("x", (4, 2)), main.param("w", (4, 6)), main.param("b", (2, 6))
    value = fusion(main, "gpu::mlir_op", module, *operands, shape=shape or standard(2, 6), op=DOT)
    return main, value


def test_migraphxs_own_fusions_are_taken_as_they_are(virtual_device, monkeypatch):
    """With MLIR in MIGraphX: what is behind a gpu::mlir_op is not fused, though IREE could, nor any other dot."""
    monkeypatch.setattr(gpu, "has_mlir", lambda: True)
    inside, value = mlir_dot("m", "relu")
    module = inside.module("m", value)
    main, value = dot_program(module)
    behind = shaped(main, main.op("sigmoid", value), standard(2, 6))
    other = shaped(main, main.op("dot", behind, main.param("v", (6, 3))), standard(2, 3))
    program = found(captured(main, other, modules=[module]))
    chosen = gpu.choose_captured(program, RULES, "migraphx", "gfx942")
    assert operators(chosen) == [("transpose", "dot", "add", "relu")]
    (subgraph,) = chosen
    assert subgraph.operands == ("x", "w", "b")
    assert not requests(chosen, Form.OPERANDS, Options())[1]
    everything = gpu.choose_captured(program, RULES, "all", "gfx942")
    assert operators(everything) == [("transpose", "dot", "add", "relu", "sigmoid"), ("dot",)]


def test_a_fusion_with_two_anchors_is_not_taken_apart(virtual_device, monkeypatch):
    """Attention with the sum it needs: one subgraph."""
    monkeypatch.setattr(gpu, "has_mlir", lambda: True)
    inside = Builder("a:")
    q, k, v = inside.param("x0", (4, 8)), inside.param("x1", (8, 4)), inside.param("x2", (4, 8))
    powers = inside.op("exp", inside.op("dot", q, k))
    total = inside.spread(inside.op("reduce_sum", powers, axes=[1]), (4, 4))
    module = inside.module("a", inside.op("dot", inside.op("div", powers, total), v))
    main = Builder()
    operands = [main.param(name, lens) for name, lens in {"q": (4, 8), "k": (8, 4), "v": (4, 8)}.items()]
    value = fusion(main, "gpu::mlir_op", module, *operands, shape=standard(4, 8), op=DOT)
    chosen = gpu.choose_captured(found(captured(main, value, modules=[module])), RULES, "migraphx", "gfx942")
    (subgraph,) = chosen
    assert subgraph.operators.count("dot") == 2


def pointwise_program(operator):
    """A dot, and a pointwise behind it; both with MIGraphX's names."""
    inside, (x, y) = scalar_body("p", 2)
    module = inside.module("p", inside.op(operator, inside.op("add", x, y)))
    main = Builder()
    product = shaped(main, main.op("dot", main.param("x", (2, 4)), main.param("w", (4, 6))), standard(2, 6))
    value = fusion(main, "pointwise", module, product, main.param("b", (2, 6)), shape=standard(2, 6))
    return found(captured(main, value, modules=[module]))


@pytest.mark.parametrize(
    ("operator", "taken"),
    [("relu", [("dot", "add", "relu")]), ("floor", [("dot", "add", "floor")]), ("sign", [("dot",)])],
)
def test_without_mlir_its_rules_decide(virtual_device, operator, taken):
    """`sign` is not among rocMLIR's operators, which leaves the whole pointwise to MIGraphX."""
    assert operators(gpu.choose_captured(pointwise_program(operator), RULES, "migraphx", "gfx942")) == taken


def test_the_users_word_on_mlir_holds(virtual_device, monkeypatch):
    monkeypatch.setenv("MIGRAPHX_DISABLE_MLIR", "1")
    program = pointwise_program("relu")
    assert not gpu.choose_captured(program, RULES, "migraphx", "gfx942")
    assert not gpu.choose_parsed(program.unfused.program, RULES, "migraphx", "gfx942")
    assert len(gpu.choose_captured(program, RULES, "all", "gfx942")) == 1


@pytest.mark.parametrize(
    ("text", "taken"),
    [
        ("fused_convolution,~convolution", {"convolution_add_relu", "convolution_add_add_relu", "convolution_add"}),
        ("~fused", {"convolution"}),
        ("!fused_convolution,~convolution", set()),
        ("~dot,~fused_dot", {"convolution_add"}),
    ],
)
def test_the_users_word_on_operators_holds(virtual_device, kernel_options, monkeypatch, text, taken):
    """Without it, 3x3 convolutions are left to MIOpen. What is not fused may be taken alone."""
    monkeypatch.setenv("MIGRAPHX_MLIR_USE_SPECIFIC_OPS", text)
    done = compiled(nets.residual(np.float16), kernel_options, virtual_device, eligible=None, compute=False)
    assert {subgraph.name.rpartition("_")[0] for subgraph in done.report.subgraphs} == taken


def test_the_options_exclude(virtual_device, kernel_options, monkeypatch):
    monkeypatch.setenv("IREE_MIGRAPHX_EXCLUDE", "output=8x64*")
    options = Options.resolve(cache_dir=kernel_options.cache_dir, quiet=True, eligible="all")
    program = binding.parse_onnx_buffer(nets.mlp())
    report = pipeline.compile(program, binding.get_target("gpu"), options=options).iree_report
    assert [subgraph.reason for subgraph in report.subgraphs] == [Reason.EXCLUDED, None]
    assert report.swapped == 1


def test_the_guess_for_a_parsed_program(virtual_device):
    parsed = pointwise_program("sign").unfused.program
    assert operators(gpu.choose_parsed(parsed, RULES, "migraphx", "gfx942")) == [("dot", "add")]
    assert operators(gpu.choose_parsed(parsed, RULES, "all", "gfx942")) == [("dot", "add", "sign")]


@pytest.mark.parametrize(("gfx", "taken"), [("gfx942", 1), ("gfx1100", 4)])
def test_the_device_decides(virtual_device, kernel_options, gfx, taken):
    """CDNA leaves 3x3 convolutions to MIOpen's Winograd; RDNA gives all to rocMLIR."""
    virtual_device.use(gfx)
    done = compiled(nets.residual(np.float16), kernel_options, virtual_device, eligible=None, compute=False)
    assert done.report.eligible == taken


def test_the_default_on_gpu_is_migraphxs_choice(virtual_device, kernel_options):
    onnx = nets.mlp()
    done = compiled(onnx, kernel_options, virtual_device, eligible=None)
    assert_right(done, virtual_device, onnx, inputs_of(onnx), False)
