"""Judges candidates best first within a deadline, sharing a model among callers.

A request's items are run in the order given, in sub-batches of like cost. They are not sorted by length: the model skips
padding (192 against 191 µs of CPU a token, sub-batches of four turns of conversations), and what a deadline leaves must be the
best ones without a gap, since only a whole front of a ranking can be put in a new order. Requests take turns, one sub-batch
each. A sub-batch that isn't expected to end by the deadline is shortened to what is, and the next one begins there; when
nothing fits, the request ends. Should an estimate fail, the caller is still answered at the deadline, without the scores that
are late.

Generic over what is run: tests give it a run function and a clock that they control.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from lightmem_server.errors import OverloadedError, UnavailableError
from lightmem_server.slm.pace import Pace

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class JudgeLimits:
    """Bounds of a JudgeQueue."""

    max_queued_items: int
    """Items waiting, of all callers. A request that alone is larger is taken when nothing waits."""
    sub_batch_items: int = 4
    """Most items that run together; 4 was measured cheapest per token: 1 costs 16 % more, 16 cost 70 %."""
    concurrency: int = 1
    """Sub-batches that compute at once."""
    ahead: int = 0
    """Sub-batches handed over beyond those, so that the model goes on at once when one ends: else it waits until this
    process's threads have taken turns."""


class _Request(Generic[Item]):
    """One caller's items, and how far they are."""

    def __init__(self, items: Sequence[Item], costs: Sequence[int], limits: JudgeLimits, deadline: float | None):
        self.items = items
        self.costs = costs
        self.deadline = deadline
        self.scores: list[float | None] = [None] * len(items)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.in_flight = 0
        self.taken = 0
        self.sizes: deque[int] = deque()
        """Of the sub-batches to come."""
        together = limits.sub_batch_items * limits.concurrency
        for start in range(0, len(items), together):
            self.sizes += cut(costs[start : start + together], limits.concurrency)

    def finish(self, error: BaseException | None = None) -> None:
        """Answer the caller: with an error, or because nothing more is to come."""
        if not self.done.done():
            if error is not None:
                self.done.set_exception(error)
                self.done.exception()  # marks it as seen: the caller may have left at the deadline
            elif not self.sizes and not self.in_flight:
                self.done.set_result(None)


@dataclass(slots=True, eq=False)
class _SubBatch(Generic[Item]):
    """A run of a request's items that was handed over. `began` is when it was its turn to compute; None: not yet."""

    request: _Request[Item]
    indices: range
    cost: int
    began: float | None


def cut(costs: Sequence[int], parts: int) -> list[int]:
    """Sizes of at most `parts` runs of items, cut so that the dearest is as cheap as can be: sub-batches that are begun
    together then end together.

    >>> cut([4, 4, 4, 4, 4], 2)
    [3, 2]
    """
    # cheapest[p][n]: the dearest run of the first n items in p runs, and where the last of them begins.
    sums = [0, *itertools.accumulate(costs)]
    cheapest: list[list[tuple[int, int]]] = [[(0, 0)] + [(sums[-1] + 1, 0)] * len(costs)]
    for _ in range(min(parts, len(costs))):
        row = [(0, 0)]
        row += [
            min((max(cheapest[-1][at][0], sums[end] - sums[at]), -at) for at in range(end))
            for end in range(1, len(costs) + 1)
        ]
        cheapest.append([(worst, -at) for worst, at in row])
    sizes: list[int] = []
    end = len(costs)
    for row in reversed(cheapest[1:]):
        if end:
            sizes.insert(0, end - row[end][1])
            end = row[end][1]
    return sizes


