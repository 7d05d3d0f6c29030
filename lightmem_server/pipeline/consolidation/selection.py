"""What a run looks at: all that is stored of the user, once, and of it the episodes with something new.

Reading is whole, work is not: a model is asked only about episodes and windows with a turn that was written or changed since
the last run. Episodes that were summarised stay as they are, but for the last of a session, which may still go on.
"""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightmem_server.pipeline.consolidation.episodes import identify, segment
from lightmem_server.pipeline.consolidation.known import Known
from lightmem_server.pipeline.consolidation.model import Episode, Window
from lightmem_server.store.protocol import Store, StoredRow
from lightmem_server.types import Kind, Memory, Partition, State

Vectors = NDArray[np.float32]

RECALL_MICROS = 3600 * 1_000_000
"""How long after a memory was returned a turn that repeats it counts as its echo."""


@dataclass(frozen=True, slots=True)
class Selection:
    """One user's records as a run sees them.

    Attributes:
        episodes: Those with something new, in the order of their first turns.
        new_ids: Turns that were written or changed since the last run.
        known: The facts; integration changes them as it goes.
        summaries, profiles: As stored.
    """

    episodes: tuple[Episode, ...]
    new_ids: frozenset[uuid.UUID]
    known: Known
    summaries: tuple[Memory, ...]
    profiles: tuple[Memory, ...]
    _vectors: Mapping[uuid.UUID, Vectors] = field(repr=False)
    _recalled: Sequence[Memory] = field(repr=False)

    def vectors_of(self, episode: Episode) -> Vectors:
        """(n, dim), row i of `episode.turns[i]`; zeros where a turn has none of the present model."""
        return _stack(episode.turns, self._vectors)

    def summary_of(self, episode: Episode) -> Memory | None:
        """The stored summary that told of the episode so far: the one that begins with one of its turns."""
        ids = {turn.id for turn in episode.turns}
        return next((each for each in self.summaries if each.evidence_ids[:1] and each.evidence_ids[0] in ids), None)

    def recalled_before(self, window: Window) -> list[str]:
        """Texts that were returned to an agent shortly before a window's turns, or since: what repeats them is an echo."""
        first = min(said.turn.created_at for said in window.turns)
        ids = {said.id for said in window.utterances}
        return [
            memory.text
            for memory in self._recalled
            if memory.id not in ids
            and memory.created_at < first
            and (memory.last_accessed_at or 0) >= first - RECALL_MICROS
        ]


async def select(store: Store, partition: Partition, *, since: int, embedding: str) -> Selection:
    """Read a user's records and choose the episodes.

    Args:
        since: The partition's version up to which earlier runs have come.
        embedding: Identity under which vectors are of use.

    Raises:
        StoreError.
    """
    everything = await store.changes_since(partition, None)
    changed = await store.changes_since(partition, since)
    rows = everything.rows
    vectors = {row.memory.id: row.vector.vectors[0] for row in rows if row.vector and row.vector.model == embedding}
    new_ids = frozenset(
        row.memory.id for row in changed.rows if row.memory.kind is Kind.TURN and row.memory.state is State.ACTIVE
    )
    by_kind: dict[Kind, list[Memory]] = {kind: [] for kind in Kind}
    for row in rows:
        by_kind[row.memory.kind].append(row.memory)
    summaries = tuple(each for each in by_kind[Kind.SUMMARY] if each.evidence_ids)
    return Selection(
        episodes=choose_episodes(rows, summaries, new_ids, vectors),
        new_ids=new_ids,
        known=Known.of(by_kind[Kind.FACT], vectors),
        summaries=summaries,
        profiles=tuple(by_kind[Kind.PROFILE]),
        _vectors=vectors,
        _recalled=[row.memory for row in rows if row.memory.last_accessed_at is not None],
    )


def choose_episodes(
    rows: Sequence[StoredRow],
    summaries: Sequence[Memory],
    new_ids: frozenset[uuid.UUID],
    vectors: Mapping[uuid.UUID, Vectors],
) -> tuple[Episode, ...]:
    """The episodes in which a turn is new, in the order of their first turns."""
    sessions: dict[str, list[Memory]] = {}
    for row in rows:
        if row.memory.kind is Kind.TURN:
            sessions.setdefault(row.memory.session_id, []).append(row.memory)
    episodes = [
        episode
        for turns in sessions.values()
        if any(turn.id in new_ids for turn in turns)
        for episode in _cut(turns, summaries, vectors)
        if any(turn.id in new_ids for turn in episode.turns)
    ]
    return tuple(sorted(episodes, key=lambda episode: (episode.turns[0].occurred_at, episode.identity)))


def _cut(turns: Sequence[Memory], summaries: Sequence[Memory], vectors: Mapping[uuid.UUID, Vectors]) -> list[Episode]:
    """A session's episodes: as they were summarised, and from the last of those on anew."""
    place = {turn.id: at for at, turn in enumerate(turns)}
    starts = sorted(place[each.evidence_ids[0]] for each in summaries if each.evidence_ids[0] in place)
    tail = starts[-1] if starts else 0
    settled = [turns[start:end] for start, end in itertools.pairwise(starts)]
    if starts and starts[0] > 0:
        settled.insert(0, turns[: starts[0]])
    rest = turns[tail:]
    return [*(Episode(identify(part), tuple(part)) for part in settled if part), *segment(rest, _stack(rest, vectors))]


def _stack(turns: Sequence[Memory], vectors: Mapping[uuid.UUID, Vectors]) -> Vectors:
    dim = next((len(vector) for vector in vectors.values()), 1)
    return np.stack([vectors.get(turn.id, np.zeros(dim, np.float32)) for turn in turns])
