"""What a partition needs after it was changed, off the path of every answer: capacity, then a snapshot.

residents ─▶ note ─▶ partitions that wait, each once ─▶ one task: archive ─▶ save ─▶ rest
"""

from __future__ import annotations

import asyncio

import structlog

from lightmem_server.errors import LightMemError
from lightmem_server.pipeline.archive import Archiving
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.snapshots import Snapshots
from lightmem_server.types import Partition

MAX_WAITING = 10_000
"""Partitions that may wait; beyond it those that wait longest are let go, until they change again."""

REST_FACTOR = 4.0
"""Rests this many times as long as it worked: it takes a fifth of the time at most, however much is written."""

log = structlog.get_logger()


class Upkeep:
    """One task that looks after changed partitions, one at a time."""

    def __init__(self, archiving: Archiving, snapshots: Snapshots, clock: Clock) -> None:
        self._archiving = archiving
        self._snapshots = snapshots
        self._clock = clock
        self._waiting: dict[Partition, None] = {}
        self._wake = asyncio.Event()

    def note(self, partition: Partition, row_count: int, *, is_full: bool) -> None:
        """See `residents.Listener`; never blocks, never fails."""
        self._snapshots.note(partition, row_count, is_full=is_full)
        if self._archiving.is_due(partition) or self._snapshots.is_due(partition):
            self._waiting[partition] = None
            if len(self._waiting) > MAX_WAITING:
                del self._waiting[next(iter(self._waiting))]
            self._wake.set()

    async def run(self) -> None:
        """Look after what is noted, until cancelled."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                began = self._clock.monotonic()
                await self.step()
                await asyncio.sleep(REST_FACTOR * (self._clock.monotonic() - began))

    async def step(self) -> bool:
        """Look after the partition that waits longest; false when none waits. What fails is tried again after its next
        change."""
        partition = next(iter(self._waiting), None)
        if partition is None:
            return False
        del self._waiting[partition]
        try:
            await self._archiving.enforce(partition)
            if self._snapshots.is_due(partition):
                await self._snapshots.save(partition)
        except LightMemError as error:
            log.warning("upkeep_failed", error=error.message)
        return True
