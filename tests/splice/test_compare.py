"""What counts as the same numbers."""

import math

import numpy as np
import pytest

from iree_migraphx.splice.compare import Tolerance, terms
from programs import Builder, subgraphs_of

NAN, INF = math.nan, math.inf
F32 = Tolerance(1e-6)


def body(type_="float_type", k=16, behind=()):
    builder = Builder()
    value = builder.op("dot", builder.param("a", [4, k], type_), builder.param("b", [k, 8], type_))
    for name in behind:
        value = builder.op(name, value)
    (subgraph,) = subgraphs_of(builder.build(value))
    return subgraph.body


@pytest.mark.parametrize(
    ("expected", "actual", "right"),
    [
        ([1.0, 2.0], [1.0, 2.0], True),
        ([1e-9, 2.0], [0.0, 2.0], True),
        ([1.0, 2.0], [1.0, 2.001], False),
        ([0.0, 0.0], [0.0, 1e-3], False),
        ([NAN, 1.0], [NAN, 1.0], True),
        ([NAN, 1.0], [1.0, 1.0], False),
        ([1.0, 1.0], [NAN, 1.0], False),
        ([INF, -INF], [INF, -INF], True),
        ([INF, 1.0], [-INF, 1.0], False),
        ([INF, 1.0], [3e38, 1.0], False),
        ([1.0, 1.0], [1.0, INF], False),
    ],
)
def test_floats(expected, actual, right):
    problem = F32.problem(np.float32(actual), np.float32(expected))
    assert (problem == "") is right
    assert right or "instead of" in problem


@pytest.mark.parametrize(("actual", "right"), [(INF, True), (65504, True), (-INF, False), (60000, False), (NAN, False)])
def test_infinity_is_the_number_after_the_largest(actual, right):
    expected, actual = np.float16([65504, 1.0]), np.float16([actual, 1.0])
    assert (Tolerance(8e-3).problem(actual, expected) == "") is right


def test_the_first_wrong_element_is_named():
    expected = np.zeros((2, 3), np.float32)
    actual = expected.copy()
    actual[1, 2] = 5
    assert F32.problem(actual, expected) == "1 of 6 elements differ by more than 1e-06; [1, 2] is 5 instead of 0"


def test_whole_numbers_may_be_off_by_one_where_floats_were_rounded():
    expected = np.int8([1, 2, 3])
    assert F32.problem(expected + 1, expected) == ""
    assert F32.problem(expected + 2, expected)
    assert Tolerance(0.0).problem(expected, expected) == ""
    assert Tolerance(0.0).problem(expected + 1, expected)


def test_bools_may_differ_in_few_places_where_floats_were_compared():
    expected = np.zeros(2000, np.bool_)
    flipped = expected.copy()
    flipped[:2] = True
    assert F32.problem(flipped, expected) == ""
    assert Tolerance(0.0).problem(flipped, expected) == "2 of 2000 elements differ"
    assert F32.problem(~expected, expected)


def test_it_follows_from_type_length_and_operators():
    assert terms(body(k=100)) == 100
    short, long = Tolerance.of(body()), Tolerance.of(body(k=1600))
    assert short.relative < long.relative < 6 * short.relative
    assert Tolerance.of(body("half_type")).relative == pytest.approx(short.relative * 2**13)
    assert Tolerance.of(body(behind=["exp", "relu"])).relative > short.relative


def test_the_length_of_a_convolutions_sums():
    builder = Builder()
    value = builder.conv(builder.param("x", [1, 8, 9, 9]), builder.param("w", [6, 4, 3, 3]), group=2)
    (subgraph,) = subgraphs_of(builder.build(value))
    assert terms(subgraph.body) == 36
