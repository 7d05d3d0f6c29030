import uuid

import pytest

from lightmem_server.slm.controller import Need, complete_query, find_names, make_plan, needs_conversation
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


def test_with_the_askers_name_the_query_has_a_second_wording() -> None:
    plan = make_plan("Where do I live?", [], asked_at=0, asker="Ana Reis")
    assert [(view.text, view.weight) for view in plan.views] == [
        ("Where do I live?", 0.5),
        ("Where does Ana Reis live?", 0.5),
    ]
    assert plan.judged == "Where does Ana Reis live?"
    assert "Ana Reis" in plan.names
    assert len(make_plan("Where does Ben live?", [], asked_at=0, asker="Ana").views) == 1


def test_a_completed_query_has_the_askers_name() -> None:
    plan = make_plan("and my sister?", [turn("Where does Ben live?")], asked_at=0, asker="Ana")
    assert [view.text for view in plan.views] == ["and my sister?", "Where does Ben live? and Ana's sister?"]


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


@pytest.mark.parametrize(
    ("query", "flags"),
    [
        ("When did Ana move to Lisbon?", {"asks_when"}),
        ("In what year was she born?", {"asks_when"}),
        ("When did all of the guests leave?", {"asks_when"}),
        ("How long have they been married?", {"asks_when"}),
        ("Do you remember when I started climbing?", {"asks_when"}),
        ("Which instruments does Ben play?", {"is_list", "is_multi_hop"}),
        ("What kinds of sports has Ana tried?", {"is_list", "is_multi_hop"}),
        ("What are my allergies?", {"is_list", "is_multi_hop"}),
        ("List all the places we went to", {"is_list", "is_multi_hop"}),
        ("How many cats do I have?", {"is_list", "is_multi_hop"}),
        ("What do Ana and Ben have in common?", {"is_multi_hop"}),
        ("What did she do when he left?", set()),
        ("What does Ana do for a living?", set()),
        ("What was his first address?", set()),
        ("What is Ana's dog called?", set()),
        ("Who is the boss of the class?", set()),
    ],
)
def test_the_plan_says_what_is_asked_for(query: str, flags: set[str]) -> None:
    plan = make_plan(query, [], asked_at=0)
    named = {"is_list": plan.is_list, "is_multi_hop": plan.is_multi_hop, "asks_when": plan.asks_when}
    assert {name for name, is_set in named.items() if is_set} == flags


@pytest.mark.parametrize(
    ("query", "need"),
    [
        ("What happened at the party?", Need.EPISODE),
        ("When is the exam?", Need.EPISODE),
        ("What does Ana want in May 2023?", Need.EPISODE),
        ("What is Ana's favourite tea?", Need.KNOWLEDGE),
        ("Where does my sister live?", Need.KNOWLEDGE),
    ],
)
def test_what_happened_and_what_is_so_are_different_needs(query: str, need: Need) -> None:
    assert make_plan(query, [], asked_at=0).need is need


@pytest.mark.parametrize(
    ("query", "is_personal"),
    [
        ("Where does Ana live?", True),
        ("where do i live", True),
        ("How is bread baked?", False),
        ("Bread is baked how?", False),
    ],
)
def test_a_need_is_about_somebody_or_about_the_world(query: str, is_personal: bool) -> None:
    assert make_plan(query, [], asked_at=0).is_personal is is_personal


@pytest.mark.parametrize(
    ("query", "is_explicit"),
    [
        ("What did I tell you yesterday?", True),
        ("What did we talk about last week?", True),
        ("What was our conversation on 7 May about?", True),
        ("What did Ana do yesterday?", False),
        ("What did I tell you about tea?", False),
    ],
)
def test_only_the_time_of_saying_restricts_the_search(query: str, is_explicit: bool) -> None:
    assert make_plan(query, [], asked_at=1_700_000_000_000_000).is_window_explicit is is_explicit


def test_a_pasted_document_is_planned_as_quickly() -> None:
    # Each pattern looks at the first thousand characters alone: what comes behind them changes nothing.
    assert not make_plan("x" * 1000 + " when did Ana go?", [], asked_at=0).is_personal
