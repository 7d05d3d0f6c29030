"""Keeps records that were read in memory, as far as they are what the store holds at the resident copy's version.

Whoever refreshed a partition may read its records here: what a commit changed is dropped by that refresh. Bounded by bytes;
the users that were read longest ago go first.
"""

from __future__ import annotations

import sys
import uuid
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

from lightmem_server.types import Memory, Partition

RECORD_BYTES = 1024
"""What a record takes beside its text and metadata: 0.9 KiB of a turn of 20 words, by tracemalloc."""


class RecordSource(Protocol):
    """Where records come from: a Store."""

    async def get(self, partition: Partition, ids: Sequence[uuid.UUID]) -> list[Memory | None]:
        """Records by id, None for each that isn't there."""


@dataclass(slots=True, eq=False)
class _Reading:
    """A read under way, and what was changed since it began: it may have found what was there before."""

    changed: set[uuid.UUID] = field(default_factory=set)
    is_void: bool = False
    """Everything was."""


@dataclass(slots=True)
class _Kept:
    """Records of one partition, the one read longest ago first, and the reads under way."""

    records: dict[uuid.UUID, Memory] = field(default_factory=dict)
    readings: set[_Reading] = field(default_factory=set)
    size: int = 0


class Records:
    """Records of the partitions that were read last. Belongs to one event loop."""

    def __init__(self, source: RecordSource, *, budget_bytes: int) -> None:
        """`budget_bytes`: of all records together, as estimated; 0: none is kept."""
        self._source = source
        self._budget = budget_bytes
        self._kept: OrderedDict[Partition, _Kept] = OrderedDict()
        self._size = 0

    @property
    def size_bytes(self) -> int:
        """What is kept takes about so much."""
        return self._size

    async def get(self, partition: Partition, ids: Sequence[uuid.UUID]) -> list[Memory | None]:
        """Records by id, None for each that isn't there; refresh the partition first.

        Raises:
            As the source's `get`, which is asked for what isn't kept.
        """
        if not ids:
            return []
        kept = self._kept.setdefault(partition, _Kept())
        self._kept.move_to_end(partition)
        found = {id_: kept.records.get(id_) for id_ in ids}
        missing = [id_ for id_, memory in found.items() if memory is None]
        if missing:
            reading = _Reading()
            kept.readings.add(reading)
            try:
                read = await self._source.get(partition, missing)
                found.update(zip(missing, read, strict=True))
                if not reading.is_void:
                    fresh = [memory for memory in read if memory is not None and memory.id not in reading.changed]
                    self._keep(partition, kept, fresh)
            finally:
                kept.readings.remove(reading)
                self._leave(partition, kept)
        return [found[id_] for id_ in ids]

    def drop(self, partition: Partition, ids: Collection[uuid.UUID]) -> None:
        """Forget records that were changed or deleted."""
        kept = self._change(partition, ids)
        for id_ in ids:
            self._remove(kept, id_)
        self._leave(partition, kept)

    def forget(self, partition: Partition) -> None:
        """Forget all of a partition."""
        kept = self._kept.get(partition, _Kept())
        for reading in kept.readings:
            reading.is_void = True
        self._clear(partition, kept)

    def touch(self, partition: Partition, ids: Collection[uuid.UUID], at: int) -> None:
        """Count an access of each, as Store.record_access did before. A record that was read between the two counts it twice
        until it is read again: statistics."""
        kept = self._change(partition, ids)
        for id_ in ids:
            memory = kept.records.get(id_)
            if memory is None:
                continue
            last = at if memory.last_accessed_at is None else max(memory.last_accessed_at, at)
            kept.records[id_] = replace(memory, access_count=memory.access_count + 1, last_accessed_at=last)

    def _change(self, partition: Partition, ids: Collection[uuid.UUID]) -> _Kept:
        kept = self._kept.get(partition, _Kept())
        for reading in kept.readings:
            reading.changed.update(ids)
        return kept

    def _keep(self, partition: Partition, kept: _Kept, memories: Sequence[Memory]) -> None:
        for memory in memories:
            self._remove(kept, memory.id)  # another read may have been as quick
            kept.records[memory.id] = memory
            self._count(kept, size_of(memory))
        for oldest in list(self._kept):
            if self._size <= self._budget:
                break
            if oldest != partition:
                self._clear(oldest, self._kept[oldest])
        while self._size > self._budget:
            self._remove(kept, next(iter(kept.records)))

    def _remove(self, kept: _Kept, id_: uuid.UUID) -> None:
        memory = kept.records.pop(id_, None)
        if memory is not None:
            self._count(kept, -size_of(memory))

    def _clear(self, partition: Partition, kept: _Kept) -> None:
        self._count(kept, -kept.size)
        kept.records.clear()
        self._leave(partition, kept)

    def _leave(self, partition: Partition, kept: _Kept) -> None:
        """Keep nothing of a partition of which there is nothing."""
        if not kept.records and not kept.readings:
            self._kept.pop(partition, None)

    def _count(self, kept: _Kept, size: int) -> None:
        kept.size += size
        self._size += size


def size_of(memory: Memory) -> int:
    """Bytes that a record takes in memory, about."""
    metadata = sum(sys.getsizeof(name) + sys.getsizeof(value) for name, value in memory.metadata.items())
    return RECORD_BYTES + sys.getsizeof(memory.text) + metadata
