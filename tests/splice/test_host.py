"""Kernels in a program: every place that a subgraph can stand in, and what becomes of its operands."""

from dataclasses import replace

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from iree_migraphx import binding, pipeline
from iree_migraphx.binding import shape
from iree_migraphx.errors import KernelError, MigraphxError, Reason, Refusal
from iree_migraphx.ir.model import Literal, Shape
from iree_migraphx.ir.read import read_program
from iree_migraphx.kernels.model import HostKernel
from iree_migraphx.splice import host
from iree_migraphx.splice.placeholder import Placeholder, laid_out
from iree_migraphx.splice.runtime import device

from .conftest import LENS
from .models import X, assert_right, compiled, convolutions, model

RANDOM = np.random.default_rng(5)


def weight(name, *lens):
    return numpy_helper.from_array(RANDOM.standard_normal(lens).astype(np.float32), name)


def operators(program):
    return [i.name for i in read_program(binding.save_buffer(program)).instructions()]


def check(onnx, inputs, options, swapped):
    program = compiled(onnx, options)
    assert program.iree_report.swapped == swapped, program.iree_report.to_json()
    assert_right(program, onnx, inputs)
    return program


def test_no_operator_of_the_subgraph_is_left(kernel_options):
    program = check(convolutions(count=2), {"x": X}, kernel_options, 2)
    names = operators(program)
    assert sum(name.startswith("iree_convolution") for name in names) == 2
    assert not any("convolution" in name and not name.startswith("iree_") for name in names)
    assert "@literal" not in names  # weights and bias moved into the placeholders


def test_a_view_becomes_contiguous_before_the_kernel(kernel_options):
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["t", "w"], ["y"]),
    ]
    onnx = model(nodes, {"x": (1, 12, 12, 4)}, ["y"], [weight("w", 8, 4, 3, 3)])
    check(onnx, {"x": np.ascontiguousarray(X.transpose(0, 2, 3, 1))}, kernel_options, 1)


def test_a_computed_value_in_another_layout(kernel_options):
    """MIGraphX's pointwise operators keep the layout of their operand."""
    nodes = [
        helper.make_node("Transpose", ["x"], ["t"], perm=[0, 3, 1, 2]),
        helper.make_node("Sigmoid", ["t"], ["s"]),
        helper.make_node("Conv", ["s", "w"], ["y"]),
    ]
    onnx = model(nodes, {"x": (1, 12, 12, 4)}, ["y"], [weight("w", 8, 4, 3, 3)])
    check(onnx, {"x": np.ascontiguousarray(X.transpose(0, 2, 3, 1))}, kernel_options, 1)


def test_a_slice_at_an_odd_offset(kernel_options):
    bounds = [numpy_helper.from_array(np.array([v]), n) for n, v in (("s", 1), ("e", 4), ("a", 1))]
    nodes = [helper.make_node("Slice", ["x", "s", "e", "a"], ["t"]), helper.make_node("Conv", ["t", "w"], ["y"])]
    onnx = model(nodes, {"x": (1, 4, 11, 11)}, ["y"], [weight("w", 5, 3, 3, 3), *bounds])
    check(onnx, {"x": X[:, :, :11, :11].copy()}, kernel_options, 1)


def test_a_broadcast_operand(kernel_options):
    nodes = [helper.make_node("Expand", ["x", "shape"], ["e"]), helper.make_node("MatMul", ["e", "w"], ["y"])]
    lens = numpy_helper.from_array(np.array([6, 4]), "shape")
    onnx = model(nodes, {"x": (1, 4)}, ["y"], [weight("w", 4, 3), lens])
    check(onnx, {"x": X[0, 0, :1, :4].copy()}, kernel_options, 1)


def test_operands_that_are_not_constant(kernel_options):
    onnx = model([helper.make_node("MatMul", ["a", "b"], ["y"])], {"a": (3, 5), "b": (5, 2)}, ["y"])
    check(onnx, {"a": X[0, 0, :3, :5].copy(), "b": X[0, 1, :5, :2].copy()}, kernel_options, 1)


def test_one_value_as_both_operands(kernel_options):
    onnx = model([helper.make_node("MatMul", ["a", "a"], ["y"])], {"a": (6, 6)}, ["y"])
    check(onnx, {"a": X[0, 0, :6, :6].copy()}, kernel_options, 1)


