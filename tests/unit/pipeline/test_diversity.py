"""Lists: what repeats itself comes later, and the order of what doesn't stays."""

import uuid

import numpy as np
import pytest
from numpy.typing import NDArray

from lightmem_server.pipeline.diversity import REPETITION, diversify
from lightmem_server.pipeline.retrieval import Budget, Candidate, DropReason, SelectorMode
from lightmem_server.pipeline.tuning import Tuning
from lightmem_server.types import Turn
from tests.unit.pipeline.conftest import Pipeline

TUNING = Tuning(repetition_from=0.8, repetition_whole=1.0, repetition_cost=1.0)


def candidates(*scores: float) -> list[Candidate]:
    return [Candidate(uuid.uuid4(), i + 1, score, {}, score=score) for i, score in enumerate(scores)]


def alike(count: int, *pairs: tuple[int, int, float]) -> NDArray[np.float32]:
    """One view, in which all but these pairs have nothing in common."""
    similarities = np.eye(count, dtype=np.float32)
    for i, j, cosine in pairs:
        similarities[i, j] = similarities[j, i] = cosine
    return similarities[None]


def order(ranked: list[Candidate]) -> list[int]:
    return [candidate.coarse_rank for candidate in ranked]


def test_what_says_the_same_again_falls_behind_what_is_new() -> None:
    ranked = diversify(candidates(3.0, 2.9, 2.5), alike(3, (0, 1, 0.95)), TUNING)
    assert order(ranked) == [1, 3, 2]
    assert [round(c.score, 4) for c in ranked] == [3.0, 2.5, 2.15]
    assert [c.parts.get(REPETITION) for c in ranked] == [None, None, pytest.approx(0.75)]


def test_only_what_was_chosen_before_makes_a_repetition() -> None:
    assert order(diversify(candidates(3.0, 2.9, 2.8), alike(3, (1, 2, 1.0)), TUNING)) == [1, 2, 3]


def test_what_is_as_alike_as_different_things_are_keeps_its_order() -> None:
    ranked = diversify(candidates(3.0, 2.99, 2.98), alike(3, (0, 1, 0.8), (1, 2, 0.79)), TUNING)
    assert order(ranked) == [1, 2, 3]
    assert all(not c.parts for c in ranked)


def test_several_views_count_by_their_mean() -> None:
    views = np.concatenate([alike(3, (0, 1, 1.0)), alike(3, (0, 1, 0.5))])
    assert order(diversify(candidates(3.0, 2.9, 2.5), views, TUNING)) == [1, 2, 3]


def test_what_was_not_judged_counts_for_no_more_than_what_it_stands_behind() -> None:
    ranked = diversify(candidates(3.0, 2.0, 5.0), alike(3), TUNING)
    assert order(ranked) == [1, 2, 3]
    # A repetition of what was judged falls behind it all the same.
    assert order(diversify(candidates(3.0, 2.0, 5.0), alike(3, (0, 1, 1.0)), TUNING)) == [1, 3, 2]


def test_dropped_candidates_keep_their_places_and_repeat_nothing() -> None:
    dropped = candidates(3.0, 2.9, 2.8)
    dropped[0].drop_reason = DropReason.IN_CONTEXT
    assert order(diversify(dropped, alike(3, (0, 1, 1.0)), TUNING)) == [1, 2, 3]


def test_without_vectors_the_order_stays() -> None:
    unknown = np.full((2, 3, 3), np.nan, np.float32)
    assert order(diversify(candidates(3.0, 2.0, 1.0), unknown, TUNING)) == [1, 2, 3]
    assert diversify([], np.empty((2, 0, 0), np.float32), TUNING) == []


HOBBIES = [
    "one of my hobbies is painting flowers in the little garden behind our old house on sunday mornings with my aunt",
    "one of my hobbies is really painting flowers in the little garden behind our old house on sunday mornings with my aunt",
    "one of my hobbies is still painting flowers in the little garden behind our old house on sunday mornings with my aunt",
    "one of my hobbies is just painting flowers in the little garden behind our old house on sunday mornings with my aunt",
    "one of my hobbies is always painting flowers in the little garden behind our old house on sunday mornings with my aunt",
    "my hobbies include karate",
    "chess counts among hobbies too",
]


async def test_a_question_for_several_is_answered_by_different_items(pipeline: Pipeline) -> None:
    for i, text in enumerate(HOBBIES):  # sessions of their own: the same is said again on other days
        await pipeline.write(Turn(text, speaker="Ana"), session_id=f"s{i}")
    options = {"selector_mode": SelectorMode.OFF, "budget": Budget(3, 32, 1000, 5.0)}
    trace = await pipeline.trace("what hobbies does Ana have?", **options)
    assert trace.plan.is_list
    returned = [c.memory.text for c in trace.candidates if c.drop_reason is None and c.memory]
    assert sum("painting" in text for text in returned) == 1
    assert set(HOBBIES[5:]) < set(returned)


async def test_a_question_for_one_thing_is_not_diversified(pipeline: Pipeline) -> None:
    for i, text in enumerate(HOBBIES):
        await pipeline.write(Turn(text, speaker="Ana"), session_id=f"s{i}")
    trace = await pipeline.trace("does Ana like painting flowers?", selector_mode=SelectorMode.OFF)
    assert not trace.plan.is_list
    assert all(REPETITION not in c.parts for c in trace.candidates)
