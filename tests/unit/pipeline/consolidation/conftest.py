"""A real store and a worker on it, with a clock that tests move."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.progress import Progress, ProgressBoard
from lightmem_server.pipeline.consolidation.run import JOB_KIND
from lightmem_server.pipeline.consolidation.worker import Worker, WorkerPolicy
from lightmem_server.store.protocol import Change, JobRecord
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Memory, Partition
from tests.contract.store_records import USER, make_memory
from tests.unit.pipeline.consolidation.echo import EchoConsolidator

START = 1_700_000_000_000_000
SECOND = 1_000_000


@dataclass
class Workshop:
    """The parts, and short forms of what tests do with them."""

    store: SqliteStore
    echo: EchoConsolidator
    board: ProgressBoard = field(default_factory=ProgressBoard)
    policy: WorkerPolicy = field(default_factory=WorkerPolicy)
    now: int = START

    @property
    def clock(self) -> Clock:
        return Clock(now=lambda: self.now, monotonic=lambda: self.now / SECOND)

    def worker(self) -> Worker:
        """Another worker on the same queue."""
        return Worker(self.store, self.echo, self.board, self.clock, self.policy)

    async def write(self, *texts: str, partition: Partition = USER, cause: str = "idle") -> list[Memory]:
        """Turns, and the job that they give rise to."""
        turns = [make_memory(text) for text in texts]
        await self.store.commit(Change(partition, puts=turns, jobs=[JobRecord(JOB_KIND, payload=cause)]))
        return turns

    async def follow(self, partition: Partition = USER) -> list[Progress]:
        """What is posted until the run ends."""
        with self.board.follow(partition) as posts:
            return [post async for post in posts]


@pytest.fixture
async def workshop(tmp_path: Path) -> AsyncIterator[Workshop]:
    store = SqliteStore(tmp_path)
    await store.open()
    yield Workshop(store, EchoConsolidator(store))
    await store.close()
