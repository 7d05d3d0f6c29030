"""A profile tells what is stable, holds and is sure."""

from __future__ import annotations

import pytest

from lightmem_server.pipeline.consolidation.known import Known
from lightmem_server.pipeline.consolidation.profile import MOST_OF_RELATION, make_profiles, same_facts
from lightmem_server.pipeline.consolidation.proposals import PROMPT, FactsPrompt
from lightmem_server.types import Kind, Memory, Statement, Tier
from tests.contract.store_records import make_memory

RELATIONS = FactsPrompt.load(PROMPT).by_name


def fact(subject: str, relation: str, said: str, **fields: object) -> Memory:
    """A stored fact."""
    values: dict[str, object] = {"confidence": 0.8, "valid_from": 0} | fields
    return make_memory(
        f"{subject} {relation} {said}",
        tier=Tier.LTM,
        kind=Kind.FACT,
        statement=Statement(subject, relation, said),
        **values,
    )


def texts(*facts: Memory, now: int = 10) -> list[str]:
    """The profiles of what is known."""
    return [profile.text for profile in make_profiles(Known.of(facts, {}), RELATIONS, now=now)]


def test_each_subject_has_one_made_of_its_facts() -> None:
    told = texts(
        fact("Ana", "likes", "tea"),
        fact("Ana", "lives_in", "Porto"),
        fact("Ben", "has", "a dog"),
        fact("ben", "speaks", "Czech"),
    )
    assert told == ["Ana lives_in Porto; Ana likes tea.", "Ben has a dog; ben speaks Czech."]


@pytest.mark.parametrize(
    "other",
    [
        fact("Ana", "likes", "tea", valid_to=5),
        fact("Ana", "likes", "tea", confidence=0.5),
        fact("Ana", "did", "ran"),
        fact("Ben", "likes", "tea"),
    ],
    ids=["over", "unsure", "not stable", "somebody else's"],
)
def test_one_fact_is_no_profile(other: Memory) -> None:
    assert texts(fact("Ana", "lives_in", "Porto"), other) == []


def test_the_surest_of_a_relation_are_told() -> None:
    facts = [fact("Ana", "likes", f"thing{i}", confidence=0.6 + i / 100) for i in range(MOST_OF_RELATION + 3)]
    (profile,) = make_profiles(Known.of(facts, {}), RELATIONS, now=1)
    assert [each.id for each in profile.facts] == [each.id for each in reversed(facts[3:])]


def test_a_stored_profile_is_the_same_while_text_and_facts_are() -> None:
    facts = [fact("Ana", "lives_in", "Porto"), fact("Ana", "likes", "tea")]
    (profile,) = make_profiles(Known.of(facts, {}), RELATIONS, now=1)
    stored = make_memory(profile.text, evidence_ids=tuple(each.id for each in profile.facts))
    assert same_facts(profile, stored)
    assert not same_facts(profile, make_memory(profile.text))
