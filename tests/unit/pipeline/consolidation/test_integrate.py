"""Facts are added, reinforced, superseded and ended, and nothing that was known is lost."""

from __future__ import annotations

import itertools
import uuid
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.consolidation.integrate import ENDED, MOST_EVIDENCE, Action, Denial, Integrator
from lightmem_server.pipeline.consolidation.known import Known
from lightmem_server.pipeline.consolidation.model import Proposal
from lightmem_server.pipeline.consolidation.proposals import PROMPT, FactsPrompt
from lightmem_server.slm.time_window import EPOCH, MICROSECOND, to_micros
from lightmem_server.types import Memory
from tests.unit.pipeline.consolidation.conversation import turn

RELATIONS = FactsPrompt.load(PROMPT).by_name
DAY = 86_400_000_000


def day(number: int) -> int:
    """Days after 1 May 2022, noon."""
    return to_micros(datetime(2022, 5, 1, 12, tzinfo=UTC)) + number * DAY


class Life:
    """One user's facts, told day by day."""

    def __init__(self) -> None:
        self.known = Known()
        numbers = itertools.count(1_000)
        self.integrator = Integrator(
            self.known, RELATIONS, new_id=lambda: uuid.UUID(int=next(numbers)), now=day(999), count_tokens=len
        )
        self._turns = itertools.count(1)

    def tell(self, subject: str, relation: str, said: str, *, on: int, since: int | None = None) -> Action:
        """A grounded proposal of a turn on that day, about a time that began on another."""
        place = next(self._turns)
        said_by = turn(f"{subject}: {said}", place=place, at=day(on) - place * 60_000_000)
        proposal = Proposal(
            subject,
            relation,
            said,
            "" if since is None else f"{EPOCH + day(since) * MICROSECOND:%Y-%m-%d}",
            (said_by.id,),
            valid_from=None if since is None else day(since),
            valid_to=None if since is None else day(since + 1),
        )
        return self.integrator.add(proposal, said_by, None)

    def holding(self, relation: str, *, on: int) -> list[str]:
        """Objects of the facts that hold on a day."""
        return [
            fact.statement.object
            for fact in self.known.facts.values()
            if fact.statement is not None and fact.statement.relation == relation and holds(fact, day(on))
        ]


def holds(fact: Memory, at: int) -> bool:
    """As searches filter."""
    return (fact.valid_from is None or fact.valid_from <= at) and (fact.valid_to is None or at < fact.valid_to)


def test_a_repetition_is_a_witness_and_no_second_fact() -> None:
    life = Life()
    assert life.tell("Ana", "likes", "green tea", on=0) is Action.ADD
    (fact,) = life.known.facts.values()
    assert life.tell("ana", "likes", "the green tea", on=3) is Action.REINFORCE
    (again,) = life.known.facts.values()
    assert again.id == fact.id
    assert len(again.evidence_ids) == 2
    assert again.confidence > fact.confidence


def test_the_same_turn_is_no_second_witness() -> None:
    life = Life()
    said_by = turn("Ana: I like tea.", place=7)
    proposal = Proposal("Ana", "likes", "tea", "", (said_by.id,))
    assert [life.integrator.add(proposal, said_by, None) for _ in range(2)] == [Action.ADD, Action.DROP]


def test_where_one_can_hold_the_newer_ends_the_older() -> None:
    life = Life()
    life.tell("Ana", "lives_in", "Lisbon", on=0)
    assert life.tell("Ana", "lives_in", "Porto", on=10, since=8) is Action.SUPERSEDE
    assert [life.holding("lives_in", on=on) for on in (7, 8, 99)] == [["Lisbon"], ["Porto"], ["Porto"]]
    old, new = life.known.facts.values()
    assert new.supersedes_ids == (old.id,)


def test_moving_back_is_a_fact_of_its_own() -> None:
    life = Life()
    for on, city in enumerate(("Lisbon", "Porto", "Lisbon")):
        life.tell("Ana", "lives_in", city, on=10 * on)
    assert [life.holding("lives_in", on=on) for on in (5, 15, 25)] == [["Lisbon"], ["Porto"], ["Lisbon"]]


def test_what_is_heard_late_holds_until_what_is_known() -> None:
    life = Life()
    life.tell("Ana", "lives_in", "Porto", on=20)
    life.tell("Ana", "lives_in", "Lisbon", on=30, since=0)
    assert [life.holding("lives_in", on=on) for on in (5, 25)] == [["Lisbon"], ["Porto"]]


def test_a_more_exact_word_for_the_same_place_is_no_move() -> None:
    life = Life()
    life.tell("Ana", "lives_in", "Lisbon", on=0)
    assert life.tell("Ana", "lives_in", "the old town of Lisbon", on=5) is Action.REINFORCE


def test_liking_and_disliking_the_same_exclude_each_other() -> None:
    life = Life()
    life.tell("Ana", "likes", "mushrooms", on=0)
    life.tell("Ana", "dislikes", "mushrooms", on=9)
    assert life.holding("likes", on=9) == []
    assert life.holding("likes", on=8) == ["mushrooms"]


