"""Recurrent layers written out by MIGraphX, and computed by kernels that serve every step."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import iree_migraphx
from iree_migraphx import binding
from iree_migraphx.capture import recurrence
from iree_migraphx.capture.recurrence import has_recurrence, unrolled
from iree_migraphx.errors import CaptureError
from iree_migraphx.ir.read import read_program
from iree_migraphx.options import Options
from programs import loaded

STEPS, BATCH, WIDTH, HIDDEN = 4, 2, 16, 32
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}


def layer(kind, directions=1, steps=STEPS, **attributes):
    """One layer, its last state a second result."""
    random = np.random.default_rng(3)

    def weights(name, *lens):
        return onnx.numpy_helper.from_array((random.standard_normal(lens) / 4).astype(np.float32), name)

    rows = GATES[kind] * HIDDEN
    constants = [
        weights("w", directions, rows, WIDTH),
        weights("r", directions, rows, HIDDEN),
        weights("b", directions, 2 * rows),
    ]
    attributes |= {"hidden_size": HIDDEN, "direction": ("forward", "bidirectional")[directions - 1]}
    node = helper.make_node(kind, ["x", "w", "r", "b"], ["y", "h"], **attributes)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, (steps, BATCH, WIDTH))
    results = [
        helper.make_tensor_value_info("y", TensorProto.FLOAT, (steps, directions, BATCH, HIDDEN)),
        helper.make_tensor_value_info("h", TensorProto.FLOAT, (directions, BATCH, HIDDEN)),
    ]
    graph = helper.make_graph([node], kind, [x], results, constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 14)], ir_version=8)
    return binding.parse_onnx_buffer(model.SerializeToString())


def values(steps=STEPS):
    return {"x": np.random.default_rng(4).standard_normal((steps, BATCH, WIDTH)).astype(np.float32)}


def on_ref(program, inputs):
    program.compile(binding.get_target("ref"))
    return [np.array(result) for result in program.run(inputs)]


@pytest.mark.parametrize(
    "kind, directions, attributes",
    [("RNN", 2, {}), ("GRU", 1, {"linear_before_reset": 1}), ("LSTM", 2, {"input_forget": 1})],
)
def test_unrolled_computes_the_same(kind, directions, attributes):
    program = layer(kind, directions, **attributes)
    before = read_program(binding.save_buffer(program))
    after = unrolled(before, 60.0)
    assert has_recurrence(before) and not has_recurrence(after)
    assert sum(i.name == "dot" for i in after.instructions()) >= 2 * STEPS * directions
    for actual, expected in zip(on_ref(loaded(after), values()), on_ref(program, values()), strict=True):
        np.testing.assert_array_equal(actual, expected)


def test_one_kernel_serves_every_step(kernel_options):
    reports = []
    for steps in (STEPS, STEPS + 3):
        program = layer("LSTM", 2, steps)
        compiled = iree_migraphx.compile(program, binding.get_target("ref"), options=kernel_options)
        report = compiled.iree_report
        assert report.swapped == report.eligible >= 2 * 2 * (steps - 1)
        reports.append(report)
        for actual, expected in zip(compiled.run(values(steps)), on_ref(program, values(steps)), strict=True):
            np.testing.assert_allclose(np.array(actual), expected, rtol=1e-5, atol=1e-6)
    few, many = ({one.key for one in report.subgraphs if one.anchor == "dot"} for report in reports)
    assert few == many


def test_a_migraphx_with_other_passes_is_left_its_layers(monkeypatch):
    monkeypatch.setattr(recurrence, "LEFT_OUT", ())
    program = layer("GRU")
    with pytest.raises(CaptureError, match="other passes"):
        unrolled(read_program(binding.save_buffer(program)), 60.0)
    compiled = iree_migraphx.compile(program, binding.get_target("ref"), options=Options.resolve(quiet=True))
    assert "recurrent layers were left to MIGraphX" in compiled.iree_report.note
    for actual, expected in zip(compiled.run(values()), on_ref(program, values()), strict=True):
        np.testing.assert_array_equal(np.array(actual), expected)
