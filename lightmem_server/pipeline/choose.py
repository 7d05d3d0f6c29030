"""What is returned of the final order: without what repeats itself or isn't relevant, as much as there is room for."""

from __future__ import annotations

from collections.abc import Sequence

from lightmem_server.pipeline.pack import pack, pack_shared
from lightmem_server.pipeline.rank import drop_duplicates, drop_irrelevant
from lightmem_server.pipeline.retrieval import Candidate, DropReason, RetrieveQuery, Selected
from lightmem_server.slm.protocols import TokenCounter
from lightmem_server.types import Kind, Memory


def choose(
    query: RetrieveQuery,
    ranked: Sequence[Candidate],
    counter: TokenCounter,
    conversation: Sequence[Memory],
    shared: Sequence[Candidate],
    *,
    kept_share: float,
) -> Selected:
    """From the final order: drop duplicates, the irrelevant and what there is no room for; pack the rest, and what is shared
    behind it.

    Args:
        ranked: Best first.
        conversation: To be shown before the memories, oldest first.
        shared: Shared facts, best first.
        kept_share: Of the memories and tokens, see room.py.
    """
    drop_duplicates(ranked)
    drop_irrelevant(ranked, query.min_relevance)
    packed = pack(
        _contenders(ranked, query.budget.max_memories),
        counter,
        max_tokens=query.budget.max_tokens,
        max_memories=query.budget.max_memories,
        kept_share=kept_share,
        zone=query.zone,
        conversation=conversation,
    )
    returned = [candidate for candidate in shared if candidate.drop_reason is None]
    if returned:
        packed = pack_shared(packed, returned, counter, max_tokens=query.budget.max_tokens)
        returned = [candidate for candidate in returned if candidate.drop_reason is None]
    return Selected(packed.candidates, packed.text, packed.token_count, returned)


def _contenders(ranked: Sequence[Candidate], most: int) -> list[Candidate]:
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
