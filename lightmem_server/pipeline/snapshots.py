"""Snapshots of partitions, so that a user who comes back is loaded fast: no decoding of records, no analysis of texts.

    cold ─▶ restore: newest snapshot ─▶ engine ─▶ (the store's changes since) ─▶ resident
    changed much since the last one ─▶ save: engine ─▶ store

A snapshot is a cache. One that is damaged or foreign is logged once, rebuilt from the store and written anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from typing import TypeVar

import structlog

from lightmem_server.core import Engine
from lightmem_server.errors import SnapshotError
from lightmem_server.store.protocol import SnapshotRecord, Store
from lightmem_server.types import Partition

R = TypeVar("R")

MIN_ROWS = 256
"""Rows that are loaded from the store fast enough; fewer are not worth a snapshot."""

CHANGED_SHARE = 16
"""A snapshot is due once more than MIN_ROWS and a share of 1/16 of the rows have changed: what a cold load has to catch up
with stays small beside the snapshot itself, and a row is written about as often as the share says."""

log = structlog.get_logger()


class Snapshots:
    """Saves and restores the snapshots of one engine's partitions."""

    def __init__(self, store: Store, engine: Engine, executor: Executor, *, identity: str) -> None:
        """
        Args:
            identity: Of all that a row's columns depend on beside its record: what makes vectors, words and priors of it.
        """
        self._store = store
        self._engine = engine
        self._executor = executor
        self._identity = identity
        self._changed: dict[Partition, int] = {}
        self._unusable: set[Partition] = set()

    async def restore(self, partition: Partition, language: str | None) -> None:
        """Make a partition resident as its snapshot shows it; leave it be when there is no usable one. `language` is that of
        its texts; None: the engine's."""
        snapshot = await self._store.load_snapshot(partition)
        if snapshot is None:
            return
        try:
            if snapshot.identity != self._identity:
                raise SnapshotError(f"made by {snapshot.identity}; now {self._identity}")
            version = await self._run(lambda: self._engine.import_(partition.key, snapshot.data, language))
            if version != snapshot.version:
                await self._run(lambda: self._engine.evict(partition.key))
                raise SnapshotError(f"shows version {version}, kept as version {snapshot.version}")
        except SnapshotError as error:
            if partition not in self._unusable:
                log.warning("snapshot_unusable", error=error.message)
            self._unusable.add(partition)
        else:
            self._changed[partition] = 0

    def note(self, partition: Partition, row_count: int, *, is_full: bool) -> None:
        """So many rows of a resident partition were changed, or all of them loaded from the store."""
        self._changed[partition] = row_count if is_full else self._changed.get(partition, 0) + row_count

    def forget(self, partition: Partition) -> None:
        """A partition is gone, and its snapshot with it."""
        self._changed.pop(partition, None)
        self._unusable.discard(partition)

    def is_due(self, partition: Partition) -> bool:
        """Whether too much has changed since the partition's snapshot, or it could not be used."""
        if partition in self._unusable:
            return True
        changed = self._changed.get(partition, 0)
        if changed <= MIN_ROWS:
            return False
        return changed > MIN_ROWS + sum(self._engine.active_counts(partition.key) or ()) // CHANGED_SHARE

    async def save(self, partition: Partition) -> bool:
        """Keep a snapshot of a partition; false when it isn't resident, or something was deleted meanwhile."""
        changed = self._changed.get(partition, 0)
        version = self._engine.version(partition.key)
        data = await self._run(lambda: self._engine.export(partition.key))
        # A change between the two calls: the version would not be that of the bytes.
        if version is None or data is None or self._engine.version(partition.key) != version:
            return False
        if not await self._store.save_snapshot(partition, SnapshotRecord(version, self._identity, data)):
            return False
        self._unusable.discard(partition)
        left = self._changed.pop(partition, 0) - changed
        if left > 0:
            self._changed[partition] = left
        return True

    async def _run(self, function: Callable[[], R]) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._executor, function)
