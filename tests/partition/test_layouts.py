"""In which order values between kernels lie in memory."""

import numpy as np
import pytest

import iree_migraphx
from iree_migraphx import binding
from iree_migraphx.lowering import forms
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.partition.layouts import read_by_others, with_layouts
from iree_migraphx.partition.partition import partition
from programs import Builder, loaded, on_ref

LENS = (1, 4, 6, 6)
ROWS, LAST = (144, 36, 6, 1), (144, 1, 24, 4)


@pytest.fixture
def b():
    return Builder()


def conv(b, x, seed, out=4, into=4, **fields):
    w = np.random.default_rng(seed).integers(-2, 2, (out, into, 3, 3))
    return b.conv(x, b.literal(w), padding=[1, 1], **fields)


def laid_out(program, form=Form.CHANNELS_LAST):
    rules = forms.rules(form, standard_operands=form is Form.CHANNELS_LAST, extra=True, least_work=0)
    found = partition(program, rules)
    return found, with_layouts(program, found, rules)


def strides(subgraph):
    shapes = [parameter.shape for parameter in subgraph.parameters]
    return [
        shape.strides for shape in shapes if len(shape.lens) == 4 and shape.lens == LENS
    ], subgraph.result_shape.strides


def test_a_value_between_convolutions_stays_channels_last(b):
    first = b.op("relu", conv(b, b.param("x", LENS), 0))
    before, (one, two) = laid_out(b.build(conv(b, first, 1)))
    assert strides(one) == ([ROWS], LAST)
    assert strides(two) == ([LAST], ROWS)
    assert {one.key, two.key}.isdisjoint(subgraph.key for subgraph in before)


def test_values_that_others_read_stay_row_major(b):
    first = conv(b, b.param("x", LENS), 0)
    second = conv(b, first, 1)
    _, found = laid_out(b.build(b.op("nonzero", first), second))
    assert [strides(subgraph) for subgraph in found] == [([ROWS], ROWS), ([ROWS], ROWS)]


def test_pooling_and_pointwise_chains_keep_the_order(b):
    first = conv(b, b.param("x", LENS), 0)
    pooled = b.op(
        "pooling", first, mode=1, lengths=[3, 3], stride=[1, 1], padding=[1, 1, 1, 1], padding_mode=0,
        dilations=[1, 1], ceil_mode=False, lp_order=2, dyn_global=False, count_include_pad=False,
    )  # fmt: skip
    both = b.op("add", b.op("tanh", first), pooled)
    _, found = laid_out(b.build(conv(b, both, 1)))
    assert [strides(subgraph) for subgraph in found if subgraph.anchor == "pooling"] == [([LAST], LAST)]


def test_what_mixes_axes_comes_out_row_major(b):
    first = conv(b, b.param("x", LENS), 0)
    flat = b.op("reshape", b.op("softmax", b.op("reshape", first, dims=[4, 36]), axis=1), dims=list(LENS))
    _, found = laid_out(b.build(conv(b, b.op("contiguous", flat), 1)))
    (softmax,) = (subgraph for subgraph in found if subgraph.anchor == "softmax")
    assert softmax.result_shape.standard


def test_nothing_changes_for_gpus(b):
    before, after = laid_out(b.build(conv(b, conv(b, b.param("x", LENS), 0), 1)), Form.OPERANDS)
    assert after == before


def test_who_reads(b):
    first = conv(b, b.param("x", LENS), 0)
    squeezed = b.op("squeeze", first, axes=[0])
    second = conv(b, b.op("unsqueeze", squeezed, axes=[0]), 1)
    program = b.build(second, squeezed)
    found = partition(program, forms.rules(Form.CHANNELS_LAST, standard_operands=True))
    read = read_by_others(program, found)
    # The view of the first is returned; the second is itself.
    assert {subgraph.result for subgraph in found} <= read
    assert found[0].operands[0] not in read


@pytest.mark.parametrize("batch", [1, 2])
def test_whole_programs_are_right(b, kernel_options, batch):
    """Through pooling, concat, pad, a residual sum, a reduction and a depthwise convolution."""
    lens = (batch, 4, 6, 6)
    x = b.op("relu", conv(b, b.param("x", lens), 0))
    y = b.op("add", conv(b, x, 1), x)
    pooled = b.op(
        "pooling", y, mode=0, lengths=[2, 2], stride=[1, 1], padding=[0, 0, 0, 0], padding_mode=0,
        dilations=[1, 1], ceil_mode=False, lp_order=2, dyn_global=False, count_include_pad=False,
    )  # fmt: skip
    padded = b.op("pad", pooled, pads=[0, 0, 1, 0, 0, 0, 0, 1], value=2.0, mode=0)
    z = b.op("concat", padded, y, axis=1)
    depthwise = b.conv(z, b.literal(np.random.default_rng(4).integers(-2, 2, (8, 1, 3, 3))), group=8)
    means = b.op("reduce_sum", depthwise, axes=[2, 3])
    scaled = b.op("mul", depthwise, b.spread(means, (batch, 8, 4, 4)))
    program = b.build(b.op("reduce_max", conv(b, scaled, 5, out=3, into=8), axes=[1]))
    options = iree_migraphx.Options(cache_dir=kernel_options.cache_dir, quiet=True)
    inputs = {"x": np.random.default_rng(7).integers(-2, 2, lens).astype(np.float32)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(forms, "rules", lambda form, **how: RULES(form, **{**how, "least_work": 0}))
        compiled = iree_migraphx.compile(loaded(program), binding.get_target("ref"), options=options)
    report = compiled.iree_report
    assert report.swapped == report.eligible >= 7, report.note
    assert "concat" in {subgraph.anchor for subgraph in report.subgraphs}
    assert "transpose" not in repr(compiled)
    for _ in range(2):
        np.testing.assert_allclose(np.asarray(compiled.run(inputs)[0]), on_ref(program, inputs)[0], rtol=1e-5)


RULES = forms.rules
