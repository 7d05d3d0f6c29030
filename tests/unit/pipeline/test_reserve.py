"""Facts that the search of all kinds left out are found by one of their own, if they are near enough."""

from __future__ import annotations

import time
import uuid
from dataclasses import replace

import pytest

from lightmem_server.pipeline.choose import choose
from lightmem_server.pipeline.coarse import search_coarse
from lightmem_server.pipeline.reserve import find_facts, kept_share
from lightmem_server.pipeline.retrieval import Budget, Candidate, DropReason, RetrieveQuery
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.slm.controller import Need, make_plan
from lightmem_server.slm.fakes import WordCounter
from lightmem_server.store.protocol import Change
from lightmem_server.types import Kind, Memory, MemoryFilter, Turn
from tests.contract.store_records import make_memory
from tests.unit.pipeline.conftest import ANA, Pipeline
from tests.unit.pipeline.test_boosts import know

QUERY = "which dogs does Ana like"
NEAR, FAR = "Ana does like dogs", "Ben plays chess"


async def told(pipeline: Pipeline) -> dict[str, uuid.UUID]:
    """Turns, and a fact that is near the query and one that isn't."""
    turns = [Turn(f"Ana talks of number {i} and dogs of number {i} all day", speaker="Ana") for i in range(20)]
    ack = await pipeline.write(*turns)
    return {text: await know(pipeline, text, ack.memory_ids[0]) for text in (NEAR, FAR)}


async def found_facts(
    pipeline: Pipeline, tuning: Tuning, *, found: int | None = 5, **fields: object
) -> tuple[list[Candidate], list[Candidate]]:
    """The turns, `found` of them, that a search of all kinds is taken to have found, or with None all that it did find; and the
    facts found besides."""
    given = {"budget": Budget(10, 32, 1000, 5.0), "asked_at": 0, "arrived_at": time.monotonic(), **fields}
    query = RetrieveQuery(ANA, QUERY, **given)  # type: ignore[arg-type]
    plan = make_plan(QUERY, (), 0)
    await pipeline.residents.refresh(ANA)
    vectors = await pipeline.retrieving._embedder.embed_queries([view.text for view in plan.views])
    hits = await search_coarse(
        query,
        plan,
        vectors,
        residents=pipeline.residents,
        tuning=tuning,
        now=pipeline.retrieving._clock.now(),
        left_seconds=5.0,
    )
    all_ = hits.candidates()
    records = await pipeline.store.get(ANA, [candidate.memory_id for candidate in all_])
    turns = [c for c, memory in zip(all_, records, strict=True) if memory is not None and memory.kind is Kind.TURN]
    taken = all_ if found is None else turns[:found]
    return taken, await find_facts(query, hits, taken, residents=pipeline.residents, tuning=tuning)


async def test_a_fact_that_was_left_out_comes_behind_everything_with_its_record(pipeline: Pipeline) -> None:
    ids = await told(pipeline)
    turns, facts = await found_facts(pipeline, Tuning())
    assert [fact.memory_id for fact in facts] == [ids[NEAR]]
    (fact,) = facts
    assert fact.memory is not None
    assert fact.memory.text == NEAR
    assert fact.coarse_rank == len(turns) + 1
    assert fact.coarse_score <= min(turn.coarse_score for turn in turns)
    assert fact.logit is None


async def test_a_fact_further_from_the_query_than_most_is_left_out(pipeline: Pipeline) -> None:
    ids = await told(pipeline)
    _, facts = await found_facts(pipeline, replace(Tuning(), fact_candidates=20))
    assert ids[FAR] not in [fact.memory_id for fact in facts]


async def test_what_was_found_before_isnt_found_again(pipeline: Pipeline) -> None:
    near = (await told(pipeline))[NEAR]
    trace = await pipeline.trace(QUERY, budget=Budget(10, 12, 1000, 5.0))
    ids = [candidate.memory_id for candidate in trace.candidates]
    assert near in ids[:12]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize(
    "record_filter",
    [MemoryFilter(kinds=frozenset({Kind.TURN})), MemoryFilter(kinds=frozenset({Kind.TURN, Kind.FACT}))],
    ids=["turns", "turns and facts"],
)
async def test_a_request_that_says_which_kinds_gets_no_others(pipeline: Pipeline, record_filter: MemoryFilter) -> None:
    await told(pipeline)
    assert (await found_facts(pipeline, Tuning(), filter=record_filter))[1] == []


async def test_where_everything_was_found_nothing_is_looked_for(pipeline: Pipeline) -> None:
    await told(pipeline)
    everything, facts = await found_facts(pipeline, Tuning(), found=None)
    assert len(everything) == 22
    assert facts == []


async def test_without_vectors_nothing_tells_what_is_near(pipeline: Pipeline) -> None:
    await told(pipeline)
    assert (await found_facts(pipeline, Tuning(), found=0))[1] == []


def test_more_is_kept_where_it_is_asked_what_is_so() -> None:
    assert kept_share(Need.KNOWLEDGE, Tuning()) > kept_share(Need.EPISODE, Tuning()) > 0


def candidate(memory: Memory) -> Candidate:
    """A judged one."""
    return Candidate(memory.id, 1, 1.0, {}, memory=memory)


def select(ranked: list[Candidate], max_memories: int) -> list[Candidate]:
    """What is returned, with a fifth kept."""
    query = RetrieveQuery(ANA, QUERY, Budget(max_memories, 32, 1000, 5.0), asked_at=0, arrived_at=0.0)
    return list(choose(query, ranked, WordCounter(), (), (), kept_share=0.2).candidates)


def test_a_fact_behind_all_gets_the_last_of_the_memories() -> None:
    turns = [candidate(make_memory(f"turn {i}")) for i in range(8)]
    fact = candidate(make_memory("Ana likes dogs", kind=Kind.FACT))
    assert select([*turns, fact], 5) == [*turns[:4], fact]
    assert {turn.drop_reason for turn in turns[4:]} == {DropReason.MAX_MEMORIES}


def test_a_fact_that_is_covered_stands_for_its_turn_behind_the_last_of_the_memories() -> None:
    turns = [candidate(make_memory(f"turn {i}")) for i in range(8)]
    facts = [candidate(make_memory(f"fact {i}", kind=Kind.FACT)) for i in (0, 7)]
    for fact, turn in zip(facts, (turns[0], turns[7]), strict=True):
        fact.drop_reason, fact.duplicate_of = DropReason.COVERED, turn.memory_id
    assert select([*turns, *facts], 5) == [*turns[:4], facts[1]]
    assert facts[0].drop_reason is DropReason.COVERED


async def test_the_trace_tells_of_facts_in_reserve(pipeline: Pipeline) -> None:
    ids = await told(pipeline)
    await pipeline.store.commit(Change(ANA, puts=[make_memory("x")]))
    trace = await pipeline.trace(QUERY, budget=Budget(5, 5, 1000, 5.0))
    assert ids[NEAR] in [candidate.memory_id for candidate in trace.candidates]
