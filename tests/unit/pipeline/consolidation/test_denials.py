"""What a turn takes back is found, and what only looks like it isn't."""

from __future__ import annotations

import uuid

import pytest

from lightmem_server.pipeline.consolidation.denials import find_denials, find_denials_aside
from lightmem_server.pipeline.consolidation.integrate import Integrator
from lightmem_server.pipeline.consolidation.known import Known
from lightmem_server.pipeline.consolidation.model import Proposal
from lightmem_server.pipeline.consolidation.normalise import normalise
from lightmem_server.pipeline.consolidation.proposals import PROMPT, FactsPrompt
from tests.unit.pipeline.consolidation.conversation import turn
from tests.unit.pipeline.consolidation.heartbeat import beats_during

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
        ("lives_in", "Lisbon", "Ana: I moved from Lisbon to Braga."),
        ("lives_in", "Lisbon", "Ana: I live in Braga, not in Lisbon."),
        ("works_at", "Airbus", "Ana: I left Airbus."),
        ("works_at", "Airbus", "Ana: I resigned from Airbus and now work at Thales."),
        ("allergic_to", "nuts", "Ana: The doctor says I don't have a nut allergy."),
        ("allergic_to", "nuts", "Ana: A specialist told me that I'm not allergic to nuts."),
        ("allergic_to", "nuts", "Ana: My nut allergy is gone."),
        ("allergic_to", "nuts", "Ana: Good news, the nut allergy was a false alarm."),
        ("allergic_to", "nuts", "Ana: The test came back: no nut allergy!"),
        ("allergic_to", "nuts", "Ana: I can eat nuts again!"),
        ("allergic_to", "nuts", "Ana: I was wrong about the nuts, I'm not allergic to them."),
        ("allergic_to", "nuts", "Ana: I'm allergic to soy, not nuts."),
        ("allergic_to", "nuts", "Ana: Actually, it's not nuts, I'm allergic to soy."),
        ("allergic_to", "nuts", "Ana: Not nuts, soy! I'm allergic to soy."),
        ("plans", "trip to Rome", "Ana: I'm not going to Rome after all."),
        ("plans", "trip to Rome", "Ana: I've decided not to go to Rome."),
        ("plans", "trip to Rome", "Ana: We cancelled our flights to Rome."),
        ("plans", "trip to Rome", "Ana: Rome isn't happening this year."),
        ("plans", "visit Rome", "Ana: The trip to Rome fell through."),
        ("plans", "visit Rome", "Ana: We won't visit Rome."),
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
        ("has", "dog", "Ana: I left my dog with a friend."),
        ("has", "dog", "Ana: I sold the dog basket."),
        ("lives_in", "Lisbon", "Ana: I left Lisbon at six this morning."),
        ("lives_in", "Lisbon", "Ana: It's not Lisbon."),
        ("allergic_to", "nuts", "Ana: Ben's nut allergy is gone."),
        ("allergic_to", "nuts", "Ana: His nut allergy was a false alarm."),
        ("allergic_to", "nuts", "Ana: The doctor says she has no nut allergy."),
        ("allergic_to", "nuts", "Ana: My mother says I'm not allergic to nuts."),
        ("allergic_to", "nuts", "Ana: The neighbour says I'm not allergic to nuts."),
        ("allergic_to", "nuts", "Ana: I'm not sure whether I'm allergic to nuts."),
        ("allergic_to", "nuts", "Ana: I can't eat nuts."),
        ("allergic_to", "nuts", "Ana: I'm allergic to nuts, not to dust."),
        ("allergic_to", "nuts", "Ana: My brother is allergic to soy, not nuts."),
        ("plans", "trip to Rome", "Ana: We didn't cancel the trip to Rome."),
        ("plans", "trip to Rome", "Ana: We cancelled the Rome guide subscription."),
        ("plans", "trip to Rome", "Ana: I'm not going to pack for Rome until Monday."),
        ("plans", "trip to Rome", "Ana: I won't visit Ostia when we're in Rome."),
        ("plans", "trip to Rome", "Ana: My sister cancelled her trip to Rome."),
    ],
)
def test_not_found(relation: str, said: str, line: str) -> None:
    assert find_denials(normalise([turn(line, place=5)]), known_of(relation, said), RELATIONS) == []


def test_a_turn_from_before_denies_nothing() -> None:
    before = turn("Ana: I'm not allergic to nuts.", place=0, at=1)
    assert find_denials(normalise([before]), known_of("allergic_to", "nuts"), RELATIONS) == []


async def test_a_long_turn_does_not_hold_the_event_loop() -> None:
    said = normalise([turn("Ana: " + "I have nuts here. " * 1500, place=5)])
    assert await beats_during(find_denials_aside(said, known_of("allergic_to", "nuts"), RELATIONS)) > 100
