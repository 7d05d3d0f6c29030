"""Durations in HDR histograms: a thousandth exact from 1 µs to 60 s. Memory stays small whatever the rate, and the tails are
not sampled. `hdrhistogram` is the HdrHistogram project's own Python port.
"""

from __future__ import annotations

from typing import Any

from hdrh.histogram import HdrHistogram

LONGEST_MICROS = 60_000_000
DIGITS = 3


class Latencies:
    """A histogram of durations."""

    def __init__(self, *, digits: int = DIGITS) -> None:
        """`digits`: how many significant figures are exact."""
        self._histogram = HdrHistogram(1, LONGEST_MICROS, digits)

    def __len__(self) -> int:
        return int(self._histogram.get_total_count())

    def add(self, seconds: float) -> None:
        """Count a duration; what is beyond the histogram's ends counts as its ends."""
        self._histogram.record_value(min(max(1, round(seconds * 1e6)), LONGEST_MICROS))

    def percentile_ms(self, share: float) -> float | None:
        """The smallest duration that this share of all don't exceed, in ms; None where there is none."""
        if not len(self):
            return None
        return round(self._histogram.get_value_at_percentile(share * 100) / 1e3, 3)

    def summary(self) -> dict[str, Any]:
        """p50, p95, p99 and the longest, in ms."""
        return {
            "p50_ms": self.percentile_ms(0.5),
            "p95_ms": self.percentile_ms(0.95),
            "p99_ms": self.percentile_ms(0.99),
            "max_ms": self.percentile_ms(1.0),
            "count": len(self),
        }
