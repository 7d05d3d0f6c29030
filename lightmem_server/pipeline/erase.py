"""Forgets a user: in the store, in the engine, and in every byte of the files.

    writer's turn ─▶ store.erase: one transaction ─▶ residents forget ─┐
                                                    runs at work stop ─┴▶ store.wipe ─▶ receipt

What a writer was about to store waits behind the erasure, and is refused then by the generation that it began with. The
receipt is given only when the bytes are gone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.residents import Residents
from lightmem_server.store.erasure_protocol import Erased
from lightmem_server.store.protocol import Store
from lightmem_server.types import Partition


class Erasing:
    """Erases users, for one server."""

    def __init__(
        self, store: Store, residents: Residents, clock: Clock, *, stop_work: Callable[[Partition], None]
    ) -> None:
        """`stop_work` ends what is at work in the background for a partition that is gone."""
        self._store = store
        self._residents = residents
        self._clock = clock
        self._stop_work = stop_work
        self._at_work: set[asyncio.Task[Erased]] = set()
        self._wiping = asyncio.Lock()
        self._erased = 0
        self._wiped = 0

    async def erase(self, partition: Partition) -> Erased:
        """Remove everything of a user. Once begun it is finished, also when the caller leaves.

        Raises:
            StoreError: The disk refused, or reason ERASURE_INCOMPLETE: see `Store.wipe`.
        """
        task = asyncio.create_task(self._erase(partition))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        return await asyncio.shield(task)

    async def _erase(self, partition: Partition) -> Erased:
        async with self._residents.writer(partition):
            erased = await self._store.erase(partition, now=self._clock.now())
            await self._residents.forget(partition)
        self._stop_work(partition)
        self._erased += 1
        await self._wipe(self._erased)
        return erased

    async def _wipe(self, wanted: int) -> None:
        """One wiping is enough for all that was erased before it began: it goes through the whole database."""
        async with self._wiping:
            if self._wiped >= wanted:
                return
            covered = self._erased
            await self._store.wipe()
            self._wiped = covered
