"""Profiles: what stays true of a person, in one text made of the facts that say so. In code: nothing is phrased anew.

A profile rests on its facts, which rest on turns; it is made again when they change, and empty ones are archived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lightmem_server.pipeline.consolidation.known import Known, subject_key
from lightmem_server.pipeline.consolidation.proposals import Relation
from lightmem_server.types import Memory

LEAST_CONFIDENCE = 0.6
"""Of a fact that a profile tells."""

MOST_OF_RELATION = 5
"""Facts of one relation in a profile, the surest."""

LEAST_FACTS = 2
"""One fact is found by itself."""


@dataclass(frozen=True, slots=True)
class Profile:
    """What to tell of a subject, and the facts that it rests on, in the order of the text."""

    subject: str
    text: str
    facts: tuple[Memory, ...]


def make_profiles(known: Known, relations: Mapping[str, Relation], *, now: int) -> list[Profile]:
    """A profile for each subject of whom enough is known that is stable, holds now, and is sure; by subject."""
    subjects: dict[str, str] = {}
    for fact in known.facts.values():
        if fact.statement is not None:
            subjects.setdefault(subject_key(fact.statement.subject), fact.statement.subject)
    profiles = (_make(subject, known, relations, now) for _, subject in sorted(subjects.items()))
    return [profile for profile in profiles if profile is not None]


def _make(subject: str, known: Known, relations: Mapping[str, Relation], now: int) -> Profile | None:
    told: list[Memory] = []
    for name, relation in relations.items():
        if relation.is_stable:
            facts = [fact for fact in known.about(subject, name) if _may_tell(fact, now)]
            told += sorted(facts, key=lambda fact: (-fact.confidence, fact.id))[:MOST_OF_RELATION]
    if len(told) < LEAST_FACTS:
        return None
    return Profile(subject, "; ".join(_trim(fact.text) for fact in told) + ".", tuple(told))


def _may_tell(fact: Memory, now: int) -> bool:
    holds = fact.valid_to is None or now < fact.valid_to
    return holds and fact.confidence >= LEAST_CONFIDENCE


def _trim(text: str) -> str:
    return text.strip().rstrip(".;")


def same_facts(profile: Profile, stored: Memory) -> bool:
    """Whether a stored profile tells the same."""
    return stored.text == profile.text and stored.evidence_ids == _ids(profile.facts)


def _ids(facts: Sequence[Memory]) -> tuple[object, ...]:
    return tuple(fact.id for fact in facts)
