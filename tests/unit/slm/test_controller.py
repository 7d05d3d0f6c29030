import uuid

import pytest

from lightmem_server.slm.controller import complete_query, find_names, make_plan, needs_conversation
from lightmem_server.types import Kind, Memory, Role, Tier


def turn(text: str, role: Role = Role.USER) -> Memory:
    return Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, text, occurred_at=0, created_at=0, role=role)


@pytest.mark.parametrize("query", ["and her sister?", "What about the other one?", "Where does she work?", "Why?"])
def test_a_query_that_refers_back_needs_the_conversation(query: str) -> None:
    assert needs_conversation(query)


@pytest.mark.parametrize("query", ["Where does Ana live now?", "Which pottery class did Ben take in Porto?"])
def test_a_query_that_stands_alone_does_not(query: str) -> None:
    assert not needs_conversation(query)


def test_the_completed_view_names_what_the_query_is_about() -> None:
    plan = make_plan("and her sister?", [turn("Where does Ana live?"), turn("In Porto.", Role.ASSISTANT)], asked_at=0)
    assert [view.text for view in plan.views] == ["and her sister?", "Where does Ana live? In Porto. and her sister?"]
    assert plan.judged == plan.views[1].text


def test_a_query_that_was_already_written_as_a_turn_does_not_complete_itself() -> None:
    assert complete_query("and her sister?", [turn("Ana lives in Porto."), turn("and her sister?")]) == (
        "Ana lives in Porto. and her sister?"
    )


def test_tool_output_is_no_topic() -> None:
    assert complete_query("and then?", [turn("{...}", Role.TOOL)]) == "and then?"


def test_without_a_conversation_there_is_one_view() -> None:
    plan = make_plan("and her sister?", [], asked_at=0)
    assert [view.text for view in plan.views] == ["and her sister?"]
    assert plan.judged == "and her sister?"


def test_the_time_window_is_part_of_the_plan() -> None:
    plan = make_plan("What happened on 7 May 2023?", [], asked_at=1_700_000_000_000_000)
    assert plan.window is not None
    assert plan.window.text == "7 May 2023"


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("What did Ana cook?", "Ana"),
        ("what did ana cook?", "Ana"),
        ("What is Ana's dog called?", "Ana"),
        ("Where does Ana María live?", "Ana María"),
        ("Did Jean-Luc call?", "Jean-Luc"),
        ("Что сказала Анна?", "Анна"),
    ],
)
def test_whoever_is_named_is_among_the_names(query: str, name: str) -> None:
    assert name in find_names(query)


def test_a_long_query_has_a_bounded_number_of_names() -> None:
    assert len(find_names("word " * 10_000)) < 300
