"""The tier book's door; the book itself is tested in rust_core/tests/tier_book.rs."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from lightmem_server.core import TierBook, TierEvent, TierEvents, TierPolicy
from lightmem_server.errors import CoreError

POLICY = TierPolicy(
    half_life=100, capacity=[9, 9, 2, 9], promote_heat=1.5, summarise_turns=2, stm_turns=1, stm_tokens=100
)


def ids(*numbers: int) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return np.array([[number] * 16 for number in numbers], np.uint8).reshape(len(numbers), 16)


def make_events(kind: TierEvent, *numbers: int, **columns: Any) -> TierEvents:
    n = len(numbers)
    events = TierEvents(
        kinds=np.full(n, kind, np.uint8),
        ids=ids(*numbers),
        times=np.array(numbers, np.int64),
        counts=np.ones(n, np.uint32),
        sessions=["s"] * n,
        orders=np.array(numbers, np.uint64),
        tiers=np.full(n, 2, np.uint8),
        occurred_at=np.array(numbers, np.int64),
        confidences=np.ones(n, np.float32),
        is_turn=np.ones(n, np.bool_),
    )
    return dataclasses.replace(events, **columns)


def test_events_become_rings_heat_counts_and_decisions() -> None:
    book = TierBook(POLICY)
    book.replay(make_events(TierEvent.ADDED, 1, 2, 3, 4))
    book.replay(make_events(TierEvent.ACCESSED, 1, times=np.array([4]), counts=np.array([2], np.uint32)))
    book.replay(make_events(TierEvent.PINNED, 2))
    assert book.session_ring("s") == [bytes([4] * 16)]
    assert book.counts() == {2: (4, 0)}
    heats = book.heats(ids(1, 2, 9))
    assert heats[0] == pytest.approx(1 + 2 ** (-1.5 / 100))
    assert heats[1] == 0
    assert np.isnan(heats[2])
    decided = book.decide()
    assert decided.summarise == ["s"]
    assert decided.promote == [bytes([1] * 16)]
    assert decided.archive == [bytes([3] * 16), bytes([1] * 16)]
    book.replay(make_events(TierEvent.ARCHIVED, 3, 1))
    assert book.counts() == {2: (2, 2)}
    assert book.decide().archive == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("kinds", np.array([11], np.uint8)),
        ("kinds", np.array([1], np.int64)),
        ("ids", np.zeros((1, 15), np.uint8)),
        ("times", np.zeros(2, np.int64)),
        ("sessions", ["a", "b"]),
        ("sessions", [7]),
        ("tiers", np.array([32], np.uint8)),
        ("confidences", np.array([np.nan], np.float32)),
    ],
)
def test_a_wrong_column_is_refused_and_changes_nothing(column: str, value: object) -> None:
    book = TierBook(POLICY)
    with pytest.raises(CoreError):
        book.replay(make_events(TierEvent.ADDED, 1, **{column: value}))
    assert book.counts() == {}


def test_a_policy_without_sense_is_refused() -> None:
    with pytest.raises(CoreError, match="promote_heat"):
        TierBook(dataclasses.replace(POLICY, promote_heat=float("nan")))
