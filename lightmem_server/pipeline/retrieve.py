"""The read path, a list of stages under one budget:

    refresh ─▶ context (STM) ─▶ plan ─▶ embed ─▶ coarse (Rust) ─▶ fetch ─▶ select (cross-encoder) ─▶ (shared) ─▶ pack ─▶ trace
    └───── beside them: embed the query as it was asked ───────┘

Each stage's own file: slm/controller.py, coarse.py and reserve.py, repetition.py, select.py, rank.py, diversity.py,
shared_facts.py, choose.py, pack.py; their constants are in tuning.py.

The parts of the answer are yielded as soon as they are known. The deadline shortens the Selector's work; it never fails
the call. Cancelling the caller ends the work at the next stage.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from lightmem_server.errors import InvalidInputError, NotFoundError, PreconditionError
from lightmem_server.pipeline.choose import choose
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.coarse import search_coarse, time_that_is_over
from lightmem_server.pipeline.diversity import diversify
from lightmem_server.pipeline.explain import Explanation, explain
from lightmem_server.pipeline.passages import JUDGED_PRECEDING_TURNS
from lightmem_server.pipeline.rank import drop_duplicates, prefer_times, rank
from lightmem_server.pipeline.repetition import drop_nominated, settle
from lightmem_server.pipeline.reserve import find_facts, kept_share
from lightmem_server.pipeline.residents import Residents, read_preceding
from lightmem_server.pipeline.retrieval import (
    Candidate,
    Coarse,
    Context,
    DropReason,
    Part,
    RetrieveQuery,
    SelectorMode,
    SelectorStop,
    StageTime,
    Trace,
)
from lightmem_server.pipeline.select import limits_of, select
from lightmem_server.pipeline.shared_facts import find_shared, is_wanted
from lightmem_server.pipeline.support import drop_covered, drop_superseded, newest_ended_first
from lightmem_server.pipeline.tuning import Tuning, tuning_for
from lightmem_server.slm.asker import find_asker, speaks_of_asker
from lightmem_server.slm.controller import MAX_CHARACTERS, Need, Plan, make_plan
from lightmem_server.slm.hypothetical import HypotheticalQueries, with_guesses
from lightmem_server.slm.pace import Pace
from lightmem_server.slm.protocols import Embedder, Selector, TokenCounter
from lightmem_server.store.protocol import Store
from lightmem_server.types import Kind, Memory, MemoryFilter, Partition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray


ASKER_TURNS = 64
"""The newest turns, in which is looked for who the user is."""


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
        has_shared: bool = False,
    ) -> None:
        """`tokenizers` maps the names that a request may give to what counts its tokens; "" is the default. Without
        `hypothetical`, queries that ask for hypothetical ones are refused. `has_shared`: the shared LTM is searched, too.
        `tuning`: None: what belongs to the Selector."""
        self._store = store
        self._residents = residents
        self._embedder = embedder
        self._selector = selector
        self._tokenizers = tokenizers
        self._clock = clock
        self._hypothetical = hypothetical
        self._tuning = tuning or tuning_for(selector.name)
        self._has_shared = has_shared
        self._answering = Pace(self._tuning.answer_reserve_seconds)

    async def retrieve(self, query: RetrieveQuery) -> AsyncGenerator[Part, None]:
        """Answer a query part by part: the context of a session, the coarse hits when asked for, the memories, and unless it
        is excluded the trace.

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

        embedding = _Embedding(self._embedder, self._clock)
        embedding.begin([query.query])  # a plan's first wording, whatever else is planned
        try:
            await asyncio.sleep(0)  # lets it begin
            with times.stage("refresh"):
                await self._residents.refresh(query.partition)
            with times.stage("context") as stage:
                conversation = await self._conversation(query.partition, query.session_id) if query.session_id else []
                stage.item_count = len(conversation)
            with times.stage("plan") as stage:
                asker = await self._find_asker(query, conversation)
                plan = make_plan(query.query, conversation, query.asked_at, query.zone, asker=asker)
                stage.item_count = len(plan.views)
            is_guess_cut = False
            if query.hypothetical_queries:
                with times.stage("hypothetical") as stage:
                    guesses = await self._guess(query)
                    plan = with_guesses(plan, guesses)
                    stage.item_count = len(guesses)
                    is_guess_cut = not guesses
            embedding.begin([view.text for view in plan.views[1:]])
            if query.session_id and not query.exclude_context:
                yield Context(conversation)  # sent while the model computes
            vectors = await embedding.end(times)
        except BaseException:
            await embedding.cancel()
            raise
        with times.stage("coarse") as stage:
            hits = await search_coarse(
                query,
                plan,
                vectors,
                residents=self._residents,
                tuning=self._tuning,
                now=self._clock.now(),
                left_seconds=query.budget.deadline_seconds - (self._clock.monotonic() - query.arrived_at),
            )
            candidates = hits.candidates()
            facts = await find_facts(query, hits, candidates, residents=self._residents, tuning=self._tuning)
            stage.item_count = hits.result.scanned_count
        reserve_seconds = self._answering.estimate(1)
        is_judged = query.selector_mode is not SelectorMode.OFF and self._has_time(query, reserve_seconds)
        with times.stage("fetch") as stage:
            if not query.exclude_context:
                _drop_in_context(candidates, conversation)
            is_in_order = not plan.asks_when and not plan.is_list
            if not is_judged and is_in_order and not query.include_coarse:
                await self._fetch_best(query.partition, candidates, query.budget.max_memories)
            else:
                await self._fetch(query.partition, candidates)
                drop_nominated(candidates)
            candidates = settle(candidates, query.budget.max_candidates)
            if plan.asks_when:
                candidates = prefer_times(candidates, self._tuning.time_expression_boost)
            if is_judged:
                await self._fetch_preceding(query, candidates)
            stage.item_count = len(candidates)
        if query.include_coarse:
            yield Coarse([candidate for candidate in candidates if candidate.drop_reason is None])
        with times.stage("select") as stage:
            if is_judged or query.selector_mode is SelectorMode.OFF:
                stop = await select(
                    query, plan, candidates, self._selector, self._tuning, reserve_seconds=reserve_seconds
                )
            else:
                stop = SelectorStop.DEADLINE
            stage.item_count = sum(candidate.logit is not None for candidate in candidates)
        shared: list[Candidate] = []
        if self._has_shared and is_wanted(query, plan) and self._has_time(query, reserve_seconds):
            with times.stage("shared") as stage:
                shared = await self._find_shared(query, plan, vectors, reserve_seconds)
                stage.item_count = len(shared)
        selected_at = self._clock.monotonic()
        with times.stage("pack") as stage:
            ranked = rank([*candidates, *facts], self._tuning)
            if plan.is_list and self._tuning.repetition_cost:
                ids = [candidate.memory_id for candidate in ranked]
                alike = await self._residents.similarities(query.partition, ids)
                ranked = diversify(ranked, alike, self._tuning)
            drop_covered(ranked, plan.need)
            then = time_that_is_over(query, plan)
            if plan.need is Need.KNOWLEDGE or then is not None:
                records, start = self._residents.records, None if then is None else then.start
                await drop_superseded(records, query.partition, ranked, before=start)
            if plan.need is Need.KNOWLEDGE:
                ranked = newest_ended_first(ranked, self._tuning.ended_margin)
            shown = [] if query.exclude_context else conversation
            selected = choose(query, ranked, counter, shown, shared, kept_share=kept_share(plan.need, self._tuning))
            stage.item_count = len(selected.candidates)
        yield selected
        if not query.exclude_trace:
            yield Trace(
                plan=plan,
                query=query,
                search=hits.search,
                stages=times.stages,
                candidates=ranked,
                elapsed_seconds=self._clock.monotonic() - query.arrived_at,
                is_cut_by_deadline=stop is SelectorStop.DEADLINE or is_guess_cut or not hits.result.is_complete,
                matched_count=hits.result.matched_count,
                followed=hits.followed,
                is_window_filter=hits.is_window_filter,
                selector_stop=stop,
                shared=shared,
                is_approximate=not hits.result.is_exact,
            )
        answered_in = self._clock.monotonic() - selected_at
        self._answering.observe(1, min(answered_in, self._tuning.max_answer_reserve_seconds))

    def _has_time(self, query: RetrieveQuery, reserve_seconds: float) -> bool:
        """Whether the Selector could read anything; else what it would read isn't fetched either."""
        left_seconds = query.arrived_at + query.budget.deadline_seconds - self._clock.monotonic()
        return left_seconds - reserve_seconds >= self._tuning.least_judgement_seconds

    async def _find_shared(
        self, query: RetrieveQuery, plan: Plan, vectors: NDArray[np.float32], reserve_seconds: float
    ) -> list[Candidate]:
        deadline = query.arrived_at + query.budget.deadline_seconds - reserve_seconds
        return await find_shared(
            query,
            plan,
            vectors,
            residents=self._residents,
            store=self._store,
            selector=self._selector,
            tuning=self._tuning,
            now=self._clock.now(),
            left_seconds=deadline - self._clock.monotonic(),
            deadline=deadline,
        )

    async def explain(self, query: RetrieveQuery, memory_id: uuid.UUID) -> Explanation:
        """Retrieve, and say why one memory was, or was not, among the results.

        Raises:
            NotFoundError: No such memory of this user.
            InvalidInputError, OverloadedError, StoreError: As retrieve.
        """
        (memory,) = await self._store.get(query.partition, [memory_id])
        if memory is None:
            raise NotFoundError("no such memory")
        trace: Trace | None = None
        async for part in self.retrieve(replace(query, exclude_trace=False)):
            if isinstance(part, Trace):
                trace = part
        assert trace is not None, "retrieve ends with a trace"
        return await explain(memory, query, trace, self._residents)

    async def read_context(self, partition: Partition, session_id: str) -> list[Memory]:
        """The running conversation of a session, oldest first."""
        await self._residents.refresh(partition)
        return await self._conversation(partition, session_id)

    async def _conversation(self, partition: Partition, session_id: str) -> list[Memory]:
        ring = await self._residents.session_ring(partition, session_id)
        if not ring:
            return []
        turns = await self._residents.records.get(partition, [uuid.UUID(bytes=id_) for id_ in ring])
        return [turn for turn in turns if turn is not None]

    async def _find_asker(self, query: RetrieveQuery, conversation: Sequence[Memory]) -> str:
        """Whom "I" means in the query, if it says "I": the one user who speaks, here or in the newest turns."""
        if not speaks_of_asker(query.query[:MAX_CHARACTERS]):
            return ""
        if asker := find_asker(conversation):
            return asker
        turns = MemoryFilter(kinds=frozenset({Kind.TURN}))
        page = await self._store.list_page(
            query.partition, turns, limit=ASKER_TURNS, before_order=None, now=self._clock.now()
        )
        return find_asker([*page.memories, *conversation])

    async def _guess(self, query: RetrieveQuery) -> tuple[str, ...]:
        if self._hypothetical is None:
            return ()
        deadline = query.arrived_at + query.budget.deadline_seconds - self._tuning.guess_reserve_seconds
        return await self._hypothetical.guess(query.query, query.hypothetical_queries, deadline=deadline)

    async def _fetch(self, partition: Partition, candidates: Sequence[Candidate]) -> None:
        """Fill in the records; one that is gone by now is dropped, and one dropped before is not read."""
        alive = _alive(candidates)
        memories = await self._residents.records.get(partition, [candidate.memory_id for candidate in alive])
        for candidate, memory in zip(alive, memories, strict=True):
            candidate.memory = memory
            if memory is None:
                candidate.drop_reason = DropReason.GONE

    async def _fetch_best(self, partition: Partition, candidates: Sequence[Candidate], count: int) -> None:
        """Fill in the records where the coarse order is the final one: of the best `count` that are neither gone nor
        duplicates. Those behind them cannot be returned, nor can they be less relevant than what is not."""
        alive = _alive(candidates)
        start = 0
        while start < len(alive) and (missing := count - len(_alive(alive[:start]))) > 0:
            end = start + missing
            await self._fetch(partition, alive[start:end])
            drop_nominated(alive[:end])
            drop_duplicates(alive[:end])
            start = end
        if any(candidate.memory is not None and candidate.memory.kind is Kind.FACT for candidate in alive[:start]):
            await self._fetch(partition, alive[start:])  # facts change places with what is behind them

    async def _fetch_preceding(self, query: RetrieveQuery, candidates: Sequence[Candidate]) -> None:
        """Fill in the turn before each of the candidates that the Selector may come to."""
        judged = _alive(candidates)[: limits_of(query.selector_mode, self._tuning).candidates]
        memories = [candidate.memory for candidate in judged if candidate.memory is not None]
        records = self._residents.records
        preceding = await read_preceding(records, query.partition, memories, steps=JUDGED_PRECEDING_TURNS)
        for candidate in judged:
            candidate.preceding = preceding[candidate.memory_id]


