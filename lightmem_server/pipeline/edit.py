"""Changing and deleting single memories."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace

from lightmem_server.errors import NotFoundError, VersionMismatchError
from lightmem_server.pipeline.passages import turn_passage, window_passage
from lightmem_server.pipeline.residents import Residents
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
        """Delete a record for good. The turn after it, whose window holds its text, gets a window without it in the same
        commit.

        Raises:
            NotFoundError, StoreError.
        """
        async with self._residents.writer(partition):
            (memory,) = await self._store.get(partition, [memory_id])
            if memory is None:
                raise NotFoundError("no such memory")
            followers = await self._store.find_followers(partition, memory_id)
            (before,) = await self._store.get(partition, [memory.previous_id]) if memory.previous_id else [None]
            changed = [
                replace(follower, previous_id=before.id if before else None, version=follower.version + 1)
                for follower in followers
            ]
            windows = [window_passage(follower, before) for follower in changed]
            texts = [
                text
                for follower, window in zip(changed, windows, strict=True)
                for text in (turn_passage(follower), window)
            ]
            vectors = await self._embedder.embed_passages(texts)
            await self._store.commit(
                Change(
                    partition,
                    puts=changed,
                    vectors=[
                        VectorRecord(follower.id, self._embedding, vectors[2 * i : 2 * i + 2], window)
                        for i, (follower, window) in enumerate(zip(changed, windows, strict=True))
                    ],
                    deletes=[memory_id],
                )
            )
            await self._residents.refresh(partition)
