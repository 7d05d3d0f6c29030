"""Why one memory was, or was not, among the results of a retrieval: at which stage it was lost, and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from lightmem_server.core import SearchPlan, SearchResult
from lightmem_server.pipeline.coarse import to_search_filter
from lightmem_server.pipeline.diversity import REPETITION
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.retrieval import Candidate, DropReason, RetrieveQuery, Trace
from lightmem_server.types import Memory, MemoryFilter, State

RETURNED = "returned"

MAX_RANKED = 100_000
"""How deep a memory's coarse rank is looked for: explaining may cost more than retrieving, but not without bound."""

_CLAUSES: Mapping[str, Sequence[str]] = {
    "tiers": ("tiers",),
    "kinds": ("kinds",),
    "session_ids": ("session_ids",),
    "agent_ids": ("agent_ids",),
    "occurred_from and occurred_to": ("occurred_from", "occurred_to"),
    "as_of": ("as_of",),
    "metadata": ("metadata",),
}
"""The clauses of a filter that a person would name, and their fields."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Attributes:
    reached_stage: The furthest stage that the memory reached, by its name in the trace, or RETURNED.
    text: One sentence for a person.
    margin: What it lacked at the stage where it was lost, in that stage's unit: a score, a relevance, tokens. 0
        where there is no such figure.
    """

    reached_stage: str
    text: str
    margin: float
    trace: Trace


async def explain(memory: Memory, query: RetrieveQuery, trace: Trace, residents: Residents) -> Explanation:
    """Explain a memory's part in a retrieval that was just made.

    Args:
        memory: One of the query's partition.
        trace: Of the retrieval.
    """
    for rank, candidate in enumerate(trace.candidates, start=1):
        if candidate.memory_id == memory.id:
            stage, text, margin = _of_candidate(candidate, rank, query, trace)
            return Explanation(stage, text, margin, trace)
    stage, text, margin = await _of_stranger(memory, query, trace, residents)
    return Explanation(stage, text, margin, trace)


def _of_candidate(candidate: Candidate, rank: int, query: RetrieveQuery, trace: Trace) -> tuple[str, str, float]:
    budget = query.budget
    match candidate.drop_reason:
        case None:
            return RETURNED, f"It was returned: rank {rank} in the final order, {_found_by(candidate)}.", 0.0
        case DropReason.GONE:
            return "coarse", "It was deleted, archived or expired while the call ran.", 0.0
        case DropReason.IN_CONTEXT:
            return "fetch", "It is part of the running conversation, which the answer holds already.", 0.0
        case DropReason.DUPLICATE:
            return "select", f"It says the same as {candidate.duplicate_of}, which ranked higher.", 0.0
        case DropReason.COVERED:
            return (
                "select",
                f"It is covered by {candidate.duplicate_of}: of a fact and its evidence one is returned.",
                0.0,
            )
        case DropReason.SUPERSEDED:
            return "select", f"It tells what {candidate.duplicate_of} has replaced.", 0.0
        case DropReason.SHARED_UNSURE:
            return "shared", "The Selector did not find that it answers, or had no time to read it.", 0.0
        case DropReason.MIN_RELEVANCE:
            relevance = candidate.relevance or 0.0
            text = f"Its relevance of {relevance:.3f} is under min_relevance {query.min_relevance:.3f}."
            return "select", text, query.min_relevance - relevance
        case DropReason.MAX_MEMORIES:
            last = [other.score for other in trace.candidates if other.drop_reason is None]
            margin = max(0.0, min(last, default=candidate.score) - candidate.score)
            text = (
                f"It came {_ordinal(rank)} in the final order, behind the {budget.max_memories} that max_memories allows; "
                f"it lacked {margin:.3f} of the final score."
            )
            if repetition := candidate.parts.get(REPETITION):
                text += (
                    f" Several are asked for, and it is {repetition:.0%} of a repetition of a better one, at a cost."
                )
            return "select", text, margin
        case DropReason.MAX_TOKENS:
            spent = sum(other.token_count for other in trace.candidates if other.drop_reason is None)
            margin = float(max(0, spent + candidate.token_count - budget.max_tokens))
            text = f"Its {candidate.token_count} tokens no longer fitted into max_tokens {budget.max_tokens}."
            return "pack", text, margin


async def _of_stranger(
    memory: Memory, query: RetrieveQuery, trace: Trace, residents: Residents
) -> tuple[str, str, float]:
    """Of a memory that the coarse stage did not hand on."""
    if memory.state is not State.ACTIVE:
        return "refresh", "It is archived: kept, but out of search.", 0.0
    if memory.expires_at is not None and memory.expires_at <= trace.search.now:
        return "refresh", "It has expired.", 0.0
    every = trace.search.replace(
        max_candidates=MAX_RANKED,
        list_depth=MAX_RANKED,
        rescore=0,
        deadline_micros=0,
        duplicate_similarity=0.0,
    )
    result = await residents.search(query.partition, every)
    position = _position(result, memory)
    if position is not None:
        best = [candidate.coarse_score for candidate in trace.candidates]
        margin = max(0.0, min(best, default=0.0) - float(result.scores[position]))
        text = (
            f"The coarse search ranked it {_ordinal(position + 1)} of {len(result.ids)}, beyond the "
            f"{query.budget.max_candidates} candidates that are judged; it lacked {margin:.3f} of the coarse score."
        )
        return "coarse", text, margin
    for clause in await _failed_clauses(memory, query, every, residents):
        return "refresh", f"The filter's {clause} leaves it out.", 0.0
    if trace.is_window_filter:
        window = trace.plan.window
        text = "" if window is None else f" ({window.text!r})"
        return "refresh", f"It was not said in the time that the query asks about{text}.", 0.0
    return (
        "refresh",
        "It shares no word with the query and has no vector, or it is not valid at the time asked about.",
        0.0,
    )


async def _failed_clauses(
    memory: Memory, query: RetrieveQuery, every: SearchPlan, residents: Residents
) -> Sequence[str]:
    """The clauses of the filter that this memory fails, each tried by itself."""
    failed = []
    nothing = MemoryFilter()
    for clause, names in _CLAUSES.items():
        values = {name: getattr(query.filter, name) for name in names}
        if all(value == getattr(nothing, name) for name, value in values.items()):
            continue
        alone = every.replace(filter=to_search_filter(replace(nothing, **values)))
        if _position(await residents.search(query.partition, alone), memory) is None:
            failed.append(clause)
    return failed


def _position(result: SearchResult, memory: Memory) -> int | None:
    for position, id_ in enumerate(result.ids):
        if id_.tobytes() == memory.id.bytes:
            return position
    return None


def _found_by(candidate: Candidate) -> str:
    if not candidate.source_ranks:
        return "found by its links or boosts alone"
    name, rank = min(candidate.source_ranks.items(), key=lambda item: item[1])
    return f"found best by {name} ({_ordinal(rank)})"


def _ordinal(number: int) -> str:
    suffix = "th" if 10 <= number % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number}{suffix}"
