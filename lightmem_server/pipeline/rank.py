"""The final order: what the Selector judged, blended with the coarse score; then what repeats itself is dropped."""

from __future__ import annotations

from collections.abc import Sequence

from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.slm.selector import to_probability


def rank(candidates: Sequence[Candidate], logit_weight: float) -> list[Candidate]:
    """Order candidates, best first, and set each one's `score` and `relevance`.

    Judged ones come first, by coarse score + `logit_weight` * logit; those that were not judged keep their coarse order
    behind them.
    """
    for candidate in candidates:
        candidate.score = candidate.coarse_score
        if candidate.logit is not None:
            candidate.score += logit_weight * candidate.logit
            candidate.relevance = to_probability(candidate.logit)
    return sorted(candidates, key=lambda candidate: (candidate.logit is None, -candidate.score, candidate.coarse_rank))


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

