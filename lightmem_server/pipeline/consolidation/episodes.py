"""Segments turns into episodes: where the session ends, time passes, or the topic changes.

Source of the topic's depth score: Hearst, "TextTiling: Segmenting text into multi-paragraph subtopic passages",
Computational Linguistics 23(1), 1997; with vectors of turns in place of her term counts.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
from numpy.typing import NDArray

from lightmem_server.pipeline.consolidation.model import Episode
from lightmem_server.types import Memory

GAP = timedelta(hours=4)
"""A pause of one session that begins another episode."""
BLOCK_TURNS = 4
"""Turns on each side of a border whose vectors are compared."""
LEAST_TURNS, MOST_TURNS = 4, 24
"""Of an episode that topic alone delimits; a Writer summarises more turns badly."""
LEAST_DEPTH = 0.12
"""A valley of less depth is noise, whatever the others are."""


def segment(turns: Sequence[Memory], vectors: NDArray[np.float32]) -> tuple[Episode, ...]:
    """Divide one user's turns into episodes. The same turns and vectors give the same episodes.

    Args:
        turns: Oldest first within a session; sessions may alternate.
        vectors: (n, dim), of unit length; row i is of `turns[i]`.
    """
    sessions: dict[str, list[int]] = {}
    for place, turn in enumerate(turns):
        sessions.setdefault(turn.session_id, []).append(place)
    episodes = [
        episode
        for places in sessions.values()
        for stretch in _cut_at_pauses(turns, places)
        for episode in _cut_at_topics(turns, vectors, stretch)
    ]
    return tuple(sorted(episodes, key=lambda episode: episode.turns[0].occurred_at))


def identify(turns: Sequence[Memory]) -> str:
    """Names an episode by its turns and their versions: another name means that it has to be summarised again."""
    digest = hashlib.sha256()
    for turn in turns:
        digest.update(turn.id.bytes + turn.version.to_bytes(8, "little"))
    return digest.hexdigest()[:32]


def depths(vectors: NDArray[np.float32], block: int = BLOCK_TURNS) -> NDArray[np.float32]:
    """How deep the valley of similarity is at each border between neighbours, (n - 1,): the sum of how far it rises to the
    nearest peak on each side."""
    count = len(vectors)
    if count < 2:
        return np.zeros(0, np.float32)
    likeness = np.array([_likeness(vectors, border, block) for border in range(1, count)], np.float32)
    return np.array(
        [_climb(likeness[at::-1]) + _climb(likeness[at:]) - 2 * likeness[at] for at in range(count - 1)], np.float32
    )


def _likeness(vectors: NDArray[np.float32], border: int, block: int) -> float:
    before = vectors[max(0, border - block) : border].mean(axis=0)
    after = vectors[border : border + block].mean(axis=0)
    norm = float(np.linalg.norm(before) * np.linalg.norm(after))
    return float(before @ after) / norm if norm > 0 else 0.0


def _climb(values: NDArray[np.float32]) -> float:
    """The first peak when walking from the front."""
    peak = float(values[0])
    for value in values[1:]:
        if value < peak:
            break
        peak = float(value)
    return peak


def _cut_at_pauses(turns: Sequence[Memory], places: Sequence[int]) -> list[list[int]]:
    stretches = [[places[0]]]
    for before, after in itertools.pairwise(places):
        pause = turns[after].occurred_at - turns[before].occurred_at
        if pause > GAP // timedelta(microseconds=1):
            stretches.append([])
        stretches[-1].append(after)
    return stretches


def _cut_at_topics(turns: Sequence[Memory], vectors: NDArray[np.float32], places: Sequence[int]) -> list[Episode]:
    depth = depths(vectors[list(places)])
    # Hearst's liberal cutoff: a border is deeper than the mean less half a standard deviation would be too many for
    # turns, which vary more than her paragraphs; the conservative sign is taken.
    cutoff = max(LEAST_DEPTH, float(depth.mean() + depth.std() / 2)) if len(depth) else 0.0
    return [_episode(turns, [places[at] for at in part]) for part in _divide(range(len(places)), depth, cutoff)]


def _divide(part: range, depth: NDArray[np.float32], cutoff: float) -> list[range]:
    """Cut at the deepest border, and each piece again, while a border is deep enough or a piece too long."""
    if len(part) < 2:
        return [part]
    is_long = len(part) > MOST_TURNS
    margin = LEAST_TURNS if len(part) >= 2 * LEAST_TURNS else len(part) // 2 if is_long else 0
    if not margin:
        return [part]
    borders = range(part.start + margin, part.stop - margin + 1)
    best = max(borders, key=lambda border: (float(depth[border - 1]), -border))
    if depth[best - 1] < cutoff and not is_long:
        return [part]
    return [*_divide(range(part.start, best), depth, cutoff), *_divide(range(best, part.stop), depth, cutoff)]


def _episode(turns: Sequence[Memory], places: Sequence[int]) -> Episode:
    its = tuple(turns[place] for place in places)
    return Episode(identify(its), its)
