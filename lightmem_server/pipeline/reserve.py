"""Facts for what an answer keeps for them (room.py): those that the search of all kinds left out, and those that a turn covers.

Of the rows of a partition few are facts, and turns, which hold more words, stand before them. So facts are searched for alone,
too, and stand in the order of that search behind every other candidate. The Selector doesn't read them: its order of facts was
no better. A fact that is further from the query than most of what was found is left out: where few facts are known, the best of
them may have nothing to do with it.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import replace

from lightmem_server.pipeline.coarse import CoarseHits
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.retrieval import Candidate, RetrieveQuery
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.slm.controller import Need
from lightmem_server.types import Kind


def kept_share(need: Need, tuning: Tuning) -> float:
    """The share of an answer's memories and tokens that is kept: more where it is asked what is so than what happened."""
    return tuning.fact_share if need is Need.KNOWLEDGE else tuning.event_fact_share


async def find_facts(
    query: RetrieveQuery,
    hits: CoarseHits,
    found: Sequence[Candidate],
    *,
    residents: Residents,
    tuning: Tuning,
) -> list[Candidate]:
    """Facts that are not among what was found, best first, with their records; none where everything was found, or the request
    says which kinds.

    Args:
        hits: Of the search of all kinds.
        found: Its candidates, by coarse rank.

    Raises:
        StoreError.
    """
    nearness = [candidate.similarity for candidate in found if not math.isnan(candidate.similarity)]
    if query.filter.kinds or hits.result.matched_count <= len(found) or not nearness:
        return []
    search = hits.search.replace(
        filter=hits.search.filter.replace(kinds=[Kind.FACT]), max_candidates=tuning.fact_candidates
    )
    facts = CoarseHits(search, await residents.search(query.partition, search), (), False)
    known = {candidate.memory_id for candidate in found}
    near = statistics.median(nearness)
    new = [
        candidate
        for candidate in facts.candidates()
        if candidate.memory_id not in known and candidate.duplicate_of is None and candidate.similarity >= near
    ]
    memories = await residents.records.get(query.partition, [candidate.memory_id for candidate in new])
    least = min(candidate.coarse_score for candidate in found)
    there = [replace(c, memory=memory) for c, memory in zip(new, memories, strict=True) if memory is not None]
    for rank, candidate in enumerate(there, start=len(found) + 1):
        candidate.coarse_rank, candidate.coarse_score = rank, min(candidate.coarse_score, least)
    return there