class JudgeQueue(Generic[Item]):
    """Runs sub-batches of concurrent requests in turn. Belongs to the event loop that first asks it."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[float]]],
        *,
        cost: Callable[[Item], int],
        limits: JudgeLimits,
        pace: Pace,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """
        Args:
            run: Gets a sub-batch, gives one score per item. Its exceptions go to the caller whose items they were.
            cost: Of an item, at least 1: its tokens.
            pace: Seconds per unit of cost; learns from every sub-batch.
            clock: What deadlines are on.
        """
        self._run = run
        self._cost = cost
        self._limits = limits
        self._pace = pace
        self._clock = clock
        self._requests: deque[_Request[Item]] = deque()
        self._running: dict[asyncio.Future[Sequence[float]], _SubBatch[Item]] = {}
        self._is_closed = False

    @property
    def queued_items(self) -> int:
        """Items waiting to be run."""
        return sum(len(request.items) - request.taken for request in self._requests)

    def fits(self, cost: int, deadline: float) -> bool:
        """Whether an item of this cost is expected to be judged by the deadline, if it is the next."""
        is_expected = self._pace.estimate(cost) <= deadline - self._clock() - self._wait_seconds()
        if not is_expected:
            self._pace.relax()
        return is_expected

    async def judge(self, items: Sequence[Item], deadline: float | None = None) -> list[float | None]:
        """Score items, the first ones first.

        Args:
            deadline: On `clock`; None: no limit.

        Returns:
            One score per item; None where it was not judged in time.

        Raises:
            OverloadedError: The queue is full; nothing was done.
            UnavailableError: Closed, before or meanwhile.
            Exception: What `run` raised for a sub-batch of these items.
        """
        if self._is_closed:
            raise _closed()
        self._admit(items)
        remaining = None if deadline is None else deadline - self._clock()
        if not items or (remaining is not None and remaining <= 0):
            return [None] * len(items)
        request = _Request(items, [self._cost(item) for item in items], self._limits, deadline)
        self._requests.append(request)
        self._start()
        try:
            await asyncio.wait({request.done}, timeout=remaining)
        finally:
            self._drop(request)
        if request.done.done():
            request.done.result()
        return list(request.scores)

    async def close(self) -> None:
        """Refuse new work, fail what waits with UnavailableError, and wait for the sub-batches being run."""
        self._is_closed = True
        for request in list(self._requests):
            self._drop(request)
            request.finish(_closed())
        if self._running:
            await asyncio.wait(set(self._running))

    def _admit(self, items: Sequence[Item]) -> None:
        queued = self.queued_items
        if queued and queued + len(items) > self._limits.max_queued_items:
            cost = sum(sum(request.costs[request.taken :]) for request in self._requests)
            raise OverloadedError(
                f"{queued} passages are waiting for the Selector, and {len(items)} more are over the limit of "
                f"{self._limits.max_queued_items}",
                retry_after_seconds=self._pace.retry_after(cost, self._limits.concurrency),
            )

    def _drop(self, request: _Request[Item]) -> None:
        """Forget what of a request has not been run."""
        request.sizes.clear()
        if request in self._requests:
            self._requests.remove(request)

    def _start(self) -> None:
        """Begin sub-batches while there is work and room, requests taking turns."""
        while self._requests and len(self._running) < self._limits.concurrency + self._limits.ahead:
            request = self._requests.popleft()
            indices = self._next(request)
            if not indices:
                if not request.taken:
                    self._pace.relax()
                self._drop(request)
                request.finish()
                continue
            began = self._clock() if len(self._running) < self._limits.concurrency else None
            batch = _SubBatch(request, indices, _cost_of(request, indices), began)
            task = asyncio.ensure_future(self._run([request.items[index] for index in indices]))
            self._running[task] = batch
            request.in_flight += 1
            task.add_done_callback(self._finish)
            if request.sizes:
                self._requests.append(request)

    def _next(self, request: _Request[Item]) -> range:
        """A request's next sub-batch: its front that is expected to end in time."""
        size = request.sizes.popleft()
        indices = range(request.taken, request.taken + size)
        if request.deadline is not None:
            remaining = request.deadline - self._clock() - self._wait_seconds()
            while indices and self._pace.estimate(_cost_of(request, indices)) > remaining:
                indices = indices[:-1]
        request.taken += len(indices)
        return indices

    def _wait_seconds(self) -> float:
        """Until a sub-batch that is handed over now will compute."""
        if len(self._running) < self._limits.concurrency:
            return 0.0
        now = self._clock()
        begun = [(batch.began, batch.cost) for batch in self._running.values() if batch.began is not None]
        ends = [began + self._pace.estimate(cost) for began, cost in begun]
        return max(0.0, min(ends, default=now) - now)

    def _finish(self, task: asyncio.Future[Sequence[float]]) -> None:
        """Note a sub-batch's scores, or its error, and begin the next."""
        batch, now = self._running.pop(task), self._clock()
        request = batch.request
        request.in_flight -= 1
        error = _closed() if task.cancelled() else task.exception()
        if error is None and len(task.result()) != len(batch.indices):
            error = RuntimeError(f"{len(task.result())} scores for {len(batch.indices)} items")
        if error is not None:
            self._drop(request)
            request.finish(error)
        else:
            if batch.began is not None:
                self._pace.observe(batch.cost, now - batch.began)
            if not request.done.done():
                for index, score in zip(batch.indices, task.result(), strict=True):
                    request.scores[index] = score
                request.finish()
        waiting = next((other for other in self._running.values() if other.began is None), None)
        if waiting is not None:
            waiting.began = now
        self._start()


def _cost_of(request: _Request[Item], indices: range) -> int:
    return sum(request.costs[indices.start : indices.stop])


def _closed() -> UnavailableError:
    return UnavailableError("the Selector is being unloaded", reason="DRAINING")
