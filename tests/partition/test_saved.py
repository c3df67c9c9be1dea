"""Subgraphs in a file."""

import msgpack
import pytest

from iree_migraphx.errors import FormatError
from iree_migraphx.lowering.anchors import Form
from iree_migraphx.lowering.emit import lower
from iree_migraphx.partition.saved import SavedSubgraphs, load_subgraphs, save_subgraphs
from programs import Builder, subgraphs_of


@pytest.fixture
def saved():
    builder = Builder()
    x = builder.param("x", [1, 4, 8, 8], strides=[256, 1, 32, 4])
    y = builder.conv(x, builder.param("w", [6, 4, 3, 3]), padding=[1, 1])
    y = builder.op("mul", y, builder.spread(builder.literal([0.5]), [1, 6, 8, 8]))
    z = builder.op("transpose", builder.op("relu", y), permutation=[0, 2, 3, 1])
    z = builder.op("dot", z, builder.spread(builder.param("v", [6, 5]), [1, 8, 6, 5]))
    subgraphs = subgraphs_of(builder.build(builder.op("tanh", z)))
    assert len(subgraphs) == 2
    return SavedSubgraphs("mi300x:xnack-", (7, "2.14.0"), subgraphs)


def test_what_is_saved_is_what_is_loaded(saved, tmp_path):
    save_subgraphs(saved, tmp_path / "x.subgraphs")
    loaded = load_subgraphs(tmp_path / "x.subgraphs")
    assert (loaded.arch, loaded.version) == (saved.arch, saved.version)
    for mine, theirs in zip(loaded.subgraphs, saved.subgraphs, strict=True):
        assert [getattr(mine, name) for name in ("key", "name", "members", "operands", "results", "result_shapes")] == [
            getattr(theirs, name) for name in ("key", "name", "members", "operands", "results", "result_shapes")
        ]
        assert lower(mine, "iree_x", Form.OPERANDS) == lower(theirs, "iree_x", Form.OPERANDS)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"rubbish",
        msgpack.packb({"version": 7}),
        msgpack.packb({"magic": "iree_migraphx subgraphs", "format": 99}),
        msgpack.packb({"magic": "iree_migraphx subgraphs", "format": 1, "version": [7, "2"], "subgraphs": [{}]}),
        msgpack.packb([1, 2]),
    ],
)
def test_what_is_no_such_file(content, tmp_path):
    (tmp_path / "x.subgraphs").write_bytes(content)
    with pytest.raises(FormatError, match=r"x\.subgraphs"):
        load_subgraphs(tmp_path / "x.subgraphs")


def test_half_a_file(saved, tmp_path):
    save_subgraphs(saved, tmp_path / "x.subgraphs")
    data = (tmp_path / "x.subgraphs").read_bytes()
    for end in range(0, len(data), 97):
        (tmp_path / "x.subgraphs").write_bytes(data[:end])
        with pytest.raises(FormatError):
            load_subgraphs(tmp_path / "x.subgraphs")
