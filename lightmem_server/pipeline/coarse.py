"""The coarse stage: one call into the core with all query views, and for a need that joins several memories a second one
that follows what the first hits speak of."""

from __future__ import annotations

import re
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightmem_server.core import ALWAYS, NEVER, SearchFilter, SearchPlan, SearchResult
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.retrieval import Candidate, RetrieveQuery
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.slm.controller import Plan
from lightmem_server.slm.time_window import MICROSECOND, TimeWindow
from lightmem_server.types import Kind, MemoryFilter

_SINCE = re.compile(r"since\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class CoarseHits:
    """What was found, and how.

    Attributes:
        search: The plan of the last search, which found `result`.
        followed: The memories whose words were searched for too; none without a second search.
        is_window_filter: Whether only the plan's time window was searched.
    """

    search: SearchPlan
    result: SearchResult
    followed: Sequence[uuid.UUID]
    is_window_filter: bool

    def candidates(self) -> list[Candidate]:
        """The hits as candidates, best first; behind each those that the core left out for repeating it, with its scores
        and `duplicate_of` set: whether they say the same is for repetition.py to tell."""
        result, names = self.result, self.result.part_names
        repeating: dict[int, list[uuid.UUID]] = {}
        for row, hit in zip(result.duplicate_ids, result.duplicate_of.tolist(), strict=True):
            repeating.setdefault(hit, []).append(uuid.UUID(bytes=row.tobytes()))
        found: list[Candidate] = []
        columns = (result.scores, result.similarities, result.ranks, result.parts)
        hits = zip(result.ids, *(column.tolist() for column in columns), strict=True)
        for i, (row, score, similarity, ranks, parts) in enumerate(hits):
            first = uuid.UUID(bytes=row.tobytes())
            for memory_id in (first, *repeating.get(i, ())):
                found.append(
                    Candidate(
                        memory_id=memory_id,
                        coarse_rank=len(found) + 1,
                        coarse_score=score,
                        similarity=similarity,
                        source_ranks={name: r for name, r in zip(result.sources, ranks, strict=True) if r},
                        parts=dict(zip(names, parts, strict=True)),
                        duplicate_of=None if memory_id == first else first,
                    )
                )
        return found


async def search_coarse(
    query: RetrieveQuery,
    plan: Plan,
    vectors: NDArray[np.float32],
    *,
    residents: Residents,
    tuning: Tuning,
    now: int,
    left_seconds: float,
) -> CoarseHits:
    """Search the user's memories.

    Args:
        vectors: (views, dim), of the plan's views.
        now: Microseconds; for expiry and validity.
        left_seconds: Until the deadline. A coarse search always gets `tuning.coarse_floor_seconds`; a second one is
            only begun with `tuning.follow_up_seconds` left.
    """
    query = _as_of_then(_with_kinds(query, plan), plan)
    search = to_search_plan(query, plan, vectors, tuning=tuning, now=now, left_seconds=left_seconds)
    is_window_filter = False
    if plan.is_window_explicit:
        within = search.replace(filter=_within_window(search, plan), boost=0.0)
        result = await residents.search(query.partition, within)
        if is_window_filter := result.matched_count > 0:
            search = within
    if not is_window_filter:
        result = await residents.search(query.partition, search)
    followed: list[uuid.UUID] = []
    if plan.is_multi_hop and left_seconds >= tuning.follow_up_seconds:
        first = [uuid.UUID(bytes=row.tobytes()) for row in result.ids[: tuning.follow_up_hits]]
        found = [memory for memory in await residents.records.get(query.partition, first) if memory is not None]
        if followed := [memory.id for memory in found]:
            search = search.replace(
                texts=[*search.texts, " ".join(memory.text for memory in found)],
                text_weights=[*search.text_weights, tuning.follow_up_weight],
            )
            result = await residents.search(query.partition, search)
    return CoarseHits(search, result, followed, is_window_filter)


def _with_kinds(query: RetrieveQuery, plan: Plan) -> RetrieveQuery:
    """Unless the request says which kinds: summaries and profiles only where the need is broad. They hold the words of many
    turns, and would stand before each of them."""
    if query.filter.kinds or plan.is_broad:
        return query
    return replace(query, filter=replace(query.filter, kinds=frozenset({Kind.TURN, Kind.FACT})))


def _as_of_then(query: RetrieveQuery, plan: Plan) -> RetrieveQuery:
    """Unless the request says as of when, what was so at the end of the time that is asked about."""
    window = time_that_is_over(query, plan)
    if window is None or query.filter.as_of is not None:
        return query
    return replace(query, filter=replace(query.filter, as_of=window.end - 1))


def time_that_is_over(query: RetrieveQuery, plan: Plan) -> TimeWindow | None:
    """The time that a query speaks of, if it is over: "Where did I live in May?". What began after "since May" counts, so it
    isn't."""
    window = plan.window
    return None if window is None or window.end > query.asked_at or _SINCE.match(window.text) else window


def to_search_plan(
    query: RetrieveQuery, plan: Plan, vectors: NDArray[np.float32], *, tuning: Tuning, now: int, left_seconds: float
) -> SearchPlan:
    """The core's plan of a first search."""
    weights = [view.weight for view in plan.views]
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
        now=now,
        filter=to_search_filter(query.filter),
        boost=tuning.time_boost if window is not None else 0.0,
        boost_from=window.start if window is not None else ALWAYS,
        boost_to=window.end + tuning.time_boost_after // MICROSECOND if window is not None else ALWAYS,
        deadline_micros=int(max(left_seconds, tuning.coarse_floor_seconds) * 1e6),
        speakers=plan.names,
        speaker_boost=tuning.speaker_boost,
        prior_weight=tuning.prior_weight,
        session_weight=tuning.session_weight,
        heat_weight=tuning.heat_weight,
        link_weight=tuning.link_weight,
        duplicate_similarity=tuning.duplicate_similarity,
        fusion="score",
    )


def to_search_filter(record_filter: MemoryFilter) -> SearchFilter:
    """The core's filter of a request's."""
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


def _within_window(search: SearchPlan, plan: Plan) -> SearchFilter:
    assert plan.window is not None, "an explicit window is one"
    return search.filter.replace(
        occurred_from=max(search.filter.occurred_from, plan.window.start),
        occurred_to=min(search.filter.occurred_to, plan.window.end),
    )
