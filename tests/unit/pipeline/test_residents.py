import asyncio
import uuid
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightmem_server.core import HEAT_HALF_LIFE, SearchPlan
from lightmem_server.pipeline.access import AccessRecorder
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.residents import Residents, initial_heat
from lightmem_server.store.protocol import Change, VectorRecord
from lightmem_server.types import Kind, Memory, Tier, Turn
from tests.unit.pipeline.conftest import ANA, DIM, Pipeline


def word_plan(text: str) -> SearchPlan:
    return SearchPlan(
        vectors=np.zeros((0, DIM), np.float32),
        texts=[text],
        vector_weights=[],
        text_weights=[1],
        dense_weights=[1, 1],
        lexical_weights=[1, 1],
        list_depth=10,
        max_candidates=10,
        now=Clock().now(),
    )


async def test_an_evicted_partition_is_loaded_again(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("one"), Turn("two"))
    assert pipeline.engine.evict(ANA.key)
    assert set(await pipeline.texts("one two")) == {"one", "two"}


async def test_a_small_partition_is_read_without_a_thread(pipeline: Pipeline) -> None:
    class Counting(ThreadPoolExecutor):
        count = 0

        def submit(self, *args: Any, **kwargs: Any) -> Future[Any]:
            self.count += 1
            return super().submit(*args, **kwargs)

    await pipeline.write(Turn("one"))
    with Counting(1) as threads:
        residents = Residents(pipeline.store, pipeline.engine, threads, embedding="hash")
        assert (await residents.search(ANA, word_plan("one"))).matched_count == 1
        assert threads.count == 0
        assert pipeline.engine.evict(ANA.key)
        assert len(await residents.session_ring(ANA, "s")) == 1
        assert threads.count > 0, "loading is work for a thread"


async def test_a_commit_by_another_process_is_seen(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("mine"))
    memory = Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, "herons", 1, 1, session_id="s")
    vector = VectorRecord(memory.id, "hash", np.zeros((2, DIM), np.float32))
    await pipeline.store.commit(Change(ANA, puts=[memory], vectors=[vector]))
    assert "herons" in await pipeline.texts("herons")
    ring = await pipeline.residents.session_ring(ANA, "s")
    assert ring[-1] == memory.id.bytes


async def test_vectors_of_another_model_stay_out_of_the_dense_lists(pipeline: Pipeline) -> None:
    memory = Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, "old model", 1, 1)
    vector = VectorRecord(memory.id, "another", np.ones((2, DIM), np.float32))
    await pipeline.store.commit(Change(ANA, puts=[memory], vectors=[vector]))
    (candidate,) = (await pipeline.trace("old model")).candidates
    assert {source.partition("_")[0] for source in candidate.source_ranks} == {"lexical"}


async def test_a_fact_is_linked_to_its_evidence(pipeline: Pipeline) -> None:
    turn, other = [Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, text, 1, 1) for text in ["over there", "herons"]]
    fact = Memory(uuid.uuid4(), Tier.LTM, Kind.FACT, "Ana moved", 2, 2, evidence_ids=(turn.id,))
    # The evidence may come after what rests on it.
    await pipeline.store.commit(Change(ANA, puts=[fact, other]))
    await pipeline.residents.refresh(ANA)
    await pipeline.store.commit(Change(ANA, puts=[turn]))
    await pipeline.residents.refresh(ANA)
    result = await pipeline.residents.search(ANA, word_plan("moved").replace(link_weight=0.5))
    assert [row.tobytes() for row in result.ids] == [fact.id.bytes, turn.id.bytes]


async def test_heat_survives_in_the_store_and_grows_in_the_copy(pipeline: Pipeline) -> None:
    ack = await pipeline.write(Turn("herons"))

    async def heat() -> float:
        plan = word_plan("herons").replace(fusion="score", heat_weight=1.0)
        await pipeline.residents.refresh(ANA)
        result = await pipeline.residents.search(ANA, plan)
        return float(result.parts[0, result.part_names.index("heat")])

    assert await heat() == 0
    access = AccessRecorder(pipeline.store, pipeline.residents, Clock())
    access.record(ANA, ack.memory_ids)
    await access.flush()
    warm = await heat()
    assert warm == pytest.approx(1 / 2, abs=1e-3)
    pipeline.engine.evict(ANA.key)
    assert await heat() == pytest.approx(warm, abs=1e-3)


