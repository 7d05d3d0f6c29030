"""Sends calls at stated moments and counts how long each took.

Open loop: arrivals are drawn beforehand, and a call's latency counts from the moment at which it was to be sent, not from
when it was. So a server (or a client) that stalls is charged for everyone who would have called meanwhile:
no coordinated omission. Closed loop: each worker calls again as soon as it was answered, which finds the throughput.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from lightmem_client import LightMemError, RetrieveResult

from tests.bench.latencies import Latencies
from tests.bench.tally import OK

LEAD_SECONDS = 0.05
"""Between the decision to begin and the first arrival, so that nothing is late from the start."""


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


Work = Callable[[int, float], Awaitable[None]]
"""Does call number i, which was to be sent at that moment of `time.perf_counter`."""


async def at_moments(
    work: Work,
    moments: Sequence[float],
    *,
    max_open: int | None = None,
    not_sent: Callable[[int], None] = lambda number: None,
) -> float:
    """Begin each call at its moment, however many are at work by then, and wait for all of them.

    Args:
        moments: Seconds from the begin, in order.
        max_open: Of more calls at once the server would wait for the generator, so they are left out and told to
            `not_sent`. None: no limit.

    Returns: Seconds from the begin to the last answer.
    """
    began = time.perf_counter() + LEAD_SECONDS
    open_count = 0

    async def one(number: int, intended: float) -> None:
        nonlocal open_count
        try:
            await work(number, intended)
        finally:
            open_count -= 1

    async with asyncio.TaskGroup() as group:
        for number, moment in enumerate(moments):
            await asyncio.sleep(max(0.0, began + moment - time.perf_counter()))
            if max_open is not None and open_count >= max_open:
                not_sent(number)
                continue
            open_count += 1
            group.create_task(one(number, began + moment))
    return time.perf_counter() - began


async def open_loop(
    call: Call, arrivals: Sequence[float], *, clients: int, recorder: Recorder, answered: Answered = _ignore
) -> None:
    """Call at each of these moments, the clients taking turns, however many calls are at work by then."""

    async def one(number: int, intended: float) -> None:
        answer = await _timed(call, number, number % clients, recorder, intended)
        if answer is not None:
            answered(number, answer)

    recorder.elapsed_seconds += await at_moments(one, arrivals)


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
