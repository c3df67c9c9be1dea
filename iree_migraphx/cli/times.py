"""Statistics of measured times, as migraphx-driver takes them (program::perf_report in src/program.cpp)."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from iree_migraphx.cli.output import milliseconds


def common_average(measured: Sequence[float]) -> float:
    """The mean without the fastest and the slowest quarter."""
    ordered, quarter = sorted(measured), len(measured) // 4
    return statistics.fmean(ordered[quarter : len(ordered) - quarter])


@dataclass(frozen=True, slots=True)
class Times:
    """Statistics of some runs, in seconds.

    Attributes:
        total: the common average, which the rate is made of.
    """

    runs: int
    total: float
    min: float
    max: float
    mean: float
    median: float
    percentile_90: float
    percentile_95: float
    percentile_99: float

    @classmethod
    def of(cls, measured: Sequence[float]) -> Times:
        """The statistics of one run or more."""
        ordered = sorted(measured)
        percentiles = (ordered[int(share * (len(ordered) - 1))] for share in (0.90, 0.95, 0.99))
        return cls(
            len(ordered),
            common_average(ordered),
            ordered[0],
            ordered[-1],
            statistics.fmean(ordered),
            statistics.median(ordered),
            *percentiles,
        )

    def lines(self, batch: int) -> list[str]:
        """migraphx-driver's summary."""
        ms = milliseconds
        return [
            f"Batch size: {batch}",
            f"Rate: {batch / self.total:.6g} inferences/sec",
            f"Total time: {ms(self.total)} (Min: {ms(self.min)}, Max: {ms(self.max)}, Mean: {ms(self.mean)}, "
            f"Median: {ms(self.median)})",
            f"Percentiles (90%, 95%, 99%): ({ms(self.percentile_90)}, {ms(self.percentile_95)}, "
            f"{ms(self.percentile_99)})",
        ]
