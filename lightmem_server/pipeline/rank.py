"""The final order: what the Selector judged, blended with the coarse score; then what repeats itself is dropped."""

from __future__ import annotations

from collections.abc import Sequence

from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.slm.selector import to_probability


def rank(candidates: Sequence[Candidate], logit_weight: float) -> list[Candidate]:
    """Order candidates, best first, and set each one's `score` and `relevance`.

    The best coarse candidates, as far as all of them were judged, are ordered by coarse score + `logit_weight` * logit;
    behind them the others keep their coarse order. A judgement beyond the first gap doesn't count: the Selector takes
    short passages of a chunk first, and those that a deadline left out must not fall behind them for being long.

    Args:
        candidates: By coarse rank.
    """
    judged_count = 0
    is_prefix = True
    for candidate in candidates:
        candidate.score = candidate.coarse_score
        if candidate.logit is not None:
            candidate.relevance = to_probability(candidate.logit)
        if candidate.drop_reason is None:
            is_prefix = is_prefix and candidate.logit is not None
        if is_prefix:
            judged_count += 1
            candidate.score += logit_weight * (candidate.logit or 0.0)
    judged = sorted(candidates[:judged_count], key=lambda candidate: (-candidate.score, candidate.coarse_rank))
    return [*judged, *candidates[judged_count:]]


def drop_duplicates(ranked: Sequence[Candidate]) -> None:
    """Mark candidates that say, in the same words, what a better one of the same speaker says."""
    seen: set[tuple[str, str]] = set()
    for candidate in ranked:
        if candidate.memory is None or candidate.drop_reason is not None:
            continue
        said = (candidate.memory.speaker, " ".join(candidate.memory.text.casefold().split()))
        if said in seen:
            candidate.drop_reason = DropReason.DUPLICATE
        seen.add(said)
