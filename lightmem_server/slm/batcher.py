"""Batches work across requests: many callers with a few texts each, one model that is fastest with many at once.

Admit or refuse first: over the limit a caller hears OverloadedError at once, nothing queues without bound. Batches are cut
by cost (tokens), not by count; a request that needs several takes turns with the others. Queries go ahead of passages, but
never in one batch with them, so that a query doesn't wait for the passages beside it; after MAX_QUERY_RUN batches of queries
in a row, waiting passages get one. A caller who left takes its waiting work along. An error reaches the callers of its batch
and nobody else.

Generic over what is run: tests give it a run function that they control.
"""

from __future__ import annotations

import asyncio
import functools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Generic, TypeAlias, TypeVar

from lightmem_server.errors import OverloadedError, UnavailableError
from lightmem_server.slm.pace import Pace

Item = TypeVar("Item")
Result = TypeVar("Result")

MAX_QUERY_RUN = 4
"""Batches of queries in a row, while passages wait, before passages get a turn."""

FIRST_GUESS_SECONDS = 100e-6
"""Per unit of cost, until one batch was timed: what a token takes here, for the first retry_after."""


class Priority(IntEnum):
    """Whose turn it is; lower goes first."""

    QUERY = 0
    PASSAGE = 1


@dataclass(slots=True, eq=False)
class _Request(Generic[Item, Result]):
    """One caller's work; its items may end up in several batches."""

    items: Sequence[Item]
    done: asyncio.Future[list[Result]]
    results: dict[int, Result] = field(default_factory=dict)
    taken: int = 0
    """Items handed to batches so far."""


_Batch: TypeAlias = list[tuple[_Request[Item, Result], int]]
"""Requests and the indices of their items."""


@dataclass(frozen=True, slots=True)
class BatcherLimits:
    """Bounds of a Batcher."""

    max_batch_cost: int
    """Cost of one batch; a single item that costs more is a batch of its own."""
    max_queued_items: int
    """Items waiting, not counting those being run. A request that alone is larger is taken when the queue is empty."""
    concurrency: int = 1
    """Batches run at once."""
    extra_for_queries: int = 0
    """Batches of queries that may run beyond `concurrency`: a query then shares the cores with passages that are being
    run, instead of waiting for their end."""


