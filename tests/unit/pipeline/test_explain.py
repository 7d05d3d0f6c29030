"""Why a memory was, or was not, returned: each way to be lost."""

import time
import uuid

import pytest

from lightmem_server.errors import NotFoundError
from lightmem_server.pipeline.explain import Explanation
from lightmem_server.pipeline.retrieval import Budget, RetrieveQuery, SelectorMode
from lightmem_server.types import Kind, MemoryFilter, Partition, Tier, Turn
from tests.unit.pipeline.conftest import ANA, Pipeline


async def explain(pipeline: Pipeline, query: str, memory_id: uuid.UUID, **fields: object) -> Explanation:
    given = {"budget": pipeline.budget, "asked_at": 0, "arrived_at": time.monotonic(), **fields}
    return await pipeline.retrieving.explain(RetrieveQuery(ANA, query, **given), memory_id)  # type: ignore[arg-type]


async def ids(pipeline: Pipeline, *texts: str, session_id: str = "s", expires_at: int | None = None) -> list[uuid.UUID]:
    turns = [Turn(text, expires_at=expires_at) for text in texts]
    return list((await pipeline.write(*turns, session_id=session_id)).memory_ids)


async def test_returned(pipeline: Pipeline) -> None:
    (tea,) = await ids(pipeline, "green tea")
    explanation = await explain(pipeline, "tea", tea)
    assert (explanation.reached_stage, explanation.margin) == ("returned", 0.0)
    assert "rank 1" in explanation.text


async def test_beyond_max_memories_by_a_margin(pipeline: Pipeline) -> None:
    _, other = await ids(pipeline, "green tea", "some green paint")
    explanation = await explain(pipeline, "green tea", other, budget=Budget(1, 32, 1000, 5.0))
    assert explanation.reached_stage == "select"
    assert "max_memories" in explanation.text
    first, second = explanation.trace.candidates
    assert explanation.margin == pytest.approx(first.score - second.score)
    assert explanation.margin > 0


async def test_beyond_the_tokens(pipeline: Pipeline) -> None:
    (tea,) = await ids(pipeline, "green tea " * 50)
    explanation = await explain(pipeline, "tea", tea, budget=Budget(10, 32, 20, 5.0))
    assert explanation.reached_stage == "pack"
    assert explanation.margin > 50


async def test_not_relevant_enough(pipeline: Pipeline) -> None:
    (tea,) = await ids(pipeline, "green tea")
    explanation = await explain(pipeline, "unrelated question entirely", tea, min_relevance=0.99)
    assert explanation.reached_stage == "select"
    assert "min_relevance" in explanation.text
    assert 0 < explanation.margin <= 0.99


async def test_a_duplicate_names_the_better_one(pipeline: Pipeline) -> None:
    both = await ids(pipeline, "green tea", "Green  tea")
    explanations = [await explain(pipeline, "tea", memory_id) for memory_id in both]
    (lost,) = [e for e in explanations if e.reached_stage != "returned"]
    assert any(str(memory_id) in lost.text for memory_id in both)


async def test_a_near_duplicate_names_what_it_repeats(pipeline: Pipeline) -> None:
    both = [*await ids(pipeline, "green tea.", session_id="a"), *await ids(pipeline, "green tea!", session_id="b")]
    explanations = {memory_id: await explain(pipeline, "tea", memory_id) for memory_id in both}
    (lost,) = [memory_id for memory_id, e in explanations.items() if e.reached_stage != "returned"]
    (kept,) = set(both) - {lost}
    assert explanations[lost].reached_stage == "select"
    assert f"the same as {kept}" in explanations[lost].text


async def test_a_stranger_is_ranked_among_near_duplicates_too(pipeline: Pipeline) -> None:
    for i in range(5):
        await ids(pipeline, "green tea" + "!" * i, session_id=f"s{i}")
    *_, last = await ids(pipeline, "a green tea number 1", "a green tea number 2", "an unrelated matter")
    explanation = await explain(pipeline, "green tea number", last, budget=Budget(2, 2, 1000, 5.0))
    assert "8th of 8" in explanation.text
    assert explanation.margin > 0


