"""Dated events by patterns: what is found, with its time, and what is left alone."""

from __future__ import annotations

import pytest

from lightmem_server.pipeline.consolidation.events import find_events
from lightmem_server.pipeline.consolidation.facts import find_facts
from lightmem_server.pipeline.consolidation.gate import statement
from lightmem_server.pipeline.consolidation.proposals import FactsPrompt
from tests.unit.pipeline.consolidation.conversation import window

PROMPT = FactsPrompt.load("facts-2")


async def events(*lines: str) -> list[tuple[str, str]]:
    outcome = await find_facts(window(*lines), PROMPT)
    return [
        (statement(proposal, PROMPT.by_name), proposal.when)
        for proposal in outcome.kept
        if proposal.relation in ("did", "plans")
    ]


@pytest.mark.parametrize(
    ("said", "event", "when"),
    [
        ("I ran a marathon yesterday!", "Ana ran a marathon", "2022-04-10"),
        ("Yesterday I ran a marathon.", "Ana ran a marathon", "2022-04-10"),
        (
            "Hey, I just signed up for a pottery class last week, so excited.",
            "Ana signed up for a pottery class",
            "week of 2022-04-04",
        ),
        (
            "I took my turtles to the beach in Tampa two days ago.",
            "Ana took their turtles to the beach in Tampa",
            "2022-04-09",
        ),
        ("We went to a museum last month and it rained.", "Ana went to a museum", "2022-03"),
        ("I had a car accident last year.", "Ana had a car accident", "2021"),
        ("I went to Rome last year and Oslo last week.", "Ana went to Rome", "2021"),
        ("I sold my boat the day before yesterday.", "Ana sold their boat", "2022-04-09"),
        (
            "I went on a hike last week with some workmates.",
            "Ana went on a hike with some workmates",
            "week of 2022-04-04",
        ),
        ("I'm going to visit my aunt tomorrow.", "Ana plans: visit their aunt", "2022-04-12"),
        ("I'm flying to Oslo next month.", "Ana plans: flying to Oslo", "2022-05"),
        ("I'm leaving for Rome tomorrow evening.", "Ana plans: leaving for Rome", "2022-04-12"),
        ("I'll start a new job next month.", "Ana plans: start a new job", "2022-05"),
        ("I'm planning a trip to Oslo in June.", "Ana plans: a trip to Oslo", "2022-06"),
        ("We want to visit Oslo in June.", "Ana plans: visit Oslo", "2022-06"),
        ("We've booked flights to Oslo for June!", "Ana plans: flights to Oslo", "2022-06"),
        ("I passed my driving exam on Friday.", "Ana passed their driving exam", "2022-04-08"),
    ],
)
async def test_what_was_done_and_is_planned_has_its_time(said: str, event: str, when: str) -> None:
    assert await events(f"Ana: {said}") == [(event, when)]


@pytest.mark.parametrize(
    "said",
    [
        "I ran a marathon.",  # no time: its turn is found as well
        "I made it yesterday.",
        "I adopted her last year.",
        "I saw this one yesterday.",
        "I had a great time yesterday!",
        "I wanted a boat last year.",
        "I thought about boats yesterday.",
        "I told Ben a joke yesterday.",
        "I didn't run a marathon yesterday.",
        "If I ran a marathon yesterday, I'd be tired.",
        "Did I win a prize yesterday?",
        'He said "I won a prize yesterday" and left.',
        "You won a prize yesterday.",
        "The film that I worked on yesterday was shown.",
        "I met Anna at yesterday's yoga class.",
        "I gave a coat to the shelter I work at last week.",
        "I might visit Rome tomorrow.",
        "I booked a flight for next month.",  # the time is the flight's
        "I'm visiting Rome like last year.",
        "I drove to Rome last year via Oslo last month.",
        "Last year or last week I ran a marathon.",
        "I'll always remember our trip last year.",
        "I'm going to visit Rome, which burned last year.",
    ],
)
async def test_what_is_no_event_or_not_clear_is_left_to_its_turn(said: str) -> None:
    assert await events(f"Ana: {said}") == []


async def test_what_has_no_end_in_sight_is_no_event() -> None:
    assert await events(f"Ana: Yesterday I went {' ' * 300} home") == []
    assert await events(f"Ana: Yesterday I went home and {'sang and ' * 300}") == [("Ana went home", "2022-04-10")]


async def test_an_assistants_deeds_are_nobodys() -> None:
    assert await events("Assistant: I ran a marathon yesterday.") == []


async def test_each_event_of_a_turn_has_its_own_time() -> None:
    said = "I won a prize last week. Yesterday I bought a boat, and I'm selling cakes. I'm flying to Oslo next month."
    assert await events(f"Ana: {said}") == [
        ("Ana won a prize", "week of 2022-04-04"),
        ("Ana bought a boat", "2022-04-10"),
        ("Ana plans: flying to Oslo", "2022-05"),
    ]


def test_a_turn_without_times_costs_nothing() -> None:
    (turn,) = window("Ana: I won, I ran, I went home.").turns
    assert not turn.resolutions or all(each.kind != "date" for each in turn.resolutions)
    assert list(find_events(turn)) == []
