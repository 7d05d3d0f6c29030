"""Deeds and feelings: kept where the verb is plainly the subject's and the object whole, refused where it isn't."""

from __future__ import annotations

import pytest

from lightmem_server.pipeline.consolidation.government import form_of
from lightmem_server.pipeline.consolidation.words import split_words
from tests.unit.pipeline.consolidation.conversation import fate

PAIRS = [
    ("I baked a lemon cake.", "did | baked a lemon cake"),
    ("I finally sold my old bike yesterday.", "did | sold bike"),
    ("I've just finished a long novel.", "did | finished a long novel"),
    ("We packed the van and drove to Porto.", "did | drove to Porto"),
    ("I washed the dog, cut its nails, and cleaned the van.", "did | cleaned the van"),
    ("Lost my keys at the fair.", "did | lost keys at the fair"),
    ("I've been rehearsing a play with my choir.", "did | rehearsed a play with my choir"),
    ("I had a long talk with my boss.", "did | had a long talk with boss"),
    ("I helped my brother paint his boat.", "did | helped my brother paint his boat"),
    ("I sold the old boat to a friend.", "did | sold the old boat to a friend"),
    ("I graduated last week.", "did | graduated"),
    ("I'm sure that I graduated last week.", "did | graduated"),
    ("I used to play an old oboe.", "other | used to play an old oboe"),
    ("I painted this old boat for the harbour.", "did | painted old boat for the harbour"),
    ("My car broke down in Faro.", "other | car broke down in Faro"),
    ("I usually play chess on Mondays.", "other | plays chess"),
    ("I've got mild asthma.", "other | has mild asthma"),
    ("I'm a bit tired.", "feels | tired"),
    ("I feel really proud of my team.", "feels | proud of my team"),
    ("My brother paid for his own boat.", "family | brother"),
]
REFUSED = [
    ("I wrote a song that won a prize.", "did | won a prize", "ungoverned"),
    ("I'm learning how to weld.", "did | learned how to weld", "ungoverned"),
    ("It's like when I win a race.", "did | won a race", "ungoverned"),
    ("I was accepted for a course in Porto.", "did | accepted course in Porto", "unsupported_object"),
    ("I was hired by a bakery.", "did | hired by a bakery", "ungoverned"),
    ("I thought I lost my keys.", "did | lost my keys", "ungoverned"),
    ("It's like I won the lottery.", "did | won the lottery", "ungoverned"),
    ("I wanted to paint the boat.", "did | wanted to paint the boat", "not_done"),
    ("I read a book that really moved me.", "other | moved me", "ungoverned"),
    ("I scored nine points, my highest ever.", "other | highest ever", "ungoverned"),
    ("My goal is to bake a cake a day.", "other | goal bake a cake a day", "ungoverned"),
    ("I bet the cake tastes great.", "other | bet the cake tastes great", "ungoverned"),
    ("It feels like I'm stuck.", "feels | stuck", "ungoverned"),
    ("I'm living my dreams now.", "feels | living my dreams", "ungoverned"),
    ("I named her Tilly.", "did | named Tilly", "incomplete"),
    ("I got my turtles a new friend and I got them a toy.", "did | got a toy", "unsupported_object"),
    ("I'm proud of what you did.", "other | proud of what she did", "unsupported_object"),
    ("I totally agree, Ben.", "other | agree Ben", "unsupported_object"),
    ("I carried them home.", "did | carried home", "unsupported_object"),
    ("I pitched it to two bakers.", "did | pitched it to two bakers", "incomplete"),
    ("I read that book.", "other | read book", "incomplete"),
    ("We saw each other.", "did | saw each other", "incomplete"),
    ("I had a blast there.", "did | had a blast there", "incomplete"),
    ("I adopted her two weeks ago.", "did | adopted her", "incomplete"),
    ("I borrowed his boat.", "did | borrowed his boat", "incomplete"),
    ("I started last week.", "did | started", "incomplete"),
    ("I fell off a ladder.", "did | fell ladder", "unsupported_object"),
    ("I saw the picture you took.", "did | saw picture", "incomplete"),
    ("I've been playing since high school.", "did | played since high school", "incomplete"),
    ("I moved in ages ago.", "did | moved in ages ago", "incomplete"),
    ("I believe in us.", "other | believe in us", "incomplete"),
    ("I worked on for a while, and I was glad.", "did | worked on for a while", "incomplete"),
    ("Here's the lamp that I bought last week.", "did | bought", "incomplete"),
    ("I love the lamp I bought last week.", "did | bought", "incomplete"),
    ("I used to play some chess games.", "other | used to play", "incomplete"),
    ("I was collecting stamps.", "other | collects stamps", "ungoverned"),
    ("I opened a coffee shop.", "did | opened a coffee", "incomplete"),
]


@pytest.mark.parametrize(("said", "fact"), PAIRS)
def test_what_the_subject_plainly_does_is_kept(said: str, fact: str) -> None:
    assert fate(said, fact) == "kept"


@pytest.mark.parametrize(("said", "fact", "reason"), REFUSED)
def test_what_hangs_on_other_words_is_refused(said: str, fact: str, reason: str) -> None:
    assert fate(said, fact) == reason


@pytest.mark.parametrize(
    ("word", "form"), [("baked", "past"), ("held", "past"), ("cut", "past"), ("bed", "plain"), ("baking", "ing")]
)
def test_a_verbs_form_is_told_by_its_ending(word: str, form: str) -> None:
    assert form_of(split_words(word)[0]) == form
