"""Keeps the Rust engine's partitions in step with the store.

The store is the truth and counts each partition's commits; the engine holds copies. Before a partition is searched, or
after it was written, `refresh` fetches what the copy lacks (usually nothing) and applies it. A copy that was evicted is
loaded again. The records that were read last are kept beside it (records.py), in the same step.
"""

from __future__ import annotations

import asyncio
import uuid
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import replace
from typing import ParamSpec, Protocol, TypeVar

import numpy as np

from lightmem_server.core import ALWAYS, HEAT_HALF_LIFE, NEVER, Engine, Ids, Rows, SearchPlan, SearchResult, Vectors
from lightmem_server.errors import CoreError
from lightmem_server.pipeline.passages import PRECEDING_TURNS, informativeness, lexical_views, session_passage
from lightmem_server.pipeline.records import Records, RecordSource
from lightmem_server.pipeline.snapshots import Snapshots
from lightmem_server.store.protocol import MAX_GET, Change, CommitResult, Store, StoredRow
from lightmem_server.types import Kind, Memory, Partition, State

P = ParamSpec("P")
R = TypeVar("R")

ROW_FORMAT = 2
"""Raise when `_to_rows` makes something else of a record (its texts, prior, session text): older snapshots then don't fit."""

QUICK_ROWS = 2048
"""Up to so many rows a partition is read on the event loop: a search of 600 takes 0.14 ms, of 2,000 0.18, of 8,000 0.40 (turns
of LoCoMo, p50), where going to a thread and back costs 0.11 on an idle machine and milliseconds on a busy one."""

RECORD_BYTES = 32 << 20
"""Of records kept where nothing else is said: 20,000 turns."""

ATTEMPTS = 8
"""How often a read is tried again when the partition is evicted between refresh and read; each try loads it anew."""


class Listener(Protocol):
    """Told of each partition that was loaded or changed; must not block or fail."""

    def __call__(self, partition: Partition, row_count: int, *, is_full: bool) -> None:
        """So many rows were changed; `is_full`: all of them were loaded from the store's records."""


