"""Guesses at the memory looked for: read out of what a Writer wrote, kept, and put beside the query."""

from __future__ import annotations

import asyncio
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.slm.controller import make_plan
from lightmem_server.slm.fakes import ScriptedWriter
from lightmem_server.slm.hypothetical import HypotheticalQueries, read_guesses, with_guesses
from lightmem_server.slm.prompt import Example, Prompt, load_prompt

LINES = "I moved to Lisbon.\nWe live in Porto now.\nMy flat is in Faro."
GUESSES = tuple(LINES.splitlines())


async def test_the_writer_is_asked_for_as_many_as_wanted_and_gives_no_more() -> None:
    writer = ScriptedWriter(lambda prompt: LINES)
    assert await HypotheticalQueries(writer).guess("Where does Ida live?", 2) == GUESSES[:2]
    ((*static, asked),) = writer.prompts
    assert asked.text == "2 lines for: Where does Ida live?"
    assert tuple(static) == load_prompt("hypothetical-1").static


async def test_the_same_query_is_asked_once() -> None:
    writer = ScriptedWriter(lambda prompt: LINES)
    queries = HypotheticalQueries(writer)
    assert await queries.guess("Where?", 3) == await queries.guess(" Where? ", 3) == GUESSES
    assert len(writer.prompts) == 1
    await queries.guess("Where?", 2)
    await queries.guess("Who?", 3)
    assert len(writer.prompts) == 3


async def test_what_was_asked_longest_ago_is_forgotten_first() -> None:
    writer = ScriptedWriter(lambda prompt: LINES)
    queries = HypotheticalQueries(writer, capacity=2)
    for query in ("a?", "b?", "a?", "c?", "a?"):
        await queries.guess(query, 1)
    assert len(writer.prompts) == 3
    await queries.guess("b?", 1)
    assert len(writer.prompts) == 4


async def test_another_prompt_version_keeps_its_own() -> None:
    writer = ScriptedWriter(lambda prompt: LINES)
    prompt = load_prompt("hypothetical-1")
    queries = HypotheticalQueries(writer, prompt=prompt)
    await queries.guess("Where?", 1)
    queries._prompt = prompt.model_copy(update={"version": "hypothetical-2"})
    await queries.guess("Where?", 1)
    assert len(writer.prompts) == 2


async def test_at_the_deadline_whole_lines_are_used_and_nothing_is_kept() -> None:
    writer = ScriptedWriter(lambda prompt: LINES, seconds_per_token=1, clock=lambda: 0)
    queries = HypotheticalQueries(writer)
    assert await queries.guess("Where?", 3, deadline=6) == GUESSES[:1]
    assert await queries.guess("Where?", 3, deadline=0) == ()
    assert await queries.guess("Where?", 3) == GUESSES


async def test_a_query_in_braces_is_only_text() -> None:
    writer = ScriptedWriter(lambda prompt: LINES)
    await HypotheticalQueries(writer).guess("What is {count}?", 1)
    assert writer.prompts[0][-1].text == "1 lines for: What is {count}?"


async def test_callers_at_once_are_all_answered() -> None:
    queries = HypotheticalQueries(ScriptedWriter(lambda prompt: LINES))
    made = await asyncio.gather(*(queries.guess("Where?", 3, deadline=time.monotonic() + 60) for _ in range(5)))
    assert set(made) == {GUESSES}


@pytest.mark.parametrize(
    ("text", "guesses"),
    [
        ("", ()),
        ("1. One thing\n2) Two things\n3: Three", ("One thing", "Two things", "Three")),
        ("- a b\n* c d\n\u2022 e f", ("a b", "c d", "e f")),
        ('"Quoted."\n\u201cToo.\u201d', ("Quoted.", "Too.")),
        ("Same.\nsame.\n\n  \n---\nOther.", ("Same.", "Other.")),
        ("Where?\nHere.", ("Here.",)),
        ("1990 was a good year", ("1990 was a good year",)),
    ],
    ids=["nothing", "numbers", "bullets", "quotes", "once", "not-the-query", "no-numbering"],
)
def test_lines_are_read_as_guesses(text: str, guesses: tuple[str, ...]) -> None:
    assert read_guesses(text, "Where?", is_cut=False) == guesses


@given(st.text(), st.booleans())
def test_any_text_gives_guesses_that_can_be_searched_for(text: str, is_cut: bool) -> None:
    guesses = read_guesses(text, "Where?", is_cut=is_cut)
    assert all(guess.strip() == guess and any(map(str.isalnum, guess)) for guess in guesses)
    assert len({guess.casefold() for guess in guesses}) == len(guesses)


@given(st.lists(st.text(min_size=1), max_size=4))
def test_weights_sum_to_one_and_the_query_stays_first_and_heaviest(guesses: list[str]) -> None:
    plan = with_guesses(make_plan("Where does Ida live?", [], 0), guesses)
    assert sum(view.weight for view in plan.views) == pytest.approx(1)
    assert plan.views[0].text == "Where does Ida live?"
    assert all(view.weight < plan.views[0].weight for view in plan.views[1:])
    assert plan.judged == "Where does Ida live?", "the Selector reads what was asked"


def test_a_prompt_puts_its_examples_before_what_is_asked() -> None:
    prompt = Prompt(version="x", system="S", user="{a}!", examples=(Example(user="u", assistant="v"),))
    assert [(message.role, message.text) for message in (*prompt.static, *prompt.ask(a=1))] == [
        ("system", "S"),
        ("user", "u"),
        ("assistant", "v"),
        ("user", "1!"),
    ]
    with pytest.raises(KeyError):
        prompt.ask()


def test_each_prompts_file_is_named_by_its_version() -> None:
    assert load_prompt("hypothetical-1").version == "hypothetical-1"
