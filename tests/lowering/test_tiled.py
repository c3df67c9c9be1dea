"""Products with constants that are read in strips. Whole numbers make every sum exact."""

import numpy as np
import pytest

from iree_migraphx.errors import Refusal
from iree_migraphx.ir import tiles
from iree_migraphx.ir.edit import remove_dead
from iree_migraphx.lowering.anchors import Form
from programs import (
    Builder,
    assert_equal,
    inputs_of,
    kernels_of,
    on_iree,
    on_ref,
    operands_of,
    recorded,
    subgraphs_of,
)


def weights(*lens):
    return np.random.default_rng(3).integers(-3, 3, lens)


def product(b, lens, columns):
    w = b.literal(weights(lens[-1], columns))
    if len(lens) > 2:
        w = b.spread(w, (*lens[:-2], lens[-1], columns))
    return b.op("relu", b.op("dot", b.param("x", lens), w))


def window(b, lens, filters, kernel, **fields):
    x = b.op("relu", b.conv(b.param("x", lens), b.literal(weights(filters, lens[1], *kernel)), **fields))
    return b.op("add", x, b.op("broadcast", b.param("c", (filters,)), axis=1, out_lens=list(b_lens(b, x))))


def b_lens(b, value):
    return next(i.shape.lens for i in b.build(value).main.instructions if i.name == "relu")


def grouped(b):
    return b.conv(b.param("g", (1, 32, 4, 4)), b.literal(weights(32, 16, 3, 3)), group=2)


TILED = {
    "matrix": lambda b: product(b, (5, 7), 48),
    "few-rows": lambda b: product(b, (4, 33), 16),
    "many-rows": lambda b: product(b, (11, 6), 32),
    "batch": lambda b: product(b, (2, 3, 5), 32),
    "batches": lambda b: product(b, (2, 2, 4, 6), 16),
    "1x1": lambda b: window(b, (1, 5, 4, 3), 32, (1, 1)),
    "1x1-batch": lambda b: window(b, (2, 5, 4, 3), 16, (1, 1)),
    "1x1-stride": lambda b: window(b, (1, 5, 7, 6), 16, (1, 1), stride=[2, 3]),
    "1x1-padded": lambda b: window(b, (1, 5, 4, 4), 16, (1, 1), padding=[1, 0]),
    "3x3": lambda b: window(b, (1, 4, 6, 5), 32, (3, 3), padding=[1, 1]),
    "everything": lambda b: window(b, (2, 3, 9, 8), 16, (3, 2), padding=[1, 0, 2, 1], stride=[2, 1], dilation=[2, 1]),
    "one-pixel": lambda b: window(b, (1, 6, 3, 3), 16, (3, 3)),
    "one-output-unread": lambda b: window(b, (1, 4, 4, 5), 16, (3, 3), stride=[2, 3]),
}
LEFT = {
    "15-columns": lambda b: product(b, (5, 7), 15),
    "one-row": lambda b: product(b, (1, 7), 16),
    "groups": grouped,
    "not-constant": lambda b: b.op("dot", b.param("x", (4, 5)), b.param("y", (5, 16))),
    "half": lambda b: b.op("dot", b.param("x", (4, 5), "half_type"), b.literal(weights(5, 16), "half_type")),
}


@pytest.fixture(autouse=True)
def any_size(monkeypatch):
    monkeypatch.setattr(tiles, "LEAST_WEIGHTS", 1)
    monkeypatch.setattr(tiles, "LEAST_WINDOW_WEIGHTS", 1)


def rewritten(make):
    b = Builder()
    before = b.build(make(b))
    return before, recorded(remove_dead(tiles.with_tiled_constants(before)))


def strips(program):
    values = program.main.by_id()
    return [i for i in program.main.instructions if tiles.tiled_constant(i, values)]


@pytest.mark.parametrize("name", TILED)
def test_the_same_is_computed(kernel_options, name):
    before, after = rewritten(TILED[name])
    assert len(strips(after)) == 1
    inputs = inputs_of(before)
    (expected,) = on_ref(before, inputs)
    assert_equal(on_ref(after, inputs)[0], expected)
    (subgraph,) = subgraphs_of(after, Form.CHANNELS_LAST, standard_operands=True)
    (constant,) = (
        p.shape.lens for p in subgraph.parameters if p.shape.lens[-1] == tiles.TILE and len(p.shape.lens) > 2
    )
    assert constant in [i.shape.lens for i in after.main.instructions if i.name == "@literal"]
    kernel = kernels_of([subgraph], Form.CHANNELS_LAST, kernel_options)[subgraph.key].kernel
    assert not isinstance(kernel, Refusal), kernel
    assert_equal(on_iree(subgraph, kernel, operands_of(subgraph, after, inputs)), expected)


@pytest.mark.parametrize("name", LEFT)
def test_what_stays_as_it_is(name):
    before, after = rewritten(LEFT[name])
    assert after == before


def test_small_weights_and_large_images_stay_as_they_are(monkeypatch):
    monkeypatch.undo()
    for make in (TILED["matrix"], lambda b: window(b, (1, 256, 21, 21), 256, (3, 3), padding=[1, 1])):
        before, after = rewritten(make)
        assert after == before


def test_other_readers_of_a_constant_keep_it():
    b = Builder()
    w = b.literal(weights(7, 16))
    before = b.build(b.op("dot", b.param("x", (4, 7)), w), b.op("relu", w))
    after = recorded(remove_dead(tiles.with_tiled_constants(before)))
    assert len(strips(after)) == 1
    for actual, expected in zip(on_ref(after, inputs_of(before)), on_ref(before, inputs_of(before)), strict=True):
        assert_equal(actual, expected)