def test_constant_operands_only(kernel_options):
    """Too many multiplications to fold: the kernel has no operand left."""
    nodes = [helper.make_node("MatMul", ["a", "b"], ["c"]), helper.make_node("Mul", ["c", "x"], ["y"])]
    onnx = model(nodes, {"x": (128, 128)}, ["y"], [weight("a", 128, 128), weight("b", 128, 128)])
    check(onnx, {"x": RANDOM.standard_normal((128, 128)).astype(np.float32)}, kernel_options, 1)


def test_a_result_that_is_returned_and_read(kernel_options):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Softmax", ["r"], ["s"]),
    ]
    onnx = model(nodes, {"x": (1, 4, 12, 12)}, ["c", "r", "s", "c"], [weight("w", 4, 4, 3, 3)])
    check(onnx, {"x": X}, kernel_options, 1)


def test_one_constant_in_two_layouts(kernel_options):
    """The same weights as a convolution's and as an operand of a dot, in one program."""
    shape_ = numpy_helper.from_array(np.array([4, 4]), "shape")
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Reshape", ["w", "shape"], ["m"]),
        helper.make_node("MatMul", ["c", "pick"], ["p"]),
        helper.make_node("MatMul", ["m", "p"], ["y"]),
    ]
    onnx = model(nodes, {"x": (1, 4, 4, 12)}, ["y"], [weight("w", 4, 4, 1, 1), weight("pick", 12, 5), shape_])
    check(onnx, {"x": X[:, :, :4].copy()}, kernel_options, 3)


def test_inside_both_branches_of_an_if(kernel_options):
    def branch(name, w):
        nodes = [helper.make_node("Conv", ["x", w], [f"{name}_c"]), helper.make_node("Relu", [f"{name}_c"], [name])]
        out = helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        return helper.make_graph(nodes, name, [], [out])

    nodes = [helper.make_node("If", ["which"], ["y"], then_branch=branch("t", "w1"), else_branch=branch("e", "w2"))]
    inputs, types = {"x": (1, 4, 12, 12), "which": (1,)}, {"which": TensorProto.BOOL}
    onnx = model(nodes, inputs, ["y"], [weight("w1", 4, 4, 3, 3), weight("w2", 4, 4, 3, 3)], types)
    program = check(onnx, {"x": X, "which": np.array([True])}, kernel_options, 2)
    assert_right(program, onnx, {"x": X, "which": np.array([False])})


def loop(state_type, lens, update, weights=()):
    """An ONNX model that updates a state five times."""

    def info(name, type_, lens):
        return helper.make_tensor_value_info(name, type_, lens)

    flag, index = (TensorProto.BOOL, []), (TensorProto.INT64, [])
    body = helper.make_graph(
        [*update, helper.make_node("Identity", ["go"], ["on"])],
        "body",
        [info("i", *index), info("go", *flag), info("state", state_type, lens)],
        [info("on", *flag), info("next", state_type, lens)],
    )
    constants = [numpy_helper.from_array(np.array(5), "count"), numpy_helper.from_array(np.array(True), "yes")]
    nodes = [helper.make_node("Loop", ["count", "yes", "x"], ["y"], body=body)]
    return model(nodes, {"x": lens}, ["y"], [*weights, *constants], {"x": state_type, "y": state_type})


def test_inside_a_loop(kernel_options):
    """MIGraphX itself can't load a loop that it saved: the body's parameters come in another order."""
    update = [helper.make_node("MatMul", ["state", "w"], ["m"]), helper.make_node("Tanh", ["m"], ["next"])]
    onnx = loop(TensorProto.FLOAT, [3, 4], update, [weight("w", 4, 4)])
    check(onnx, {"x": X[0, 0, :3, :4].copy()}, kernel_options, 1)


def test_a_loop_whose_parameters_look_the_same_both_ways(kernel_options):
    """Iteration and state are both one int64."""
    update = [helper.make_node("Sub", ["i", "state"], ["next"])]
    onnx = loop(TensorProto.INT64, [1], update)
    program = check(onnx, {"x": np.array([7])}, kernel_options, 0)
    assert program.iree_report.reason is Reason.UNSUPPORTED_OPERATOR