class Residents:
    """The engine, seen from the pipeline: every method is a coroutine, and off the event loop unless it takes no longer than to
    get there."""

    def __init__(
        self,
        store: Store,
        engine: Engine,
        executor: Executor,
        *,
        embedding: str,
        languages: Mapping[str, str] | None = None,
        snapshots: Snapshots | None = None,
        record_bytes: int = RECORD_BYTES,
    ) -> None:
        """
        Args:
            executor: Threads for the engine's calls, which release the GIL.
            embedding: Identity under which vectors must be stored to be searched; others stay out of the dense lists.
            languages: Language of the texts by namespace; the engine's for one that isn't named.
            snapshots: Where a cold partition comes from, if they have it; None: always from the store's records.
            record_bytes: Of records that are kept once read.
        """
        self._languages = languages or {}
        self.engine = engine
        self.records = Records(store, budget_bytes=record_bytes)
        self.listeners: list[Listener] = []
        self._snapshots = snapshots
        self._store = store
        self._executor = executor
        self._embedding = embedding
        self._locks: weakref.WeakValueDictionary[Partition, asyncio.Lock] = weakref.WeakValueDictionary()
        self._writers: weakref.WeakValueDictionary[Partition, asyncio.Lock] = weakref.WeakValueDictionary()

    def writer(self, partition: Partition) -> asyncio.Lock:
        """Held by whoever writes turns to a partition, so that each turn knows the one before it."""
        return self._writers.setdefault(partition, asyncio.Lock())

    async def commit(self, change: Change) -> CommitResult:
        """Commit a change as background work does it: in turn with whoever writes turns, and searchable when it returns."""
        async with self.writer(change.partition):
            result = await self._store.commit(change)
            await self.refresh(change.partition)
        return result

    async def refresh(self, partition: Partition) -> None:
        """Bring the resident copy to the store's version, loading it when it isn't resident."""
        lock = self._locks.setdefault(partition, asyncio.Lock())
        async with lock:
            resident = self.engine.version(partition.key)
            if resident is None and self._snapshots is not None:
                await self._snapshots.restore(partition, self._languages.get(partition.namespace))
                resident = self.engine.version(partition.key)
                if resident is not None:
                    self._tell(partition, 0, is_full=False)
            changes = await self._store.changes_since(partition, resident)
            if resident is not None and not changes.is_full:
                if changes.version == resident:
                    return
                self.records.drop(partition, [*(row.memory.id for row in changes.rows), *changes.removed_ids])
                rows = await self._to_rows(partition, changes.rows)
                removed = _to_ids([id_.bytes for id_ in changes.removed_ids])
                if await self._run(self.engine.apply, partition.key, resident, changes.version, rows, removed):
                    self._tell(partition, len(changes.rows) + len(changes.removed_ids), is_full=False)
                    return
                changes = await self._store.changes_since(partition, None)
            self.records.forget(partition)
            rows = await self._to_rows(partition, changes.rows)
            language = self._languages.get(partition.namespace)
            await self._run(self.engine.load, partition.key, changes.version, rows, language)
            self._tell(partition, len(changes.rows), is_full=True)

    def _tell(self, partition: Partition, row_count: int, *, is_full: bool) -> None:
        for listener in self.listeners:
            listener(partition, row_count, is_full=is_full)

    async def forget(self, partition: Partition) -> None:
        """Drop the resident copy of a partition that is gone from the store, and what is known of its snapshot."""
        async with self._locks.setdefault(partition, asyncio.Lock()):
            await self._run(self.engine.evict, partition.key)
            self.records.forget(partition)
            if self._snapshots is not None:
                self._snapshots.forget(partition)

    async def touch(self, partition: Partition, ids: Sequence[uuid.UUID], at: int) -> None:
        """Note in the resident copy, if there is one, that memories were returned; the store counts for later copies."""
        self.records.touch(partition, ids, at)
        await self._run(self.engine.touch, partition.key, _to_ids([id_.bytes for id_ in ids]), at)

    async def search(self, partition: Partition, plan: SearchPlan) -> SearchResult:
        """Search a partition; refresh it first."""
        return await self._read(partition, lambda: self.engine.search(partition.key, plan))

    async def similarities(self, partition: Partition, ids: Sequence[uuid.UUID]) -> Vectors:
        """How alike memories are in each passage view, see Engine.similarities; refresh the partition first."""
        asked = _to_ids([id_.bytes for id_ in ids])
        return await self._read(partition, lambda: self.engine.similarities(partition.key, asked))

    async def session_ring(self, partition: Partition, session_id: str) -> list[bytes]:
        """Ids of a session's running conversation, oldest first; refresh the partition first."""
        return await self._read(partition, lambda: self.engine.session_ring(partition.key, session_id))

    async def _read(self, partition: Partition, read: Callable[[], R | None]) -> R:
        for _ in range(ATTEMPTS):
            is_quick = self.engine.is_quick(partition.key, QUICK_ROWS)
            result = read() if is_quick else await self._run(read)
            if result is not None:
                return result
            await self.refresh(partition)
        raise CoreError(f"a partition was evicted {ATTEMPTS} times while it was read; resident_bytes is far too small")

    async def _run(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, lambda: function(*args, **kwargs))

    async def _to_rows(self, partition: Partition, stored: Sequence[StoredRow]) -> Rows:
        """Columns of n records; a record without vectors of the current model gets zero vectors: found by words alone."""
        memories = [row.memory for row in stored]
        texts = await self._read_texts(partition, memories)
        heats = [initial_heat(memory) for memory in memories]
        vectors = np.zeros((len(stored), self.engine.views, self.engine.dim), np.float32)
        for i, row in enumerate(stored):
            if row.vector is not None and row.vector.model == self._embedding:
                vectors[i] = row.vector.vectors
        return Rows(
            ids=_to_ids([memory.id.bytes for memory in memories]),
            vectors=vectors,
            texts=texts,
            tiers=np.array([memory.tier for memory in memories], np.uint8),
            kinds=np.array([memory.kind for memory in memories], np.uint8),
            sessions=[memory.session_id for memory in memories],
            agents=[memory.agent_id for memory in memories],
            occurred_at=np.array([memory.occurred_at for memory in memories], np.int64),
            valid_from=np.array([_or(memory.valid_from, ALWAYS) for memory in memories], np.int64),
            valid_to=np.array([_or(memory.valid_to, NEVER) for memory in memories], np.int64),
            expires_at=np.array([_or(memory.expires_at, NEVER) for memory in memories], np.int64),
            token_counts=np.array([memory.token_count for memory in memories], np.uint32),
            is_archived=np.array([memory.state != State.ACTIVE for memory in memories], np.bool_),
            is_pinned=np.array([memory.is_pinned for memory in memories], np.bool_),
            in_ring=np.array([memory.kind == Kind.TURN for memory in memories], np.bool_),
            metadata=[dict(memory.metadata) for memory in memories],
            orders=np.array([row.order for row in stored], np.uint64),
            speakers=[memory.speaker for memory in memories],
            priors=np.array([informativeness(memory) for memory in memories], np.float32),
            session_texts=[session_passage(memory) for memory in memories],
            links=[b"".join(id_.bytes for id_ in linked_ids(memory)) for memory in memories],
            heats=np.array(heats, np.float32),
            heats_since=np.array([_or(memory.last_accessed_at, 0) for memory in memories], np.int64),
        )

    async def _read_texts(self, partition: Partition, memories: Sequence[Memory]) -> list[tuple[str, ...]]:
        """What BM25 indexes of each record."""
        preceding = await read_preceding(self._store, partition, memories)
        return [lexical_views(memory, preceding[memory.id]) for memory in memories]


