"""The numbers that decide what is made up: drawn at random and noted, or given again, as they were or simpler."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """Whole numbers, of which 0 stands for what is simplest.

    Attributes:
        made: all numbers so far; given to a new object they make the same again.
    """

    def __init__(self, seed: str = "", given: Sequence[int] | None = None) -> None:
        self._random = random.Random(seed)
        self._given = given
        self.made: list[int] = []

    def below(self, limit: int) -> int:
        """A number from 0 to limit - 1."""
        place = len(self.made)
        if self._given is None:
            number = self._random.randrange(limit)
        else:
            number = min(self._given[place], limit - 1) if place < len(self._given) else 0
        self.made.append(number)
        return number

    def pick(self, values: Sequence[T]) -> T:
        return values[self.below(len(values))]

    def chance(self, one_in: int) -> bool:
        """True in one of so many cases."""
        return self.below(one_in) == one_in - 1

    def between(self, low: int, high: int) -> int:
        return low + self.below(high - low + 1)

    def shuffled(self, values: Sequence[T]) -> list[T]:
        rest, result = list(values), []
        while rest:
            result.append(rest.pop(self.below(len(rest))))
        return result