def test_what_happens_twice_is_two_facts() -> None:
    life = Life()
    life.tell("Ana", "did", "ran a marathon", on=0)
    assert life.tell("Ana", "did", "ran a marathon", on=60) is Action.ADD


def test_a_plan_ends_with_the_time_that_it_is_for() -> None:
    life = Life()
    life.tell("Ana", "plans", "visit Rome", on=0, since=14)
    assert [life.holding("plans", on=on) for on in (1, 14, 15)] == [["visit Rome"], ["visit Rome"], []]


def test_what_was_done_and_is_planned_says_when() -> None:
    life = Life()
    life.tell("Ana", "did", "ran a marathon", on=3, since=2)
    life.tell("Ana", "plans", "visit Rome", on=3, since=14)
    life.tell("Ana", "likes", "running", on=3, since=1)
    life.tell("Ana", "did", "ran a race", on=3)
    assert [fact.text for fact in life.known.facts.values()] == [
        "Ana ran a marathon (2022-05-03)",
        "Ana plans: visit Rome (2022-05-15)",
        "Ana likes running",
        "Ana ran a race",
    ]


def test_a_plan_that_is_put_off_says_its_new_time() -> None:
    life = Life()
    life.tell("Ana", "plans", "visit Rome", on=0, since=14)
    assert life.tell("Ana", "plans", "visit Rome", on=10, since=20) is Action.REINFORCE
    (plan,) = life.known.facts.values()
    assert (plan.text, plan.token_count) == (text := "Ana plans: visit Rome (2022-05-21)", len(text))


def test_two_answers_of_one_turn_are_none() -> None:
    life = Life()
    said_by = turn("Ana: I live in Lisbon and in Porto.", place=3)
    for city in ("Lisbon", "Porto"):
        life.integrator.add(Proposal("Ana", "lives_in", city, "", (said_by.id,)), said_by, None)
    assert life.holding("lives_in", on=900) == ["Lisbon"]


def test_statements_that_the_embedder_cannot_tell_apart_are_one_fact() -> None:
    life = Life()
    vector = np.array([1, 0], np.float32)
    for place, (relation, said) in enumerate((("has", "two cats"), ("other", "keeps a pair of cats"))):
        said_by = turn(f"Ana: {said}", place=place)
        life.integrator.add(Proposal("Ana", relation, said, "", (said_by.id,)), said_by, vector)
    assert len(life.known.facts) == 1


def test_a_denial_ends_a_fact_and_says_so() -> None:
    life = Life()
    life.tell("Ana", "allergic_to", "nuts", on=0)
    (fact,) = life.known.facts.values()
    denial = Denial(fact.id, turn("Ana: I'm not allergic to nuts after all.", place=50, at=day(5)))
    assert life.integrator.end(denial, "No longer: Ana is allergic to nuts", None) is Action.END
    assert life.holding("allergic_to", on=4) == ["nuts"]
    assert life.holding("allergic_to", on=6) == []
    assert life.holding(ENDED, on=6) == ["allergic_to nuts"]
    assert life.integrator.end(denial, "again", None) is Action.DROP


def test_evidence_is_bounded_and_keeps_the_first_and_the_newest() -> None:
    life = Life()
    for on in range(MOST_EVIDENCE + 5):
        life.tell("Ana", "likes", "tea", on=on)
    (fact,) = life.known.facts.values()
    assert len(fact.evidence_ids) == MOST_EVIDENCE
    assert fact.evidence_ids[0] == uuid.UUID(int=2)
    assert fact.evidence_ids[-1] == uuid.UUID(int=MOST_EVIDENCE + 6)


def test_changes_are_versions_of_what_is_stored() -> None:
    life = Life()
    life.tell("Ana", "lives_in", "Lisbon", on=0)
    (first,), reasons = life.known.changes()
    assert first.version == 1
    assert reasons == {first.id: Action.ADD}
    assert life.known.changes() == ([], {})
    life.tell("Ana", "lives_in", "Porto", on=9)
    puts, reasons = life.known.changes()
    assert {put.id: (put.version, reasons[put.id]) for put in puts} == {
        first.id: (2, Action.SUPERSEDE),
        puts[-1].id: (1, Action.ADD),
    }


@given(
    told=st.lists(
        st.tuples(st.sampled_from(("Lisbon", "Porto", "Faro")), st.integers(0, 400), st.integers(0, 30)), max_size=25
    )
)
def test_one_place_holds_at_a_time_and_every_turn_stays_evidence(told: list[tuple[str, int, int]]) -> None:
    life = Life()
    for city, on, earlier in told:
        life.tell("Ana", "lives_in", city, on=on, since=on - earlier)
    for on in range(-30, 401, 5):
        assert len(life.holding("lives_in", on=on)) <= 1
    if told:
        assert len(life.holding("lives_in", on=500)) == 1
    for fact in life.known.facts.values():
        assert fact.valid_to is None or fact.valid_from is None or fact.valid_from <= fact.valid_to


@pytest.mark.parametrize("relation", sorted(RELATIONS))
def test_every_relation_names_only_relations_that_there_are(relation: str) -> None:
    assert RELATIONS[relation].opposes in ("", *RELATIONS)
