"""The write path: embed its views, commit, insert into the resident partition. No generative model before the ack.

    requests of one stream ──▶ group (one user) ──▶ last turns ──▶ embed ──▶ commit each ──▶ refresh ──▶ ack each

Requests that wait on a stream are embedded together and committed one by one in order, so that when one is refused, those
before it are stored and those after it are not. Commits of different users share a disk sync in the store.
"""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import AsyncGenerator, Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import uuid_utils.compat
from numpy.typing import NDArray

from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.triggers import Triggers
from lightmem_server.pipeline.passages import PRECEDING_TURNS, Said, dense_views
from lightmem_server.pipeline.residents import Residents
from lightmem_server.slm.protocols import Embedder
from lightmem_server.store.protocol import Change, JobRecord, Store, VectorRecord
from lightmem_server.types import Kind, Memory, Partition, Tier, Turn

ID_BYTES = 16


@dataclass(frozen=True, slots=True)
class WriteBatch:
    """One validated WriteRequest. `request_id` "" is none."""

    partition: Partition
    turns: Sequence[Turn]
    agent_id: str = ""
    session_id: str = ""
    request_id: str = ""


@dataclass(frozen=True, slots=True)
class WriteAck:
    """What was stored, or on a replay had been stored before."""

    request_id: str
    memory_ids: Sequence[uuid.UUID]
    is_replay: bool


class Writing:
    """The write path of one server."""

    def __init__(
        self,
        store: Store,
        residents: Residents,
        embedder: Embedder,
        *,
        embedding: str,
        clock: Clock,
        triggers: Triggers | None = None,
    ) -> None:
        """
        Args:
            embedding: The identity that the vectors are stored under.
            triggers: Writing starts consolidations; None: it doesn't.
        """
        self._store = store
        self._residents = residents
        self._embedder = embedder
        self._embedding = embedding
        self._clock = clock
        self._triggers = triggers

    async def write(self, batches: Sequence[WriteBatch]) -> AsyncGenerator[WriteAck, None]:
        """Store batches of one partition in order; yields each one's ack once it is durable and can be found.

        Raises:
            RequestReusedError, OverloadedError, StoreError: The batch whose ack is due was not stored, nor those after
                it.
            UserErasedError: So, too: the user was erased since this began, or since the request was stored before.
        """
        partition = batches[0].partition
        generation = await self._store.generation(partition)
        async with self._residents.writer(partition):
            await self._residents.refresh(partition)
            last_turns = {
                session_id: await self._last_turns(partition, session_id)
                for session_id in {batch.session_id for batch in batches}
            }
            vectors = await self._embed(batches, last_turns)
            for batch, batch_vectors in zip(batches, vectors, strict=True):
                said = last_turns[batch.session_id]
                change = replace(self._to_change(batch, batch_vectors, said), generation=generation)
                result = await self._store.commit(change)
                if not result.is_replay:
                    said += change.puts
                    await self._residents.refresh(partition)
                yield WriteAck(batch.request_id, _split_ids(result.request_result), result.is_replay)

    async def _last_turns(self, partition: Partition, session_id: str) -> list[Memory]:
        """The last turns of a session, oldest first: as many as the views need, or all that run where it matters whether
        some leave."""
        ring = await self._residents.session_ring(partition, session_id)
        if self._triggers is None:
            ring = ring[-PRECEDING_TURNS:]
        turns = await self._store.get(partition, [uuid.UUID(bytes=id_) for id_ in ring])
        return [turn for turn in turns if turn is not None]

    async def _embed(
        self, batches: Sequence[WriteBatch], last_turns: Mapping[str, Sequence[Memory]]
    ) -> list[list[NDArray[np.float32]]]:
        """Vectors (views, dim) of every turn, grouped as the batches are; equal texts are embedded once, in one call."""
        preceding: dict[str, list[Said]] = {session_id: list(turns) for session_id, turns in last_turns.items()}
        views: list[list[tuple[str, ...]]] = []
        for batch in batches:
            said = preceding[batch.session_id]
            views.append([])
            for turn in batch.turns:
                views[-1].append(dense_views(turn, said[-PRECEDING_TURNS:]))
                said.append(turn)
        texts = list(dict.fromkeys(text for batch_views in views for turn_views in batch_views for text in turn_views))
        vector_of = dict(zip(texts, await self._embedder.embed_passages(texts), strict=True))
        return [
            [np.stack([vector_of[text] for text in turn_views]) for turn_views in batch_views] for batch_views in views
        ]

    def _to_change(self, batch: WriteBatch, vectors: Sequence[NDArray[np.float32]], said: Sequence[Memory]) -> Change:
        received_at = self._clock.now()
        memories: list[Memory] = []
        previous_id = said[-1].id if said else None
        for turn in batch.turns:
            memories.append(
                Memory(
                    id=uuid_utils.compat.uuid7(),
                    tier=Tier.MTM,
                    kind=Kind.TURN,
                    text=turn.text,
                    occurred_at=received_at if turn.occurred_at is None else turn.occurred_at,
                    created_at=received_at,
                    agent_id=batch.agent_id,
                    session_id=batch.session_id,
                    speaker=turn.speaker,
                    role=turn.role,
                    previous_id=previous_id,
                    metadata=turn.metadata,
                    is_pinned=turn.is_pinned,
                    expires_at=turn.expires_at,
                    token_count=self._embedder.tokens.count(turn.text),
                )
            )
            previous_id = memories[-1].id
        jobs: list[JobRecord] = []
        if self._triggers is not None:
            jobs = self._triggers.on_write(received_at, overflows=self._triggers.overflows([*said, *memories]))
        return Change(
            partition=batch.partition,
            puts=memories,
            jobs=jobs,
            vectors=[
                VectorRecord(memory.id, self._embedding, views) for memory, views in zip(memories, vectors, strict=True)
            ],
            request_id=batch.request_id,
            request_digest=digest(batch) if batch.request_id else b"",
            request_result=b"".join(memory.id.bytes for memory in memories),
        )


def digest(batch: WriteBatch) -> bytes:
    """Hash of what a request asks for: a retry has the same, another request under its request_id has not."""
    content: list[object] = [batch.agent_id, batch.session_id]
    content.append([[getattr(turn, field.name) for field in fields(Turn)] for turn in batch.turns])
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=dict).encode()).digest()


def _split_ids(result: bytes) -> list[uuid.UUID]:
    return [uuid.UUID(bytes=result[i : i + ID_BYTES]) for i in range(0, len(result), ID_BYTES)]
