"""What came of calls: how many ended with which status, for what reason, and after how long."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable
from dataclasses import dataclass

from lightmem_client import LightMemError

from tests.bench.latencies import Latencies

OK = "OK"
NOT_SENT = "NOT_SENT"
"""The status of a call that the generator left out, being full itself. It is a miss of the measurement."""

OVERLOADED = "RESOURCE_EXHAUSTED"


@dataclass(frozen=True, slots=True)
class Ended:
    """How a call ended, and how many seconds after it was to be sent."""

    status: str
    seconds: float


class Tally:
    """Counts calls.

    Attributes:
        answered: How long those took that succeeded, each from the moment at which it was to be sent.
        failed: The same of those that didn't.
        late: How much later than intended calls were sent: what the generator itself could not keep up with.
        statuses: How many ended with which gRPC status.
        reasons: The same by status and reason, of those that failed.
        without_retry_info: Refusals for overload that didn't say when to come back.
    """

    def __init__(self) -> None:
        self.answered = Latencies()
        self.failed = Latencies()
        self.late = Latencies()
        self.statuses: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self.without_retry_info = 0

    async def count(self, work: Awaitable[object], intended: float) -> Ended:
        """Wait for a call that was to be sent at a moment of `time.perf_counter`."""
        self.late.add(time.perf_counter() - intended)
        try:
            await work
        except LightMemError as error:
            seconds = time.perf_counter() - intended
            self.failed.add(seconds)
            self.statuses[error.status.name] += 1
            self.reasons[f"{error.status.name} {error.reason}".rstrip()] += 1
            if error.status.name == OVERLOADED and error.retry_after_seconds is None:
                self.without_retry_info += 1
            return Ended(error.status.name, seconds)
        seconds = time.perf_counter() - intended
        self.statuses[OK] += 1
        self.answered.add(seconds)
        return Ended(OK, seconds)

    def count_not_sent(self) -> None:
        """Count a call that was left out."""
        self.statuses[NOT_SENT] += 1
