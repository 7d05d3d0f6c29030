"""What somebody has, in words."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.consolidation.gate import statement
from lightmem_server.pipeline.consolidation.model import Proposal
from lightmem_server.pipeline.consolidation.phrasing import name_what
from lightmem_server.pipeline.consolidation.proposals import PROMPT, FactsPrompt

RELATIONS = FactsPrompt.load(PROMPT).by_name


@pytest.mark.parametrize(
    ("said", "phrase"),
    [
        ("dog Biscuit", "a dog, Biscuit"),
        ("older brother Elias", "an older brother, Elias"),
        ("sister", "a sister"),
        ("aunt", "an aunt"),
        ("mother-in-law", "a mother-in-law"),
        ("sister who lives in Rome", "a sister who lives in Rome"),
        ("Golden Retriever puppy Max", "a Golden Retriever puppy, Max"),
        ("boat, Halcyon", "a boat, Halcyon"),
        ("cats Luna and Milo", "cats, Luna and Milo"),
        ("boats Halcyon and Argo", "boats, Halcyon and Argo"),
        ("kids", "kids"),
        ("two dogs", "two dogs"),
        ("3 sisters", "3 sisters"),
        ("a small grey cat", "a small grey cat"),
        ("their own studio", "their own studio"),
        ("insomnia", "insomnia"),
        ("new car", "new car"),
        ("job at Siemens", "job at Siemens"),
        ("dog named Max", "a dog named Max"),
        ("Toyota", "Toyota"),
        ("", ""),
    ],
)
def test_an_article_stands_where_english_wants_one(said: str, phrase: str) -> None:
    assert name_what(said) == phrase


def test_a_bare_name_is_said_to_be_what_the_relation_says() -> None:
    assert name_what("Ravi", noun="friend") == "a friend, Ravi"
    assert name_what("Mia and Tom", noun="aunt") == "an aunt, Mia and Tom"
    assert name_what("old friend Ravi", noun="friend") == "an old friend, Ravi"


@pytest.mark.parametrize(
    ("relation", "said", "text"),
    [
        ("has", "dog Biscuit", "Ana has a dog, Biscuit"),
        ("family", "brother Elias", "Ana has a brother, Elias"),
        ("family", "Elias", "Ana has a relative, Elias"),
        ("friend", "Ravi", "Ana has a friend, Ravi"),
        ("likes", "dog parks", "Ana likes dog parks"),
        ("did", "went to Rome", "Ana went to Rome"),
        ("did", "visited Oslo", "Ana visited Oslo"),
        ("did", "a trip to Rome", "Ana: a trip to Rome"),
        ("unheard_of", "x", "Ana: x"),
    ],
)
def test_statements_read_as_sentences(relation: str, said: str, text: str) -> None:
    assert statement(Proposal("Ana", relation, said, "", (), ""), RELATIONS) == text


@given(st.text("aAbB ,'-1\u2019\u00e9", max_size=30), st.sampled_from(["", "friend"]))
def test_no_word_is_lost_and_none_comes_in(said: str, noun: str) -> None:
    words = re.findall(r"[^\s,]+", name_what(said, noun))
    assert [word for word in words if word not in ("a", "an", noun)] == [
        word for word in re.findall(r"[^\s,]+", said) if word not in ("a", "an", noun)
    ]
