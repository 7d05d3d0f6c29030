"""A share of an answer's room is kept for facts first, then for whatever was refused."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from lightmem_server.pipeline.retrieval import DropReason
from lightmem_server.pipeline.room import Room


def test_a_turn_may_not_take_what_is_kept_and_a_fact_may() -> None:
    room = Room(100, 10, 0.2)
    assert room.take(81, is_fact=False) is DropReason.MAX_TOKENS
    assert room.take(80, is_fact=False) is None
    assert room.take(20, is_fact=True) is None
    assert room.take(1, is_fact=True) is DropReason.MAX_TOKENS


def test_what_facts_took_is_no_longer_kept() -> None:
    room = Room(100, 10, 0.2)
    assert room.take(20, is_fact=True) is None
    assert room.take(80, is_fact=False) is None


def test_beyond_the_share_facts_compete_like_turns() -> None:
    room = Room(100, 10, 0.2)
    assert room.take(60, is_fact=True) is None
    assert room.take(40, is_fact=False) is None


def test_of_the_memories_a_share_is_kept_too() -> None:
    room = Room(1000, 5, 0.2)
    assert [room.take(1, is_fact=False) for _ in range(5)] == [None] * 4 + [DropReason.MAX_MEMORIES]
    assert room.take(1, is_fact=True) is None
    assert room.take(1, is_fact=True) is DropReason.MAX_MEMORIES


def test_once_open_nothing_is_kept() -> None:
    room = Room(100, 5, 0.2)
    room.open()
    assert room.take(100, is_fact=False) is None


@given(st.integers(0, 200), st.integers(0, 9), st.floats(0, 1), st.lists(st.tuples(st.integers(1, 60), st.booleans())))
def test_no_more_is_taken_than_there_is(
    max_tokens: int, max_memories: int, share: float, wanted: list[tuple[int, bool]]
) -> None:
    room = Room(max_tokens, max_memories, share)
    taken = [tokens for tokens, is_fact in wanted if room.take(tokens, is_fact=is_fact) is None]
    room.open()
    taken += [tokens for tokens, is_fact in wanted if room.take(tokens, is_fact=is_fact) is None]
    assert sum(taken) <= max_tokens
    assert len(taken) <= max_memories
