"""Shared facts in answers: in slots of their own, judged, and never in the place of the user's own memories."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.pack import SHARED_TITLE
from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.pipeline.retrieval import Budget, DropReason, Part, Selected, SelectorMode, Trace
from lightmem_server.pipeline.retrieve import Retrieving
from lightmem_server.slm.fakes import HashEmbedder, OverlapSelector
from lightmem_server.store.protocol import Change, VectorRecord
from lightmem_server.types import SHARED_USER, Condition, Kind, MemoryFilter, Operator, Partition, Statement, Tier, Turn
from tests.contract.store_records import make_memory
from tests.unit.pipeline.conftest import DIM, Pipeline

SHARED = Partition("default", SHARED_USER)
QUERY = "do several users like hiking"
TEXTS = ("Several users like hiking", "Several users like tea", "Several users like rock", "Several users dislike rain")


@pytest.fixture
async def sharing(pipeline: Pipeline) -> Pipeline:
    """A user with memories of her own, in a namespace that shares."""
    embedder = HashEmbedder(DIM)
    facts = [
        make_memory(text, tier=Tier.LTM, kind=Kind.FACT, statement=Statement("several users", "likes", text))
        for text in TEXTS
    ]
    vectors = await embedder.embed_passages(TEXTS)
    records = [
        VectorRecord(fact.id, "hash", np.stack([vector] * len(VIEW_NAMES)))
        for fact, vector in zip(facts, vectors, strict=True)
    ]
    await pipeline.store.commit(Change(SHARED, puts=facts, vectors=records))
    pipeline.retrieving = Retrieving(
        pipeline.store,
        pipeline.residents,
        embedder,
        OverlapSelector(),
        tokenizers={"": embedder.tokens},
        clock=Clock(),
        has_shared=True,
    )
    await pipeline.write(Turn("I like hiking in the hills."), Turn("Several of us like hiking."), Turn("I like tea."))
    return pipeline


def split(parts: list[Part]) -> tuple[Selected, Trace]:
    (selected,) = [part for part in parts if isinstance(part, Selected)]
    (trace,) = [part for part in parts if isinstance(part, Trace)]
    return selected, trace


def texts(selected: Selected) -> list[str]:
    return [candidate.memory.text for candidate in selected.shared if candidate.memory is not None]


async def test_shared_facts_are_returned_beside_the_users_own(sharing: Pipeline) -> None:
    with_shared, trace = split(await sharing.retrieve(QUERY))
    without, trace_without = split(await sharing.retrieve(QUERY, exclude_shared=True))
    assert texts(with_shared)[0] == "Several users like hiking"
    assert len(texts(with_shared)) <= 3
    assert [c.memory_id for c in with_shared.candidates] == [c.memory_id for c in without.candidates]
    assert trace.matched_count == trace_without.matched_count == 3
    assert (texts(without), trace_without.shared) == ([], [])
    assert [stage.name for stage in trace.stages].index("shared") > [stage.name for stage in trace.stages].index(
        "select"
    )
    assert f"{SHARED_TITLE}\nSeveral users like hiking" in with_shared.packed_context


async def test_a_full_answer_keeps_all_of_its_own_memories(sharing: Pipeline) -> None:
    budget = Budget(3, 32, 1000, 5.0)
    with_shared, _ = split(await sharing.retrieve(QUERY, budget=budget, exclude_context=True))
    assert len(with_shared.candidates) == 3
    assert texts(with_shared)


async def test_shared_facts_take_only_the_tokens_that_are_left(sharing: Pipeline) -> None:
    without, _ = split(await sharing.retrieve(QUERY, exclude_shared=True))
    tight = replace(sharing.budget, max_tokens=without.token_count + 4)
    answer, trace = split(await sharing.retrieve(QUERY, budget=tight))
    assert answer.packed_context == without.packed_context
    assert answer.shared == []
    assert DropReason.MAX_TOKENS in {candidate.drop_reason for candidate in trace.shared}


async def test_what_the_selector_does_not_find_to_answer_is_left_out(sharing: Pipeline) -> None:
    words = "which dentist did anna see on elm street before the long journey to " + " ".join(
        f"town{i}" for i in range(60)
    )
    answer, trace = split(await sharing.retrieve(words))
    assert answer.shared == []
    assert {candidate.drop_reason for candidate in trace.shared} <= {DropReason.SHARED_UNSURE}


async def test_the_threshold_holds_for_shared_facts_too(sharing: Pipeline) -> None:
    answer, trace = split(await sharing.retrieve(QUERY, min_relevance=1.0))
    assert answer.shared == []
    assert {candidate.drop_reason for candidate in trace.shared} == {DropReason.MIN_RELEVANCE}


OTHERWISE: dict[str, dict[str, Any]] = {
    "selector off": {"selector_mode": SelectorMode.OFF},
    "session": {"filter": MemoryFilter(session_ids=frozenset({"s"}))},
    "agent": {"filter": MemoryFilter(agent_ids=frozenset({"a"}))},
    "turns": {"filter": MemoryFilter(kinds=frozenset({Kind.TURN}))},
    "MTM": {"filter": MemoryFilter(tiers=frozenset({Tier.MTM}))},
    "then": {"filter": MemoryFilter(as_of=5)},
    "since": {"filter": MemoryFilter(occurred_from=5)},
    "metadata": {"filter": MemoryFilter(metadata=Condition("a", Operator.EQ, (1,)))},
}


@pytest.mark.parametrize("how", OTHERWISE)
async def test_shared_facts_are_not_looked_for_where_they_cannot_answer(sharing: Pipeline, how: str) -> None:
    answer, trace = split(await sharing.retrieve(QUERY, **OTHERWISE[how]))
    assert (answer.shared, trace.shared) == ([], [])


async def test_facts_may_be_asked_for_alone(sharing: Pipeline) -> None:
    answer, _ = split(await sharing.retrieve(QUERY, filter=MemoryFilter(kinds=frozenset({Kind.FACT}))))
    assert texts(answer)


async def test_nothing_is_looked_for_where_it_is_off(pipeline: Pipeline) -> None:
    answer, trace = split(await pipeline.retrieve(QUERY))
    assert (answer.shared, trace.shared) == ([], [])
    assert "shared" not in {stage.name for stage in trace.stages}
