"""Places for buffers in one memory: those that are in use at once apart, in as few bytes as can be found quickly."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from iree_migraphx.kernels.accept import ALIGNMENT

#: Bytes of a cache line of AMD's GPUs: a buffer that begins inside of one has one more than it needs.
_LINE = 128

#: Buffers of this many bytes begin at a line: it costs them less than one in a hundred.
_LARGE = 100 * _LINE

#: How near to the least that can be is near enough, and how many pairs of buffers each order may look at till then.
_NEAR, _PAIRS = 1.02, 60_000


@dataclass(frozen=True, slots=True)
class Buffer:
    """Bytes that are in use from one instant to another, both included."""

    nbytes: int
    first: int
    last: int


def most_alive(buffers: Sequence[Buffer]) -> int:
    """The largest sum of bytes in use at one instant: no plan needs less."""
    changes: list[tuple[int, int]] = []
    for buffer in buffers:
        changes += [(buffer.first, buffer.nbytes), (buffer.last + 1, -buffer.nbytes)]
    alive = most = 0
    for _, change in sorted(changes):
        alive += change
        most = max(most, alive)
    return most


def plan(buffers: Sequence[Buffer]) -> list[int]:
    """The offset of each buffer, a multiple of ALIGNMENT, and of a cache line for large ones.

    Placed one by one at the lowest, or into the smallest, gap that fits, in several orders ("Efficient Memory
    Management for Deep Neural Net Inference", Pisarchyk and Lee 2020); then those that ended highest again and again
    before all others. The same buffers always get the same places.
    """
    numbers = range(len(buffers))
    conflicts = _conflicts(buffers)
    rounded = [replace(buffer, nbytes=buffer.nbytes + -buffer.nbytes % ALIGNMENT) for buffer in buffers]
    enough = int(_NEAR * most_alive(rounded))
    rounds = min(_PAIRS // (len(buffers) + sum(map(len, conflicts)) + 1), 4 * len(buffers)) + 1
    keys: list[Callable[[int], tuple[int, ...]]] = [
        lambda n: (-buffers[n].nbytes, n),
        lambda n: (-sum(buffers[other].nbytes for other in conflicts[n]), -buffers[n].nbytes, n),
        lambda n: (-(buffers[n].last - buffers[n].first + 1) * buffers[n].nbytes, n),
        lambda n: (buffers[n].first - buffers[n].last, -buffers[n].nbytes, n),
        lambda n: (buffers[n].first, -buffers[n].nbytes, n),
    ]
    orders = [(sorted(numbers, key=key), smallest) for key in keys for smallest in (False, True)]
    best: list[int] = []
    lowest: float = float("inf")
    for _ in range(rounds):
        changed = []
        for order, smallest in orders:
            offsets = _placed(order, buffers, conflicts, smallest)
            end = _end(buffers, offsets)
            if end < lowest:
                lowest, best = end, offsets
            if lowest <= enough:
                return best
            highest = [n for n in order if offsets[n] + buffers[n].nbytes == end]
            if order[: len(highest)] != highest:
                changed.append(([*highest, *(n for n in order if n not in highest)], smallest))
        orders = changed
    return best


def fits(buffers: Sequence[Buffer], offsets: Sequence[int]) -> bool:
    """Whether buffers that are in use at once are apart."""
    return all(
        offsets[n] + buffers[n].nbytes <= offsets[other] or offsets[other] + buffers[other].nbytes <= offsets[n]
        for n, others in enumerate(_conflicts(buffers))
        for other in others
    )


def _placed(
    order: Sequence[int], buffers: Sequence[Buffer], conflicts: Sequence[Sequence[int]], smallest: bool
) -> list[int]:
    offsets = [-1] * len(buffers)
    for number in order:
        size = buffers[number].nbytes
        alignment = _LINE if size >= _LARGE else ALIGNMENT
        taken = sorted((offsets[n], offsets[n] + buffers[n].nbytes) for n in conflicts[number] if offsets[n] >= 0)
        edge, place, least = 0, -1, -1
        for begin, end in taken:
            gap = begin - edge
            if gap >= size and (place < 0 or gap < least):
                place, least = edge, gap
                if not smallest:
                    break
            edge = max(edge, end + -end % alignment)
        offsets[number] = edge if place < 0 else place
    return offsets


def _conflicts(buffers: Sequence[Buffer]) -> list[list[int]]:
    """The buffers that are in use with each at once; those of no bytes are nowhere."""
    conflicts: list[list[int]] = [[] for _ in buffers]
    open_: list[int] = []
    for number in sorted(range(len(buffers)), key=lambda n: buffers[n].first):
        if not buffers[number].nbytes:
            continue
        open_ = [other for other in open_ if buffers[other].last >= buffers[number].first]
        for other in open_:
            conflicts[number].append(other)
            conflicts[other].append(number)
        open_.append(number)
    return conflicts


def _end(buffers: Sequence[Buffer], offsets: Sequence[int]) -> int:
    return max((offset + buffer.nbytes for offset, buffer in zip(offsets, buffers, strict=True)), default=0)
