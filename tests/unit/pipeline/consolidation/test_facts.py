"""From a Writer's lines to facts: the time that code finds for them, and the event loop that isn't held meanwhile."""

from __future__ import annotations

import pytest

from lightmem_server.pipeline.consolidation.facts import find_facts
from lightmem_server.pipeline.consolidation.gate import dated_statement
from lightmem_server.pipeline.consolidation.model import Reason, Window, WindowOutcome
from lightmem_server.pipeline.consolidation.proposals import PROMPT, FactsPrompt
from lightmem_server.slm.fakes import OverlapSelector, ScriptedWriter
from tests.unit.pipeline.consolidation.conversation import window
from tests.unit.pipeline.consolidation.heartbeat import beats_during

FACTS = FactsPrompt.load(PROMPT)


async def told(said: str, line: str) -> list[str]:
    outcome = await find_facts(window(f"Ana: {said}"), FACTS, writer=ScriptedWriter(lambda prompt: line))
    return [dated_statement(fact, FACTS.by_name) for fact in outcome.kept]


@pytest.mark.parametrize(
    ("said", "line", "fact"),
    [
        ("I saw two eagles yesterday.", "Ana | did | saw two eagles", "Ana saw two eagles (2022-04-10)"),
        ("I saw two eagles yesterday.", "Ana | did | saw two eagles yesterday", "Ana saw two eagles (2022-04-10)"),
        ("Yesterday I saw two eagles.", "Ana | did | saw two eagles", "Ana saw two eagles (2022-04-10)"),
        ("I plan to visit Porto next month.", "Ana | plans | visit Porto", "Ana plans: visit Porto (2022-05)"),
        ("They fled last week - I saw two eagles.", "Ana | did | saw two eagles", "Ana saw two eagles"),
        ("Saw two eagles - had a rest last week.", "Ana | did | saw two eagles", "Ana saw two eagles"),
        ("I saw two eagles yesterday - it was fun.", "Ana | did | saw two eagles", "Ana saw two eagles (2022-04-10)"),
        ("Yesterday - on my own - I saw two eagles.", "Ana | did | saw two eagles", "Ana saw two eagles (2022-04-10)"),
        ("I saw two eagles, and I left yesterday.", "Ana | did | saw two eagles", "Ana saw two eagles"),
        ("I saw eagles in 2019 and in 2020.", "Ana | did | saw eagles", "Ana saw eagles"),
        ("I missed yesterday's market and sold two bowls.", "Ana | did | sold two bowls", "Ana sold two bowls"),
        (
            "I sold two bowls at night, and last night I stayed up.",
            "Ana | did | sold two bowls",
            "Ana sold two bowls",
        ),
        ("I've sold two bowls since last week.", "Ana | did | sold two bowls", "Ana sold two bowls"),
    ],
    ids=[
        "behind",
        "in the object",
        "in front",
        "to come",
        "of what a dash parts",
        "behind a dash",
        "before a dash",
        "with dashes behind it",
        "of another clause",
        "one of two",
        "of a thing",
        "the next clause",
        "the beginning",
    ],
)
async def test_what_was_done_has_the_time_of_its_clause(said: str, line: str, fact: str) -> None:
    assert await told(said, line) == [fact]


async def test_a_state_begins_at_its_time_and_a_taste_has_none() -> None:
    its = window("Ana: I moved to Lisbon last month. I love sea breeze, tried it yesterday.")
    writer = ScriptedWriter(lambda prompt: "Ana | lives_in | Lisbon\nAna | likes | sea breeze")
    facts = {fact.relation: fact for fact in (await find_facts(its, FACTS, writer=writer)).kept}
    assert facts["lives_in"].when == "2022-03"
    assert facts["likes"].valid_from is None


async def test_a_time_of_what_stands_behind_an_and_is_not_the_claims() -> None:
    its = window("Ana: I work as a night porter and our fair is next week.")
    writer = ScriptedWriter(lambda prompt: "Ana | works_as | night porter")
    assert [fact.when for fact in (await find_facts(its, FACTS, writer=writer)).kept] == [""]


async def test_a_line_rests_on_the_turn_that_tells_it() -> None:
    its = window("Ana: Is Porto nice?", "Ben: I live in Porto.", "Ana: Porto, wow! I moved to Porto too.")
    outcome = await find_facts(
        its, FACTS, writer=ScriptedWriter(lambda prompt: "Ana | lives_in | Porto\nBen | has | a cat")
    )
    assert {fact.subject: fact.evidence_ids for fact in outcome.kept} == {
        "Ana": (its.turns[2].id,),
        "Ben": (its.turns[1].id,),
    }
    assert outcome.reasons == {Reason.UNSUPPORTED_OBJECT: 1, Reason.DUPLICATE: 1}  # the pattern's of Ana's turn


