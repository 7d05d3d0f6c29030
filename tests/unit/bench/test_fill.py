from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest

from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Partition, Turn
from tests.bench import fill

SOURCE = ["We went to the lake on Sunday.", "My sister paints mountains.", "The cello lessons begin in autumn."]


def test_made_conversation_is_that_of_its_seed_and_its_questions_have_evidence() -> None:
    made = fill.make_conversation(SOURCE, turns=60, questions=9, seed=1)
    texts = {turn.turn_id: turn.text for turn in made.turns}
    assert made == fill.make_conversation(SOURCE, turns=60, questions=9, seed=1)
    assert made != fill.make_conversation(SOURCE, turns=60, questions=9, seed=2)
    assert [len(session.turns) for session in made.sessions] == [24, 24, 12]
    assert len(made.questions) == 9
    for question in made.questions:
        (evidence,) = question.evidence
        asked = question.text.removeprefix("What was said about ").rstrip("?").split(", ")
        assert all(word in texts[evidence] for word in asked)


def test_made_turns_are_as_long_as_those_of_chats() -> None:
    made = fill.make_conversation(SOURCE, turns=2000, questions=0, seed=1)
    lengths = sorted(len(turn.text.split()) for turn in made.turns)
    assert 16 <= lengths[1000] <= 22
    assert 45 <= lengths[1900] <= 75


def test_variations_begin_with_the_texts_and_then_differ_a_little() -> None:
    texts = ["one two three four five six seven eight nine ten " * 3, "a b c d e f g h i j " * 3]
    made = list(fill.vary(texts, count=40, seed=0))
    assert made[:2] == [(0, texts[0]), (1, texts[1])]
    assert len({text for _, text in made}) == 40
    changed = [
        sum(ours != theirs for ours, theirs in zip(text.split(), texts[index].split(), strict=True)) / 30
        for index, text in made[2:]
    ]
    assert 0.1 < sum(changed) / len(changed) < 0.3


def test_moved_vectors_are_unit_and_near() -> None:
    generator = np.random.default_rng(0)
    vectors = generator.standard_normal((50, 2, 384)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    moved = fill.move(vectors, generator)
    assert moved.dtype == np.float32
    assert np.linalg.norm(moved, axis=-1) == pytest.approx(1, abs=1e-5)
    assert float((moved * vectors).sum(axis=-1).mean()) == pytest.approx(0.8, abs=0.03)


async def test_filled_user_is_one_that_the_server_could_have_written(tmp_path: Path) -> None:
    partition = Partition("default", "filled")
    turns = [Turn(text, occurred_at=number, speaker="Ana") for number, text in enumerate(SOURCE)]
    vectors = np.eye(6, 384, dtype=np.float32).reshape(3, 2, 384)
    store = SqliteStore(tmp_path / "data")
    await store.open()
    try:
        for change in fill.make_changes(
            partition, turns, vectors, [7, 4, 7], "words/1", 2 * fill.TURNS_PER_SESSION + 1
        ):
            await store.commit(change)
        changes = await store.changes_since(partition, None)
    finally:
        await store.close()
    memories = [row.memory for row in changes.rows]
    assert [len(list(group)) for _, group in itertools.groupby(memories, lambda memory: memory.session_id)] == [
        24,
        24,
        1,
    ]
    assert [memory.previous_id for memory in memories] == [
        None if number % fill.TURNS_PER_SESSION == 0 else memories[number - 1].id for number in range(len(memories))
    ]
    assert [memory.occurred_at for memory in memories] == sorted(memory.occurred_at for memory in memories)
    assert all(row.vector is not None and row.vector.model == "words/1" for row in changes.rows)
    assert [memory.text for memory in memories[:3]] == SOURCE
