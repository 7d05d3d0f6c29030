"""Counts which memories were returned, after the answer is sent and off its path."""

from __future__ import annotations

import asyncio
import uuid
from collections import deque
from collections.abc import Sequence

import structlog

from lightmem_server.errors import StoreError
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.residents import Residents
from lightmem_server.store.protocol import Store
from lightmem_server.types import Partition

GATHERED_SECONDS = 0.1
"""How long counts are gathered before they are stored. A commit right behind each answer took the cores from the answer's
end and from the next call: 0.6 ms of both together."""

AT_ONCE = 64
"""Retrievals whose counts are handed to the store together, which makes one commit of them."""

MAX_WAITING = 10_000
"""Retrievals whose counts wait for the store; beyond it the oldest counts are lost, as they may be."""

log = structlog.get_logger()


class AccessRecorder:
    """A bounded queue in front of Store.record_access, drained by one task."""

    def __init__(self, store: Store, residents: Residents, clock: Clock) -> None:
        self._store = store
        self._residents = residents
        self._clock = clock
        self._waiting: deque[tuple[Partition, list[uuid.UUID], int]] = deque(maxlen=MAX_WAITING)
        self._wake = asyncio.Event()

    def record(self, partition: Partition, ids: Sequence[uuid.UUID]) -> None:
        """Note that memories were returned just now; never blocks, never fails."""
        if ids:
            self._waiting.append((partition, list(ids), self._clock.now()))
            self._wake.set()

    async def run(self) -> None:
        """Store what is noted, until cancelled; then what is left is stored by `flush`."""
        while True:
            await self._wake.wait()
            await asyncio.sleep(GATHERED_SECONDS)
            self._wake.clear()
            await self.flush()

    async def flush(self) -> None:
        """Store everything noted so far. A disk that refuses loses the counts: they are statistics."""
        while self._waiting:
            taken = [self._waiting.popleft() for _ in range(min(AT_ONCE, len(self._waiting)))]
            await asyncio.gather(*(self._store_one(*noted) for noted in taken))

    async def _store_one(self, partition: Partition, ids: Sequence[uuid.UUID], at: int) -> None:
        try:
            await self._store.record_access(partition, ids, at)
        except StoreError as error:
            log.warning("access_not_recorded", error=error.message)
        else:
            await self._residents.touch(partition, ids, at)
