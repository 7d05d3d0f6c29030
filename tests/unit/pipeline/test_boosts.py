"""What else the coarse search knows than words and vectors: links, heat, near-duplicates; through the whole pipeline."""

import uuid

from lightmem_server.pipeline.retrieval import Budget, DropReason, SelectorMode
from lightmem_server.pipeline.retrieve import Retrieving
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.slm.fakes import HashEmbedder
from lightmem_server.store.protocol import Change, VectorRecord
from lightmem_server.types import Kind, Memory, Tier, Turn
from tests.unit.pipeline.conftest import ANA, DIM, Pipeline

OFF = {"selector_mode": SelectorMode.OFF}
NOW = 1_700_000_000_000_000


async def know(pipeline: Pipeline, text: str, evidence: uuid.UUID) -> uuid.UUID:
    """Put a fact that rests on a turn into the long-term tier."""
    fact = Memory(uuid.uuid4(), Tier.LTM, Kind.FACT, text, NOW, NOW, evidence_ids=(evidence,))
    vectors = (await HashEmbedder(DIM).embed_passages([text])).repeat(2, axis=0)
    await pipeline.store.commit(Change(ANA, puts=[fact], vectors=[VectorRecord(fact.id, "hash", vectors)]))
    return fact.id


def without(pipeline: Pipeline, tuning: Tuning) -> None:
    """Retrieve with other constants."""
    retrieving = pipeline.retrieving
    pipeline.retrieving = Retrieving(
        retrieving._store,
        retrieving._residents,
        retrieving._embedder,
        retrieving._selector,
        tokenizers=retrieving._tokenizers,
        clock=retrieving._clock,
        tuning=tuning,
    )


async def told_of_a_beagle(pipeline: Pipeline) -> tuple[uuid.UUID, uuid.UUID]:
    """A dialogue in which the turn that tells why shares no word with the question; a fact that rests on it does."""
    told = [
        Turn("guess who came home with us on sunday", speaker="Ana"),
        Turn("finally somebody to run with every morning", speaker="Ana"),
        *(Turn(f"the weather report number {i} was long and dull as ever today", speaker="Ben") for i in range(60)),
    ]
    evidence = (await pipeline.write(*told)).memory_ids[1]
    return evidence, await know(pipeline, "Ana adopted a beagle named Momo", evidence)


async def test_what_a_fact_rests_on_is_found_through_it(pipeline: Pipeline) -> None:
    evidence, fact = await told_of_a_beagle(pipeline)
    budget = Budget(5, 8, 1000, 5.0)
    trace = await pipeline.trace("which beagle was adopted", budget=budget, **OFF)
    returned = [c.memory_id for c in trace.candidates if c.drop_reason is None]
    assert returned[0] == fact
    assert evidence in returned
    linked = next(c for c in trace.candidates if c.memory_id == evidence)
    assert linked.parts["link"] > 0

    without(pipeline, Tuning(link_weight=0.0))
    trace = await pipeline.trace("which beagle was adopted", budget=budget, **OFF)
    assert evidence not in [c.memory_id for c in trace.candidates if c.drop_reason is None]


async def test_a_link_lifts_no_memory_over_the_one_that_answers(pipeline: Pipeline) -> None:
    _, fact = await told_of_a_beagle(pipeline)
    for mode in SelectorMode:
        trace = await pipeline.trace("which beagle was adopted", selector_mode=mode)
        assert trace.candidates[0].memory_id == fact


async def test_of_two_that_answer_alike_the_one_in_use_comes_first(pipeline: Pipeline) -> None:
    # Without vectors, and as long: nothing but the order of writing tells them apart.
    older, newer = (
        Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, f"tea with {what}", NOW, NOW) for what in ("mint", "milk")
    )
    for memory in (older, newer):
        await pipeline.store.commit(Change(ANA, puts=[memory]))
    before = await pipeline.trace("tea", **OFF)
    assert [c.memory_id for c in before.candidates] == [newer.id, older.id]
    await pipeline.residents.touch(ANA, [older.id], pipeline.retrieving._clock.now())
    after = await pipeline.trace("tea", **OFF)
    assert [c.memory_id for c in after.candidates] == [older.id, newer.id]
    gain = after.candidates[0].coarse_score - before.candidates[0].coarse_score
    assert 0 < gain < Tuning().heat_weight


async def test_heat_never_buries_an_exact_answer(pipeline: Pipeline) -> None:
    texts = [
        "the code of the garage door is 4711",
        *(f"the garage door number {i} was painted in green by a friend" for i in range(30)),
    ]
    exact, *hot = (await pipeline.write(*(Turn(text, speaker="Ana") for text in texts))).memory_ids
    for _ in range(1000):
        await pipeline.residents.touch(ANA, hot, pipeline.retrieving._clock.now())
    for mode in SelectorMode:
        trace = await pipeline.trace("what is the code of the garage door", selector_mode=mode)
        assert trace.candidates[0].memory_id == exact
        assert max(c.parts["heat"] for c in trace.candidates) > 0.99


async def test_a_near_duplicate_comes_once_and_the_trace_says_of_what(pipeline: Pipeline) -> None:
    # In other letters, so that it isn't the same text; to the models the same.
    ids = (await pipeline.write(Turn("I like green tea.", speaker="Ana"), session_id="a")).memory_ids
    ids += (await pipeline.write(Turn("Well, I LIKE green tea!", speaker="Ana"), session_id="b")).memory_ids
    ids += (await pipeline.write(Turn("I like green tea!", speaker="Ben"), session_id="c")).memory_ids
    without(pipeline, Tuning(duplicate_similarity=0.7))  # these vectors count every word alike
    trace = await pipeline.trace("green tea", **OFF)
    (dropped,) = [c for c in trace.candidates if c.drop_reason is not None]
    assert dropped.drop_reason is DropReason.DUPLICATE
    kept = {c.memory_id for c in trace.candidates if c.drop_reason is None}
    assert dropped.duplicate_of in kept
    assert {dropped.memory_id, *kept} == set(ids)
    assert [c.coarse_rank for c in trace.candidates] == [1, 2, 3]

    without(pipeline, Tuning(duplicate_similarity=0.0))
    assert len([c for c in (await pipeline.trace("green tea", **OFF)).candidates if c.drop_reason is None]) == 3


async def test_what_says_another_thing_in_nearly_the_same_words_stays(pipeline: Pipeline) -> None:
    texts = ["the code is 4711", "the code is 4712", "the code is not 4711"]
    for i, text in enumerate(texts):
        await pipeline.write(Turn(text, speaker="Ana"), session_id=f"s{i}")
    without(pipeline, Tuning(duplicate_similarity=0.5))
    trace = await pipeline.trace("the code is", **OFF)
    assert {c.memory.text for c in trace.candidates if c.memory and c.drop_reason is None} == set(texts)
    assert all(c.duplicate_of is None for c in trace.candidates)


async def test_near_duplicates_leave_room_for_others(pipeline: Pipeline) -> None:
    for i in range(12):
        await pipeline.write(Turn("I like green tea" + "!" * i, speaker="Ana"), session_id=f"s{i}")
    await pipeline.write(Turn("green paint is what the kitchen needs", speaker="Ana"), session_id="other")
    texts = await pipeline.texts("green tea", budget=Budget(4, 4, 1000, 5.0), **OFF)
    assert len(texts) == 2
    assert "green paint is what the kitchen needs" in texts
