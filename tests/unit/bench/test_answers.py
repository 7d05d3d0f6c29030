"""The answers bench on a peer and a scripted reader: what each arm is shown, and what is made of the answers."""

from __future__ import annotations

import io
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from lightmem_client import Client, Role
from rich.console import Console
from rich.progress import Progress

from clients.python.tests.peer import KEY, Peer
from lightmem_server.slm.fakes import HashEmbedder, ScriptedWriter, WordCounter
from tests.bench import answers
from tests.bench.answers import LIGHTMEM, NONE, PLAIN, RECENT, TURNS_ALONE, Answered
from tests.bench.consolidated_answers import answer_all
from tests.bench.datasets import Conversation, DialogueTurn, Question, Session, take_stratified
from tests.bench.memo import Memory, RememberingWriter

ARMS = (NONE, RECENT, PLAIN, LIGHTMEM)
START = datetime(2024, 5, 8, 13, 56, tzinfo=UTC)
TURNS = tuple(DialogueTurn(f"t{i}", "Ann", Role.USER, f"turn{i} said", START + timedelta(minutes=i)) for i in range(30))


def ask(text: str, category: str = "4", answer: str = "x") -> Question:
    return Question(f"{text}-{category}", text, category, frozenset({"t1"}), answer)


@pytest.fixture
def client() -> Iterator[Client]:
    with Peer() as peer, Client(peer.target, api_key=KEY) as client:
        yield client


async def test_each_arm_is_shown_what_it_knows(client: Client) -> None:
    conversation = Conversation("c", (Session("s", TURNS),), ())
    arms = answers.Arms(conversation, HashEmbedder(), client, max_tokens=40, max_memories=3)
    await arms.prepare()
    contexts = await arms.contexts(ask("turn7"))
    assert contexts[NONE] == ""
    recent = contexts[RECENT].splitlines()
    assert recent == [answers.line(turn) for turn in TURNS[-len(recent) :]]
    assert WordCounter().count(contexts[RECENT]) <= 40 < WordCounter().count(contexts[RECENT]) + 9
    plain = contexts[PLAIN].splitlines()
    assert len(plain) == 3
    assert answers.line(TURNS[7]) in plain
    assert plain == sorted(plain)
    assert "turn7" in contexts[LIGHTMEM]


def test_turns_that_do_not_fit_are_left_out_and_a_run_ends_there() -> None:
    long = DialogueTurn("l", "Ann", Role.USER, "x " * 50, START)
    turns = [TURNS[5], long, TURNS[2]]
    assert answers.fit(turns, WordCounter(), 30).splitlines() == [answers.line(TURNS[2]), answers.line(TURNS[5])]
    assert answers.fit(turns, WordCounter(), 30, is_run=True) == answers.line(TURNS[5])


async def test_the_reader_gets_the_same_prompt_but_for_the_notes() -> None:
    writer = ScriptedWriter(lambda prompt: "Lisbon\nand more" if "moved" in prompt[-1].text else "Not mentioned")
    contexts = {NONE: "", RECENT: "Ann: hi", PLAIN: "Ann: hello", LIGHTMEM: "Ann: I moved to Lisbon"}
    made = await answers.answer(writer, ask("Where?", answer="Lisbon"), contexts, WordCounter())
    assert made.answers == {arm: "Lisbon" if arm == LIGHTMEM else "Not mentioned" for arm in ARMS}
    assert made.scores == {arm: float(arm == LIGHTMEM) for arm in ARMS}
    notes = [prompt[-1].text for prompt in writer.prompts]
    assert [note.replace(contexts[arm] or "(none)", "*") for note, arm in zip(notes, ARMS, strict=True)] == [
        "Notes:\n*\n\nQuestion: Where?"
    ] * 4
    assert {tuple(prompt[:-1]) for prompt in writer.prompts} == {tuple(answers.INSTRUCTIONS)}


async def test_each_prompt_is_answered_once_and_remembered(tmp_path: Path) -> None:
    writer = ScriptedWriter(lambda prompt: f"about {prompt[-1].text}\nand more")
    prompts = ["a", "bb", "a", "ccc"]
    for _ in range(2):
        memory = Memory(tmp_path / "answers.sqlite")
        with Progress(disable=True) as bars:
            made = await answer_all(
                RememberingWriter(writer, memory), prompts, bars, instructions=answers.INSTRUCTIONS, max_tokens=9
            )
        memory.close()
        assert made == {prompt: f"about {prompt}" for prompt in prompts}
    assert [prompt[-1].text for prompt in writer.prompts] == ["a", "bb", "ccc"]


def answered(category: str, **scores: float) -> Answered:
    by_arm = dict(zip(ARMS, (0.0, 0.25, 0.5, 1.0), strict=True)) | scores
    return Answered(ask("q", category), {}, by_arm, dict.fromkeys(ARMS, 7))


def test_figures_are_means_by_arm_and_category_and_paired_differences() -> None:
    made = answers.figures([answered("4"), answered("4"), answered("5", **{LIGHTMEM: 0.0})])
    ours = made["arms"][LIGHTMEM]
    assert (ours["f1"]["mean"], ours["categories_1_4"], ours["category_5"]) == (0.6667, 1.0, 0.0)
    assert made["lightmem_minus"][PLAIN]["f1_categories_1_4"] == {"mean": 0.5, "low": 0.5, "high": 0.5}
    assert made["lightmem_minus"][PLAIN]["f1"]["mean"] == 0.1667
    assert made["questions"] == {"4": 2, "5": 1}
    out = io.StringIO()
    answers.print_tables(Console(file=out, width=120), made)
    assert "LightMem - plain top-k: 0.167" in out.getvalue()


def test_turns_alone_are_compared_with_what_consolidation_adds() -> None:
    both = {TURNS_ALONE: 0.25, LIGHTMEM: 0.75}
    made = answers.figures([Answered(ask("q", "4"), {}, both, dict.fromkeys(both, 7))])
    assert list(made["arms"]) == [TURNS_ALONE, LIGHTMEM]
    assert made["lightmem_minus"][TURNS_ALONE]["f1"] == {"mean": 0.5, "low": 0.5, "high": 0.5}


def test_a_sample_has_each_category_by_its_share() -> None:
    questions = tuple(ask(f"q{i}", "1" if i % 4 else "2") for i in range(80))
    conversation = Conversation("c", (Session("s", TURNS),), questions)
    (drawn,) = take_stratified([conversation], 10, seed=1)
    assert (
        sorted(question.category for question in drawn.questions) == ["1"] * 8 + ["2"] * 2
        or sorted(question.category for question in drawn.questions) == ["1"] * 7 + ["2"] * 3
    )
    assert take_stratified([conversation], 10, seed=1) == [drawn]
    assert take_stratified([conversation], 10, seed=2) != [drawn]
    (everything,) = take_stratified([conversation], 1000, seed=1)
    assert len(everything.questions) == 80


def test_without_data_it_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert answers.main(["--data", str(tmp_path / "none")]) == 0
    assert "SKIPPED" in capsys.readouterr().err
