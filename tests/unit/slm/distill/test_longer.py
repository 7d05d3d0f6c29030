"""Turns that are joined to longer ones."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.slm.distill.longer import join_turns, with_longer_turns
from lightmem_server.slm.distill.sets import Asked, Part


@given(st.lists(st.text("ab c", min_size=1, max_size=5), min_size=1, max_size=30), st.integers(0, 99))
def test_all_that_was_said_is_said_in_order_by_whoever_began(said: list[str], seed: int) -> None:
    turns = [f"P{number}: {text}" for number, text in enumerate(said)]
    longer, places = join_turns(turns, random.Random(seed))
    assert list(places) == list(range(len(turns)))
    for place, turn in enumerate(longer):
        joined = [number for number, at in places.items() if at == place]
        assert turn == f"P{joined[0]}: " + " ".join(said[number] for number in joined)
        assert len(joined) <= 4


def test_questions_of_one_dialogue_are_asked_of_the_same_turns_and_their_answers_are_found_again() -> None:
    turns = ("Ana: Hi. Where to?", "Ana: Where to? | Ben: Graz.", "Cem: And I to Cork.", "Ana: Me too.", "Ben: So far!")
    asked = [
        Asked("talk", "scene", Part.TRAIN, f"q{n}", f"What is {n}?", turns, frozenset(positives))
        for n, positives in enumerate([{1}, {2, 4}, set()])
    ]
    longer = list(with_longer_turns(asked, "talk_longer", seed=1))
    assert len({one.passages for one in longer}) == 1
    passages = longer[0].passages
    assert len(passages) < len(turns)
    assert {one.set_name for one in longer} == {"talk_longer"}
    assert [passages[position] for position in longer[0].positives] == [one for one in passages if "Graz." in one]
    assert all("|" not in passage.rpartition(" | ")[2] for passage in passages)
    assert {passages[position] for position in longer[1].positives} == {
        one for one in passages if "Cork" in one or "far!" in one
    }
    assert longer[2].positives == set()
    assert longer == list(with_longer_turns(asked, "talk_longer", seed=1)), "the same seed joins the same"
