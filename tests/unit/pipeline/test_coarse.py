"""The coarse stage through the whole pipeline: what it searches for beyond the query, and where."""

from lightmem_server.pipeline.retrieval import Budget, SelectorMode
from lightmem_server.slm.time_window import EPOCH, to_micros
from lightmem_server.types import Turn
from tests.unit.pipeline.conftest import Pipeline

MAY = to_micros(EPOCH.replace(year=2023, month=5, day=8))
DAY = 86_400_000_000


async def test_what_was_said_at_a_time_is_searched_in_that_time_alone(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("sailing is great", occurred_at=MAY), Turn("sailing again", occurred_at=MAY - 30 * DAY))
    query = "what did I tell you about sailing yesterday?"
    trace = await pipeline.trace(query, asked_at=MAY + DAY)
    assert trace.is_window_filter
    assert [c.memory.text for c in trace.candidates if c.memory] == ["sailing is great"]


async def test_a_time_in_which_nothing_was_said_is_a_preference(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("sailing is great", occurred_at=MAY - 30 * DAY))
    trace = await pipeline.trace("what did I tell you about sailing yesterday?", asked_at=MAY)
    assert not trace.is_window_filter
    assert len(trace.candidates) == 1


async def test_a_need_for_several_memories_follows_the_words_of_the_first_hits(pipeline: Pipeline) -> None:
    await pipeline.write(
        Turn("my hobbies are origami and fencing", speaker="Ana"),
        *(Turn(f"filler number {i}", speaker="Ben") for i in range(20)),
        Turn("fencing with a foil", speaker="Ana"),  # far from what the query's own word is in
    )
    trace = await pipeline.trace("which hobbies", selector_mode=SelectorMode.OFF)
    assert trace.plan.is_multi_hop
    first = next(c.memory for c in trace.candidates if c.memory)
    assert first.text == "my hobbies are origami and fencing"
    assert trace.followed[0] == first.id
    foil = next(c for c in trace.candidates if c.memory and "foil" in c.memory.text)
    assert foil.parts["lexical_window"] > 0


async def test_without_time_left_there_is_no_second_search(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("my hobbies are origami and fencing"))
    trace = await pipeline.trace("which hobbies", budget=Budget(10, 32, 1000, 0.01))
    assert trace.plan.is_multi_hop
    assert trace.followed == []