def linked_ids(memory: Memory) -> tuple[uuid.UUID, ...]:
    """What a search may go on to from a memory, and come from: its evidence, what it replaces, its neighbours."""
    return tuple(dict.fromkeys((*memory.evidence_ids, *memory.supersedes_ids, *memory.related_ids)))


def initial_heat(memory: Memory) -> float:
    """Access heat at the last access, of which the store knows only how many there were: as if they had been spread evenly
    since the memory was written."""
    count = memory.access_count
    if count <= 1 or memory.last_accessed_at is None:
        return float(count)
    step = max(memory.last_accessed_at - memory.created_at, 0) / (count - 1)
    kept: float = 2 ** (-step / HEAT_HALF_LIFE)
    return float(count) if kept == 1 else (1 - kept**count) / (1 - kept)


async def read_preceding(
    source: RecordSource, partition: Partition, memories: Sequence[Memory], *, steps: int = PRECEDING_TURNS
) -> dict[uuid.UUID, list[Memory]]:
    """The turns before each of these in its session, oldest first: `steps` of them, by default as many as its views need.

    They are looked for among the records themselves, then in the source, in one read for each step back.
    """
    known = {memory.id: memory for memory in memories}
    last = list(memories)
    preceding: dict[uuid.UUID, list[Memory]] = {memory.id: [] for memory in memories}
    for _ in range(steps):
        missing = list({m.previous_id for m in last if m.previous_id is not None and m.previous_id not in known})
        for start in range(0, len(missing), MAX_GET):
            found = await source.get(partition, missing[start : start + MAX_GET])
            known |= {memory.id: memory for memory in found if memory is not None}
        for i, (memory, turn) in enumerate(zip(memories, last, strict=True)):
            previous = known.get(turn.previous_id) if turn.previous_id is not None else None
            if previous is not None:
                preceding[memory.id].insert(0, previous)
                last[i] = previous
            else:
                last[i] = replace(turn, previous_id=None)
    return preceding


def _to_ids(ids: Sequence[bytes]) -> Ids:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(len(ids), 16)


def _or(value: int | None, default: int) -> int:
    return default if value is None else value
