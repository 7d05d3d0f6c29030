"""Keeps a user's tiers within their capacity: the least useful memories leave search. They stay for get, list and export.

What is least useful the core decides (`core.TierBook`), from all of the user's records; the store makes it durable as an
ordinary change. It runs after acks, never before, so the bound is exceeded by what was written meanwhile, no more.
"""

from __future__ import annotations

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import structlog

from lightmem_server.core import TierBook, TierEvent, TierEvents, TierPolicy
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.triggers import Triggers
from lightmem_server.pipeline.residents import Residents
from lightmem_server.store.protocol import Change, Store
from lightmem_server.types import Kind, Memory, MemoryFilter, Partition, State

PAGE = 1000
"""Records read at once."""

MAX_PUTS = 256
"""Records archived in one commit: bounds how long it keeps writers waiting."""

SLACK_SHARE = 100
"""Over capacity, 1/100 of it more is archived than must be: deciding reads every record, and so is rarely needed."""

log = structlog.get_logger()


class Archiving:
    """Archives what is over capacity, for one server."""

    def __init__(
        self,
        store: Store,
        residents: Residents,
        policy: TierPolicy,
        clock: Clock,
        triggers: Triggers | None = None,
    ) -> None:
        """`policy.capacity` is what each tier may hold at most; `triggers`: archiving starts a consolidation."""
        self._store = store
        self._residents = residents
        self._capacity = policy.capacity
        slack = [capacity - capacity // SLACK_SHARE for capacity in policy.capacity]
        self._policy = replace(policy, capacity=slack)
        self._clock = clock
        self._triggers = triggers

    def is_due(self, partition: Partition) -> bool:
        """Whether a tier of a resident partition is over its capacity."""
        counts = self._residents.engine.active_counts(partition.key) or []
        return any(count > most for count, most in zip(counts, self._capacity, strict=False))

    async def enforce(self, partition: Partition) -> int:
        """Archive what is over capacity; returns how many. Pinned memories and running conversations stay.

        Raises:
            StoreError: Those archived before it stay so.
        """
        if not self.is_due(partition):
            return 0
        ids = [uuid.UUID(bytes=id_) for id_ in (await self._decide(partition))]
        count = 0
        for start in range(0, len(ids), MAX_PUTS):
            count += await self._archive(partition, ids[start : start + MAX_PUTS])
        log.info("archived", count=count)
        return count

    async def _decide(self, partition: Partition) -> Sequence[bytes]:
        now = self._clock.now()
        memories: list[Memory] = []
        before: int | None = None
        while True:
            page = await self._store.list_page(partition, MemoryFilter(), limit=PAGE, before_order=before, now=now)
            memories += page.memories
            before = page.next_order
            if before is None:
                break
        memories.reverse()
        return await asyncio.to_thread(self._decide_of, memories, now)

    def _decide_of(self, memories: Sequence[Memory], now: int) -> list[bytes]:
        book = TierBook(self._policy)
        book.replay(to_events(memories, now))
        return book.decide().archive

    async def _archive(self, partition: Partition, ids: Sequence[uuid.UUID]) -> int:
        # Held like a writer: what deletes a turn also changes those behind it, and must not find them changed.
        async with self._residents.writer(partition):
            found = await self._store.get(partition, ids)
            puts = [
                replace(memory, state=State.ARCHIVED, version=memory.version + 1)
                for memory in found
                if memory is not None and memory.state is State.ACTIVE and not memory.is_pinned
            ]
            if puts:
                jobs = [] if self._triggers is None else self._triggers.on_archive(self._clock.now())
                await self._store.commit(Change(partition, puts=puts, jobs=jobs, reason="archive"))
                await self._residents.refresh(partition)
        return len(puts)


def to_events(memories: Sequence[Memory], now: int) -> TierEvents:
    """What the store knows of records, oldest first, as the history that made them: added, accessed, supported, pinned."""
    support = Counter(id_ for memory in memories for id_ in memory.evidence_ids)
    accessed = [memory for memory in memories if memory.access_count]
    supported = [memory for memory in memories if memory.id in support]
    pinned = [memory for memory in memories if memory.is_pinned]
    of = [*memories, *accessed, *supported, *pinned]
    last = len(of) + 1  # the last event is of no memory: it tells the time
    kinds = np.repeat(
        np.array(
            [TierEvent.ADDED, TierEvent.ACCESSED, TierEvent.SUPPORTED, TierEvent.PINNED, TierEvent.PASSED], np.uint8
        ),
        [len(memories), len(accessed), len(supported), len(pinned), 1],
    )
    times = [
        *(memory.created_at for memory in memories),
        *(memory.last_accessed_at or memory.created_at for memory in accessed),
        *[0] * (len(supported) + len(pinned)),
        now,
    ]
    counts = [
        *(memory.token_count for memory in memories),
        *(memory.access_count for memory in accessed),
        *(support[memory.id] for memory in supported),
        *[0] * (len(pinned) + 1),
    ]
    return TierEvents(
        kinds=kinds,
        ids=np.frombuffer(b"".join(memory.id.bytes for memory in of) + bytes(16), np.uint8).reshape(last, 16),
        times=np.array(times, np.int64),
        counts=np.array(counts, np.uint32),
        sessions=[*(memory.session_id for memory in of), ""],
        orders=np.arange(last, dtype=np.uint64),
        tiers=np.array([*(memory.tier for memory in of), 0], np.uint8),
        occurred_at=np.array([*(memory.occurred_at for memory in of), 0], np.int64),
        confidences=np.array([*(memory.confidence for memory in of), 0], np.float32),
        is_turn=np.array([*(memory.kind is Kind.TURN for memory in of), False], np.bool_),
    )
