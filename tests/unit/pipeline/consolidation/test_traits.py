"""What somebody is, has and does by habit, by patterns."""

from __future__ import annotations

import pytest

from tests.unit.pipeline.consolidation.conversation import facts


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("I'm vegetarian.", "Ana is vegetarian"),
        ("Well, I'm also left-handed.", "Ana is left-handed"),
        ("I'm lactose intolerant, so no cream.", "Ana is lactose intolerant"),
        ("I have asthma.", "Ana has asthma"),
        ("I've got type 1 diabetes.", "Ana has type 1 diabetes"),
        ("I'm training for a marathon!", "Ana is training for a marathon"),
        ("I was born in 1988.", "Ana was born in 1988"),
        ("My birthday is on 4 July.", "Ana's birthday is on 4 July"),
        ("My budget is 500 euros.", "Ana's budget is 500 euros"),
        ("I go by Ro.", "Ana goes by Ro"),
        ("I don't eat pork.", "Ana doesn't eat pork"),
        ("I never fly.", "Ana never flies"),
        ("I play the guitar.", "Ana plays the guitar"),
        ("I play tennis every Tuesday.", "Ana plays tennis every Tuesday"),
        ("I run every morning.", "Ana runs every morning"),
        ("I go to the gym three times a week.", "Ana goes to the gym three times a week"),
        ("I work from home on Fridays.", "Ana works from home on Fridays"),
        ("I always fly economy.", "Ana always flies economy"),
        ("I use Python mostly.", "Ana uses Python"),
        ("I drive a Volvo.", "Ana drives a Volvo"),
        ("My wife's name is Lena.", "Ana has a wife, Lena"),
    ],
)
async def test_a_trait_is_told(said: str, fact: str) -> None:
    assert await facts(f"Ana: {said}") == [fact]


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("My sister is a nurse.", "Ana's sister works as nurse"),
        ("My brother Ben lives in Porto.", "Ana's brother Ben lives in Porto"),
        ("My mother is allergic to nuts.", "Ana's mother is allergic to nuts"),
    ],
)
async def test_what_is_so_of_a_relative_is_told_of_them(said: str, fact: str) -> None:
    assert fact in await facts(f"Ana: {said}")


@pytest.mark.parametrize(
    "line",
    [
        "Ana: I'm not vegetarian.",
        "Ana: Are you vegetarian?",
        "Ana: I'm single-minded.",
        "Ana: I'm engaged in a project.",
        "Ana: I'm blind to it.",
        "Ana: If I'm pregnant, I'll tell you.",
        "Ana: I don't have asthma.",
        "Ben is vegan.",
        "Ana: Ben plays the guitar.",
        "Ana: I don't eat that.",
        "Ana: I don't drink much.",
        "Ana: I always call you.",
        "Ana: I never go there.",
        "Ana: I play with it.",
        "Ana: I use it every day.",
        "Ana: I'd run every morning if I could.",
        "Ana: I used to run every morning.",
        "Ana: My birthday is soon.",
        "Ana: My budget is gone.",
        "Ana: His budget is 500 euros.",
        "Ana: My boss's budget is 500 euros.",
        "Assistant: I use Python.",
        "Ana: Do I go to the gym every day?",
        "Ana: I'm saving for it.",
        "Ana: In my room I usually go to relax.",
    ],
)
async def test_what_is_no_trait_is_left_to_its_turn(line: str) -> None:
    assert await facts(line if ":" in line else f"Ana: {line}") == []