class Batcher(Generic[Item, Result]):
    """Collects items of concurrent callers into batches. Belongs to the event loop that first submits to it."""

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        cost: Callable[[Item], int],
        limits: BatcherLimits,
        kind: Callable[[Item], Hashable] | None = None,
        run_passages: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]] | None = None,
        stands_aside: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """
        Args:
            run: Gets a batch, gives one result per item, in order. Its awaitable's exceptions go to the batch's callers;
                the call itself raises none. A future is begun sooner than a coroutine, which waits for its turn.
            cost: Of an item, at least 1; what max_batch_cost counts.
            kind: Only items of the same kind share a batch; whose turn it is says which. None: all do.
            run_passages: Instead of `run` for batches of passages, such as on threads that give way; None: `run` as well.
            stands_aside: While it says so, batches of passages leave one place, which is a core, to others; but for the last.
        """
        self._run_of = {Priority.QUERY: run, Priority.PASSAGE: run_passages or run}
        self._cost = cost
        self._kind = kind
        self._limits = limits
        self._stands_aside = stands_aside
        self._clock = clock
        self._waiting: dict[Priority, deque[_Request[Item, Result]]] = {priority: deque() for priority in Priority}
        self._running: set[asyncio.Future[Sequence[Result]]] = set()
        self._queued_items = 0
        self._queued_cost = 0
        self._query_run = 0
        self._is_closed = False
        self._pace = Pace(FIRST_GUESS_SECONDS)

    @property
    def queued_items(self) -> int:
        """Items waiting for a batch."""
        return self._queued_items

    async def submit(self, items: Sequence[Item], priority: Priority) -> list[Result]:
        """Run `items`, together with those of others.

        Returns:
            One result per item, in order.

        Raises:
            OverloadedError: The queue is full; nothing was done.
            UnavailableError: Closed, before or meanwhile.
            Exception: What `run` raised for a batch that held one of the items.
        """
        if self._is_closed:
            raise _closed()
        if not items:
            return []
        if self._queued_items and self._queued_items + len(items) > self._limits.max_queued_items:
            raise OverloadedError(
                f"{self._queued_items} texts are waiting for the model, and {len(items)} more are over the limit of "
                f"{self._limits.max_queued_items}",
                retry_after_seconds=self._pace.retry_after(self._queued_cost, self._limits.concurrency),
            )
        request = _Request[Item, Result](items, asyncio.get_running_loop().create_future())
        self._waiting[priority].append(request)
        self._count(items, 1)
        self._start()
        try:
            return await request.done
        except asyncio.CancelledError:
            self._drop(request, priority)
            raise

    async def close(self) -> None:
        """Refuse new work, fail what waits with UnavailableError, and wait for the batches being run."""
        self._is_closed = True
        for priority, requests in self._waiting.items():
            for request in list(requests):
                self._drop(request, priority)
                if not request.done.done():
                    request.done.set_exception(_closed())
        if self._running:
            await asyncio.wait(self._running)

    def _count(self, items: Sequence[Item], sign: int) -> None:
        self._queued_items += sign * len(items)
        self._queued_cost += sign * sum(self._cost(item) for item in items)

    def _drop(self, request: _Request[Item, Result], priority: Priority) -> None:
        """Forget what of a request has not been run."""
        if request in self._waiting[priority]:
            self._waiting[priority].remove(request)
            self._count(request.items[request.taken :], -1)

    def _start(self) -> None:
        """Begin batches while there is work and room."""
        while self._queued_items and not self._is_closed:
            priority = self._next_priority()
            if len(self._running) >= self._places(priority):
                return
            self._query_run = self._query_run + 1 if priority is Priority.QUERY else 0
            batch, began = self._cut(priority), self._clock()
            results = asyncio.ensure_future(self._run_of[priority]([request.items[index] for request, index in batch]))
            self._running.add(results)
            results.add_done_callback(functools.partial(self._finish, batch, priority, began))

    def _places(self, priority: Priority) -> int:
        """How many batches may run for one of this priority to begin."""
        if priority is Priority.QUERY:
            return self._limits.concurrency + self._limits.extra_for_queries
        return max(1, self._limits.concurrency - self._stands_aside())

    def _finish(
        self,
        batch: _Batch[Item, Result],
        priority: Priority,
        began: float,
        results: asyncio.Future[Sequence[Result]],
    ) -> None:
        """Hand out a batch's results, or its error, and begin the next."""
        self._running.discard(results)
        error = _closed() if results.cancelled() else results.exception()
        if error is None:
            self._pace.observe(sum(self._cost(request.items[index]) for request, index in batch), self._clock() - began)
            if len(results.result()) != len(batch):
                error = RuntimeError(f"{len(results.result())} results for {len(batch)} items")
        for (request, index), result in zip(batch, () if error else results.result(), strict=error is None):
            request.results[index] = result
            if len(request.results) == len(request.items) and not request.done.done():
                request.done.set_result([request.results[position] for position in range(len(request.items))])
        if error is not None:
            for request, _ in batch:
                self._drop(request, priority)
                if not request.done.done():
                    request.done.set_exception(error)
        self._start()

    def _next_priority(self) -> Priority:
        queries, passages = self._waiting[Priority.QUERY], self._waiting[Priority.PASSAGE]
        return Priority.QUERY if queries and (not passages or self._query_run < MAX_QUERY_RUN) else Priority.PASSAGE

    def _cut(self, priority: Priority) -> _Batch[Item, Result]:
        """Take a batch's worth of (request, index of its item) from the front."""
        if self._kind is not None:
            return self._cut_alike(priority, self._kind)
        batch: _Batch[Item, Result] = []
        room = self._limits.max_batch_cost
        requests = self._waiting[priority]
        while requests:
            request = requests[0]
            item = request.items[request.taken]
            if batch and self._cost(item) > room:
                break
            room -= self._cost(item)
            batch.append((request, request.taken))
            self._count([item], -1)
            request.taken += 1
            if request.taken == len(request.items):
                requests.popleft()
        if requests and requests[0].taken:
            requests.rotate(-1)  # what is left of a large one waits behind those that came meanwhile
        return batch

    def _cut_alike(self, priority: Priority, kind: Callable[[Item], Hashable]) -> _Batch[Item, Result]:
        """Take what is of the first item's kind, of each request as far as its items are."""
        batch: _Batch[Item, Result] = []
        room = self._limits.max_batch_cost
        requests = self._waiting[priority]
        wanted = kind(requests[0].items[requests[0].taken])
        for request in list(requests):
            while request.taken < len(request.items) and kind(item := request.items[request.taken]) == wanted:
                if batch and self._cost(item) > room:
                    return batch
                room -= self._cost(item)
                batch.append((request, request.taken))
                self._count([item], -1)
                request.taken += 1
            if request.taken == len(request.items):
                requests.remove(request)
        return batch


def _closed() -> UnavailableError:
    return UnavailableError("the model is being unloaded", reason="DRAINING")
