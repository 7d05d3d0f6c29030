"""Capacity: what is archived, and what never is."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from lightmem_server.core import UNBOUNDED, TierPolicy
from lightmem_server.pipeline.archive import Archiving
from lightmem_server.pipeline.clock import Clock
from lightmem_server.types import Memory, MemoryFilter, State, Turn
from tests.unit.pipeline.conftest import ANA, Pipeline

POLICY = TierPolicy(
    half_life=1_000_000_000,
    capacity=[UNBOUNDED, UNBOUNDED, 6, UNBOUNDED],
    promote_heat=0.0,
    summarise_turns=1,
    stm_turns=4,
    stm_tokens=1000,
)


@pytest.fixture
def archiving(pipeline: Pipeline) -> Archiving:
    return Archiving(pipeline.store, pipeline.residents, POLICY, Clock())


async def read_all(pipeline: Pipeline) -> dict[str, Memory]:
    record_filter = MemoryFilter(include_archived=True)
    page = await pipeline.store.list_page(ANA, record_filter, limit=100, before_order=None, now=0)
    return {memory.text: memory for memory in page.memories}


async def archived(pipeline: Pipeline) -> set[str]:
    return {text for text, memory in (await read_all(pipeline)).items() if memory.state is State.ARCHIVED}


async def test_within_capacity_nothing_is_archived(pipeline: Pipeline, archiving: Archiving) -> None:
    await pipeline.write(*(Turn(f"word{i}") for i in range(6)))
    assert not archiving.is_due(ANA)
    assert await archiving.enforce(ANA) == 0
    assert await archived(pipeline) == set()


async def test_the_least_useful_leave_search_and_stay_in_the_store(pipeline: Pipeline, archiving: Archiving) -> None:
    turns = [Turn(f"word{i}", occurred_at=i, is_pinned=i == 0) for i in range(10)]
    ack = await pipeline.write(*turns)
    await pipeline.store.record_access(ANA, [ack.memory_ids[1]], Clock().now())
    assert archiving.is_due(ANA)
    assert await archiving.enforce(ANA) == 4
    # The first is pinned, the second was returned before, the last four are the running conversation.
    assert await archived(pipeline) == {"word2", "word3", "word4", "word5"}
    assert set(await pipeline.texts("word3 word0 word1 word9")).isdisjoint({"word2", "word3", "word4", "word5"})
    stored = (await read_all(pipeline))["word3"]
    assert (stored.text, stored.version) == ("word3", 2)
    assert not archiving.is_due(ANA)
    assert await archiving.enforce(ANA) == 0


async def test_what_is_pinned_while_it_is_decided_stays(pipeline: Pipeline, archiving: Archiving) -> None:
    ack = await pipeline.write(*(Turn(f"word{i}", occurred_at=i) for i in range(8)))
    async with pipeline.residents.writer(ANA):  # as another writer holds it: the decision is made, its commit waits
        enforcing = asyncio.create_task(archiving.enforce(ANA))
        await pipeline.editing.update(
            ANA, ack.memory_ids[0], lambda memory: replace(memory, is_pinned=True), expected_version=0
        )
    await enforcing
    assert "word0" not in await archived(pipeline)


async def test_evidence_of_other_memories_is_kept_longer(pipeline: Pipeline, archiving: Archiving) -> None:
    ack = await pipeline.write(*(Turn(f"word{i}", occurred_at=i) for i in range(7)))
    await pipeline.editing.update(
        ANA, ack.memory_ids[6], lambda memory: replace(memory, evidence_ids=(ack.memory_ids[0],)), expected_version=0
    )
    assert await archiving.enforce(ANA) == 1
    assert await archived(pipeline) == {"word1"}
