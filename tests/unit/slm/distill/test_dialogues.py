"""The dialogues that are written."""

from __future__ import annotations

import re

from lightmem_server.slm.distill.dialogues import FORMS, SLOTS, to_second_person, write_dialogues
from lightmem_server.slm.distill.sets import Part

WRITTEN = list(write_dialogues(60, seed=3))


def test_the_same_seed_writes_the_same() -> None:
    assert WRITTEN == list(write_dialogues(60, seed=3)) != list(write_dialogues(60, seed=4))


def test_forms_use_known_slots_and_every_slot_is_used() -> None:
    used = {
        slot
        for form in FORMS
        for text in (form.opening, form.answer, form.question, form.first, form.fact)
        for slot in re.findall(r"\{(\w+)\}", text)
    }
    assert used - {"X"} == set(SLOTS)


def test_an_answering_turn_stands_behind_the_one_who_asks_and_a_fact_of_it_answers_too() -> None:
    for asked in WRITTEN:
        turns = [passage for passage in asked.passages if ": " in passage and not is_fact(passage)]
        said, facts = (
            [position for position in asked.positives if (position < len(turns)) is is_turn]
            for is_turn in (True, False)
        )
        assert len(said) <= 1
        assert len(facts) <= len(said)
        assert all(position % 2 == 1 for position in said), "two turns each: who asks is first"
        assert all(is_fact(asked.passages[position]) for position in facts)
        assert all(is_fact(passage) for passage in asked.passages[len(turns) :])
    unanswered = sum(not asked.positives for asked in WRITTEN)
    assert unanswered / len(WRITTEN) == 2 / 9
    known = [asked for asked in WRITTEN if len(asked.positives) == 2]
    assert len(WRITTEN) / 3 < len(known) < len(WRITTEN) * 2 / 3


def is_fact(passage: str) -> bool:
    return re.match(r"(?:No longer: )?[A-Z]\w+ (?:plans: )?[a-z]", passage) is not None


def test_what_is_so_may_be_over_and_what_was_done_may_not() -> None:
    facts = {passage for asked in WRITTEN for passage in asked.passages if is_fact(passage)}
    over = [fact.split()[3].rstrip(":") for fact in facts if fact.startswith("No longer: ")]
    assert len(facts) / 30 < len(over) < len(facts) / 5
    assert {"lives", "works"} <= set(over) <= {fact.split()[1].rstrip(":") for fact in facts}
    assert not set(over) & {"bought", "paid", "painted", "got", "spent", "grew", "came"}


def test_dialogues_are_parted_whole() -> None:
    parts = {(asked.group, asked.part) for asked in WRITTEN}
    assert len(parts) == len({group for group, _ in parts})
    assert {part for _, part in parts} == set(Part)


def test_some_ask_in_the_first_and_some_in_the_second_person() -> None:
    words = [set(re.findall(r"\w+", asked.question)) for asked in WRITTEN]
    assert sum("I" in one or "my" in one or "me" in one for one in words) > len(words) / 8
    assert sum("you" in one or "your" in one for one in words) > len(words) / 16


def test_second_person() -> None:
    assert to_second_person("Where do I live?") == "Where do you live?"
    assert to_second_person("When is my niece coming?") == "When is your niece coming?"
    assert to_second_person("What am I reading?") == "What are you reading?"
    assert to_second_person("Who taught me?") == "Who taught you?"
