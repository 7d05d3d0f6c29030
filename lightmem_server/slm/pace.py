"""Learns how long work takes from how long it took, to promise ends and retry times."""

from __future__ import annotations

import math

GAIN = 1 / 8
DEVIATION_GAIN = 1 / 4


class Pace:
    """Seconds per unit of work: a moving mean and a moving mean deviation.

    The pessimistic estimate adds the deviation, so that a promise made with it is mostly kept where the machine is
    shared and times scatter.

    Source: the round-trip estimator of RFC 6298 (section 2) and its gains; one deviation is added, not four: a sub-batch
    that ends a little late is cut off by the caller's own timer, while one not begun is never judged.
    """

    def __init__(self, seconds_per_unit: float) -> None:
        """
        Args:
            seconds_per_unit: The first guess, replaced by the first observation.
        """
        self._mean = seconds_per_unit
        self._best = seconds_per_unit
        self._deviation = 0.0
        self._is_guess = True

    @property
    def seconds_per_unit(self) -> float:
        """The mean."""
        return self._mean

    def observe(self, units: int, seconds: float) -> None:
        """Learn that `units` (at least 1) took `seconds`."""
        rate = seconds / units
        if self._is_guess:
            self._mean, self._best, self._deviation, self._is_guess = rate, rate, rate / 4, False
            return
        self._deviation += DEVIATION_GAIN * (abs(rate - self._mean) - self._deviation)
        self._mean += GAIN * (rate - self._mean)
        self._best = min(self._best, self._mean)

    def relax(self) -> None:
        """Grow bolder, because an estimate kept work from being begun: after one that took very long, nothing might ever be
        begun again, and so nothing learned. Called often enough, the best pace that there was is assumed."""
        self._deviation -= DEVIATION_GAIN * self._deviation
        self._mean += GAIN * (self._best - self._mean)

    def estimate(self, units: int) -> float:
        """Seconds that `units` will take, rather too many than too few."""
        return units * (self._mean + self._deviation)

    def retry_after(self, queued_units: int, concurrency: int) -> float:
        """Seconds until about half of a full queue is done, in steps of 10 ms: when to try again."""
        return max(0.01, math.ceil(self.estimate(queued_units) / concurrency * 50) / 100)
