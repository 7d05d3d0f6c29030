"""Facts that the candidates left out, for a need that facts meet: of the rows of a partition few are facts, and turns, which hold
more words, stand before them.

They are found by a search among facts alone, in the order of that search: the Selector doesn't read them, its order of facts was
no better. They are behind every other candidate, and get what an answer keeps for facts, see room.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace

import numpy as np

from lightmem_server.pipeline.coarse import CoarseHits
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.retrieval import Candidate, DropReason, RetrieveQuery
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.slm.controller import Need, Plan
from lightmem_server.store.protocol import Store
from lightmem_server.types import Kind


def fact_share(query: RetrieveQuery, plan: Plan, tuning: Tuning) -> float:
    """What an answer keeps for facts, as a share of its memories and tokens: more where it is asked what is so than what
    happened; nothing where the request says which kinds."""
    if query.filter.kinds:
        return 0.0
    return tuning.fact_share if plan.need is Need.KNOWLEDGE else tuning.event_fact_share


async def find_facts(
    query: RetrieveQuery,
    hits: CoarseHits,
    found: Sequence[Candidate],
    *,
    residents: Residents,
    store: Store,
    tuning: Tuning,
) -> list[Candidate]:
    """Facts that are not among what was found, best first, with their records; none where everything was found.

    Args:
        hits: Of the search of all kinds.
        found: Its candidates, by coarse rank.

    Raises:
        StoreError.
    """
    if hits.result.matched_count <= len(found):
        return []
    search = hits.search.replace(
        filter=hits.search.filter.replace(kinds=[Kind.FACT]), max_candidates=tuning.fact_candidates
    )
    facts = CoarseHits(search, await residents.search(query.partition, search), (), False)
    known = {candidate.memory_id for candidate in found}
    near = float(np.nanmedian([candidate.similarity for candidate in found]))
    new = [
        candidate
        for candidate in facts.candidates()
        if candidate.memory_id not in known and candidate.duplicate_of is None and candidate.similarity >= near
    ]
    memories = await store.get(query.partition, [candidate.memory_id for candidate in new])
    least = min((candidate.coarse_score for candidate in found), default=0.0)
    kept = []
    for candidate, memory in zip(new, memories, strict=True):
        if memory is not None:
            rank = len(found) + len(kept) + 1
            kept.append(replace(candidate, memory=memory, coarse_rank=rank, coarse_score=min(candidate.coarse_score, least)))
    return kept


def contenders(ranked: Sequence[Candidate], most: int) -> list[Candidate]:
    """Those that may be packed: the best `most` that were not dropped, and behind them facts, also those that are covered by a
    turn. The others are marked MAX_MEMORIES.

    Args:
        ranked: Best first.
    """
    kept: list[Candidate] = []
    alive = 0
    for candidate in ranked:
        is_fact = candidate.memory is not None and candidate.memory.kind is Kind.FACT
        if candidate.drop_reason is None:
            alive += 1
            if alive <= most or is_fact:
                kept.append(candidate)
            else:
                candidate.drop_reason = DropReason.MAX_MEMORIES
        elif is_fact and candidate.drop_reason is DropReason.COVERED:
            kept.append(candidate)
    return kept
