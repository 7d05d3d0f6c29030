import asyncio
import uuid

import numpy as np

from lightmem_server.core import SearchPlan
from lightmem_server.store.protocol import Change, VectorRecord
from lightmem_server.types import Kind, Memory, Tier, Turn
from tests.unit.pipeline.conftest import ANA, DIM, Pipeline


async def test_an_evicted_partition_is_loaded_again(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("one"), Turn("two"))
    assert pipeline.engine.evict(ANA.key)
    assert set(await pipeline.texts("one two")) == {"one", "two"}


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
    plan = SearchPlan(
        vectors=np.zeros((0, DIM), np.float32),
        texts=["moved"],
        vector_weights=[],
        text_weights=[1],
        dense_weights=[1, 1],
        lexical_weights=[1, 1],
        list_depth=10,
        max_candidates=10,
        now=3,
        link_weight=0.5,
    )
    result = await pipeline.residents.search(ANA, plan)
    assert [row.tobytes() for row in result.ids] == [fact.id.bytes, turn.id.bytes]


async def test_many_readers_load_a_cold_partition_once(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("one"))
    pipeline.engine.evict(ANA.key)
    loads = pipeline.engine.stats().loads
    await asyncio.gather(*(pipeline.texts("one") for _ in range(8)))
    assert pipeline.engine.stats().loads == loads + 1
