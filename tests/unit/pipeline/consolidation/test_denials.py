"""What a turn takes back is found, and what only looks like it isn't."""

from __future__ import annotations

import uuid

import pytest

from lightmem_server.pipeline.consolidation.denials import find_denials
from lightmem_server.pipeline.consolidation.integrate import Integrator
from lightmem_server.pipeline.consolidation.known import Known
from lightmem_server.pipeline.consolidation.model import Proposal
from lightmem_server.pipeline.consolidation.normalise import normalise
from lightmem_server.pipeline.consolidation.proposals import PROMPT, FactsPrompt
from tests.unit.pipeline.consolidation.conversation import turn

RELATIONS = FactsPrompt.load(PROMPT).by_name


def known_of(relation: str, said: str) -> Known:
    """Ana's one fact."""
    known = Known()
    told = turn(f"Ana: {said}", place=0)
    integrator = Integrator(known, RELATIONS, new_id=uuid.uuid4, now=0, count_tokens=len)
    integrator.add(Proposal("Ana", relation, said, "", (told.id,)), told, None)
    return known


@pytest.mark.parametrize(
    ("relation", "said", "line"),
    [
        ("allergic_to", "nuts", "Ana: Turns out I'm not allergic to nuts after all!"),
        ("lives_in", "Lisbon", "Ana: I no longer live in Lisbon, we moved in May."),
        ("works_at", "Corner Loaf", "Ana: I quit my job at Corner Loaf last week."),
        ("plans", "trip to Rome", "Ana: We cancelled the trip to Rome."),
        ("plans", "trip to Rome", "Ana: The trip to Rome was called off."),
        ("likes", "running", "Ana: I don't like running anymore."),
        ("has", "two cats", "Ana: I don't have two cats any more, Momo died."),
        ("studies", "law", "Ana: I stopped studying law."),
    ],
)
def test_found(relation: str, said: str, line: str) -> None:
    ((denial, text),) = find_denials(normalise([turn(line, place=5)]), known_of(relation, said), RELATIONS)
    assert denial.turn.id == uuid.UUID(int=6)
    assert text.startswith("No longer: Ana")


@pytest.mark.parametrize(
    ("relation", "said", "line"),
    [
        ("allergic_to", "nuts", "Ana: I don't have nuts at home."),
        ("allergic_to", "nuts", "Ana: Why am I not allergic to nuts?"),
        ("allergic_to", "nuts", "Ben: I'm not allergic to nuts."),
        ("allergic_to", "nuts", "Ana: My brother is not allergic to nuts."),
        ("allergic_to", "nuts", "Ana: I'm not allergic to milk."),
        ("allergic_to", "nuts", "Assistant: You are no longer allergic to nuts."),
        ("lives_in", "Lisbon", "Ana: If I no longer live in Lisbon next year, I'll miss it."),
        ("lives_in", "Lisbon", "Ana: I can't wait to be back in Lisbon, where I live."),
        ("did", "ran a marathon", "Ana: I no longer run: I ran a marathon and that was enough."),
        ("dislikes", "getting up early", "Ana: I don't like getting up early."),
        ("likes", "tea", "Ana: I like tea."),
    ],
)
def test_not_found(relation: str, said: str, line: str) -> None:
    assert find_denials(normalise([turn(line, place=5)]), known_of(relation, said), RELATIONS) == []


def test_a_turn_from_before_denies_nothing() -> None:
    before = turn("Ana: I'm not allergic to nuts.", place=0, at=1)
    assert find_denials(normalise([before]), known_of("allergic_to", "nuts"), RELATIONS) == []
