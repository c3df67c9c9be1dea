"""The check of single kernels sees what is wrong, and leaves out only what it may."""

import numpy as np
import pytest

from gpu.by_ref import ByRef, rounding
from gpu.narrowed import narrowed
from programs import Builder, body_of, inputs_of, on_ref, subgraphs_of

LENS = (1, 6, 5, 5)


def biased(group=1):
    """relu(3 * (convolution + bias) + y): 4 channels to 6."""
    main = Builder()
    given = [main.param(name, lens) for name, lens in (("x", (1, 4, 5, 5)), ("w", (6, 4 // group, 3, 3)))]
    value = main.conv(*given, group=group, padding=[1, 1, 1, 1])
    bias = main.op("broadcast", main.param("b", (6,)), axis=1, out_lens=list(LENS))
    third = main.spread(main.literal(3.0), LENS)
    value = main.op("mul", main.op("add", value, bias), third)
    (made,) = subgraphs_of(main.build(main.op("relu", main.op("add", value, main.param("y", LENS)))))
    return made


def buffers(subgraph, *changed):
    """The arguments of a kernel that computes what ref does, but for these elements of the result."""
    body = body_of(subgraph)
    given = inputs_of(body)
    (result,) = on_ref(body, given)
    for at, value in changed:
        result[at] = value
    values = [*(given[parameter.id] for parameter in subgraph.parameters), result]
    return {index: np.ascontiguousarray(value).reshape(-1).view(np.uint8) for index, value in enumerate(values)}


def test_some_channels_are_the_same_as_all():
    subgraph = biased()
    part = narrowed(subgraph, 4 * 9 * 25 * 3)
    given = inputs_of(body_of(subgraph))
    (whole,) = on_ref(body_of(subgraph), given)
    (cut,) = on_ref(body_of(part.subgraph), part.operands(given))
    assert cut.shape == (1, 3, 5, 5)
    np.testing.assert_array_equal(cut, part.result(whole))


def test_what_can_not_be_cut_is_compared_whole():
    assert narrowed(biased(group=2), 1) is None
    assert narrowed(biased(), 4 * 9 * 25 * 6) is None


@pytest.mark.parametrize("most", [1, 1 << 20])
@pytest.mark.parametrize("value", [-1.0, np.inf, np.nan])
def test_a_wrong_element_is_seen(most, value):
    subgraph = biased()
    right, wrong = ByRef(most), ByRef(most)
    right.observing(subgraph)(buffers(subgraph))
    wrong.observing(subgraph)(buffers(subgraph, ((0, 0, 2, 3), value)))
    assert (right.wrong, right.checked, len(wrong.wrong)) == ([], 1, 1)


def test_how_far_off_a_sum_in_half_precision_is():
    main = Builder()
    x, w = main.param("x", (1, 64, 3, 3), "half_type"), main.param("w", (64, 2, 2, 2), "half_type")
    fields = {"padding": [0, 0], "stride": [2, 2], "dilation": [1, 1], "group": 1, "padding_mode": 0}
    (subgraph,) = subgraphs_of(main.build(main.op("convolution_backwards", x, w, **fields)))
    random = np.random.default_rng(0)
    given = {p.id: random.standard_normal(p.shape.lens).astype(np.float16) for p in subgraph.parameters}
    (found,) = on_ref(body_of(subgraph), given)
    assert 1e-4 < rounding(subgraph, given, 0, found) < 1e-1


@pytest.mark.parametrize("x, wrong", [(1365.0, 0), (1300.0, 1)])
def test_infinity_next_to_the_greatest_half(x, wrong):
    """48 * 1365 is halfway to what no half holds: MIGraphX rounds it down, a kernel up."""
    b = Builder()
    product = b.op("dot", b.param("x", (1, 1), "half_type"), b.param("w", (1, 1), "half_type"))
    (made,) = subgraphs_of(b.build(b.op("mul", product, b.spread(b.literal(0.125, "half_type"), (1, 1)))))
    arguments = {index: np.array([value], np.float16).view(np.uint8) for index, value in enumerate((x, 48.0, np.inf))}
    by_ref = ByRef()
    by_ref.observing(made)(arguments)
    assert len(by_ref.wrong) == wrong
