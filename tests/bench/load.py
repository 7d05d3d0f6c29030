"""Sends calls at stated moments and counts how long each took.

Open loop: arrivals are a Poisson process drawn beforehand, and a call's latency counts from the moment at which it was to
be sent, not from when it was. So a server (or a client) that stalls is charged for everyone who would have called meanwhile:
no coordinated omission. Closed loop: each worker calls again as soon as it was answered, which finds the throughput.

Latencies go into HDR histograms (0.1 % exact, 1 µs to 60 s): memory stays small whatever the rate, and the tails are not
sampled. `hdrhistogram` is the HdrHistogram project's own Python port.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from hdrh.histogram import HdrHistogram
from lightmem_client import LightMemError, RetrieveResult

LONGEST_MICROS = 60_000_000
DIGITS = 3
OK = "OK"
LEAD_SECONDS = 0.05
"""Between the decision to begin and the first arrival, so that nothing is late from the start."""


def make_arrivals(rate: float, seconds: float, *, seed: int) -> list[float]:
    """Moments of a Poisson process, in seconds from its begin, all of them below `seconds`.

    Args:
        rate: Arrivals per second on average, above 0.

    >>> len(make_arrivals(10, 100, seed=1)) in range(900, 1100)
    True
    """
    drawn = random.Random(seed)
    moments = []
    moment = drawn.expovariate(rate)
    while moment < seconds:
        moments.append(moment)
        moment += drawn.expovariate(rate)
    return moments


class Latencies:
    """A histogram of durations."""

    def __init__(self) -> None:
        self._histogram = HdrHistogram(1, LONGEST_MICROS, DIGITS)

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


@dataclass(slots=True)
class Recorder:
    """What came of the calls of one step of the bench.

    Attributes:
        client: From the intended moment to the whole answer at the client.
        service: From the sending to the whole answer: without what the client itself was late.
        server: As the trace says.
        stages: The trace's stages.
        statuses: How many calls ended with which status.
        judged_count: Passages that the Selector scored.
        cut_count: Answers that the deadline cut.
    """

    client: Latencies = field(default_factory=Latencies)
    service: Latencies = field(default_factory=Latencies)
    server: Latencies = field(default_factory=Latencies)
    stages: dict[str, Latencies] = field(default_factory=dict)
    statuses: Counter[str] = field(default_factory=Counter)
    judged_count: int = 0
    cut_count: int = 0
    elapsed_seconds: float = 0.0

    def add(self, answer: RetrieveResult, *, waited_seconds: float, service_seconds: float) -> None:
        """Count an answer. `waited_seconds` is how much later than intended it was sent."""
        self.statuses[OK] += 1
        self.client.add(waited_seconds + service_seconds)
        self.service.add(service_seconds)
        self.server.add(answer.trace.elapsed_seconds)
        for stage in answer.trace.stages:
            self.stages.setdefault(stage.name, Latencies()).add(stage.elapsed_seconds)
        self.judged_count += sum(candidate.logit is not None for candidate in answer.trace.candidates)
        self.cut_count += answer.trace.is_cut_by_deadline

    def figures(self) -> dict[str, Any]:
        """All of it as numbers."""
        answered = self.statuses[OK]
        return {
            "end_to_end": self.client.summary(),
            "service": self.service.summary(),
            "server": self.server.summary(),
            "stages": {name: latencies.summary() for name, latencies in self.stages.items()},
            "statuses": dict(self.statuses),
            "judged_per_answer": round(self.judged_count / answered, 2) if answered else None,
            "cut_share": round(self.cut_count / answered, 4) if answered else None,
            "answers_per_second": round(answered / self.elapsed_seconds, 2) if self.elapsed_seconds else None,
            "judged_per_second": round(self.judged_count / self.elapsed_seconds, 1) if self.elapsed_seconds else None,
        }


Call = Callable[[int, int], Awaitable[RetrieveResult]]
"""Makes call number i with client number j."""

Answered = Callable[[int, RetrieveResult], None]
"""Is told of answer number i."""


def _ignore(number: int, answer: RetrieveResult) -> None:
    """For those who want the figures alone."""


async def open_loop(
    call: Call, arrivals: Sequence[float], *, clients: int, recorder: Recorder, answered: Answered = _ignore
) -> None:
    """Call at each of these moments, the clients taking turns, however many calls are at work by then."""
    began = time.perf_counter() + LEAD_SECONDS

    async def one(number: int) -> None:
        intended = began + arrivals[number]
        await asyncio.sleep(max(0.0, intended - time.perf_counter()))
        answer = await _timed(call, number, number % clients, recorder, intended)
        if answer is not None:
            answered(number, answer)

    await asyncio.gather(*(one(number) for number in range(len(arrivals))))
    recorder.elapsed_seconds += time.perf_counter() - began


async def closed_loop(
    call: Call, seconds: float, *, clients: int, recorder: Recorder, answered: Answered = _ignore
) -> None:
    """Let each client call again as soon as it was answered, for so long. A refused one waits as it is told."""
    began = time.perf_counter()
    numbers = iter(range(1 << 62))

    async def work(client: int) -> None:
        while time.perf_counter() - began < seconds:
            number = next(numbers)
            answer = await _timed(call, number, client, recorder, time.perf_counter())
            if answer is not None:
                answered(number, answer)

    await asyncio.gather(*(work(client) for client in range(clients)))
    recorder.elapsed_seconds += time.perf_counter() - began


async def _timed(call: Call, number: int, client: int, recorder: Recorder, intended: float) -> RetrieveResult | None:
    sent = time.perf_counter()
    try:
        answer = await call(number, client)
    except LightMemError as error:
        recorder.statuses[error.status.name] += 1
        if error.retry_after_seconds is not None:
            await asyncio.sleep(error.retry_after_seconds)
        return None
    ended = time.perf_counter()
    recorder.add(answer, waited_seconds=max(0.0, sent - intended), service_seconds=ended - sent)
    return answer


def merge_statuses(figures: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """The statuses of several steps together."""
    total: Counter[str] = Counter()
    for one in figures:
        total.update(one["statuses"])
    return dict(total)
