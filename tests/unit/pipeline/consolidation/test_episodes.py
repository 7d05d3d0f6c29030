from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from lightmem_server.pipeline.consolidation.episodes import LEAST_TURNS, MOST_TURNS, depths, identify, segment
from tests.unit.pipeline.consolidation.conversation import MINUTE, SAID_AT, turn, turns

GARDEN, OFFICE = np.eye(2, 8, dtype=np.float32)


def topics(*counts: int) -> NDArray[np.float32]:
    """Vectors of turns that change the topic after so many."""
    return np.concatenate([np.tile((GARDEN, OFFICE)[n % 2], (count, 1)) for n, count in enumerate(counts)])


def lengths(said: int, vectors: NDArray[np.float32]) -> list[int]:
    return [len(episode.turns) for episode in segment(turns(*["Ana: x"] * said), vectors)]


def test_an_episode_ends_with_its_session() -> None:
    its = [turn("Ana: x", place=place, session_id="ab"[place % 2]) for place in range(6)]
    episodes = segment(its, topics(6))
    assert [{each.session_id for each in episode.turns} for episode in episodes] == [{"a"}, {"b"}]


def test_an_episode_ends_at_a_long_pause() -> None:
    its = [turn("Ana: x", place=place, at=SAID_AT + (place > 2) * 300 * MINUTE) for place in range(5)]
    assert [len(episode.turns) for episode in segment(its, topics(5))] == [3, 2]


def test_an_episode_ends_where_the_topic_changes() -> None:
    assert lengths(15, topics(6, 9)) == [6, 9]
    assert lengths(15, topics(15)) == [15]


def test_a_short_digression_ends_nothing() -> None:
    assert lengths(12, topics(5, 1, 6)) in ([12], [5, 7], [6, 6])


def test_the_valley_is_deepest_at_the_change() -> None:
    assert int(np.argmax(depths(topics(6, 9)))) == 5
    assert depths(topics(1)).shape == (0,)


def test_the_identity_is_of_turns_and_versions() -> None:
    its = turns("Ana: x", "Ben: y")
    edited = [its[0], replace(its[1], version=2)]
    assert identify(its) == identify(list(its))
    assert len({identify(its), identify(edited), identify(its[:1])}) == 3


vectors = st.integers(0, 60).flatmap(lambda n: arrays(np.float32, (n, 4), elements=st.floats(-1, 1, width=16)))


@given(vectors)
def test_each_turn_is_in_one_episode_of_bounded_length(its: NDArray[np.float32]) -> None:
    said = turns(*["Ana: x"] * len(its))
    episodes = segment(said, its)
    assert [each for episode in episodes for each in episode.turns] == said
    assert all(len(episode.turns) <= MOST_TURNS for episode in episodes)
    assert len(episodes) == 1 or all(len(episode.turns) >= LEAST_TURNS for episode in episodes)
    assert [each.identity for each in segment(said, its)] == [each.identity for each in episodes]
