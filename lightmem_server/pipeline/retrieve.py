"""The read path, a list of stages under one budget:

    refresh ─▶ context (STM) ─▶ plan ─▶ embed ─▶ coarse (Rust) ─▶ fetch ─▶ select (cross-encoder) ─▶ pack ─▶ trace

The parts of the answer are yielded as soon as they are known. The deadline shortens the Selector's work; it never fails
the call. Cancelling the caller ends the work at the next stage.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np

from lightmem_server.core import ALWAYS, NEVER, SearchFilter, SearchPlan
from lightmem_server.errors import InvalidInputError, PreconditionError
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.pack import pack
from lightmem_server.pipeline.passages import judged_passage
from lightmem_server.pipeline.rank import drop_duplicates, rank
from lightmem_server.pipeline.residents import Residents, read_preceding
from lightmem_server.pipeline.retrieval import (
    Candidate,
    Coarse,
    Context,
    DropReason,
    Part,
    RetrieveQuery,
    Selected,
    SelectorMode,
    StageTime,
    Trace,
)
from lightmem_server.slm.controller import Plan, make_plan
from lightmem_server.slm.hypothetical import HypotheticalQueries, with_guesses
from lightmem_server.slm.protocols import Embedder, Selector, TokenCounter
from lightmem_server.slm.time_window import MICROSECOND
from lightmem_server.store.protocol import Store
from lightmem_server.types import Memory, MemoryFilter, Partition

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True, slots=True)
class Tuning:
    """The constants of retrieval, each in one place. tests/bench/quality.py says what a change does.

    The weights are equal or round on purpose. They were chosen with a NumPy reference of this formula, without the Selector,
    and the figures here are that reference's, not the server's (README.md has those). On LoCoMo, 1,982 questions, R@10 /
    MRR: .842 / .673; weights fitted to nine dialogues and judged on the tenth .845 / .672; the worst of 192 settings
    around these .817 / .637. On FriendsQA, where nothing was chosen, .683 / .512; reciprocal ranks of four lists .586 / .437.
    "Without" says what was left of .841 / .668, at weights next to these.

    Attributes:
        dense_weights, lexical_weights: Of each passage view's list in the fusion (passages.VIEW_NAMES).
        session_weight: Of the whole session's words. At half .837 / .667.
        speaker_boost: What a memory gains whose speaker the query names. Without .834 / .660.
        time_boost: What a memory gains that was said inside the query's time window, or soon after it. On the 277 questions
            that have a window R@10 .863 for .800 without, in an earlier formula.
        time_boost_after: How long after the window something still counts: people tell what happened last week. Of the
            evidence 90 % lies within.
        prior_weight: Of passages.informativeness. Without the length .836 / .654, without the question mark .837 / .656.
        list_depth: Entries of each list that are fused.
        judged_fast, judged_full: How many of the best candidates the Selector reads in each mode. In the reference 8 give
            .841 / .705, 16 .842 / .705, 32 .846 / .706 (623 questions), for 550, 1,080 and 2,150 tokens.
        logit_weight: Of the Selector's logit beside the coarse score; .3 moves MRR up and R@10 down by half a point.
        answer_reserve_seconds: Kept free before the deadline for ranking, packing and sending.
        guess_reserve_seconds: Kept free before the deadline, when hypothetical queries are written, for all that follows:
            about what a retrieval without them takes.
        coarse_floor_seconds: What the coarse search gets even when the deadline has all but passed: an answer that is a
            little late is worth more than an empty one.
    """

    dense_weights: tuple[float, ...] = (1.0, 1.0)
    lexical_weights: tuple[float, ...] = (1.0, 1.0)
    session_weight: float = 1.0
    speaker_boost: float = 0.4
    time_boost: float = 1.0
    time_boost_after: timedelta = timedelta(days=7)
    prior_weight: float = 0.5
    list_depth: int = 100
    judged_fast: int = 8
    judged_full: int = 16
    logit_weight: float = 0.2
    answer_reserve_seconds: float = 0.004
    guess_reserve_seconds: float = 0.1
    coarse_floor_seconds: float = 0.005


class Retrieving:
    """The read path of one server."""

    def __init__(
        self,
        store: Store,
        residents: Residents,
        embedder: Embedder,
        selector: Selector,
        *,
        tokenizers: Mapping[str, TokenCounter],
        clock: Clock,
        hypothetical: HypotheticalQueries | None = None,
        tuning: Tuning | None = None,
    ) -> None:
        """`tokenizers` maps the names that a request may give to what counts its tokens; "" is the default. Without
        `hypothetical`, queries that ask for hypothetical ones are refused."""
        self._store = store
        self._residents = residents
        self._embedder = embedder
        self._selector = selector
        self._tokenizers = tokenizers
        self._clock = clock
        self._hypothetical = hypothetical
        self._tuning = tuning or Tuning()

    async def retrieve(self, query: RetrieveQuery) -> AsyncGenerator[Part, None]:
        """Answer a query part by part: the context, the coarse hits when asked for, the memories, the trace.

        Raises:
            InvalidInputError: The query names an unknown tokenizer.
            PreconditionError: It asks for hypothetical queries, and there is no Writer.
            OverloadedError: A model's queue is full.
            StoreError: The disk refused.
        """
        counter = self._tokenizers.get(query.tokenizer)
        if counter is None:
            known = ", ".join(sorted(name for name in self._tokenizers if name))
            raise InvalidInputError("tokenizer", f"is not one of this server's: {known}", reason="UNKNOWN_TOKENIZER")
        if query.hypothetical_queries and self._hypothetical is None:
            raise PreconditionError("hypothetical_queries needs a Writer: the setting `writer`", reason="NO_WRITER")
        times = _Times(self._clock)

        with times.stage("refresh"):
            await self._residents.refresh(query.partition)
        with times.stage("context") as stage:
            conversation = await self._conversation(query.partition, query.session_id) if query.session_id else []
            stage.item_count = len(conversation)
        if not query.exclude_context:
            yield Context(conversation)
        with times.stage("plan") as stage:
            plan = make_plan(query.query, conversation, query.asked_at, query.zone)
            stage.item_count = len(plan.views)
        is_guess_cut = False
        if query.hypothetical_queries:
            with times.stage("hypothetical") as stage:
                guesses = await self._guess(query)
                plan = with_guesses(plan, guesses)
                stage.item_count = len(guesses)
                is_guess_cut = not guesses
        with times.stage("embed") as stage:
            vectors = await self._embedder.embed_queries([view.text for view in plan.views])
            stage.item_count = len(vectors)
        with times.stage("coarse") as stage:
            result = await self._residents.search(query.partition, self._search_plan(query, plan, vectors))
            stage.item_count = result.scanned_count
        candidates = [
            Candidate(
                memory_id=uuid.UUID(bytes=row.tobytes()),
                coarse_rank=i + 1,
                coarse_score=float(result.scores[i]),
                source_ranks={name: int(r) for name, r in zip(result.sources, result.ranks[i], strict=True) if r},
            )
            for i, row in enumerate(result.ids)
        ]
        with times.stage("fetch") as stage:
            await self._fetch(query.partition, candidates)
            if not query.exclude_context:
                _drop_in_context(candidates, conversation)
            stage.item_count = len(candidates)
        if query.include_coarse:
            yield Coarse([candidate for candidate in candidates if candidate.drop_reason is None])
        with times.stage("select") as stage:
            is_cut = await self._select(query, plan, candidates)
            stage.item_count = sum(candidate.logit is not None for candidate in candidates)
        with times.stage("pack") as stage:
            ranked = rank(candidates, self._tuning.logit_weight)
            selected = _choose(query, ranked, counter)
            stage.item_count = len(selected.candidates)
        yield selected
        yield Trace(
            plan=plan,
            query=query,
            stages=times.stages,
            candidates=ranked,
            elapsed_seconds=self._clock.monotonic() - query.arrived_at,
            is_cut_by_deadline=is_cut or is_guess_cut or not result.is_complete,
            matched_count=result.matched_count,
            is_approximate=not result.is_exact,
        )

    async def read_context(self, partition: Partition, session_id: str) -> list[Memory]:
        """The running conversation of a session, oldest first."""
        await self._residents.refresh(partition)
        return await self._conversation(partition, session_id)

    async def _conversation(self, partition: Partition, session_id: str) -> list[Memory]:
        ring = await self._residents.session_ring(partition, session_id)
        if not ring:
            return []
        turns = await self._store.get(partition, [uuid.UUID(bytes=id_) for id_ in ring])
        return [turn for turn in turns if turn is not None]

    async def _guess(self, query: RetrieveQuery) -> tuple[str, ...]:
        if self._hypothetical is None:
            return ()
        deadline = query.arrived_at + query.budget.deadline_seconds - self._tuning.guess_reserve_seconds
        return await self._hypothetical.guess(query.query, query.hypothetical_queries, deadline=deadline)

    def _search_plan(
        self, query: RetrieveQuery, plan: Plan, vectors: np.ndarray[tuple[int, ...], np.dtype[np.float32]]
    ) -> SearchPlan:
        tuning = self._tuning
        weights = [view.weight for view in plan.views]
        left = query.budget.deadline_seconds - (self._clock.monotonic() - query.arrived_at)
        window = plan.window
        return SearchPlan(
            vectors=vectors,
            texts=[view.text for view in plan.views],
            vector_weights=weights,
            text_weights=weights,
            dense_weights=tuning.dense_weights,
            lexical_weights=tuning.lexical_weights,
            list_depth=max(tuning.list_depth, query.budget.max_candidates),
            max_candidates=query.budget.max_candidates,
            now=self._clock.now(),
            filter=_to_search_filter(query.filter),
            boost=tuning.time_boost if window is not None else 0.0,
            boost_from=window.start if window is not None else ALWAYS,
            boost_to=window.end + tuning.time_boost_after // MICROSECOND if window is not None else ALWAYS,
            deadline_micros=int(max(left, tuning.coarse_floor_seconds) * 1e6),
            speakers=plan.names,
            speaker_boost=tuning.speaker_boost,
            prior_weight=tuning.prior_weight,
            session_weight=tuning.session_weight,
            fusion="score",
        )

    async def _fetch(self, partition: Partition, candidates: Sequence[Candidate]) -> None:
        """Fill in the records and the turns before them; a record that is gone by now is dropped."""
        memories = await self._store.get(partition, [candidate.memory_id for candidate in candidates])
        for candidate, memory in zip(candidates, memories, strict=True):
            candidate.memory = memory
            if memory is None:
                candidate.drop_reason = DropReason.GONE
        found = [memory for memory in memories if memory is not None]
        preceding = await read_preceding(self._store, partition, found)
        for candidate in candidates:
            candidate.preceding = preceding.get(candidate.memory_id, ())

    async def _select(self, query: RetrieveQuery, plan: Plan, candidates: Sequence[Candidate]) -> bool:
        """Let the Selector judge, best coarse first, until done or at the deadline; True when it was cut."""
        alive = [candidate for candidate in candidates if candidate.drop_reason is None]
        if query.selector_mode is SelectorMode.OFF or not alive:
            return False
        deadline = query.arrived_at + query.budget.deadline_seconds - self._tuning.answer_reserve_seconds
        is_fast = query.selector_mode is SelectorMode.FAST
        judged = alive[: self._tuning.judged_fast if is_fast else self._tuning.judged_full]
        passages = [judged_passage(c.memory, c.preceding) for c in judged if c.memory is not None]
        logits = await self._selector.judge(plan.judged, passages, deadline=deadline)
        for candidate, logit in zip(judged, logits, strict=True):
            candidate.logit = logit
        return any(logit is None for logit in logits)


def _choose(query: RetrieveQuery, ranked: Sequence[Candidate], counter: TokenCounter) -> Selected:
    """From the final order: drop duplicates, the irrelevant and what is over the budget; pack the rest."""
    drop_duplicates(ranked)
    for candidate in ranked:
        if (
            candidate.drop_reason is None
            and candidate.relevance is not None
            and candidate.relevance < query.min_relevance
        ):
            candidate.drop_reason = DropReason.MIN_RELEVANCE
    alive = [candidate for candidate in ranked if candidate.drop_reason is None]
    for candidate in alive[query.budget.max_memories :]:
        candidate.drop_reason = DropReason.MAX_MEMORIES
    taken, text, token_count = pack(
        alive[: query.budget.max_memories], counter, max_tokens=query.budget.max_tokens, zone=query.zone
    )
    return Selected(taken, text, token_count)


def _drop_in_context(candidates: Sequence[Candidate], conversation: Sequence[Memory]) -> None:
    shown = {turn.id for turn in conversation}
    for candidate in candidates:
        if candidate.memory_id in shown:
            candidate.drop_reason = DropReason.IN_CONTEXT


def _to_search_filter(record_filter: MemoryFilter) -> SearchFilter:
    return SearchFilter(
        tiers=sorted(record_filter.tiers),
        kinds=sorted(record_filter.kinds),
        sessions=sorted(record_filter.session_ids),
        agents=sorted(record_filter.agent_ids),
        occurred_from=ALWAYS if record_filter.occurred_from is None else record_filter.occurred_from,
        occurred_to=NEVER if record_filter.occurred_to is None else record_filter.occurred_to,
        as_of=record_filter.as_of,
        metadata=record_filter.metadata,
    )


@dataclass(slots=True)
class _Stage:
    item_count: int = 0


class _Times:
    """Measures stages."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.stages: list[StageTime] = []

    @contextmanager
    def stage(self, name: str) -> Iterator[_Stage]:
        started = self._clock.monotonic()
        stage = _Stage()
        yield stage
        self.stages.append(StageTime(name, self._clock.monotonic() - started, stage.item_count))
