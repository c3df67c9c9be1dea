"""Grouped-query attention: MIGraphX's own kernels turn and store keys and values, one launch of ours does the rest.

The virtual GPU can't compute MIGraphX's kernels, so ours are checked over whatever these leave.
"""

import numpy as np
import pytest

from gpu.by_ref import ByRef
from gpu.harness import compiled
from grouped import grouped
from iree_migraphx import binding
from programs import Builder, loaded

MODELS = {
    "token": grouped(1, do_rotary=1),
    "prompt": grouped(4, do_rotary=1),
    "float": grouped(4, type_=np.float32, packed=False, scale=0.25),
    "one-for-all": grouped(1, shared=1, do_rotary=1),
    "each-its-own": grouped(3, shared=4, type_=np.float32, do_rotary=1, rotary_interleaved=1),
}


@pytest.mark.parametrize("eligible", ["all", None])
@pytest.mark.parametrize("name", MODELS)
def test_grouped_query_attention(virtual_device, kernel_options, name, eligible):
    by_ref = ByRef()
    done = compiled(MODELS[name], kernel_options, virtual_device, True, eligible=eligible, observing=by_ref.observing)
    assert done.report.swapped == done.report.eligible == 1, done.report.summary()
    (subgraph,) = done.report.subgraphs
    assert subgraph.kernel.launches == 1
    assert subgraph.operators.count("dot") == 2
    assert {"greater", "where"} <= set(subgraph.operators)
    random = np.random.default_rng(0)
    lengths = {"past": np.array([[4], [7]], np.int32), "total": np.array([8], np.int32)}
    inputs = {
        parameter: lengths[parameter]
        if parameter in lengths
        else random.standard_normal(shape.lens()).astype(
            np.float16 if shape.type_string() == "half_type" else np.float32
        )
        for parameter, shape in done.program.get_parameter_shapes().items()
    }
    done.program.run(inputs)
    assert (by_ref.checked, by_ref.wrong) == (1, [])
    names = {i.operator.get("symbol_name") for i in done.instructions().main.instructions}
    assert "concat_past_present_kernel" in names
    binding.load_buffer(binding.save_buffer(done.program))


@pytest.mark.parametrize(
    ("gfx", "text", "taken"),
    [("gfx942", "", 1), ("gfx942", "!attention", 2), ("gfx90a", "", 2), ("gfx90a", "attention", 1)],
)
def test_where_migraphx_gives_attention_to_rocmlir(virtual_device, kernel_options, monkeypatch, gfx, text, taken):
    """A product, softmax and a product: one subgraph on MI300, or where the user wants it."""
    virtual_device.use(gfx)
    monkeypatch.setenv("MIGRAPHX_MLIR_USE_SPECIFIC_OPS", text)
    b = Builder()
    scores = b.op("dot", b.param("q", (2, 16, 32)), b.param("k", (2, 32, 64)))
    scores = b.op("mul", scores, b.spread(b.literal(0.5), (2, 16, 64)))
    result = b.op("dot", b.op("softmax", scores, axis=2), b.param("v", (2, 64, 32)))
    program = loaded(b.build(b.op("tanh", result)))
    done = compiled(program, kernel_options, virtual_device, eligible=None, compute=False)
    assert done.report.eligible == taken
    last = done.report.subgraphs[-1]
    assert (last.operators[-1], last.operators.count("dot")) == ("tanh", 3 - taken)
