"""How much model time background work of a namespace may take: so many seconds in any hour, across restarts.

What was spent stands in the store, by minute. The spending of the last hour counts, whole minutes: so the bound is kept
over every hour, and exceeded at most by the calls to a model that were at work when it was reached, one of each worker.
"""

from __future__ import annotations

from collections.abc import Sequence

HOUR_MICROS = 3600 * 1_000_000
MINUTE_MICROS = 60 * 1_000_000
MICROS = 1_000_000

RESUME_SHARE = 10
"""Once used up, work goes on when a tenth of the budget is free again: not a single call an hour later, and another wait."""


def resumes_at(spent: Sequence[tuple[int, int]], limit_micros: int, now: int) -> int | None:
    """When work may go on; None: at once.

    Args:
        spent: (beginning of a minute, microseconds), oldest first.
        limit_micros: Of an hour; 0: no limit.

    >>> resumes_at([(0, 50)], 100, now=5) is None
    True
    >>> resumes_at([(0, 60), (60_000_000, 60)], 100, now=70_000_000) // MINUTE_MICROS
    61
    """
    if not limit_micros:
        return None
    counted = [(minute, micros) for minute, micros in spent if minute + MINUTE_MICROS + HOUR_MICROS > now]
    left = sum(micros for _, micros in counted)
    if left < limit_micros:
        return None
    for minute, micros in counted:
        left -= micros
        if left <= limit_micros - limit_micros // RESUME_SHARE:
            return minute + MINUTE_MICROS + HOUR_MICROS
    return now + HOUR_MICROS
