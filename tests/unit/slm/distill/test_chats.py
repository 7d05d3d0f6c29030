"""The chats that were written for the recipe, and how they are read."""

from __future__ import annotations

import pytest

from lightmem_server.errors import InvalidInputError
from lightmem_server.slm.distill.chats import join_chats, parse_chat, read_chats, read_joined
from lightmem_server.slm.distill.sets import Part

CHAT = """@ Ana | Ben
## 1 | 12 March 2024
Ana: We got the keys on Friday! When do you move?

Ben: In June: the 3rd.
## 2 | 3 April 2024
Ben: I live in Cork now.
??
1.1 | When did Ana get her keys?
1.2, 2.1 | Where did Ben move, and when?
- | What is the name of Ana's brother?
"""


def test_a_chat_is_read_as_turns_behind_the_question_before_them() -> None:
    keys, move, brother = parse_chat("home_1", CHAT)
    assert keys.passages == (
        "Ana: We got the keys on Friday! When do you move?",
        "Ana: When do you move? | Ben: In June: the 3rd.",
        "Ben: I live in Cork now.",
    )
    assert keys.question == "When did Ana get her keys?"
    assert keys.positives == {0}
    assert move.positives == {1, 2}
    assert brother.positives == set()
    assert keys.group == move.group == "home_1"
    assert keys.question_id != move.question_id


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("@ Ana | Ben", "@ Ana", "two people"),
        ("??\n", "", "questions"),
        ("Ben: In June", "Bea: In June", "Bea: In June"),
        ("1.1 |", "1.3 |", "1.3"),
        ("1.1 |", "one |", "one"),
        ("her keys?", "her keys.", "her keys."),
    ],
)
def test_what_is_not_of_this_form_is_refused(before: str, after: str, said: str) -> None:
    with pytest.raises(InvalidInputError, match=said):
        list(parse_chat("home_1", CHAT.replace(before, after)))


def test_every_chat_that_the_recipe_brings_can_be_read() -> None:
    asked = list(read_chats())
    groups = {one.group for one in asked}
    assert len(groups) >= 40
    assert {one.part for one in asked} == set(Part)
    for group in groups:
        of_chat = [one for one in asked if one.group == group]
        assert len({one.part for one in of_chat}) == 1
        assert len(of_chat) >= 40
        assert len(of_chat[0].passages) >= 30
        unanswered = sum(not one.positives for one in of_chat)
        assert 0.08 < unanswered / len(of_chat) < 0.25


def test_joined_chats_are_those_of_two_people_and_answers_stay_with_their_questions() -> None:
    other = CHAT.replace("Ana", "Cem").replace("Ben", "Ana").replace("Cork", "Cemetery Road with DiAna")
    asked = list(join_chats("home", {"home_1": CHAT, "home_2": other}))
    assert {one.passages for one in asked} == {
        (
            "Ana: We got the keys on Friday! When do you move?",
            "Ana: When do you move? | Ben: In June: the 3rd.",
            "Ben: I live in Cork now.",
            "Ana: We got the keys on Friday! When do you move?",
            "Ana: When do you move? | Ben: In June: the 3rd.",
            "Ben: I live in Cemetery Road with DiAna now.",
        )
    }
    assert [(one.question, one.positives) for one in asked] == [
        ("When did Ana get her keys?", {0}),
        ("Where did Ben move, and when?", {1, 2}),
        ("When did Ana get her keys?", {3}),
        ("Where did Ben move, and when?", {4, 5}),
    ], "what no turn of its own chat answers, another may"
    assert {(one.corpus, one.part) for one in asked} == {("chats_joined/home", Part.TRAIN)}


def test_only_chats_for_training_are_joined() -> None:
    joined = list(read_joined())
    of_training = {one.question_id for one in read_chats() if one.part is Part.TRAIN and one.positives}
    assert {one.question_id for one in joined} == of_training
    for one in joined:
        assert len({passage.partition(": ")[0] for passage in one.passages if " | " not in passage}) == 2
        assert len(one.passages) > 100