async def test_behind_what_is_new_for_repeating_something(pipeline: Pipeline) -> None:
    for i, word in enumerate(["still", "always"]):
        await ids(pipeline, f"one of my hobbies is {word} painting flowers", session_id=f"s{i}")
    (chess,) = await ids(pipeline, "hobbies include chess too", session_id="other")
    query, budget = "which hobbies are there", Budget(2, 32, 1000, 5.0)
    trace = (await explain(pipeline, query, chess, budget=budget)).trace
    lost = next(c for c in trace.candidates if c.parts.get("repetition"))
    explanation = await explain(pipeline, query, lost.memory_id, budget=budget)
    assert explanation.reached_stage == "select"
    assert "repetition of a better one" in explanation.text


async def test_part_of_the_conversation(pipeline: Pipeline) -> None:
    (tea,) = await ids(pipeline, "green tea")
    explanation = await explain(pipeline, "tea", tea, session_id="s")
    assert explanation.reached_stage == "fetch"
    assert "conversation" in explanation.text


async def test_beyond_the_candidates_by_its_rank(pipeline: Pipeline) -> None:
    *_, last = await ids(pipeline, *(f"green tea number {i}" for i in range(12)), "an unrelated matter")
    explanation = await explain(pipeline, "green tea number", last, budget=Budget(3, 3, 1000, 5.0))
    assert explanation.reached_stage == "coarse"
    assert "13th of 13" in explanation.text
    assert explanation.margin > 0


async def test_expired(pipeline: Pipeline) -> None:
    (tea,) = await ids(pipeline, "green tea", expires_at=1)
    assert "expired" in (await explain(pipeline, "tea", tea)).text


@pytest.mark.parametrize(
    ("clause", "named"),
    [
        (MemoryFilter(session_ids=frozenset({"other"})), "session_ids"),
        (MemoryFilter(kinds=frozenset({Kind.FACT})), "kinds"),
        (MemoryFilter(tiers=frozenset({Tier.LTM})), "tiers"),
        (MemoryFilter(agent_ids=frozenset({"nobody"})), "agent_ids"),
        (MemoryFilter(occurred_to=0), "occurred_from and occurred_to"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_left_out_by_a_clause_of_the_filter(pipeline: Pipeline, clause: MemoryFilter, named: str) -> None:
    (tea,) = await ids(pipeline, "green tea")
    explanation = await explain(pipeline, "tea", tea, filter=clause)
    assert explanation.reached_stage == "refresh"
    assert f"filter's {named}" in explanation.text


async def test_not_said_in_the_time_asked_about(pipeline: Pipeline) -> None:
    day = 86_400_000_000
    old = (await pipeline.write(Turn("green tea", occurred_at=day))).memory_ids[0]
    await pipeline.write(Turn("green tea now", occurred_at=900 * day))
    explanation = await explain(pipeline, "what did I tell you about tea yesterday?", old, asked_at=901 * day)
    assert explanation.reached_stage == "refresh"
    assert "yesterday" in explanation.text


async def test_an_unknown_memory_and_another_users_are_the_same(pipeline: Pipeline) -> None:
    theirs = (await pipeline.write(Turn("tea"), partition=Partition("default", "ben"))).memory_ids[0]
    errors = []
    for memory_id in (theirs, uuid.uuid4()):
        with pytest.raises(NotFoundError) as caught:
            await explain(pipeline, "tea", memory_id)
        errors.append(caught.value.message)
    assert errors[0] == errors[1]


async def test_explaining_also_works_without_the_selector(pipeline: Pipeline) -> None:
    (tea,) = await ids(pipeline, "green tea")
    assert (await explain(pipeline, "tea", tea, selector_mode=SelectorMode.OFF)).reached_stage == "returned"
