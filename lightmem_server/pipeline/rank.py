"""The final order: what the Selector judged, blended with the coarse score; then what repeats itself is dropped, and what
is not relevant enough."""

from __future__ import annotations

from collections.abc import Sequence

from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.pipeline.relevance import relevance
from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.slm.digests import ByDigest
from lightmem_server.slm.time_window import speaks_of_time

REMEMBERED_TEXTS = 32_768
"""Of which it is known whether they speak of a time: 3 MB. Seeing it takes 21 µs a turn of LoCoMo, looking it up .8, and a
question that asks when looks at all of its candidates, 32 unless it says otherwise."""

_speaks_of_time = ByDigest(speaks_of_time, most=REMEMBERED_TEXTS)


def prefer_times(candidates: Sequence[Candidate], boost: float) -> list[Candidate]:
    """For a query that asks when: raise the coarse score of memories that speak of a time, and order anew."""
    for candidate in candidates:
        if candidate.memory is not None and _speaks_of_time(candidate.memory.text):
            candidate.coarse_score += boost
            candidate.parts = {**candidate.parts, "time_expression": 1.0}
    ordered = sorted(candidates, key=lambda candidate: (-candidate.coarse_score, candidate.coarse_rank))
    for rank_, candidate in enumerate(ordered, start=1):
        candidate.coarse_rank = rank_
    return ordered


def rank(candidates: Sequence[Candidate], tuning: Tuning) -> list[Candidate]:
    """Order candidates, best first, and set each one's `score` and `relevance`.

    The best coarse candidates, as far as all of them were judged, are ordered by `final_score`; behind them the others
    keep their coarse order. A judgement beyond the first gap doesn't count. Other ways to merge the judged with those that a
    deadline left out, such as assuming a logit for these, were measured worse for every number judged.

    Args:
        candidates: By coarse rank.
    """
    judged_count = 0
    is_prefix = True
    for candidate in candidates:
        candidate.score = candidate.coarse_score
        candidate.relevance = relevance(candidate, tuning)
        if candidate.drop_reason is None:
            is_prefix = is_prefix and candidate.logit is not None
        if is_prefix:
            judged_count += 1
            candidate.score = final_score(candidate, tuning)
    judged = sorted(candidates[:judged_count], key=lambda candidate: (-candidate.score, candidate.coarse_rank))
    return [*judged, *candidates[judged_count:]]


def final_score(candidate: Candidate, tuning: Tuning, *, logit: float | None = None) -> float:
    """What a candidate's place goes by once it is judged; its coarse score when it is not.

    Args:
        logit: Instead of the candidate's own: what its score would be.
    """
    judgement = candidate.logit if logit is None else logit
    if judgement is None:
        return candidate.coarse_score
    # The Selector has read the turn with the question before it: what those lists guessed at, it knows.
    question = VIEW_NAMES[0]
    known = tuning.dense_weights[0] * candidate.parts.get(f"dense_{question}", 0.0)
    known += tuning.lexical_weights[0] * candidate.parts.get(f"lexical_{question}", 0.0)
    return candidate.coarse_score - (1 - tuning.judged_question_weight) * known + tuning.logit_weight * judgement


def drop_duplicates(ranked: Sequence[Candidate]) -> None:
    """Mark candidates that say, in the same words, what a better one of the same speaker says."""
    seen: dict[tuple[str, str], Candidate] = {}
    for candidate in ranked:
        if candidate.memory is None or candidate.drop_reason is not None:
            continue
        said = (candidate.memory.speaker, " ".join(candidate.memory.text.casefold().split()))
        better = seen.setdefault(said, candidate)
        if better is not candidate:
            candidate.drop_reason = DropReason.DUPLICATE
            candidate.duplicate_of = better.memory_id


def drop_irrelevant(ranked: Sequence[Candidate], min_relevance: float) -> None:
    """Mark candidates whose relevance is under a threshold."""
    for candidate in ranked:
        if candidate.drop_reason is None and candidate.relevance is not None and candidate.relevance < min_relevance:
            candidate.drop_reason = DropReason.MIN_RELEVANCE
