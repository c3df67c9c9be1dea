"""Places for buffers in one memory: apart where they must be, and in little more memory than is in use at once."""

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from iree_migraphx.kernels.accept import ALIGNMENT
from iree_migraphx.splice.gpu_plan import Buffer, fits, most_alive, plan


def buffer(nbytes, first, length):
    return Buffer(nbytes, first, first + length)


BUFFERS = st.lists(st.builds(buffer, st.integers(0, 50_000), st.integers(0, 30), st.integers(0, 12)), max_size=25)


def end_of(buffers, offsets):
    return max((offset + each.nbytes for offset, each in zip(offsets, buffers, strict=True)), default=0)


@settings(deadline=None, max_examples=60)
@given(BUFFERS)
def test_two_that_are_in_use_at_once_are_apart(buffers):
    offsets = plan(buffers)
    assert plan(list(buffers)) == offsets
    assert all(offset >= 0 and offset % ALIGNMENT == 0 for offset in offsets)
    assert fits(buffers, offsets)
    for (a, at), (b, other) in itertools.combinations(zip(buffers, offsets, strict=True), 2):
        if max(a.first, b.first) <= min(a.last, b.last) and a.nbytes and b.nbytes:
            assert at + a.nbytes <= other or other + b.nbytes <= at


@settings(deadline=None, max_examples=60)
@given(BUFFERS)
def test_as_many_bytes_as_are_in_use_at_once(buffers):
    alive = [sum(b.nbytes for b in buffers if b.first <= at <= b.last) for at in range(50)]
    assert most_alive(buffers) == max(alive)
    assert end_of(buffers, plan(buffers)) >= max(alive)


@pytest.mark.parametrize("alignment", [1, 16, 128])
def test_large_buffers_begin_at_a_cache_line(alignment):
    buffers = [Buffer(20_000 + alignment, 0, 1), Buffer(30_000 + alignment, 0, 1), Buffer(100, 0, 1)]
    offsets = plan(buffers)
    assert offsets[0] % 128 == offsets[1] % 128 == offsets[2] % ALIGNMENT == 0
    assert end_of(buffers, offsets) < 50_000 + 1000


def chain(count, nbytes=1 << 16):
    return [Buffer(nbytes, n, n + 1) for n in range(count)]


def pyramid(levels=6):
    """An encoder whose values are read again by a decoder, the last first."""
    down = [Buffer(1 << 20 >> n, n, 2 * levels - n) for n in range(levels)]
    return [*down, *(Buffer(1 << 20 >> n, 2 * levels - n, 2 * levels - n + 1) for n in range(levels))]


def blocks(count=8):
    """Residual blocks: one value stays while two others are computed."""
    each = [
        [Buffer(300_000, n, n + 3), Buffer(100_000, n + 1, n + 2), Buffer(70_000, n + 2, n + 3)]
        for n in range(0, 3 * count, 3)
    ]
    return list(itertools.chain(*each))


@pytest.mark.parametrize(
    "buffers", [chain(2), chain(7), pyramid(), blocks()], ids=["two", "chain", "pyramid", "blocks"]
)
def test_no_more_memory_than_needed(buffers):
    assert end_of(buffers, plan(buffers)) <= 1.02 * most_alive(buffers)


def test_what_needs_more_than_one_order():
    """Each order by itself wastes a sixth here: what ended highest has to be placed before the others."""
    sizes = ((1, 2, 3), (2, 4, 8), (2, 0, 2), (3, 2, 4), (1, 3, 7))
    buffers = [Buffer(size * 12_800, first, last) for size, first, last in sizes]
    assert end_of(buffers, plan(buffers)) == most_alive(buffers)


@pytest.mark.parametrize(("other", "apart"), [(0, False), (63, False), (64, True), (100, True)])
def test_two_places(other, apart):
    assert fits([Buffer(64, 0, 1), Buffer(64, 1, 2)], [0, other]) is apart
    assert fits([Buffer(64, 0, 1), Buffer(64, 1, 2)], [other, 0]) is apart
    assert fits([Buffer(64, 0, 1), Buffer(64, 2, 2)], [0, other])


def test_nothing_to_place():
    assert plan([]) == []
    assert most_alive([]) == 0
