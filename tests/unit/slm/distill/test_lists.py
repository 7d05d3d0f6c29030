"""The lists: what is in them and what isn't."""

from __future__ import annotations

import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lightmem_server.slm.distill.lists import (
    PASSAGES,
    ReadList,
    drop_rivals,
    load_lists,
    make_lists,
    read_questions,
    save_lists,
)
from lightmem_server.slm.distill.sets import Asked, Part, bare, read_sets
from lightmem_server.slm.fakes import HashEmbedder

RIVERS = {
    "Alba": "Ahr",
    "Brenta": "Bly",
    "Cinca": "Cho",
    "Drava": "Dun",
    "Enz": "Elk",
    "Fulda": "Fen",
    "Garonne": "Gro",
}
SENTENCES = [f"The river {name} rises in the hills of {hill} and is long." for name, hill in RIVERS.items()]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rivers = [
        {
            "question_id": f"r{n}",
            "group": f"rivers {n % 40}",
            "question": f"How long is the {SENTENCES[n % 7].split()[2]}?",
            "candidates": SENTENCES,
            "positives": [n % 7] if n % 3 else [],
        }
        for n in range(120)
    ]
    rivers.append({**rivers[1], "question_id": "again", "question": "Where does the Brenta rise?"})
    scene = {
        "question_id": "f",
        "group": "s01_e01_c01",
        "question": "What did Ana tell Ben?",
        "candidates": [
            "Ben: When do you move?",
            "Ana: Next Friday!",
            "Ben: So soon.",
            *(f"Cem: Tea {n}?" for n in range(9)),
        ],
        "positives": [1],
    }
    for name, rows in (("selqa", rivers), ("friendsqa", [scene] * 12 + [{**scene, "group": "s03_e01_c01"}])):
        with gzip.open(tmp_path / f"{name}.jsonl.gz", "wt") as file:
            file.writelines(json.dumps(row) + "\n" for row in rows)
    return tmp_path


async def test_answers_are_in_and_no_answer_is_among_the_others(folder: Path) -> None:
    lists = await make_lists(read_sets(folder), HashEmbedder(64), seed=0)
    for one in lists:
        assert 2 <= len(one.passages) <= PASSAGES
        assert len({bare(passage) for passage in one.passages}) == len(one.passages)
    rivers = [one for one in lists if one.set_name == "selqa" and any(one.labels)]
    assert rivers
    for one in rivers:
        name = next(name for name in RIVERS if name in one.question)
        said = {bare(passage): label for passage, label in zip(one.passages, one.labels, strict=True)}
        assert [label for passage, label in said.items() if name in passage] == [1.0]
        assert sum(one.labels) == 1


async def test_some_questions_are_rewritten(folder: Path) -> None:
    lists = await make_lists(read_sets(folder), HashEmbedder(64), seed=0)
    asked = {one.question for one in lists if one.set_name == "friendsqa"}
    assert asked & {"What did I tell Ben?", "What did you tell Ben?", "What did Ana tell me?", "What did Ana tell you?"}


async def test_questions_about_short_turns_are_asked_of_longer_ones_too(folder: Path) -> None:
    lists = await make_lists(read_sets(folder), HashEmbedder(64), seed=0)
    longer = [one for one in lists if one.set_name == "friendsqa_longer"]
    assert {one.part for one in longer} == {Part.TRAIN}
    for one in longer:
        assert [passage for passage, label in zip(one.passages, one.labels, strict=True) if label] == [
            passage for passage in one.passages if "Next Friday!" in passage
        ]
    assert any("When do you move? Next Friday!" in passage for one in longer for passage in one.passages)


def test_it_is_asked_by_the_sets_of_the_dialogues_and_of_the_chats_alone_and_joined(folder: Path) -> None:
    names = {asked.set_name for asked in read_questions(folder, seed=0)}
    assert names == {"selqa", "friendsqa", "written", "chats", "chats_joined", "facts", "beside_facts"}


