"""Takes a run back: what it changed becomes what it was, as a new version; what it made is removed.

Refused where something builds on it: another run changed one of its records or rests on one that it made, or a user
changed one. What doesn't count is archiving and the relinking of turns, which say nothing: those stay as they are now.

The watermark stays: the next run would otherwise do again what was undone.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from lightmem_server.errors import NotFoundError, PreconditionError, VersionMismatchError
from lightmem_server.pipeline.passages import VIEW_NAMES, dense_views
from lightmem_server.pipeline.residents import Residents
from lightmem_server.slm.protocols import Embedder
from lightmem_server.store.protocol import MAX_GET, Change, Store, VectorRecord
from lightmem_server.store.run_protocol import HistoryEntry, RunChange, RunRecord, RunState
from lightmem_server.types import Memory

UNDO = "undo"
"""Reason of what undoing changes."""

HARMLESS = frozenset({"archive", "relink", UNDO})
"""Reasons of later changes by no run that don't build on one. (What undid a later run has put the words of this one back.)"""

ATTEMPTS = 4
"""How often it is tried again when a record is changed meanwhile."""


@dataclass(frozen=True, slots=True)
class Undone:
    """What an undoing did, also when it is asked for again."""

    restored_count: int
    removed_count: int


class Undoing:
    """Takes back runs, for one server."""

    def __init__(self, store: Store, residents: Residents, embedder: Embedder, *, embedding: str) -> None:
        self._store = store
        self._residents = residents
        self._embedder = embedder
        self._embedding = embedding

    async def undo(self, namespace: str, run_id: uuid.UUID) -> Undone:
        """Take a run of a namespace back.

        Raises:
            NotFoundError: No such run in it.
            PreconditionError: RUN_AT_WORK, LATER_RUN (one builds on it), or EDITED (a user changed what it made or changed).
        """
        for attempt in range(ATTEMPTS):
            run = await self._store.find_run(run_id)
            if run is None or run.partition.namespace != namespace:
                raise NotFoundError("no such run")
            if run.state is RunState.UNDONE:
                return Undone(run.restored_count, run.removed_count)
            try:
                async with self._residents.writer(run.partition):  # no run commits, and nothing is deleted, meanwhile
                    await self._store.commit(await self._to_change(run))
                    await self._residents.refresh(run.partition)
            except (VersionMismatchError, NotFoundError):
                if attempt == ATTEMPTS - 1:
                    raise
        run = await self._store.find_run(run_id)
        if run is None:
            raise NotFoundError("no such run")  # its user was erased just now
        return Undone(run.restored_count, run.removed_count)

    async def _to_change(self, run: RunRecord) -> Change:
        restored: list[Memory] = []
        removed: list[uuid.UUID] = []
        versions: dict[uuid.UUID, int] = {}
        reworded: list[Memory] = []
        later = await self._read_later(run)
        for change in await self._store.run_changes(run.run_id):
            history = await self._store.history(run.partition, change.memory_id)
            if not history:
                continue
            present = history[-1].memory
            versions[present.id] = present.version
            _check_later(history, change, {later_run.run_id for later_run in later})
            if change.version_before is None:
                removed.append(present.id)
                continue
            before = next((e.memory for e in history if e.memory.version == change.version_before), None)
            if before is None:
                continue  # it rested on a memory that was deleted since, and is forgotten
            state = present.state if _is_changed_since(history, change) else before.state
            memory = replace(before, state=state, previous_id=present.previous_id, version=present.version + 1)
            restored.append(memory)
            if memory.text != present.text:
                reworded.append(memory)
        await self._check_resting(later, set(removed))
        return Change(
            run.partition,
            puts=restored,
            vectors=await self._embed(reworded),
            deletes=removed,
            reason=UNDO,
            expected_versions=versions,
            undoes=run.run_id,
        )

    async def _read_later(self, run: RunRecord) -> list[RunRecord]:
        """The runs after this one that stand."""
        later: list[RunRecord] = []
        for other in await self._store.list_runs(run.partition, limit=MAX_GET):
            if other.run_id == run.run_id:
                break
            if other.state is not RunState.UNDONE:
                later.append(other)
        return later

    async def _check_resting(self, later_runs: Sequence[RunRecord], removed: set[uuid.UUID]) -> None:
        """Refuse to remove what records of other runs rest on."""
        for later in later_runs:
            ids = [change.memory_id for change in await self._store.run_changes(later.run_id)]
            for start in range(0, len(ids), MAX_GET):
                for memory in await self._store.get(later.partition, ids[start : start + MAX_GET]):
                    if memory is not None and removed & {*memory.evidence_ids, *memory.supersedes_ids}:
                        raise _later_run(later.run_id)

    async def _embed(self, memories: Sequence[Memory]) -> list[VectorRecord]:
        """Vectors of records that get their earlier words back; derived records have nothing that precedes them."""
        vectors = await self._embedder.embed_passages([text for m in memories for text in dense_views(m, ())])
        views = len(VIEW_NAMES)
        return [
            VectorRecord(memory.id, self._embedding, vectors[i * views : (i + 1) * views])
            for i, memory in enumerate(memories)
        ]


def _is_changed_since(history: Sequence[HistoryEntry], change: RunChange) -> bool:
    return history[-1].memory.version > change.version_after


def _check_later(history: Sequence[HistoryEntry], change: RunChange, later: Collection[uuid.UUID]) -> None:
    """Refuse when a record was changed after the run in a way that says something, and stands."""
    for entry in history:
        if entry.memory.version <= change.version_after:
            continue
        if entry.run_id in later and entry.run_id is not None:
            raise _later_run(entry.run_id)
        if entry.run_id is None and entry.reason not in HARMLESS:
            raise PreconditionError(
                f"memory {entry.memory.id} was changed by hand since the run",
                reason="EDITED",
            )


def _later_run(run_id: uuid.UUID) -> PreconditionError:
    return PreconditionError(f"run {run_id} builds on this one: undo that one first", reason="LATER_RUN")
