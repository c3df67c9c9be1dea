"""Grouped-query attention written out for the host, where MIGraphX's own operator computes what it should."""

import numpy as np
import pytest

import iree_migraphx
from grouped import MOST, SIZE, grouped
from iree_migraphx import binding
from iree_migraphx.capture import grouped_attention
from iree_migraphx.capture.grouped_attention import has_grouped_attention, written_out
from iree_migraphx.errors import CaptureError
from iree_migraphx.ir.read import read_program
from programs import on_ref

FLOAT = {"type_": np.float32}
MODELS = {
    "token": grouped(1, batch=1, do_rotary=1, **FLOAT),
    "token-interleaved": grouped(1, batch=1, do_rotary=1, rotary_interleaved=1, **FLOAT),
    "tokens": grouped(1, **FLOAT),
    "tokens-half": grouped(1, packed=False, scale=0.25),
    "one-for-all": grouped(1, shared=1, **FLOAT),
    "window": grouped(1, local_window_size=2, **FLOAT),
    "prompt": grouped(5, shared=4, batch=1, do_rotary=1, **FLOAT),
    "prompt-interleaved": grouped(4, shared=4, batch=1, do_rotary=1, rotary_interleaved=1),
    "prompts": grouped(3, shared=4, packed=False, **FLOAT),
    "prompt-window": grouped(7, shared=4, local_window_size=3, **FLOAT),
    "prompt-that-fills-it": grouped(MOST, shared=4, **FLOAT),
}


def inputs_of(model):
    """Lengths, and caches with infinity and NaN behind them, which nobody may read."""
    program = binding.parse_onnx_buffer(model)
    random = np.random.default_rng(5)
    shapes = program.get_parameter_shapes()
    batch, queries = shapes["q"].lens()[:2]
    lengths = np.array([[7], [3]][:batch] if queries == 1 else [[queries - 1]] * batch, np.int32)
    inputs = {"past": lengths, "total": np.array([lengths.max() + 1], np.int32)}
    for name, shape in shapes.items():
        if name not in inputs:
            type_ = np.float16 if shape.type_string() == "half_type" else np.float32
            inputs[name] = random.standard_normal(shape.lens()).astype(type_)
    for cache, hidden in (("past_k", np.nan), ("past_v", np.inf)):
        for number, length in enumerate(lengths[:, 0]):
            inputs[cache][number, :, length + 1 :] = hidden
    return inputs


def assert_close(actual, expected):
    """The caches are copies, but for keys that positions turn."""
    for mine, theirs in zip(actual, expected, strict=True):
        bound = 16 * np.finfo(theirs.dtype).eps
        np.testing.assert_allclose(np.array(mine).astype(float), theirs.astype(float), rtol=bound, atol=bound)
    assert np.isfinite(expected[0]).all()


@pytest.mark.parametrize("name", MODELS)
def test_it_computes_the_same(name):
    before = read_program(binding.save_buffer(binding.parse_onnx_buffer(MODELS[name])))
    after = written_out(before)
    assert has_grouped_attention(before) and not has_grouped_attention(after)
    assert "get_tuple_elem" not in {i.name for i in after.main.instructions}
    inputs = inputs_of(MODELS[name])
    assert_close(on_ref(after, inputs), on_ref(before, inputs))


@pytest.mark.parametrize("name", ["token", "tokens-half", "prompt", "window"])
def test_on_the_host_it_is_one_kernel(kernel_options, name):
    program = binding.parse_onnx_buffer(MODELS[name])
    done = iree_migraphx.compile(program, binding.get_target("ref"), options=kernel_options)
    assert done.iree_report.swapped == done.iree_report.eligible >= 1, done.iree_report.summary()
    assert sum(subgraph.operators.count("dot") for subgraph in done.iree_report.subgraphs) == 2
    inputs = inputs_of(MODELS[name])
    assert_close(done.run(inputs), on_ref(read_program(binding.save_buffer(program)), inputs))


LEFT = {
    "several sequences that are turned": grouped(1, do_rotary=1),
    "a prompt with shared keys": grouped(4, **FLOAT),
    "a prompt longer than the cache": grouped(MOST + 1, shared=4, **FLOAT),
}


@pytest.mark.parametrize("what", LEFT)
def test_the_rest_stays_migraphxs(kernel_options, what):
    program = binding.parse_onnx_buffer(LEFT[what])
    before = read_program(binding.save_buffer(program))
    assert not has_grouped_attention(before)
    assert "group_query_attention" in {i.name for i in written_out(before).main.instructions}


def test_what_migraphx_computes_wrongly():
    """Each head of a prompt as attention says; where heads share keys, MIGraphX's results are others."""
    for shared, right in ((4, True), (2, False)):
        model = grouped(3, shared=shared, batch=1, **FLOAT)
        inputs = inputs_of(model)
        heads = inputs["q"].reshape(3, -1, SIZE).transpose(1, 0, 2)
        q, k, v = heads[:4], heads[4 : 4 + shared], heads[4 + shared :]
        k, v = (np.repeat(each, 4 // shared, axis=0) for each in (k, v))
        powers = np.exp(q @ k.transpose(0, 2, 1) / np.sqrt(SIZE)) * np.tri(3)
        wanted = (powers / powers.sum(-1, keepdims=True) @ v).transpose(1, 0, 2).reshape(1, 3, -1)
        found = on_ref(read_program(binding.save_buffer(binding.parse_onnx_buffer(model))), inputs)[0]
        assert np.allclose(found, wanted, rtol=1e-4, atol=1e-5) is right


def test_a_migraphx_that_does_not_take_it(kernel_options, monkeypatch):
    def refuse(program):
        raise CaptureError("just so")

    monkeypatch.setattr(grouped_attention, "settle", refuse)
    program = binding.parse_onnx_buffer(MODELS["tokens"])
    done = iree_migraphx.compile(program, binding.get_target("ref"), options=kernel_options)
    assert "grouped-query attention was left to MIGraphX: just so" in done.iree_report.note
    inputs = inputs_of(MODELS["tokens"])
    assert_close(done.run(inputs), on_ref(read_program(binding.save_buffer(program)), inputs))
