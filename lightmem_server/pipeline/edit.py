"""Changing and deleting single memories."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from lightmem_server.errors import NotFoundError, VersionMismatchError
from lightmem_server.pipeline.consolidation.resting import find_resting
from lightmem_server.pipeline.passages import PRECEDING_TURNS, VIEW_NAMES, dense_views
from lightmem_server.pipeline.residents import Residents, read_preceding
from lightmem_server.slm.protocols import Embedder
from lightmem_server.store.protocol import Change, Store, VectorRecord
from lightmem_server.types import Memory, Partition

ATTEMPTS = 8
"""How often an unconditional update is tried again when someone else changed the record in between."""


class Editing:
    """Updates and deletions of one server."""

    def __init__(self, store: Store, residents: Residents, embedder: Embedder, *, embedding: str) -> None:
        self._store = store
        self._residents = residents
        self._embedder = embedder
        self._embedding = embedding

    async def update(
        self, partition: Partition, memory_id: uuid.UUID, change: Callable[[Memory], Memory], *, expected_version: int
    ) -> Memory:
        """Change a record durably.

        Args:
            change: From the record to what it becomes; `version` is seen to here.
            expected_version: Change only this version; 0: whichever is current.

        Raises:
            NotFoundError, VersionMismatchError, StoreError.
        """
        for attempt in range(ATTEMPTS):
            (memory,) = await self._store.get(partition, [memory_id])
            if memory is None:
                raise NotFoundError("no such memory")
            if expected_version and memory.version != expected_version:
                raise VersionMismatchError(f"the memory is at version {memory.version}")
            changed = replace(change(memory), version=memory.version + 1)
            try:
                await self._store.commit(Change(partition, puts=[changed]))
            except VersionMismatchError:
                if expected_version or attempt == ATTEMPTS - 1:
                    raise
                continue
            await self._residents.refresh(partition)
            return changed
        raise AssertionError("the loop returns or raises")

    async def delete(self, partition: Partition, memory_id: uuid.UUID) -> None:
        """Delete a record for good, and what was made of it. The turns behind it, whose views hold its text, get new ones in
        the same commit.

        Raises:
            NotFoundError, StoreError.
        """
        async with self._residents.writer(partition):
            (memory,) = await self._store.get(partition, [memory_id])
            if memory is None:
                raise NotFoundError("no such memory")
            resting = await find_resting(self._store, partition, memory)
            changed = await self._read_followers(partition, memory)
            texts = [text for follower, preceding in changed for text in dense_views(follower, preceding)]
            vectors = await self._embedder.embed_passages(texts)
            views = len(VIEW_NAMES)
            await self._store.commit(
                Change(
                    partition,
                    puts=[*(follower for follower, _ in changed), *resting.changed],
                    vectors=[
                        VectorRecord(follower.id, self._embedding, vectors[i * views : (i + 1) * views])
                        for i, (follower, _) in enumerate(changed)
                    ],
                    deletes=[memory_id, *resting.gone],
                    reason="relink",
                    reasons={fact.id: "lose_evidence" for fact in resting.changed},
                )
            )
            await self._residents.refresh(partition)

    async def _read_followers(self, partition: Partition, memory: Memory) -> list[tuple[Memory, list[Memory]]]:
        """The turns whose views hold this one's text, as they will be without it, each with what will precede it."""
        before = (await read_preceding(self._store, partition, [memory]))[memory.id]
        followers: list[tuple[Memory, list[Memory]]] = []
        waiting = [(follower, before) for follower in await self._store.find_followers(partition, memory.id)]
        for _ in range(PRECEDING_TURNS):
            next_waiting = []
            for follower, preceding in waiting:
                previous_id = memory.previous_id if follower.previous_id == memory.id else follower.previous_id
                followers.append((replace(follower, previous_id=previous_id, version=follower.version + 1), preceding))
                behind = await self._store.find_followers(partition, follower.id)
                next_waiting += [(turn, [*preceding, follower][-PRECEDING_TURNS:]) for turn in behind]
            waiting = next_waiting
        return followers
