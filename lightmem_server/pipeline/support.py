"""Facts and the turns that they rest on, in one answer: they must not crowd each other out, nor contradict each other.

a fact stands behind its turn ─▶ the turn, in the words that were said; the fact only where the turn finds no room (pack.py)
what is so is asked           ─▶ a fact that answers better stands for a turn that says no more; turns that tell what was
                                 superseded leave; of what is no longer so and answers alike, what ended last comes first
what was so then is asked     ─▶ turns of before then that tell what had been superseded by then leave
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence

from lightmem_server.pipeline.consolidation.integrate import ENDED
from lightmem_server.pipeline.consolidation.words import content_keys
from lightmem_server.pipeline.records import RecordSource
from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.slm.controller import Need
from lightmem_server.types import Kind, Memory, Partition

HAPPENED = "did"
"""The relation of what happened."""

MOST_STEPS = 8
"""How far back a chain of facts that replaced each other is followed: one read a step."""


def drop_covered(ranked: Sequence[Candidate], need: Need) -> None:
    """Mark facts that stand behind their own evidence, and, where what is so is asked, evidence behind a fact that
    answers at least as well, which the Selector says, and tells all that the turn tells: "My cat Pixel is ill" stays beside
    "Ana has a cat, Pixel".

    Args:
        ranked: Best first, judged.
    """
    alive = {candidate.memory_id: candidate for candidate in ranked if candidate.drop_reason is None}
    place = {id_: at for at, id_ in enumerate(alive)}
    for fact in list(alive.values()):
        if fact.memory is None or fact.memory.kind is not Kind.FACT:
            continue
        turns = [alive[id_] for id_ in fact.memory.evidence_ids if id_ in alive and alive[id_].drop_reason is None]
        before = [turn for turn in turns if place[turn.memory_id] < place[fact.memory_id]]
        if before:
            _cover(fact, before[0])
        elif need is Need.KNOWLEDGE:
            for turn in turns:
                if _answers_as_well(fact, turn) and _tells_all(fact.memory, turn.memory):
                    _cover(turn, fact)


async def drop_superseded(
    source: RecordSource, partition: Partition, ranked: Sequence[Candidate], *, before: int | None = None
) -> None:
    """Mark the turns that tell what a returned fact has replaced: "I live in Ghent" beside "Ruth lives in Leuven".

    A turn stays where it is evidence of something that holds, too; what happened then says nothing of what is so now.

    Args:
        before: Microseconds; only turns of before then that tell what had ended by then. None: all.
    """
    facts = [
        candidate.memory
        for candidate in ranked
        if candidate.drop_reason is None and candidate.memory is not None and candidate.memory.kind is Kind.FACT
    ]
    held = {id_ for fact in facts if not _is_event(fact) for id_ in fact.evidence_ids}
    replaced_by = {old: fact.id for fact in facts for old in fact.supersedes_ids}
    told: dict[uuid.UUID, uuid.UUID] = {}
    waiting = list(replaced_by)
    for _ in range(MOST_STEPS):
        if not waiting:
            break
        found = [old for old in await source.get(partition, waiting) if old is not None]
        over = [old for old in found if before is None or (old.valid_to is not None and old.valid_to <= before)]
        told |= {id_: replaced_by[old.id] for old in over for id_ in old.evidence_ids}
        replaced_earlier = {
            older: replaced_by[old.id] for old in found for older in old.supersedes_ids if older not in replaced_by
        }
        replaced_by |= replaced_earlier
        waiting = list(replaced_earlier)
    for candidate in ranked:
        if candidate.drop_reason is not None or candidate.memory is None:
            continue
        is_early = before is None or candidate.memory.occurred_at < before
        if is_early and candidate.memory_id in told and candidate.memory_id not in held:
            candidate.drop_reason = DropReason.SUPERSEDED
            candidate.duplicate_of = told[candidate.memory_id]


def newest_ended_first(ranked: Sequence[Candidate], margin: float) -> list[Candidate]:
    """The order, but where things of one kind are no longer so and the best of them answer alike: there the one that ended last
    comes first. "No longer: Ana is allergic to soy" doesn't say that it was the last one, and is the nearest to what is so.

    Args:
        ranked: Best first.
        margin: Of relevance, behind the best of a kind, within which others answer alike.
    """
    places: dict[tuple[str, str], list[int]] = {}
    for place, candidate in enumerate(ranked):
        if candidate.drop_reason is None and (kind := _ended_kind(candidate.memory)):
            places.setdefault(kind, []).append(place)
    ordered = list(ranked)
    for of_kind in places.values():
        least = _relevance(ranked[of_kind[0]]) - margin
        alike = [place for place in of_kind if _relevance(ranked[place]) >= least]
        newest = sorted((ranked[place] for place in alike), key=_occurred_at, reverse=True)
        for place, candidate in zip(alike, newest, strict=True):
            ordered[place] = candidate
    return ordered


def _ended_kind(memory: Memory | None) -> tuple[str, str] | None:
    """Whose, and which relation it was, of a fact that says that something ended."""
    if memory is None or memory.statement is None or memory.statement.relation != ENDED:
        return None
    return memory.statement.subject, memory.statement.object.partition(" ")[0]


def _relevance(candidate: Candidate) -> float:
    return candidate.relevance or 0.0


def _occurred_at(candidate: Candidate) -> int:
    return 0 if candidate.memory is None else candidate.memory.occurred_at


def _is_event(fact: Memory) -> bool:
    return fact.statement is not None and fact.statement.relation == HAPPENED


def _answers_as_well(fact: Candidate, turn: Candidate) -> bool:
    return fact.logit is not None and turn.logit is not None and fact.logit >= turn.logit


def _tells_all(fact: Memory, turn: Memory | None) -> bool:
    """Whether a fact has all words of content of a turn."""
    return turn is not None and content_keys(turn.text) <= content_keys(f"{fact.text} {turn.speaker}")


def _cover(candidate: Candidate, by: Candidate) -> None:
    candidate.drop_reason = DropReason.COVERED
    candidate.duplicate_of = by.memory_id
