import asyncio
from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray

from lightmem_server.errors import InvalidInputError, PreconditionError
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.retrieval import (
    Budget,
    Candidate,
    Coarse,
    Context,
    DropReason,
    RetrieveQuery,
    Selected,
    SelectorMode,
    Trace,
)
from lightmem_server.pipeline.retrieve import Retrieving
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.slm.fakes import HashEmbedder, OverlapSelector, ScriptedWriter
from lightmem_server.slm.hypothetical import HypotheticalQueries
from lightmem_server.slm.time_window import EPOCH, to_micros
from lightmem_server.types import MemoryFilter, Turn
from tests.unit.pipeline.conftest import ANA, DIM, Pipeline

STAGES = ["refresh", "context", "plan", "embed", "coarse", "fetch", "select", "pack"]


async def test_parts_and_stages_come_in_order(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("one"))
    parts = await pipeline.retrieve("one", session_id="s", include_coarse=True)
    assert [type(part) for part in parts] == [Context, Coarse, Selected, Trace]
    assert [stage.name for stage in (await pipeline.trace("one")).stages] == STAGES


async def test_an_unknown_tokenizer_is_refused(pipeline: Pipeline) -> None:
    with pytest.raises(InvalidInputError, match="tokenizer"):
        await pipeline.retrieve("x", tokenizer="nobody")


async def test_hypothetical_queries_without_a_writer_are_refused(pipeline: Pipeline) -> None:
    with pytest.raises(PreconditionError, match="needs a Writer") as caught:
        await pipeline.retrieve("x", hypothetical_queries=1)
    assert caught.value.reason == "NO_WRITER"


async def test_a_memory_that_a_guess_resembles_comes_up(pipeline: Pipeline) -> None:
    ack = await pipeline.write(Turn("Lisbon suits us"), *(Turn(f"the tea number {i}") for i in range(40)))
    options = {"selector_mode": SelectorMode.OFF, "budget": Budget(10, 60, 1000, 5.0)}
    query = "what is the city?"
    before = await pipeline.trace(query, **options)
    pipeline.retrieving._hypothetical = HypotheticalQueries(
        ScriptedWriter(lambda prompt: "Lisbon suits me\nI like Porto")
    )
    after = await pipeline.trace(query, hypothetical_queries=2, **options)
    ranks = [
        next(c.coarse_rank for c in trace.candidates if c.memory_id == ack.memory_ids[0]) for trace in (before, after)
    ]
    assert ranks[1] < ranks[0]
    assert [view.text for view in after.plan.views] == [query, "Lisbon suits me", "I like Porto"]
    assert [stage.name for stage in after.stages] == [*STAGES[:3], "hypothetical", *STAGES[3:]]


async def test_no_time_for_a_guess_leaves_the_query_as_it_is(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("tea"))
    pipeline.retrieving._hypothetical = HypotheticalQueries(ScriptedWriter(lambda prompt: "never", seconds_per_token=1))
    trace = await pipeline.trace("tea", hypothetical_queries=2, budget=Budget(5, 10, 1000, 0.05))
    assert [view.text for view in trace.plan.views] == ["tea"]
    assert trace.is_cut_by_deadline


async def test_the_same_words_are_returned_once(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("I like tea.", speaker="Ana"), Turn("i like  TEA.", speaker="Ana"))
    assert len(await pipeline.texts("tea")) == 1


async def test_without_the_selector_only_what_is_returned_is_read(pipeline: Pipeline) -> None:
    await pipeline.write(*(Turn(f"tea number {i // 2}") for i in range(12)))
    options = {"selector_mode": SelectorMode.OFF, "budget": Budget(4, 12, 1000, 5.0)}
    trace = await pipeline.trace("tea", **options)
    returned = [c.memory for c in trace.candidates if c.drop_reason is None]
    assert len({memory.text for memory in returned if memory}) == 4, "duplicates make room for the next best"
    reasons = {c.drop_reason for c in trace.candidates if c.memory is None}
    assert reasons == {DropReason.MAX_MEMORIES}
    assert all(c.memory for c in (await pipeline.trace("tea", include_coarse=True, **options)).candidates)


