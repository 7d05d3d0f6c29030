"""The facts of the chats, and what is asked over them and the turns."""

from __future__ import annotations

import pytest

from lightmem_server.errors import InvalidInputError
from lightmem_server.slm.distill.chats import read_chats
from lightmem_server.slm.distill.facts import BESIDE, SET_NAME, ask_with_facts, read_with_facts
from lightmem_server.slm.distill.sets import Part

CHAT = """@ Ana | Ben
## 1 | 12 March 2024
Ana: We got the keys on Friday! When do you move?
Ben: In June: the 3rd.
## 2 | 3 April 2024
Ben: I live in Cork now, and the dog too.
??
1.1 | When did Ana get her keys?
1.2, 2.1 | Where did Ben move, and when?
- | What is the name of Ana's brother?
"""
FACTS = """= 1.2 | Ben plans: moving (2024-06-03)
When does Ben move?

= 2.1 | Ben lives in Cork
Where does Ben live?
Where did Ben move, and when?
= 1.2, 2.1 | Ben has a dog
Where does Ben live?
"""


def test_a_fact_answers_with_its_turns_or_with_those_of_a_question_of_the_chat() -> None:
    asked = list(ask_with_facts("home_1", CHAT, FACTS))
    turns = (
        "Ana: We got the keys on Friday! When do you move?",
        "Ana: When do you move? | Ben: In June: the 3rd.",
        "Ben: I live in Cork now, and the dog too.",
    )
    facts = ("Ben plans: moving (2024-06-03)", "Ben lives in Cork", "Ben has a dog")
    assert {one.passages for one in asked} == {(*turns, *facts)}
    assert {(one.set_name, one.question, one.positives, one.uncertain) for one in asked} == {
        (SET_NAME, "When does Ben move?", frozenset({1, 3}), frozenset()),
        (SET_NAME, "Where does Ben live?", frozenset({1, 2, 4, 5}), frozenset()),
        (SET_NAME, "Where did Ben move, and when?", frozenset({1, 2, 4}), frozenset()),
        (BESIDE, "When did Ana get her keys?", frozenset({0}), frozenset()),
        (BESIDE, "What is the name of Ana's brother?", frozenset(), frozenset()),
    }
    assert len({one.question_id for one in asked}) == len(asked)


def test_whether_a_fact_of_an_answer_answers_too_is_not_known() -> None:
    asked = {
        one.question: one for one in ask_with_facts("home_1", CHAT, FACTS.replace("Where did Ben move, and when?", ""))
    }
    move = asked["Where did Ben move, and when?"]
    assert (move.set_name, move.positives, move.uncertain) == (BESIDE, {1, 2}, {3, 4, 5})


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("= 1.2 | Ben plans", "Ben plans", "neither a fact nor a question"),
        ("When does Ben move?", "When does Ben move", "neither a fact nor a question"),
        ("= 2.1 |", "= 2.2 |", "2.2"),
        ("= 2.1 |", "= two |", "two"),
    ],
)
def test_what_is_not_of_this_form_is_refused(before: str, after: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        list(ask_with_facts("home_1", CHAT, FACTS.replace(before, after)))


def test_facts_that_the_recipe_brings_can_be_read_and_are_of_the_part_of_their_chat() -> None:
    parts = {one.group: one.part for one in read_chats()}
    asked = list(read_with_facts())
    groups = {one.group for one in asked}
    assert len(groups) >= 50
    assert all(one.part is parts[one.group] for one in asked)
    answered = [one for one in asked if one.set_name == SET_NAME]
    assert {one.part for one in answered} == set(Part)
    for group in groups:
        assert len({one.passages for one in asked if one.group == group}) == 1
    ended = [one for one in answered if any(one.passages[at].startswith("No longer: ") for at in one.positives)]
    assert len(ended) > len(groups) / 2
    own = {(one.group, one.question): one.positives for one in read_chats()}
    for one in asked:
        assert own.get((one.group, one.question), frozenset()) <= one.positives
