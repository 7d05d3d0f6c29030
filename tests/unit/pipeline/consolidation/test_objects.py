"""Tastes, possessions and occupations: the object of their verb is kept, what only stands near it isn't."""

from __future__ import annotations

import pytest

from tests.unit.pipeline.consolidation.conversation import fate


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("I love jazz, old films and long walks.", "likes | long walks"),
        ("I've always liked turtles.", "likes | turtles"),
        ("I'm a huge fan of chess.", "likes | chess"),
        ("My favourite dish is the amazing lasagne.", "likes | lasagne"),
        ("Baking bread is my passion.", "likes | baking bread"),
        ("I think about my love for dance.", "likes | dance"),
        ("I like to collect stamps.", "likes | collect stamps"),
        ("I hike and love cold rivers.", "likes | cold rivers"),
        ("I love stories that matter.", "likes | stories that matter"),
        ("I don't like crowded trains.", "dislikes | crowded trains"),
        ("I've got a small boat.", "has | a small boat"),
        ("I have my dad's watch.", "has | dad's watch"),
        ("My mother lost her job.", "family | mother"),
        ("My online shop is doing well.", "has | online shop"),
        ("Look, here's our dog!", "has | dog"),
        ("I work as a night porter.", "works_as | night porter"),
        ("I'm now a nurse in Faro.", "works_as | nurse"),
    ],
)
def test_the_object_of_the_verb_is_kept(said: str, fact: str) -> None:
    assert fate(said, fact) == "kept"


@pytest.mark.parametrize(
    ("said", "fact", "reason"),
    [
        ("I like having them around to keep me calm.", "likes | calm", "ungoverned"),
        ("I recommend something like these for times of stress.", "likes | stress", "ungoverned"),
        ("I love seeing my dogs eat apples.", "likes | apples", "ungoverned"),
        ("I love talking to people about stamps.", "likes | stamps", "ungoverned"),
        ("I love a good tale with strong heroes.", "likes | strong heroes", "ungoverned"),
        ("I love the food, energy and light of this town.", "likes | energy", "ungoverned"),
        ("I loved fishing with my uncle when I was small.", "likes | fishing with my uncle", "ungoverned"),
        ("I'd love cold rivers.", "likes | cold rivers", "ungoverned"),
        ("I also like holding them.", "likes | holding", "incomplete"),
        ("I love coffee shops.", "likes | coffee", "incomplete"),
        ("I love the calm and freedom it brings.", "likes | freedom", "incomplete"),
        ("I've got something to share.", "has | something to share", "ungoverned"),
        ("I even have the whole collection!", "has | whole collection", "ungoverned"),
        ("It's on my mind.", "has | mind", "wrong_subject"),
        ("I have developed a plan for my shop.", "has | developed a plan", "not_done"),
        ("I have a good feeling.", "has | a good feeling", "ungoverned"),
        ("I stayed near my mom's place.", "has | mom's place", "ungoverned"),
        ("I stayed near my mom's place.", "family | mom's place", "ungoverned"),
        ("That's my old home.", "has | old home", "ungoverned"),
        ("I lost my keys at work.", "has | keys", "ungoverned"),
        ("I go there for my mom, who passed away.", "family | mom", "ungoverned"),
        ("I lost my dad in May.", "family | dad", "ungoverned"),
        ("Our kids are our future.", "family | kids", "ungoverned"),
        ("I'm excited to mentor young dancers in my work.", "works_as | dancers", "ungoverned"),
        ("I'm really enjoying my new job.", "works_as | new job", "ungoverned"),
        ("I'm a mess.", "works_as | mess", "ungoverned"),
    ],
)
def test_what_only_stands_near_is_refused(said: str, fact: str, reason: str) -> None:
    assert fate(said, fact) == reason


def test_an_answer_takes_its_verb_from_the_question() -> None:
    assert fate("Lasagne!", "likes | lasagne", "Ben: What do you like to eat?") == "kept"
    assert fate("Oh, it's like meditation.", "likes | meditation", "Ben: Do you like your work?") != "kept"
    assert fate("Look at that lovely photo.", "likes | looking at photos", "Ben: Do you like old photos?") != "kept"