async def test_questions_that_are_added_leave_the_lists_of_the_others_as_they_are(folder: Path) -> None:
    asked = list(read_sets(folder))
    few = [one for one in asked if one.set_name != "friendsqa"]
    alone = await make_lists(few, HashEmbedder(64), seed=0)
    beside = await make_lists(asked, HashEmbedder(64), seed=0)
    assert alone == [one for one in beside if not one.set_name.startswith("friendsqa")]
    assert alone != await make_lists(few, HashEmbedder(64), seed=1)


async def test_questions_of_one_name_have_a_list_each() -> None:
    turns = ("Ana: I saw ducks.", "Ben: I saw geese.")
    asked = [
        Asked("chats", "home", Part.TRAIN, "1", f"When did {who} see them?", turns, frozenset({n}))
        for n, who in enumerate(("Ana", "Ben"))
    ]
    assert len(await make_lists(asked, HashEmbedder(64), seed=0)) == 2


async def test_what_may_answer_is_in_no_list() -> None:
    turns = ("Ana: I saw ducks.", "Ana saw ducks", *(f"Ana: I saw {n} geese." for n in range(20)))
    asked = Asked("facts", "home", Part.TRAIN, "1", "When did Ana see ducks?", turns, frozenset({0}), frozenset({1, 2}))
    (one,) = await make_lists([asked], HashEmbedder(64), seed=0)
    assert len(one.passages) == PASSAGES
    assert not {turns[1], turns[2]} & set(one.passages)


async def test_among_joined_chats_the_others_are_those_that_a_search_finds_first() -> None:
    turns = tuple(f"Ana: On day {n} I saw {'ducks' if n % 3 == 1 else 'rain, and slept'}." for n in range(40))
    asked = Asked("chats_joined", "home", Part.TRAIN, "1", "When did Ana see ducks?", turns, frozenset({1}))
    (one,) = await make_lists([asked], HashEmbedder(64), seed=0)
    assert len(one.passages) == PASSAGES
    assert all("ducks" in passage for passage in one.passages)


@pytest.mark.parametrize("set_name", ["chats_joined", "facts"])
def test_where_more_may_answer_what_the_teacher_prefers_to_every_known_answer_is_left_out(set_name: str) -> None:
    passages = ("better", "answer", "worse", "other answer", "between")
    one = ReadList(set_name, Part.TRAIN, "q", passages, (0.0, 1.0, 0.0, 1.0, 0.0))
    scores = np.array([5.0, 4.0, -9.0, 1.0, 2.0], np.float32)
    kept, judged = drop_rivals(one, scores)
    assert kept.passages == ("answer", "worse", "other answer", "between")
    assert kept.labels == (1.0, 0.0, 1.0, 0.0)
    assert judged.tolist() == [4.0, -9.0, 1.0, 2.0]
    of_one = replace(one, set_name="chats")
    assert drop_rivals(of_one, scores) == (of_one, scores), "of a single chat it is known what doesn't answer"


async def test_a_turn_of_a_conversation_keeps_the_question_before_it() -> None:
    asked = [
        Asked(
            "written", "w", Part.TRAIN, f"w/{n}", question, ("Ben: Where? | Ana: Lisbon.", "Ben: Oh."), frozenset({0})
        )
        for n, question in enumerate(["Where does Ana live?", "Where do I live?"] * 20)
    ]
    lists = await make_lists(asked, HashEmbedder(64), seed=0)
    assert {passage for one in lists for passage in one.passages} == {"Ben: Where? | Ana: Lisbon.", "Ben: Oh."}


async def test_the_same_seed_makes_the_same_lists_and_they_are_read_back(folder: Path, tmp_path: Path) -> None:
    lists = await make_lists(read_sets(folder), HashEmbedder(64), seed=0)
    assert lists == await make_lists(read_sets(folder), HashEmbedder(64), seed=0)
    save_lists(lists, tmp_path / "lists.jsonl.gz")
    assert load_lists(tmp_path / "lists.jsonl.gz") == lists


def test_bare() -> None:
    assert bare("Ben: When? | Ana: Next Friday!") == "Ana: Next Friday!"
    assert bare("Ana: Hi.") == "Ana: Hi."
    assert ReadList("s", Part.TEST, "q", ("a",), (1.0,)).part is Part.TEST