async def test_without_the_selector_a_memory_that_is_gone_makes_room(pipeline: Pipeline) -> None:
    ack = await pipeline.write(*(Turn(f"tea number {i}") for i in range(4)))
    options = {"selector_mode": SelectorMode.OFF, "budget": Budget(2, 4, 1000, 5.0)}
    first = (await pipeline.trace("tea", **options)).candidates[0].memory_id
    candidates = [Candidate(id_, 1, 1.0, {}) for id_ in (first, *(id_ for id_ in ack.memory_ids if id_ != first))]
    await pipeline.editing.delete(ANA, first)
    await pipeline.retrieving._fetch_best(ANA, candidates, 2)
    assert [c.drop_reason for c in candidates[:3]] == [DropReason.GONE, None, None]
    assert [c.memory is None for c in candidates] == [True, False, False, True]


async def test_without_a_session_there_is_no_context(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("one"))
    assert [type(part) for part in await pipeline.retrieve("one")] == [Selected, Trace]


async def test_the_query_is_embedded_while_the_partition_is_refreshed(pipeline: Pipeline) -> None:
    embedded = asyncio.Event()

    class Telling(HashEmbedder):
        async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
            embedded.set()
            return await super().embed_queries(texts)

    await pipeline.write(Turn("one"))
    pipeline.retrieving._embedder = Telling(DIM)
    async with pipeline.residents._locks.setdefault(ANA, asyncio.Lock()):  # what a refresh waits for
        trace = asyncio.create_task(pipeline.trace("one"))
        await embedded.wait()
        assert not trace.done()
    assert [stage.name for stage in (await trace).stages] == STAGES


async def test_each_wording_has_its_own_vector(pipeline: Pipeline) -> None:
    asked: list[str] = []

    class Noting(HashEmbedder):
        async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
            asked.extend(texts)
            return await super().embed_queries(texts)

    await pipeline.write(Turn("my sister lives in Ghent"))
    pipeline.retrieving._embedder = Noting(DIM)
    trace = await pipeline.trace("and her job?", session_id="s")
    assert asked == [view.text for view in trace.plan.views]
    assert len(asked) == 2
    (embedding,) = [stage for stage in trace.stages if stage.name == "embed"]
    assert embedding.item_count == 2


async def test_leaving_after_the_context_ends_the_embedding(pipeline: Pipeline) -> None:
    began, ended = asyncio.Event(), asyncio.Event()

    class Endless(HashEmbedder):
        async def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
            began.set()
            try:
                return await asyncio.get_running_loop().create_future()  # type: ignore[no-any-return]
            finally:
                ended.set()

    pipeline.retrieving._embedder = Endless(64)
    parts = pipeline.retrieving.retrieve(RetrieveQuery(ANA, "tea", pipeline.budget, 0, 0.0, session_id="s"))
    assert isinstance(await anext(parts), Context)
    await began.wait()
    await parts.aclose()
    assert ended.is_set()


async def test_what_the_conversation_shows_is_not_returned_unless_it_is_left_out(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("shown"))
    assert await pipeline.texts("shown", session_id="s") == []
    assert await pipeline.texts("shown", session_id="s", exclude_context=True) == ["shown"]


async def test_the_modes_judge_none_few_or_more(pipeline: Pipeline) -> None:
    await pipeline.write(*(Turn(f"tea number {i}") for i in range(30)))
    judged = [
        sum(c.logit is not None for c in (await pipeline.trace("tea", selector_mode=mode)).candidates)
        for mode in (SelectorMode.OFF, SelectorMode.FAST, SelectorMode.FULL)
    ]
    assert judged == [0, 12, 24]


async def test_a_deadline_already_past_still_answers_in_coarse_order(pipeline: Pipeline) -> None:
    await pipeline.write(*(Turn(f"tea number {i}") for i in range(30)))
    trace = await pipeline.trace("tea", budget=Budget(5, 10, 1000, 0.000001))
    assert trace.is_cut_by_deadline
    assert [c.coarse_rank for c in trace.candidates] == list(range(1, 11))
    assert sum(c.drop_reason is None for c in trace.candidates) == 5


