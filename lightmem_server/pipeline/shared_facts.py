"""The shared LTM in an answer: facts of nobody, searched beside the user's own memories and never in their place.

They are looked for once the user's own are judged, with the time that is left, in a partition of their own, and have slots of
their own. What the Selector did not find to answer, or had no time to read, is left out: nobody misses it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightmem_server.pipeline.coarse import CoarseHits, to_search_plan
from lightmem_server.pipeline.passages import judged_passage
from lightmem_server.pipeline.rank import drop_irrelevant, rank
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.retrieval import Candidate, DropReason, RetrieveQuery, SelectorMode
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.slm.controller import Plan
from lightmem_server.slm.protocols import Selector
from lightmem_server.store.protocol import Store
from lightmem_server.types import SHARED_USER, Kind, MemoryFilter, Partition, Tier


def is_wanted(query: RetrieveQuery, plan: Plan) -> bool:
    """Whether shared facts can answer: they have no session, agent, metadata or time, and tell nothing of what happened."""
    wanted = query.filter
    restricts = replace(wanted, tiers=frozenset(), kinds=frozenset()) != MemoryFilter()
    has_facts = (not wanted.tiers or Tier.LTM in wanted.tiers) and (not wanted.kinds or Kind.FACT in wanted.kinds)
    is_judged = query.selector_mode is not SelectorMode.OFF
    return (
        is_judged and has_facts and not (restricts or query.exclude_shared or plan.is_window_explicit or plan.asks_when)
    )


async def find_shared(
    query: RetrieveQuery,
    plan: Plan,
    vectors: NDArray[np.float32],
    *,
    residents: Residents,
    store: Store,
    selector: Selector,
    tuning: Tuning,
    now: int,
    left_seconds: float,
    deadline: float,
) -> list[Candidate]:
    """Shared facts, best first; those that are not to be returned with the reason.

    Args:
        vectors: (views, dim), of the plan's views.
        now: Microseconds.
        left_seconds: Until `deadline`, in monotonic seconds, by which the Selector must be done.

    Raises:
        OverloadedError, StoreError.
    """
    partition = Partition(query.partition.namespace, SHARED_USER)
    await residents.refresh(partition)
    asked = replace(
        query,
        filter=MemoryFilter(kinds=frozenset({Kind.FACT})),
        budget=replace(query.budget, max_candidates=tuning.shared_candidates),
    )
    search = to_search_plan(asked, plan, vectors, tuning=tuning, now=now, left_seconds=left_seconds)
    # Who is asked about, when, and what was returned lately says nothing about facts of nobody.
    search = search.replace(speakers=(), speaker_boost=0.0, boost=0.0, heat_weight=0.0, link_weight=0.0)
    hits = CoarseHits(search, await residents.search(partition, search), (), False)
    candidates = [candidate for candidate in hits.candidates() if candidate.duplicate_of is None]
    memories = await store.get(partition, [candidate.memory_id for candidate in candidates])
    for candidate, memory in zip(candidates, memories, strict=True):
        candidate.memory = memory
    there = [candidate for candidate in candidates if candidate.memory is not None]
    passages = [judged_passage(candidate.memory, ()) for candidate in there if candidate.memory is not None]
    for candidate, logit in zip(there, await selector.judge(plan.judged, passages, deadline=deadline), strict=True):
        candidate.logit = logit
        if logit is None or logit < tuning.shared_least_logit:
            candidate.drop_reason = DropReason.SHARED_UNSURE
    ranked = rank(there, tuning)
    drop_irrelevant(ranked, query.min_relevance)
    return ranked
