"""Snapshots through the real store and engine: a cold partition is the same whichever way it was loaded."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from structlog.testing import capture_logs

from lightmem_server.pipeline import snapshots as module
from lightmem_server.pipeline.archive import Archiving
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.snapshots import Snapshots
from lightmem_server.pipeline.upkeep import Upkeep
from lightmem_server.store.protocol import SnapshotRecord
from lightmem_server.types import Turn
from tests.unit.pipeline.conftest import ANA, Pipeline
from tests.unit.pipeline.test_archive import POLICY

MANY = [Turn(f"heron {i}", occurred_at=i, speaker=f"speaker {i % 3}") for i in range(module.MIN_ROWS + 50)]


class Cold:
    """A server's part over the pipeline's store and engine, with snapshots."""

    def __init__(self, pipeline: Pipeline, executor: ThreadPoolExecutor, identity: str) -> None:
        self.pipeline = pipeline
        self.snapshots = Snapshots(pipeline.store, pipeline.engine, executor, identity=identity)
        self.residents = Residents(
            pipeline.store, pipeline.engine, executor, embedding="hash", snapshots=self.snapshots
        )
        archiving = Archiving(pipeline.store, self.residents, replace(POLICY, capacity=[10**6] * 4), Clock())
        self.upkeep = Upkeep(archiving, self.snapshots, Clock())
        self.residents.listeners.append(self.upkeep.note)

    async def reload(self) -> bytes:
        """Load the partition cold; its export."""
        self.pipeline.engine.evict(ANA.key)
        await self.residents.refresh(ANA)
        data = self.pipeline.engine.export(ANA.key)
        assert data is not None
        return data


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture
def cold(pipeline: Pipeline, executor: ThreadPoolExecutor) -> Cold:
    return Cold(pipeline, executor, "one")


async def stored(pipeline: Pipeline) -> SnapshotRecord:
    snapshot = await pipeline.store.load_snapshot(ANA)
    assert snapshot is not None
    return snapshot


async def test_a_cold_partition_is_what_the_records_make(pipeline: Pipeline, cold: Cold) -> None:
    await pipeline.write(*MANY)
    from_records = await cold.reload()
    assert cold.snapshots.is_due(ANA)
    assert await cold.snapshots.save(ANA)
    assert not cold.snapshots.is_due(ANA)
    assert await cold.reload() == from_records
    ack = await pipeline.write(Turn("and an egret"))
    await pipeline.editing.delete(ANA, (await pipeline.write(Turn("gone"))).memory_ids[0])
    assert await pipeline.store.load_snapshot(ANA) is None
    await cold.reload()
    ring = pipeline.engine.session_ring(ANA.key, "s")
    assert ring is not None
    assert uuid.UUID(bytes=ring[-1]) == ack.memory_ids[0]


async def test_what_was_written_since_is_applied(pipeline: Pipeline, cold: Cold) -> None:
    await pipeline.write(*MANY)
    await cold.reload()
    assert await cold.snapshots.save(ANA)
    await pipeline.write(Turn("an egret"))
    await cold.reload()
    assert (await stored(pipeline)).version == 1
    assert pipeline.engine.version(ANA.key) == 2
    assert "an egret" in await pipeline.texts("an egret")


async def test_few_rows_are_not_worth_one(pipeline: Pipeline, cold: Cold) -> None:
    await pipeline.write(*MANY[: module.MIN_ROWS])
    await cold.reload()
    assert not cold.snapshots.is_due(ANA)


@pytest.mark.parametrize("damage", ["corrupt", "cut", "foreign", "version"])
async def test_an_unusable_one_is_said_once_rebuilt_and_rewritten(
    pipeline: Pipeline, cold: Cold, executor: ThreadPoolExecutor, damage: str
) -> None:
    await pipeline.write(*MANY[:5])
    from_records = await cold.reload()
    await pipeline.write(Turn("an egret"))
    await cold.reload()
    assert await cold.snapshots.save(ANA)
    good = await stored(pipeline)
    bad = {
        "corrupt": replace(good, data=good.data[:200] + bytes([good.data[200] ^ 1]) + good.data[201:]),
        "cut": replace(good, data=good.data[:-1]),
        "foreign": replace(good, identity="another model"),
        "version": replace(good, version=1),
    }[damage]
    assert await pipeline.store.save_snapshot(ANA, bad)
    with capture_logs() as logs:
        assert len(await cold.reload()) > len(from_records)
        await cold.reload()
    assert [entry["event"] for entry in logs] == ["snapshot_unusable"]
    assert "an egret" in await pipeline.texts("an egret")
    await cold.upkeep.step()
    assert await stored(pipeline) == good
    assert not cold.snapshots.is_due(ANA)


async def test_upkeep_takes_each_partition_once(pipeline: Pipeline, cold: Cold) -> None:
    await pipeline.write(*MANY)
    await cold.reload()
    await cold.reload()
    assert await cold.upkeep.step()
    assert (await stored(pipeline)).version == 1
    assert not await cold.upkeep.step()
