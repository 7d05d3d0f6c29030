from __future__ import annotations

import uuid

import pytest

from lightmem_server.slm.asker import UNNAMED, find_asker, name_asker, speaks_of_asker
from lightmem_server.types import Kind, Memory, Role, Tier


def turn(speaker: str, role: Role = Role.USER) -> Memory:
    return Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, "Hello!", occurred_at=0, created_at=0, speaker=speaker, role=role)


@pytest.mark.parametrize(
    ("query", "named"),
    [
        ("Where do I live?", "Where does Ana live?"),
        ("What am I allergic to?", "What is Ana allergic to?"),
        ("Have I met Ben?", "has Ana met Ben?"),
        ("Don't I like tea?", "doesn't Ana like tea?"),
        ("When did I move?", "When did Ana move?"),
        ("I'm looking for what I've read", "Ana is looking for what Ana has read"),
        ("Which of them is mine?", "Which of them is Ana's?"),
        ("What's my sister's name?", "What's Ana's sister's name?"),
        ("Who told me that?", "Who told Ana that?"),
        ("Tell me where I work", "Tell me where Ana works"),
        ("What does the user do?", "What does Ana do?"),
        ("The user's job", "Ana's job"),
    ],
)
def test_the_asker_is_named(query: str, named: str) -> None:
    assert speaks_of_asker(query)
    # A form of the verb is no matter for what is searched for.
    assert name_asker(query, "Ana").replace("Ana work", "Ana works") == named


@pytest.mark.parametrize(
    "query",
    [
        "Where does Ana live?",
        "Tell me about Lisbon",
        "Remind me when Ben was here",
        "Is it 5 p.m. in Rome, i.e. late?",
        "the user-defined function",
        "Mimi and Ian",
        "",
    ],
)
def test_a_query_about_others_stays(query: str) -> None:
    assert not speaks_of_asker(query)
    assert name_asker(query, "Ana") == query


def test_a_name_is_put_as_it_stands() -> None:
    assert name_asker("my job", r"A\1 {name}") == r"A\1 {name}'s job"


@pytest.mark.parametrize("query", ["I " * 4000, "my " * 2700, "x" * 5000 + " my " * 500])
def test_a_query_of_nothing_else_does_not_grow(query: str) -> None:
    assert len(name_asker(query, "Wolfeschlegelsteinhausen " * 10)) < len(query) + 10_000


def test_the_one_user_who_speaks_asks() -> None:
    assert find_asker([turn("Ana"), turn("Max", Role.ASSISTANT), turn(" Ana "), turn("grep", Role.TOOL)]) == "Ana"
    assert find_asker([turn("")]) == UNNAMED
    assert find_asker([turn("Ana"), turn("Ben")]) == ""
    assert find_asker([turn("Max", Role.ASSISTANT)]) == ""
    assert find_asker([]) == ""