async def test_where_nothing_can_be_told_the_writer_is_not_asked() -> None:
    writer = ScriptedWriter(lambda prompt: "Ana | has | a cat")
    its = window("Ana: Really?")
    assert await find_facts(Window((), its.turns, ((),)), FACTS, writer=writer) == WindowOutcome()
    assert writer.prompts == []


@pytest.mark.parametrize("writer", [None, ScriptedWriter(lambda prompt: "Ana | has | a cat")], ids=["rules", "writer"])
async def test_a_long_turn_does_not_hold_the_event_loop(writer: ScriptedWriter | None) -> None:
    said = "Ana: I have a cat" + ", I" * 3000
    found = find_facts(window(said), FACTS, writer=writer, score=OverlapSelector(clock=lambda: 0.0).judge)
    assert await beats_during(found) > 100


async def kept_of(its: Window, *lines: str) -> list[str]:
    outcome = await find_facts(its, FACTS, writer=ScriptedWriter(lambda prompt: "\n".join(lines) or "none"))
    return [dated_statement(fact, FACTS.by_name) for fact in outcome.kept]


async def test_what_a_pattern_says_is_kept_beside_what_the_writer_says() -> None:
    its = window("Ana: I'm allergic to nuts. I baked a lemon cake.")
    assert await kept_of(its) == ["Ana is allergic to nuts"]
    assert await kept_of(its, "Ana | did | baked a lemon cake") == ["Ana baked a lemon cake", "Ana is allergic to nuts"]


async def test_what_both_say_is_kept_once() -> None:
    its = window("Ana: I'm allergic to nuts.")
    assert await kept_of(its, "Ana | allergic_to | nuts") == ["Ana is allergic to nuts"]
    its = window("Ana: I moved to Lisbon last month.")
    outcome = await find_facts(its, FACTS, writer=ScriptedWriter(lambda prompt: "Ana | lives_in | Lisbon"))
    assert [(fact.object, fact.when) for fact in outcome.kept if fact.relation == "lives_in"] == [("Lisbon", "2022-03")]


async def test_of_two_that_say_more_and_less_of_one_turn_the_fuller_is_kept() -> None:
    its = window("Ana: I love jazz and old films.")
    assert await kept_of(its, "Ana | likes | jazz", "Ana | likes | old films") == ["Ana likes jazz and old films"]
    its = window("Ana: My brother is ill.")
    assert await kept_of(its, "Ana | has | brother") == ["Ana has a brother"]
    its = window("Ana: My dog Rex is ill.")
    assert await kept_of(its, "Ana | has | dog", "Ana | has | dog Rex") == ["Ana has a dog, Rex"]


async def test_what_two_turns_say_has_both_for_evidence() -> None:
    its = window("Ana: I love jazz.", "Ben: Me too.", "Ana: I love jazz so much.")
    outcome = await find_facts(its, FACTS, writer=ScriptedWriter(lambda prompt: "none"))
    assert [fact.evidence_ids for fact in outcome.kept if fact.subject == "Ana"] == [
        (its.turns[0].id,),
        (its.turns[2].id,),
    ]


async def test_what_is_of_the_speakers_own_is_told_as_theirs() -> None:
    assert await kept_of(window("Ana: My legs still hurt."), "Ana | other | legs still hurt") == [
        "Ana: their legs still hurt"
    ]
    told = await kept_of(window("Ana: My birthday is on 4 July."), "Ana | other | birthday is on 4 July")
    assert told == ["Ana's birthday is on 4 July"]


async def test_patterns_go_through_the_same_gate_beside_a_writer() -> None:
    its = window("Ana: If I have a dog, I'm happy.")
    outcome = await find_facts(its, FACTS, writer=ScriptedWriter(lambda prompt: "none"))
    assert outcome.kept == ()


@pytest.mark.parametrize(
    ("said", "line", "fact"),
    [
        (
            'I read "Dune" by Herbert last week.',
            'Ana | read | Dune" by Herbert',
            "Ana: read Dune by Herbert",
        ),
        (
            "Yeah, our boat can really put a damper on things.",
            "Ana | other | our boat can really put a damper on things",
            "Ana: their boat can really put a damper on things",
        ),
    ],
    ids=["without an open quotation mark", "with one word for whose it is"],
)
async def test_a_fact_reads_as_a_sentence(said: str, line: str, fact: str) -> None:
    assert await told(said, line) == [fact]