def _alive(candidates: Sequence[Candidate]) -> list[Candidate]:
    return [candidate for candidate in candidates if candidate.drop_reason is None]


def _drop_in_context(candidates: Sequence[Candidate], conversation: Sequence[Memory]) -> None:
    shown = {turn.id for turn in conversation}
    for candidate in candidates:
        if candidate.memory_id in shown:
            candidate.drop_reason = DropReason.IN_CONTEXT


class _Embedding:
    """The vectors of a plan's wordings, begun as soon as each is known."""

    def __init__(self, embedder: Embedder, clock: Clock) -> None:
        self._embedder = embedder
        self._clock = clock
        self._began = clock.monotonic()
        self._parts: list[asyncio.Task[tuple[NDArray[np.float32], float]]] = []

    def begin(self, texts: Sequence[str]) -> None:
        """Embed further wordings."""
        if texts:
            self._parts.append(asyncio.create_task(self._embed(texts)))

    async def end(self, times: _Times) -> NDArray[np.float32]:
        """The vectors, in the order in which their wordings were begun."""
        parts = await asyncio.gather(*self._parts)
        vectors = np.concatenate([vectors for vectors, _ in parts])
        times.stages.append(StageTime("embed", max(ended for _, ended in parts) - self._began, len(vectors)))
        return vectors

    async def cancel(self) -> None:
        """Drop what isn't done."""
        for part in self._parts:
            part.cancel()
        await asyncio.gather(*self._parts, return_exceptions=True)

    async def _embed(self, texts: Sequence[str]) -> tuple[NDArray[np.float32], float]:
        vectors = await self._embedder.embed_queries(texts)
        return vectors, self._clock.monotonic()


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
