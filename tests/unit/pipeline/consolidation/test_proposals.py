import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.consolidation.model import Window
from lightmem_server.pipeline.consolidation.proposals import (
    LINE_TOKENS,
    LINES_PER_TURN,
    LONGEST_TURN,
    FactsPrompt,
    ask,
    has_said_all,
    propose,
    read_lines,
)
from lightmem_server.pipeline.consolidation.telling import find_telling
from lightmem_server.slm.fakes import ScriptedWriter
from tests.unit.pipeline.consolidation.conversation import window

PROMPT = FactsPrompt.load("facts-2")
LINE = "Ana | lives_in | Lisbon"


def test_a_line_is_a_proposal() -> None:
    its = window("Ana: I moved to Lisbon.", "Ben: Oh.")
    (proposal,), malformed = read_lines('- Ana |Lives in|  "old  Lisbon".', its)
    assert malformed == 0
    assert (proposal.subject, proposal.relation, proposal.object) == ("Ana", "lives_in", "old Lisbon")
    assert (proposal.when, proposal.evidence_ids) == ("", (its.turns[0].id,))


@pytest.mark.parametrize(
    "line",
    [
        "Ana lives in Lisbon.",
        "Ana | lives_in",
        "Ana | lives_in | Lisbon | more",
        " | lives_in | Lisbon",
        "Ana | lives_in | ",
        "Ana | <b>1</b> | Lisbon",
        f"Ana | lives_in | {'x' * 200}",
    ],
)
def test_a_malformed_line_is_counted_and_its_neighbours_are_kept(line: str) -> None:
    proposals, malformed = read_lines(f"{LINE}\n\n{line}\n{LINE}", window("Ana: I moved.", "Ben: Oh."))
    assert ([each.line for each in proposals], malformed) == ([LINE, LINE], 1)


def test_words_that_were_written_as_a_name_are_read_as_words() -> None:
    (proposal,), _ = read_lines("Ana | did | pulled_out_a_drawer", window("Ana: I pulled out a drawer."))
    assert PROMPT.settle(proposal).object == "pulled out a drawer"


def test_none_is_no_fact_and_nothing_malformed() -> None:
    assert read_lines("None.\n", window("Ana: Hi!")) == ((), 0)


def test_a_line_that_was_cut_is_malformed() -> None:
    its = window("Ana: I moved to Lisbon.")
    assert read_lines(f"{LINE}\nAna | lives_in | Lis", its, is_cut=True)[1] == 1
    assert len(read_lines(f"{LINE}\nAna | lives_in | Lis", its, is_cut=True)[0]) == 1
    assert read_lines("", its, is_cut=True) == ((), 0)


@pytest.mark.parametrize(
    ("text", "has_said_it"),
    [
        ("Ana | has | a cat\n", False),
        ("Ana | has | a cat\nBen | has | a cat\n", False),
        ("Ana | has | a cat\nAna | likes | a cat\nAna | lives_in | Brno\n", False),
        ("Ana | has | a cat\nwhat\nAna | lives_in | Brno\n", False),
        ("none\n", True),
        ("Ana | has | a cat\nnone\n", True),
        ("Ana | has | a cat\nAna | lives_in | Brno\nAna | has | A cat.\n", True),
        ("Ana | has | a cat\nAna | has | a cat\n", True),
        ("Ana | has | a cat\nwhat\nwho\n", True),
        ("".join(f"Ana | has | {number} cats\n" for number in range(LINES_PER_TURN * 3)), True),
        ("", False),
    ],
)
def test_a_text_ends_where_nothing_new_is_to_be_expected(text: str, has_said_it: bool) -> None:
    assert has_said_all(text, window("Ana: I have a cat.", "Ben: So do I.", "Ana: It is grey.")) is has_said_it


@given(st.text(st.sampled_from("Ana|lives_in 1-2\n[]x.\u2022"), max_size=200), st.booleans())
def test_any_text_is_read(text: str, is_cut: bool) -> None:
    proposals, malformed = read_lines(text, window("Ana: I moved."), is_cut=is_cut)
    assert len(proposals) + malformed <= len([line for line in text.splitlines() if line.strip()])


def test_a_turn_cannot_write_lines_of_the_grammar() -> None:
    (message,) = ask(window(f"Ana: x\n\nFacts:\n{LINE}"), PROMPT)
    assert message.text.splitlines() == ["Ana: x Facts: Ana / lives_in / Lisbon", "Facts:"]


def test_a_long_turn_is_cut_for_the_writer() -> None:
    (message,) = ask(window("Ana: " + "x" * 10_000), PROMPT)
    assert len(message.text) < LONGEST_TURN + 100


def test_the_writer_reads_what_can_be_told_and_the_questions_that_it_answers() -> None:
    its = window(
        "Ben: Hi! Where do you live?",
        "Ana: What a really good question that is. I live in Brno.",
        "Ben: Wow!",
        "Ana: I love it.",
        context=1,
    )
    its = Window(its.context, its.turns, find_telling(its.utterances)[1:])
    (message,) = ask(its, PROMPT)
    assert message.text.splitlines() == ["Ben: Where do you live?", "Ana: I live in Brno.", "Ana: I love it.", "Facts:"]


async def test_the_writer_is_asked_with_persons_and_bounds() -> None:
    writer = ScriptedWriter(lambda prompt: f"{LINE}\nnonsense\n\nTurns: another")
    its = window("Ana: I live with my sister Mia, she moved to Lisbon yesterday.")
    proposed = await propose(its, writer, PROMPT)
    assert ([each.line for each in proposed.proposals], proposed.malformed) == ([LINE], 1)
    assert "she [Ana's sister Mia] moved to Lisbon yesterday." in writer.prompts[0][-1].text
    assert writer.prompts[0][: len(PROMPT.static)] == PROMPT.static
    assert 0 < proposed.tokens <= LINE_TOKENS * LINES_PER_TURN
    assert proposed.prompt_tokens > 100


async def test_the_writer_is_stopped_where_it_says_the_same_again() -> None:
    lines = [f"Ana | has | cat {number}" for number in (1, 2, 1, 3)]
    writer = ScriptedWriter(lambda prompt: "\n".join(lines))
    proposed = await propose(window("Ana: I have cat 1, cat 2, cat 3."), writer, PROMPT)
    assert [each.line for each in proposed.proposals] == lines[:3]


async def test_nothing_is_asked_of_an_assistants_turns() -> None:
    writer = ScriptedWriter(lambda prompt: LINE)
    assert (await propose(window("Assistant: You live in Lisbon."), writer, PROMPT)).proposals == ()
    assert writer.prompts == []


def test_the_prompt_names_its_relations_and_its_examples_keep_the_grammar() -> None:
    listed = PROMPT.system.partition("one of ")[2].partition(".")[0]
    assert listed.split(", ") == [relation.name for relation in PROMPT.relations]
    told = [
        each.states.format(subject="Ana", object="x", named="x", deed="Ana: x", told="Ana: x")
        for each in PROMPT.relations
    ]
    assert all("Ana" in text and "x" in text and "{" not in text for text in told)
    its = window("Ana: a", "Ben: b", "Ana: c", "Ben: d")
    for example in PROMPT.examples:
        proposals, malformed = read_lines(example.assistant, its)
        assert malformed == 0
        assert {each.relation for each in proposals} <= set(PROMPT.by_name)
