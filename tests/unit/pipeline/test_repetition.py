"""What is a near-duplicate: the core nominates, the words decide."""

import uuid

import pytest

from lightmem_server.pipeline.repetition import drop_nominated, settle, substance
from lightmem_server.pipeline.retrieval import Candidate, DropReason
from lightmem_server.types import Kind, Memory, Tier


def candidate(rank: int, text: str, repeats: Candidate | None = None) -> Candidate:
    memory = Memory(uuid.uuid4(), Tier.MTM, Kind.TURN, text, 0, 0)
    duplicate_of = None if repeats is None else repeats.memory_id
    return Candidate(memory.id, rank, 1.0, {}, memory=memory, duplicate_of=duplicate_of)


def settle_duplicates(candidates: list[Candidate], most: int) -> list[Candidate]:
    drop_nominated(candidates)
    return settle(candidates, most)


@pytest.mark.parametrize(
    "other",
    ["i like GREEN tea", "Well, I like green tea!", "Oh yeah, I really like green tea", "I like the green tea…"],
)
def test_rewordings_say_the_same(other: str) -> None:
    assert substance(other) == substance("I like green tea.")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("The code is 4711", "The code is 4712"),
        ("I can come", "I can not come"),
        ("It isn't mine", "It is mine"),
        ("Ana called Ben", "Ben called Ana"),
        ("I moved to Lisbon", "I moved to Porto"),
        ("I like it", "You like it"),
        ("Yes", "No"),
        ("Yeah!", "Okay then"),
        ("你好", "你们"),
    ],
)
def test_changes_don_t(one: str, other: str) -> None:
    assert substance(one) != substance(other)


def test_a_nominee_of_the_same_words_is_dropped_and_one_of_others_stays() -> None:
    first = candidate(1, "The code is 4711.")
    same, other = candidate(2, "So the code is 4711", first), candidate(3, "The code is 4712", first)
    settled = settle_duplicates([first, same, other], 10)
    assert [c.drop_reason for c in settled] == [None, DropReason.DUPLICATE, None]
    assert [c.duplicate_of for c in settled] == [None, first.memory_id, None]


def test_no_more_are_left_than_asked_for_and_dropped_ones_are_none_of_them() -> None:
    first = candidate(1, "tea")
    candidates = [first, candidate(2, "tea!", first), candidate(3, "no tea", first), candidate(4, "coffee")]
    settled = settle_duplicates(candidates, 2)
    assert [c.memory.text for c in settled if c.memory] == ["tea", "tea!", "no tea"]
    assert [c.coarse_rank for c in settled] == [1, 2, 3]


def test_a_nominee_of_one_that_is_gone_stays() -> None:
    first = candidate(1, "tea")
    second = candidate(2, "tea", first)
    first.memory, first.drop_reason = None, DropReason.GONE
    assert [c.drop_reason for c in settle_duplicates([first, second], 5)] == [DropReason.GONE, None]
