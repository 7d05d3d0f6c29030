"""What is planned, and what is only hoped, promised, guessed or done now."""

from __future__ import annotations

import pytest

from tests.unit.pipeline.consolidation.conversation import fate


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("I'm going to open a bakery.", "plans | open a bakery"),
        ("I'm going to talk to my boss, get advice and sell the van.", "plans | sell the van"),
        ("We're planning a street party.", "plans | street party"),
        ("I'm moving to Faro.", "plans | moving to Faro"),
        ("I'm changing jobs soon.", "plans | changing jobs"),
        ("I'm baking with two friends next weekend.", "plans | baking with two friends"),
        ("I'll paint the kitchen tomorrow.", "plans | paint the kitchen"),
        ("I'm hoping to visit Oslo next month.", "plans | visit Oslo"),
        ("I've signed up for a sailing course.", "plans | sailing course"),
        ("My plan is to sell the van.", "plans | sell the van"),
        ("I start at the bakery tomorrow.", "plans | start at the bakery"),
        ("I've got a chess match next week.", "plans | chess match"),
    ],
)
def test_a_plan_is_kept(said: str, fact: str) -> None:
    assert fate(said, fact) == "kept"


def test_what_is_said_of_the_plans_object_is_no_plan() -> None:
    said = "I signed up for a sailing course that begins in May."
    assert fate(said, "plans | sailing course begins") == "unsupported_object"


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("I'll definitely check out the bakery.", "plans | check out the bakery"),
        ("I'll do my best.", "plans | do my best"),
        ("I'm hoping for some good news soon.", "plans | good news"),
        ("I'm looking forward to baking more soon.", "plans | baking more"),
        ("I want to visit Oslo later.", "plans | visit Oslo"),
        ("Hoping my play gets noticed.", "plans | getting noticed"),
        ("I want to help people.", "plans | help people"),
        ("I'm thinking of joining a choir.", "plans | joining a choir"),
        ("I'm working with a local choir.", "plans | working with a local choir"),
        ("We'll make some great memories.", "plans | make some great memories"),
        ("I'm going to miss the old bakery.", "plans | miss the old bakery"),
        ("I'm going to ask for advice, given my bad knee.", "plans | given my bad knee"),
        ("I'm going to need new shoes.", "plans | need new shoes"),
        ("I want to see what we can sell.", "plans | see what we can sell"),
    ],
)
def test_hopes_promises_and_what_is_done_now_are_no_plans(said: str, fact: str) -> None:
    assert fate(said, fact) == "not_done"
