"""The select stage: the Selector judges candidates, best coarse first, chunk by chunk, until it has read as much as its
mode allows, or the best can no longer change, or at the deadline.

What a reading costs is its tokens, so that is what a mode bounds: short turns are judged more of, long ones fewer."""

from __future__ import annotations

from collections.abc import Sequence

from lightmem_server.pipeline.passages import judged_passage
from lightmem_server.pipeline.rank import final_score
from lightmem_server.pipeline.retrieval import Candidate, RetrieveQuery, SelectorMode, SelectorStop
from lightmem_server.pipeline.tuning import JudgedLimits, Tuning
from lightmem_server.slm.controller import Plan
from lightmem_server.slm.protocols import Selector

CHARACTERS_PER_TOKEN = 4
"""Of what is read beside a memory's own text, whose tokens were counted when it was written."""

SPECIAL_TOKENS = 3
"""That a pair of texts is read with."""

CHUNK = 8
"""Passages judged between two looks at whether the best can still change: two sub-batches of four in flight."""


async def select(
    query: RetrieveQuery,
    plan: Plan,
    candidates: Sequence[Candidate],
    selector: Selector,
    tuning: Tuning,
    *,
    reserve_seconds: float = 0.0,
) -> SelectorStop:
    """Judge, and set the logits. Returns why it ended.

    Args:
        candidates: By coarse rank; dropped ones are passed over.
        reserve_seconds: What must be left of the deadline for what follows.
    """
    alive = [candidate for candidate in candidates if candidate.drop_reason is None]
    if query.selector_mode is SelectorMode.OFF or not alive:
        return SelectorStop.OFF
    deadline = query.arrived_at + query.budget.deadline_seconds - reserve_seconds
    judged = within(limits_of(query.selector_mode, tuning), plan, alive)
    top = query.budget.max_memories
    start = 0
    while start < len(judged):
        if start and is_certain(judged[:start], alive[start:], top, tuning):
            return SelectorStop.CERTAIN
        # Nothing is certain before `top` are judged: up to there no look is worth the wait for the last sub-batch.
        end = start + CHUNK if start else max(CHUNK, -(-top // CHUNK) * CHUNK)
        chunk = judged[start:end]
        start = end
        passages = [judged_passage(c.memory, c.preceding) for c in chunk if c.memory is not None]
        logits = await selector.judge(plan.judged, passages, deadline=deadline)
        for candidate, logit in zip(chunk, logits, strict=True):
            candidate.logit = logit
        if any(logit is None for logit in logits):
            return SelectorStop.DEADLINE
    return SelectorStop.DONE


def limits_of(mode: SelectorMode, tuning: Tuning) -> JudgedLimits:
    """What the Selector may read in a mode."""
    return tuning.fast if mode is SelectorMode.FAST else tuning.full


def within(most: JudgedLimits, plan: Plan, candidates: Sequence[Candidate]) -> Sequence[Candidate]:
    """The first candidates, as many as a mode may read."""
    query_tokens = len(plan.judged) / CHARACTERS_PER_TOKEN + SPECIAL_TOKENS
    tokens = 0.0
    for count, candidate in enumerate(candidates):
        if candidate.memory is not None:
            passage = judged_passage(candidate.memory, candidate.preceding)
            beside = (len(passage) - len(candidate.memory.text)) / CHARACTERS_PER_TOKEN
            tokens += query_tokens + candidate.memory.token_count + beside
        if count >= most.candidates or (count >= most.at_least and tokens > most.tokens):
            return candidates[:count]
    return candidates


def is_certain(judged: Sequence[Candidate], rest: Sequence[Candidate], top: int, tuning: Tuning) -> bool:
    """Whether none of the rest could enter the best `top`, even with the highest logit there is."""
    if len(judged) < top or not rest:
        return False
    to_beat = sorted((final_score(candidate, tuning) for candidate in judged), reverse=True)[top - 1]
    return all(final_score(candidate, tuning, logit=tuning.highest_logit) <= to_beat for candidate in rest)
