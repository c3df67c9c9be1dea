"""Patterns that include and exclude subgraphs."""

import pytest

from iree_migraphx.errors import Reason
from iree_migraphx.options import Options
from iree_migraphx.partition.choice import excluded
from programs import Builder, subgraphs_of


@pytest.fixture(scope="module")
def subgraphs():
    """convolution_relu_1, convolution_relu_2 (equal), dot_1 and dot_tanh_1."""
    builder = Builder()
    x = builder.param("x", [1, 4, 8, 8])
    for number in range(2):
        x = builder.op("relu", builder.conv(x, builder.param(f"w{number}", [4, 4, 1, 1])))
    y = builder.op("dot", builder.param("a", [6, 8], "half_type"), builder.param("b", [8, 10], "half_type"))
    y = builder.op("tanh", builder.op("dot", y, builder.param("c", [10, 3], "half_type")))
    found = subgraphs_of(builder.build(x, y))
    assert [each.name for each in found] == NAMES
    return found


NAMES = ["convolution_relu_1", "convolution_relu_2", "dot_1", "dot_tanh_1"]


@pytest.mark.parametrize(
    ("patterns", "meant"),
    [
        (["dot_*"], NAMES[2:]),
        (["dot_?"], NAMES[2:3]),
        (["dot"], []),
        (["*"], NAMES),
        (["name=*_2"], NAMES[1:2]),
        (["operator=relu", "dot_tanh_[0-9]"], [*NAMES[:2], NAMES[3]]),
        (["operator=dot"], NAMES[2:]),
        (["operator=tan? & anchor=dot"], NAMES[3:]),
        (["anchor=dot&operator=relu"], []),
        (["output=6x* half"], NAMES[2:]),
        (["input=4x4x1x1 float"], NAMES[:2]),
        (["input=*x3 half"], NAMES[3:]),
        (["Dot_1"], []),
    ],
)
def test_who_is_meant(patterns, meant, subgraphs):
    out = excluded(subgraphs, Options(exclude=tuple(patterns)))
    assert list(out) == meant
    assert all(
        refusal.reason is Reason.EXCLUDED and refusal.detail.startswith("exclude has '") for refusal in out.values()
    )
    others = [name for name in NAMES if name not in meant]
    assert list(excluded(subgraphs, Options(include=tuple(patterns)))) == others


def test_a_key(subgraphs):
    assert list(excluded(subgraphs, Options(exclude=(f"key={subgraphs[0].key[:12]}*",)))) == NAMES[:2]


def test_both(subgraphs):
    out = excluded(subgraphs, Options(include=("dot_*",), exclude=("*tanh*",)))
    assert {name: refusal.detail for name, refusal in out.items()} == {
        NAMES[0]: "include has no pattern for it",
        NAMES[1]: "include has no pattern for it",
        NAMES[3]: "exclude has '*tanh*'",
    }


def test_nothing_is_excluded_by_default(subgraphs):
    assert excluded(subgraphs, Options()) == {}
