"""Years of talk, consolidated by rules with the real models: what is so now, what was so then, and nothing stale."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pytest
from lightmem_client import Client, Kind, Memory, MemoryFilter, Role, SelectorMode, Turn

from tests.server_process import ENDED_SECONDS, ServerProcess


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_name(name).read_text("utf-8"))


YEAR, AGENTS_YEAR = _read("a_year.toml"), _read("an_agents_year.toml")
FIRST = datetime.combine(YEAR["first_day"], time(12), UTC)
ASSISTANT = "Assistant"


def day(number: int) -> datetime:
    """Noon of a day of the year, counted from 0."""
    return FIRST + timedelta(days=number)


def live(client: Client, year: dict[str, Any]) -> None:
    """Talk for a year, and consolidate after every session."""
    for session in year["sessions"]:
        turns = [
            Turn(
                text,
                speaker=speaker,
                role=Role.ASSISTANT if speaker == ASSISTANT else Role.USER,
                occurred_at=day(session["day"]) + timedelta(minutes=minute),
            )
            for minute, (speaker, _, text) in enumerate(line.partition(": ") for line in session["lines"])
        ]
        client.write(turns, session_id=f"day {session['day']}")
        last = list(client.consolidate(timeout_seconds=ENDED_SECONDS))[-1]
        assert last.stage == "done"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: None) -> Iterator[ServerProcess]:
    with ServerProcess(tmp_path_factory.mktemp("data") / "data") as server:
        yield server


@pytest.fixture(scope="module")
def client(server: ServerProcess) -> Iterator[Client]:
    """Of Ruth, who has talked with Pavel for a year."""
    with Client(server.address, api_key=server.key, user_id="ruth") as client:
        live(client, YEAR)
        yield client


@pytest.fixture(scope="module")
def agents_client(server: ServerProcess) -> Iterator[Client]:
    """Of Nadia, who has talked with her agent for a year."""
    with Client(server.address, api_key=server.key, user_id="nadia") as client:
        live(client, AGENTS_YEAR)
        yield client


def objects(client: Client, holds: dict[str, Any], on: int) -> list[str]:
    """What the facts of a subject and relation say on a day."""
    facts = client.list(filter=MemoryFilter(kinds=[Kind.FACT], as_of=day(on)))
    statements = [fact.statement for fact in facts if fact.statement is not None]
    return [
        each.object for each in statements if (each.subject, each.relation) == (holds["subject"], holds["relation"])
    ]


@pytest.mark.parametrize("holds", YEAR["holds"], ids=lambda holds: holds["relation"])
def test_facts_hold_when_they_held(client: Client, holds: dict[str, Any]) -> None:
    for on, expected in holds["on"].items():
        assert objects(client, holds, int(on)) == expected, f"day {on}"


@pytest.mark.parametrize("holds", AGENTS_YEAR["holds"], ids=lambda holds: holds["relation"])
def test_what_an_agent_was_told_holds_when_it_held(agents_client: Client, holds: dict[str, Any]) -> None:
    for on, expected in holds["on"].items():
        assert objects(agents_client, holds, int(on)) == expected, f"day {on}"


def ask(client: Client, query: str, **options: Any) -> list[Memory]:
    """What is returned, best first."""
    found = client.retrieve(query, deadline_seconds=10, **options)
    return [item.memory for item in found.memories]


def test_what_is_so_is_answered_without_what_was(client: Client) -> None:
    found = ask(client, "Where does Ruth live?", selector_mode=SelectorMode.FULL)
    texts = [memory.text for memory in found]
    assert "Ruth lives in Leuven" in texts[:3]
    assert not any("I live in Ghent now" in text or "I moved to Antwerp" in text for text in texts)


def test_i_is_who_talks_to_the_agent(agents_client: Client) -> None:
    assert ask(agents_client, "Where do I live?")[0].text == "Nadia lives in Zwolle"
    told = [memory.text for memory in ask(agents_client, "What am I allergic to?")[:2]]
    assert told[0] == "No longer: Nadia is allergic to soy"
    assert not any("I have a shellfish allergy" in text for text in told)


def test_a_time_that_is_over_is_answered_with_what_was_so_then(agents_client: Client) -> None:
    found = ask(agents_client, "Where did I live in May?", asked_at=day(330))
    assert found[0].text == "Nadia lives in Amersfoort"
    texts = [memory.text for memory in found]
    assert "Nadia lives in Zwolle" not in texts
    assert not any("We live in Utrecht" in text for text in texts), "that was told before, and over by then"
    found = ask(agents_client, "Where have I lived since May?", asked_at=day(330))
    assert "Nadia lives in Zwolle" in [memory.text for memory in found]


def test_i_is_nobody_where_several_talk(client: Client) -> None:
    views = client.retrieve("Where do I live?", deadline_seconds=10).trace.plan.query_views
    assert views == ("Where do I live?",)


def test_what_was_so_is_answered_as_of_then(client: Client) -> None:
    found = ask(client, "Where does Ruth live?", filter=MemoryFilter(kinds=[Kind.FACT], as_of=day(200)))
    assert found[0].text == "Ruth lives in Antwerp"


def test_a_plan_that_was_dropped_is_no_plan(client: Client) -> None:
    facts = [fact.text for fact in client.list(filter=MemoryFilter(kinds=[Kind.FACT], as_of=day(360)))]
    of_norway = [text for text in facts if "plans" in text and "Norway" in text]
    assert of_norway == ["No longer: Ruth plans: a trip to Norway (2023-06)"]


def test_every_turn_is_as_it_was_said(client: Client) -> None:
    kept = {memory.text for memory in client.list(filter=MemoryFilter(kinds=[Kind.TURN]))}
    said = {line.partition(": ")[2] for session in YEAR["sessions"] for line in session["lines"]}
    assert kept == said


def test_a_broad_need_is_met_by_a_summary_or_a_profile(client: Client) -> None:
    found = ask(client, "Tell me about Ruth")
    assert {Kind.SUMMARY, Kind.PROFILE} & {memory.kind for memory in found}


def test_history_says_why_a_fact_ended(client: Client) -> None:
    facts = client.list(filter=MemoryFilter(kinds=[Kind.FACT], as_of=day(60)))
    ghent = next(fact for fact in facts if fact.text == "Ruth lives in Ghent")
    told = [version.explanation for version in client.history(ghent.id)]
    assert told == ["It was abstracted from its evidence.", "A newer statement took its place."]
