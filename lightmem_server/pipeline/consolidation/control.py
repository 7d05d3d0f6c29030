"""Consolidation as the services see it: start, follow, cancel, undo; and the schedule."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncGenerator

import structlog

from lightmem_server.errors import LightMemError, PreconditionError
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.progress import DONE, QUEUE, Ending, Progress, ProgressBoard
from lightmem_server.pipeline.consolidation.run import JOB_KIND, WATERMARK
from lightmem_server.pipeline.consolidation.undo import Undoing, Undone
from lightmem_server.pipeline.consolidation.worker import Worker
from lightmem_server.store.protocol import Change, JobRecord, JobStore
from lightmem_server.store.run_protocol import Cancelled
from lightmem_server.types import MemoryFilter, Partition

log = structlog.get_logger()


class Consolidating:
    """The consolidation of one server. Without a worker (`consolidation = off`) nothing is started, and the rest works."""

    def __init__(
        self,
        store: JobStore,
        board: ProgressBoard,
        undoing: Undoing,
        clock: Clock,
        *,
        worker: Worker | None = None,
        schedule_hours: float = 0.0,
    ) -> None:
        """`schedule_hours`: how often every user with news is consolidated; 0: never."""
        self._store = store
        self._board = board
        self._undoing = undoing
        self._clock = clock
        self._worker = worker
        self._schedule_hours = schedule_hours

    async def run(self) -> None:
        """Do the jobs, and enqueue those of the schedule, until cancelled."""
        if self._worker is None:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._worker.run())
            if self._schedule_hours:
                group.create_task(self._keep_schedule())

    def drain(self) -> None:
        """End the following of runs, before the server stops."""
        self._board.close()

    async def consolidate(self, partition: Partition) -> AsyncGenerator[Progress, None]:
        """Consolidate a user's new turns now, or follow the run that is at work; ends with it. Leaving it early stops
        nothing.

        Raises:
            PreconditionError: CONSOLIDATION_OFF.
            UserErasedError: The user was erased just now.
            UnavailableError: The server drains.
        """
        if self._worker is None:
            raise PreconditionError("the setting `consolidation` is off", reason="CONSOLIDATION_OFF")
        generation = await self._store.generation(partition)
        page = await self._store.list_page(
            partition, MemoryFilter(include_archived=True), limit=1, before_order=None, now=self._clock.now()
        )
        if not page.memories:  # a job would make the user
            yield Progress(None, DONE, ending=Ending.DONE)
            return
        with self._board.follow(partition) as posts:
            if not self._board.is_at_work(partition):
                job = JobRecord(JOB_KIND, payload="request", not_before=self._clock.now(), revives=True)
                await self._store.commit(Change(partition, jobs=[job], generation=generation))
                self._worker.wake()
                yield Progress(None, QUEUE)
            async with contextlib.aclosing(posts):
                async for progress in posts:
                    yield progress

    async def cancel(self, partition: Partition) -> Cancelled:
        """Drop a user's jobs, end the run at work; what it had committed stays, and can be undone."""
        if self._worker is None:
            return await self._store.cancel_run(partition, JOB_KIND, now=self._clock.now())
        return await self._worker.cancel(partition)

    def stop(self, partition: Partition) -> None:
        """End what is at work for a partition that is gone from the store."""
        if self._worker is not None:
            self._worker.stop(partition)

    async def undo(self, namespace: str, run_id: uuid.UUID) -> Undone:
        """See `Undoing.undo`."""
        return await self._undoing.undo(namespace, run_id)

    async def enqueue_scheduled(self) -> int:
        """Enqueue a job for every user with news; returns for how many."""
        job = JobRecord(JOB_KIND, payload="schedule", not_before=self._clock.now())
        return await self._store.enqueue_behind(job, watermark=WATERMARK)

    async def _keep_schedule(self) -> None:
        """At the start too: a server that is restarted often would never come to it."""
        assert self._worker is not None, "there is no schedule without a worker"
        while True:
            try:
                count = await self.enqueue_scheduled()
            except LightMemError as error:
                log.warning("schedule_failed", error=error.message)
            else:
                log.info("consolidation_scheduled", users=count)
                self._worker.wake()
            await asyncio.sleep(self._schedule_hours * 3600)
