"""Making a program that is wrong as small as it can be and still be wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from random_programs.check import Finding, check
from random_programs.choices import Choices
from random_programs.generate import Example, example

#: Candidates that are compiled together.
AT_ONCE = 24
ROUNDS = 12


def smaller(finding: Finding, own: bool = False, rounds: int = ROUNDS) -> Finding:
    """The simplest program found that is wrong as well."""
    best = finding
    for _ in range(rounds):
        candidates = _candidates(best.example)
        found = check(candidates, own).findings
        better = min(found, key=lambda each: _size(each.example), default=best)
        if _size(better.example) >= _size(best.example):
            return best
        best = better
    return best


def _size(given: Example) -> tuple[int, int, int]:
    instructions = given.program.main.instructions
    return len(instructions), sum(i.shape.elements for i in instructions), sum(given.choices)


def _candidates(given: Example) -> list[Example]:
    found, seen = [], {given.digest}
    for choices in _simpler(given.choices):
        try:
            candidate = example(Choices(given=choices), given.large)
        except Exception:
            continue
        if candidate.digest not in seen and _size(candidate) < _size(given):
            seen.add(candidate.digest)
            found.append(candidate)
            if len(found) == AT_ONCE:
                break
    return found


def _simpler(choices: Sequence[int]) -> Iterator[tuple[int, ...]]:
    """Shorter ones first, then with smaller numbers, then with one less of what such a number counts."""
    values = list(choices)
    length = max(1, len(values) // 2)
    while length:
        for start in range(0, len(values), length):
            yield tuple(values[:start] + values[start + length :])
        for start in range(0, len(values), length):
            if any(values[start : start + length]):
                yield tuple(values[:start] + [0] * length + values[start + length :])
        length //= 2
    for place, value in enumerate(values):
        if value > 1:
            yield (*values[:place], value - 1, *values[place + 1 :])
    for place, value in enumerate(values):
        for counted in range(place + 1, min(place + 8, len(values)) if value else 0):
            yield (*values[:place], value - 1, *values[place + 1 : counted], *values[counted + 1 :])
