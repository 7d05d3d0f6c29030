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
        for text in (form.opening, form.answer, form.question, form.first)
        for slot in re.findall(r"\{(\w+)\}", text)
    }
    assert used - {"X"} == set(SLOTS)


def test_a_question_has_one_answer_or_none_and_the_asking_turn_is_not_it() -> None:
    for asked in WRITTEN:
        assert len(asked.positives) <= 1
        for position in asked.positives:
            assert position % 2 == 1, "two turns each: who asks is first"
    unanswered = sum(not asked.positives for asked in WRITTEN)
    assert unanswered / len(WRITTEN) == 2 / 9


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
