"""Homes, work, studies: the words that say so have to lead to what is named."""

from __future__ import annotations

import pytest

from tests.unit.pipeline.consolidation.conversation import fate


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("I moved with my two cats to Faro.", "lives_in | Faro"),
        ("My new flat is in Braga.", "lives_in | Braga"),
        ("I live in a quiet village.", "lives_in | quiet village"),
        ("I work nights at a small hotel.", "works_at | small hotel"),
        ("I'm a nurse at the Carmo hospital.", "works_at | Carmo hospital"),
        ("I got a job at a small bike workshop, Wielhof.", "works_at | Wielhof"),
        ("I joined Wielhof as an engineer.", "works_at | Wielhof"),
        ("I'm studying marine biology.", "studies | marine biology"),
        ("I have a degree in marine biology.", "studies | marine biology"),
        ("I'm allergic to nuts, dust and cats.", "allergic_to | cats"),
        ("I speak Dutch and some German.", "speaks | German"),
        ("I was born in Utrecht.", "from | Utrecht"),
        ("I've been working on a new bridge.", "works_on | new bridge"),
    ],
)
def test_what_the_words_lead_to_is_kept(said: str, fact: str) -> None:
    assert fate(said, fact) == "kept"


@pytest.mark.parametrize(
    ("said", "fact"),
    [
        ("I've been working on youth sports and fighting for fair chances.", "works_at | fair chances"),
        ("I won a place as an artist in residence, in a town in Iceland.", "works_at | Iceland"),
        ("I'm in an artist residency in Iceland.", "works_at | Iceland"),
        ("I live life in the moment.", "lives_in | moment"),
        ("I live for my work, I saw a film in Faro.", "lives_in | film in Faro"),
        ("I study at night with a view of Porto.", "studies | Porto"),
        ("I was allergic when I ate out with cats around.", "allergic_to | cats"),
        ("I've been studying, attending talks, and sleeping.", "studies | attending talks"),
        ("I was working on a new bridge.", "works_on | new bridge"),
        ("I speak with my boss about Dutch ships.", "speaks | Dutch ships"),
        ("I'm from a family that moved to Utrecht.", "from | Utrecht"),
    ],
)
def test_what_only_stands_near_is_refused(said: str, fact: str) -> None:
    assert fate(said, fact) in ("ungoverned", "wrong_relation", "dangling", "not_done")
