"""The final order: what the Selector judged, blended with the coarse score; then what repeats itself is dropped."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lightmem_server.pipeline.retrieval import Candidate, DropReason


@dataclass(frozen=True, slots=True)
class RankWeights:
    """Weights of the blend, in units of one Selector logit.

    Attributes:
        turn: Of the logit for the turn alone.
        window: Of the logit for the turn in its context. Where it was not judged, the turn's logit stands in.
        coarse: Of the coarse score, relative to the best candidate's.
    """

    turn: float
    window: float
    coarse: float


def rank(candidates: Sequence[Candidate], weights: RankWeights) -> list[Candidate]:
    """Order candidates, best first, and set each one's `score` and `relevance`.

    Judged ones come first, by the blend; those that were not judged keep their coarse order behind them.
    """
    top = max((candidate.coarse_score for candidate in candidates), default=1.0) or 1.0
    for candidate in candidates:
        coarse = candidate.coarse_score / top
        if candidate.turn_logit is None:
            candidate.score = coarse
            continue
        window = candidate.turn_logit if candidate.window_logit is None else candidate.window_logit
        candidate.score = weights.turn * candidate.turn_logit + weights.window * window + weights.coarse * coarse
        candidate.relevance = _sigmoid(max(candidate.turn_logit, window))
    return sorted(
        candidates, key=lambda candidate: (candidate.turn_logit is None, -candidate.score, candidate.coarse_rank)
    )


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


def _sigmoid(logit: float) -> float:
    return 1 / (1 + math.exp(-max(-60.0, min(60.0, logit))))
