"""Judges candidates best first within a deadline, sharing a model among callers.

A request's items are cut into chunks in the order given, a chunk's items are sorted by length, and the chunk is cut into
sub-batches of like cost (8 % less time than equal counts for turns of conversations, p95 14 % less): so a sub-batch holds like
lengths, and "best first" holds to within a chunk. Requests take turns, one sub-batch each. A sub-batch that isn't expected
to end by the deadline is shortened to what is; when that is nothing, the request ends. Should an estimate fail, the caller
is still answered at the deadline, without the scores that are late.

Generic over what is run: tests give it a run function and a clock that they control.
"""

from __future__ import annotations

import asyncio
import functools
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
    """About how many items run together; 4 was measured fastest with two sub-batches in flight on two cores."""
    chunk_items: int = 8
    """How far "best first" may be bent to put like lengths together."""
    concurrency: int = 1
    """Sub-batches in flight."""


class _Request(Generic[Item]):
    """One caller's items, and how far they are."""

    def __init__(self, items: Sequence[Item], cost: Callable[[Item], int], limits: JudgeLimits, deadline: float | None):
        self.items = items
        self.deadline = deadline
        self.scores: list[float | None] = [None] * len(items)
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.in_flight = 0
        self.sub_batches: deque[list[int]] = deque()
        for start in range(0, len(items), limits.chunk_items):
            indices = range(start, min(start + limits.chunk_items, len(items)))
            chunk = sorted(indices, key=lambda index: cost(items[index]))
            rounds = -(-len(chunk) // (limits.sub_batch_items * limits.concurrency))
            at = 0
            for size in cut([cost(items[index]) for index in chunk], rounds * limits.concurrency):
                self.sub_batches.append(chunk[at : at + size])
                at += size

    def finish(self, error: BaseException | None = None) -> None:
        """Answer the caller: with an error, or because nothing more is to come."""
        if not self.done.done():
            if error is not None:
                self.done.set_exception(error)
                self.done.exception()  # marks it as seen: the caller may have left at the deadline
            elif not self.sub_batches and not self.in_flight:
                self.done.set_result(None)


def cut(costs: Sequence[int], parts: int) -> list[int]:
    """Sizes of at most `parts` runs of ascending costs, cut so that the dearest is as cheap as can be: sub-batches that are
    begun together then end together. A run costs its length times its last item, since shorter ones are padded.

    >>> cut([4, 4, 4, 4, 4], 2)
    [3, 2]
    """
    # cheapest[p][n]: the dearest run of the first n items in p runs, and where the last of them begins.
    count = len(costs)
    cheapest: list[list[tuple[int, int]]] = [[(0, 0)] + [(sum(costs) * count, 0)] * count]
    for _ in range(min(parts, count)):
        row = [(0, 0)]
        row += [
            min((max(cheapest[-1][at][0], (end - at) * costs[end - 1]), -at) for at in range(end))
            for end in range(1, count + 1)
        ]
        cheapest.append([(worst, -at) for worst, at in row])
    sizes: list[int] = []
    end = count
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
        self._running: set[asyncio.Task[Sequence[float]]] = set()
        self._is_closed = False

    @property
    def queued_items(self) -> int:
        """Items waiting to be run."""
        return sum(len(batch) for request in self._requests for batch in request.sub_batches)

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
        request = _Request(items, self._cost, self._limits, deadline)
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
            await asyncio.wait(self._running)

    def _admit(self, items: Sequence[Item]) -> None:
        queued = self.queued_items
        if queued and queued + len(items) > self._limits.max_queued_items:
            cost = sum(self._cost(r.items[index]) for r in self._requests for batch in r.sub_batches for index in batch)
            raise OverloadedError(
                f"{queued} passages are waiting for the Selector, and {len(items)} more are over the limit of "
                f"{self._limits.max_queued_items}",
                retry_after_seconds=self._pace.retry_after(cost, self._limits.concurrency),
            )

    def _drop(self, request: _Request[Item]) -> None:
        """Forget what of a request has not been run."""
        request.sub_batches.clear()
        if request in self._requests:
            self._requests.remove(request)

    def _start(self) -> None:
        """Begin sub-batches while there is work and room, requests taking turns."""
        while self._requests and len(self._running) < self._limits.concurrency:
            request = self._requests.popleft()
            indices = self._fit(request, request.sub_batches.popleft())
            if not indices:
                self._drop(request)
                request.finish()
                continue
            task = asyncio.create_task(self._run_timed([request.items[index] for index in indices]))
            self._running.add(task)
            request.in_flight += 1
            task.add_done_callback(functools.partial(self._finish, request, indices))
            if request.sub_batches:
                self._requests.append(request)

    def _fit(self, request: _Request[Item], indices: list[int]) -> list[int]:
        """The front of a sub-batch that is expected to end in time; the shortest items are in front."""
        if request.deadline is None:
            return indices
        remaining = request.deadline - self._clock()
        fitting, cost = [], 0
        for index in indices:
            cost += self._cost(request.items[index])
            if self._pace.estimate(cost) > remaining:
                break
            fitting.append(index)
        return fitting

    async def _run_timed(self, items: Sequence[Item]) -> Sequence[float]:
        began = self._clock()
        scores = await self._run(items)
        self._pace.observe(sum(self._cost(item) for item in items), self._clock() - began)
        if len(scores) != len(items):
            raise RuntimeError(f"{len(scores)} scores for {len(items)} items")
        return scores

    def _finish(self, request: _Request[Item], indices: Sequence[int], task: asyncio.Task[Sequence[float]]) -> None:
        """Note a sub-batch's scores, or its error, and begin the next."""
        self._running.discard(task)
        request.in_flight -= 1
        error = _closed() if task.cancelled() else task.exception()
        if error is not None:
            self._drop(request)
            request.finish(error)
        elif not request.done.done():
            for index, score in zip(indices, task.result(), strict=True):
                request.scores[index] = score
            request.finish()
        self._start()


def _closed() -> UnavailableError:
    return UnavailableError("the Selector is being unloaded", reason="DRAINING")
