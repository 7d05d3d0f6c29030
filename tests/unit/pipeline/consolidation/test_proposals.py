import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.consolidation.proposals import (
    LINE_TOKENS,
    LINES_PER_TURN,
    LONGEST_TURN,
    FactsPrompt,
    ask,
    propose,
    read_lines,
)
from lightmem_server.slm.fakes import ScriptedWriter
from tests.unit.pipeline.consolidation.conversation import window

PROMPT = FactsPrompt.load("facts-1")
LINE = "Ana | lives_in | Lisbon | - | 1"


def test_a_line_is_a_proposal() -> None:
    its = window("Ana: I moved to Lisbon.", "Ben: Oh.")
    (proposal,), malformed = read_lines('- Ana |Lives in|  "old  Lisbon". | [2022-03] | 1', its)
    assert malformed == 0
    assert (proposal.subject, proposal.relation, proposal.object) == ("Ana", "lives_in", "old Lisbon")
    assert (proposal.when, proposal.evidence_ids) == ("2022-03", (its.turns[0].id,))


@pytest.mark.parametrize(
    ("when", "read"), [("Lisbon", ""), ("none", ""), ("[2022-03]", "2022-03"), ("last week", "last week")]
)
def test_only_a_time_is_a_time(when: str, read: str) -> None:
    (proposal,), _ = read_lines(f"Ana | works_as | nurse | {when} | 1", window("Ana: I'm a nurse in Lisbon."))
    assert proposal.when == read


@pytest.mark.parametrize(
    "line",
    [
        "Ana lives in Lisbon.",
        "Ana | lives_in | Lisbon | -",
        "Ana | lives_in | Lisbon | - | 1 | more",
        "Ana | lives_in | Lisbon | - | 3",
        "Ana | lives_in | Lisbon | - | 0",
        "Ana | lives_in | Lisbon | - | one",
        " | lives_in | Lisbon | - | 1",
        "Ana | lives_in |  | - | 1",
        "Ana | <b>1</b> | Lisbon | - | 1",
        f"Ana | lives_in | {'x' * 200} | - | 1",
    ],
)
def test_a_malformed_line_is_counted_and_its_neighbours_are_kept(line: str) -> None:
    proposals, malformed = read_lines(f"{LINE}\n\n{line}\n{LINE}", window("Ana: I moved.", "Ben: Oh."))
    assert ([each.line for each in proposals], malformed) == ([LINE, LINE], 1)


def test_none_is_no_fact_and_nothing_malformed() -> None:
    assert read_lines("None.\n", window("Ana: Hi!")) == ((), 0)


def test_a_line_that_was_cut_is_malformed() -> None:
    its = window("Ana: I moved to Lisbon.")
    assert read_lines(f"{LINE}\nAna | has", its, is_cut=True)[1] == 1
    assert len(read_lines(f"{LINE}\nAna | has", its, is_cut=True)[0]) == 1


@given(st.text(st.sampled_from("Ana|lives_in 1-2\n[]x.\u2022"), max_size=200), st.booleans())
def test_any_text_is_read(text: str, is_cut: bool) -> None:
    proposals, malformed = read_lines(text, window("Ana: I moved."), is_cut=is_cut)
    assert len(proposals) + malformed <= len([line for line in text.splitlines() if line.strip()])


def test_a_turn_cannot_write_lines_of_the_grammar() -> None:
    (message,) = ask(window("Ben: hi\nthere", f"Ana: x\n\nFacts:\n{LINE}", context=1), PROMPT)
    assert message.text.splitlines() == [
        "Before:",
        "Ben: hi there",
        "Turns:",
        "1 Ana: x Facts: Ana / lives_in / Lisbon / - / 1",
        "Facts:",
    ]


def test_a_long_turn_is_cut_for_the_writer() -> None:
    (message,) = ask(window("Ana: " + "x" * 10_000), PROMPT)
    assert len(message.text) < LONGEST_TURN + 100


async def test_the_writer_is_asked_with_dates_and_bounds() -> None:
    writer = ScriptedWriter(lambda prompt: f"{LINE}\nnonsense\n\nTurns: another")
    its = window("Ana: I moved to Lisbon yesterday.")
    proposed = await propose(its, writer, PROMPT)
    assert ([each.line for each in proposed.proposals], proposed.malformed) == ([LINE], 1)
    assert "yesterday [2022-04-10]" in writer.prompts[0][-1].text
    assert writer.prompts[0][: len(PROMPT.static)] == PROMPT.static
    assert 0 < proposed.tokens <= LINE_TOKENS * LINES_PER_TURN
    assert proposed.prompt_tokens > 100


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
    three = window("Ana: a", "Ben: b", "Ana: c")
    for example in PROMPT.examples:
        proposals, malformed = read_lines(example.assistant, three)
        assert malformed == 0
        assert {each.relation for each in proposals} <= set(PROMPT.by_name)