def test_a_module_that_the_runtime_refuses_is_left_to_migraphx_and_the_others_are_not(kernel_options, monkeypatch):
    real = host.splice_host

    def with_one_broken(program, subgraphs, kernels, *rest):
        broken = next(key for key in kernels if key == subgraphs[0].key)
        kernels = {**kernels, broken: HostKernel(kernels[broken].symbol, b"not a module")}
        return real(program, subgraphs, kernels, *rest)

    monkeypatch.setattr(host, "splice_host", with_one_broken)
    nodes = [helper.make_node("Conv", ["x", "w"], ["c"]), helper.make_node("MatMul", ["c", "m"], ["y"])]
    onnx = model(nodes, {"x": (1, 4, 12, 12)}, ["y"], [weight("w", 4, 4, 3, 3), weight("m", 10, 3)])
    program = check(onnx, {"x": X}, kernel_options, 1)
    first, second = program.iree_report.subgraphs
    assert (first.provider, first.reason, first.kernel) == ("migraphx", Reason.SPLICE_ERROR, None)
    assert "can't load" in first.detail
    assert (second.provider, second.reason) == ("iree", None)
    assert "1 of 2 subgraphs on IREE" in program.iree_report.summary()


@pytest.fixture
def placeholder(sub_kernel):
    shapes = [Shape.standard_of("float_type", LENS)] * 2
    return Placeholder("iree_sub", sub_kernel, shapes, shapes[0], {}, device(2))


@pytest.mark.parametrize(
    "given",
    [
        [],
        [shape(type="float", lens=[4, 33])],
        [shape(type="float", lens=[4, 33]), shape(type="half", lens=[4, 33])],
        [shape(type="float", lens=[4, 33]), shape(type="float", lens=[33, 4])],
        [shape(type="float", lens=[4, 33]), shape(type="float", lens=[4, 33], strides=[1, 4])],
        [shape(type="float", lens=[4, 33]), shape(type="float", lens=[4, 33], strides=[0, 1])],
        [shape(type="float", lens=[4, 33])] * 3,
    ],
)
def test_a_placeholder_takes_nothing_but_its_own_shapes(placeholder, given):
    with pytest.raises(KernelError, match="iree_sub"):
        placeholder.compute_shape(given)


def test_a_placeholder_takes_any_stride_of_an_axis_of_length_one(sub_kernel):
    row = Shape.standard_of("float_type", (1, 132))
    placeholder = Placeholder("iree_sub", sub_kernel, [row] * 2, row, {}, device(2))
    given = [shape(type="float", lens=[1, 132], strides=[step, 1]) for step in (0, 1000)]
    assert placeholder.compute_shape(given).lens() == [1, 132]


def test_names_depend_on_kernel_constants_and_their_places(sub_kernel):
    operand = Shape.standard_of("float_type", LENS)

    def name(**constants):
        literals = {
            int(index[1:]): Literal(operand, np.full(LENS, value, np.float32).tobytes())
            for index, value in constants.items()
        }
        return Placeholder("iree_sub", sub_kernel, [operand] * 2, operand, literals, device(2)).name

    names = [name(), name(_0=1), name(_1=1), name(_0=2), name(_0=1, _1=2), name(_0=2, _1=1)]
    assert len(set(names)) == len(names)
    assert name(_0=1, _1=2) == names[4]


def test_a_constant_of_another_shape_is_refused():
    literal = Literal(Shape.standard_of("float_type", (2, 3)), bytes(24))
    with pytest.raises(Refusal) as caught:
        laid_out(literal, Shape.standard_of("float_type", (3, 2)))
    assert caught.value.reason is Reason.UNSUPPORTED_LAYOUT


def test_a_kernel_that_fails_in_a_run_is_an_error_with_its_cause(kernel_options, monkeypatch):
    onnx = convolutions(seed=21)
    program = compiled(onnx, kernel_options)

    def fail(*arguments):
        raise KernelError("the kernel broke")

    with monkeypatch.context() as patch:
        patch.setattr(Placeholder, "compute", fail)
        with pytest.raises(MigraphxError, match="the kernel broke") as caught:
            program.run({"x": X})
    assert isinstance(caught.value.__cause__, KernelError)
    assert_right(program, onnx, {"x": X})


def test_threads_of_the_kernels_are_those_of_the_options(kernel_options, monkeypatch):
    asked = []
    monkeypatch.setattr(host, "device", lambda threads: asked.append(threads) or device(threads))
    program = binding.parse_onnx_buffer(convolutions())
    options = replace(kernel_options, threads=3)
    pipeline.compile(program, binding.get_target("ref"), options=options)
    assert set(asked) == {3}