@pytest.mark.parametrize(
    ("answering_seconds", "judged"), [(0.01, 4), (100.0, 1)], ids=["what it took", "no more than the most"]
)
async def test_the_selector_leaves_the_time_that_the_answers_before_it_took_to_send(
    pipeline: Pipeline, answering_seconds: float, judged: int
) -> None:
    now = 0.0
    selector = OverlapSelector(seconds_per_passage=0.002, clock=lambda: now)
    embedder = HashEmbedder(DIM)
    retrieving = Retrieving(
        pipeline.store,
        pipeline.residents,
        embedder,
        selector,
        tokenizers={"": embedder.tokens},
        clock=Clock(monotonic=lambda: now),
        tuning=Tuning(answer_reserve_seconds=0.004, max_answer_reserve_seconds=0.02, least_judgement_seconds=0.0),
    )
    await pipeline.write(*(Turn(f"tea number {i}") for i in range(30)))

    async def count_judged(deadline_seconds: float) -> int:
        nonlocal now
        query = RetrieveQuery(ANA, "tea", Budget(10, 12, 1000, deadline_seconds), asked_at=0, arrived_at=now)
        async for part in retrieving.retrieve(query):
            if isinstance(part, Selected):
                now += answering_seconds
            if isinstance(part, Trace):
                return_count = sum(candidate.logit is not None for candidate in part.candidates)
        return return_count

    assert await count_judged(0.0215) == 8
    # One answer that took 10 ms: 12.5 ms are kept free; one that took 20 or more: 25 ms.
    assert await count_judged(0.0215 if judged == 4 else 0.0275) == judged


@pytest.mark.parametrize(("left_seconds", "is_asked"), [(0.005, False), (0.007, True)])
async def test_with_too_little_time_left_the_selector_is_not_asked(
    pipeline: Pipeline, left_seconds: float, is_asked: bool
) -> None:
    class Asked(OverlapSelector):
        count = 0

        async def judge(
            self, query: str, passages: Sequence[str], *, deadline: float | None = None
        ) -> list[float | None]:
            Asked.count += 1
            return await super().judge(query, passages, deadline=deadline)

    embedder = HashEmbedder(DIM)
    retrieving = Retrieving(
        pipeline.store,
        pipeline.residents,
        embedder,
        Asked(clock=lambda: 0.0),
        tokenizers={"": embedder.tokens},
        clock=Clock(monotonic=lambda: 0.0),
        tuning=Tuning(answer_reserve_seconds=0.0, least_judgement_seconds=0.006),
    )
    await pipeline.write(*(Turn(f"tea number {i}") for i in range(30)))
    query = RetrieveQuery(ANA, "tea", Budget(10, 12, 1000, left_seconds), asked_at=0, arrived_at=0.0)
    parts = [part async for part in retrieving.retrieve(query)]
    trace = parts[-1]
    assert isinstance(trace, Trace)
    assert (Asked.count > 0, trace.is_cut_by_deadline) == (is_asked, not is_asked)
    assert len([c for c in trace.candidates if c.drop_reason is None]) == 10


async def test_a_named_speaker_is_preferred(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("I grow herbs at home.", speaker="Ben"), Turn("I grow plants at home.", speaker="Ana"))
    trace = await pipeline.trace("what does ana grow at home?", selector_mode=SelectorMode.OFF)
    assert [c.memory.speaker for c in trace.candidates if c.memory] == ["Ana", "Ben"]


async def test_a_time_window_is_a_preference_and_not_a_filter(pipeline: Pipeline) -> None:
    day = to_micros(EPOCH.replace(year=2023, month=5, day=8))
    await pipeline.write(*(Turn(f"filler {i} of other days", occurred_at=day // 2) for i in range(20)))
    await pipeline.write(Turn("we went sailing", occurred_at=day), Turn("we went climbing", occurred_at=day // 2))
    texts = await pipeline.texts("where did we go in May 2023", asked_at=day, selector_mode=SelectorMode.OFF)
    assert texts[:2] == ["we went sailing", "we went climbing"]


async def test_a_filter_holds(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("tea", metadata={"hot": True}), session_id="a")
    await pipeline.write(Turn("more tea"), session_id="b")
    assert await pipeline.texts("tea", filter=MemoryFilter(session_ids=frozenset({"b"}))) == ["more tea"]


async def test_what_is_irrelevant_is_withheld_and_the_trace_says_so(pipeline: Pipeline) -> None:
    await pipeline.write(Turn("nothing in common"))
    trace = await pipeline.trace("zzz", min_relevance=0.999)
    assert [c.drop_reason for c in trace.candidates] == [DropReason.MIN_RELEVANCE]
