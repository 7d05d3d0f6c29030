"""The two clocks of a request: wall time for records, monotonic time for deadlines. Tests inject their own."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


def _wall_micros() -> int:
    return time.time_ns() // 1000


@dataclass(frozen=True, slots=True)
class Clock:
    """Where time comes from.

    Attributes:
        now: Microseconds since the epoch, UTC; may step.
        monotonic: Seconds from an arbitrary point; never steps.
    """

    now: Callable[[], int] = _wall_micros
    monotonic: Callable[[], float] = time.monotonic