@pytest.mark.parametrize(
    ("count", "span", "expected"),
    [(0, None, 0), (1, 0, 1), (4, 0, 4), (2, HEAT_HALF_LIFE, 1.5), (3, 2 * HEAT_HALF_LIFE, 1.75)],
)
def test_initial_heat_spreads_the_accesses(count: int, span: int | None, expected: float) -> None:
    memory = Memory(
        uuid.uuid4(),
        Tier.MTM,
        Kind.TURN,
        "x",
        7,
        7,
        access_count=count,
        last_accessed_at=None if span is None else 7 + span,
    )
    assert initial_heat(memory) == pytest.approx(expected)


async def test_a_namespace_has_its_language(pipeline: Pipeline) -> None:
    with ThreadPoolExecutor(1) as executor:
        languages = {ANA.namespace: "german"}
        residents = Residents(pipeline.store, pipeline.engine, executor, embedding="hash", languages=languages)
        await pipeline.store.commit(Change(ANA, puts=[Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, "Häuser", 1, 1)]))
        await residents.refresh(ANA)
        assert len((await residents.search(ANA, word_plan("Haus"))).ids) == 1


async def test_many_readers_load_a_cold_partition_once(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("one"))
    pipeline.engine.evict(ANA.key)
    loads = pipeline.engine.stats().loads
    await asyncio.gather(*(pipeline.texts("one") for _ in range(8)))
    assert pipeline.engine.stats().loads == loads + 1


async def test_records_are_kept_in_step_with_commits(pipeline: Pipeline) -> None:
    written = await pipeline.write(Turn("herons fly"), Turn("storks stand"))
    records, ids = pipeline.residents.records, list(written.memory_ids)
    assert await pipeline.texts("herons storks")
    kept = await records.get(ANA, ids)
    assert [one.text for one in kept if one] == ["herons fly", "storks stand"]

    await pipeline.editing.delete(ANA, ids[0])
    assert await records.get(ANA, ids) == await pipeline.store.get(ANA, ids)
    assert (await records.get(ANA, ids))[0] is None

    await pipeline.store.commit(Change(ANA, puts=[replace(kept[1], text="storks walk", version=3)]))
    assert "storks walk" in await pipeline.texts("storks"), "a commit that nobody told of"


async def test_accesses_noted_together_are_each_counted(pipeline: Pipeline) -> None:
    written = await pipeline.write(Turn("one"), Turn("two"))
    one, two = written.memory_ids
    await pipeline.texts("one two")
    access = AccessRecorder(pipeline.store, pipeline.residents, Clock())
    for _ in range(100):
        access.record(ANA, [one])
    access.record(ANA, [two])
    await access.flush()
    stored = await pipeline.store.get(ANA, [one, two])
    assert [memory.access_count for memory in stored if memory] == [100, 1]
    assert await pipeline.residents.records.get(ANA, [one, two]) == stored


async def test_records_leave_with_their_partition(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("herons fly"))
    await pipeline.texts("herons")
    assert pipeline.residents.records.size_bytes > 0
    await pipeline.residents.forget(ANA)
    assert pipeline.residents.records.size_bytes == 0


async def test_records_of_an_evicted_partition_are_read_again(pipeline: Pipeline) -> None:
    written = await pipeline.write(Turn("herons fly"))
    await pipeline.texts("herons")
    assert pipeline.engine.evict(ANA.key)
    (memory,) = await pipeline.store.get(ANA, written.memory_ids)
    await pipeline.store.commit(Change(ANA, puts=[replace(memory, text="herons swim", version=2)]))
    assert await pipeline.texts("herons") == ["herons swim"]
