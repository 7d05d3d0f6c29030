"""Any history of a user, exported and imported elsewhere, exports to the same bytes; and again, and broken off anywhere."""

from __future__ import annotations

import asyncio
import tempfile
import uuid
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightmem_server.core import Engine
from lightmem_server.errors import InvalidInputError
from lightmem_server.pipeline import transfer
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.run import JOB_KIND, WATERMARK
from lightmem_server.pipeline.passages import VIEW_NAMES
from lightmem_server.pipeline.residents import Residents
from lightmem_server.pipeline.transfer import Exporting, Imported, Importing
from lightmem_server.slm.fakes import HashEmbedder
from lightmem_server.store.protocol import Change, JobRecord, VectorRecord
from lightmem_server.store.run_protocol import RunState, RunTag
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Kind, Memory, Partition, Role, Scalar, State, Statement, Tier
from tests.contract.store_records import USER

DIM = 4
EMBEDDING = "hash/4"

texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12)
moments = st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999)
scalars: st.SearchStrategy[Scalar] = (
    texts | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()
)
memories = st.builds(
    Memory,
    id=st.uuids(),
    tier=st.sampled_from([Tier.MTM, Tier.LTM]),
    kind=st.sampled_from(Kind),
    text=texts,
    occurred_at=moments,
    created_at=moments,
    agent_id=texts,
    session_id=texts,
    speaker=texts,
    role=st.sampled_from(Role),
    valid_from=st.none() | moments,
    valid_to=st.none() | moments,
    confidence=st.floats(0, 1),
    statement=st.none() | st.builds(Statement, texts, texts, texts),
    participants=st.lists(texts, max_size=2).map(tuple),
    supersedes_ids=st.lists(st.uuids(), max_size=2).map(tuple),
    related_ids=st.lists(st.uuids(), max_size=1).map(tuple),
    previous_id=st.none() | st.uuids(),
    metadata=st.dictionaries(texts.filter(bool), scalars, max_size=3),
    is_pinned=st.booleans(),
    expires_at=st.none() | moments,
    state=st.sampled_from(State),
    token_count=st.integers(0, 2**32 - 1),
)
vectors = st.none() | st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=8, max_size=8)

Operation: TypeAlias = tuple[str, int, Memory, list[float] | None]
"""What is done, to which record (modulo how many there are), with what."""

operations: st.SearchStrategy[list[Operation]] = st.lists(
    st.tuples(
        st.sampled_from(["put", "put", "put", "change", "change", "access", "delete", "begin", "finish", "fail"]),
        st.integers(0, 9),
        memories,
        vectors,
    ),
    max_size=14,
)


class History:
    """Makes a history happen to one user."""

    def __init__(self, store: SqliteStore) -> None:
        self.store = store
        self.ids: list[uuid.UUID] = []
        self.run: tuple[uuid.UUID, int] | None = None
        self.steps = 0

    def _tag(self) -> RunTag | None:
        if self.run is None:
            return None
        self.steps += 1
        return RunTag(self.run[0], "w", "integrate", str(self.steps))

    async def apply(self, operation: Operation) -> None:
        kind, number, like, values = operation
        if kind in ("change", "access", "delete") and self.ids:
            id_ = self.ids[number % len(self.ids)]
            if kind == "access":
                await self.store.record_access(USER, [id_], number)
            elif kind == "delete" and self.run is None:
                self.ids.remove(id_)
                await self.store.commit(Change(USER, deletes=[id_]))
            elif kind == "change":
                (stored,) = await self.store.get(USER, [id_])
                assert stored is not None
                changed = replace(like, id=id_, version=stored.version + 1)
                await self._put(changed, values)
        elif kind == "put":
            evidence = tuple(self.ids[:number])
            self.ids.append(like.id)
            await self._put(replace(like, evidence_ids=evidence), values)
        elif kind == "begin" and self.run is None:
            await self._begin()
        elif kind in ("finish", "fail") and self.run is not None:
            state = RunState.DONE if kind == "finish" else RunState.FAILED
            (run_id, job_id), self.run = self.run, None
            await self.store.finish_run(
                run_id, job_id=job_id, owner="w", state=state, error=like.text, watermark=WATERMARK, now=number
            )

    async def _put(self, memory: Memory, values: list[float] | None) -> None:
        made = (
            [] if values is None else [VectorRecord(memory.id, EMBEDDING, np.array(values, np.float32).reshape(2, 4))]
        )
        await self.store.commit(Change(USER, puts=[memory], vectors=made, run=self._tag(), reason=memory.text[:3]))

    async def _begin(self) -> None:
        await self.store.commit(Change(USER, jobs=[JobRecord(JOB_KIND)]))
        job = await self.store.claim_job([JOB_KIND], owner="w", lease_micros=1, now=0)
        assert job is not None
        run = await self.store.begin_run(
            USER, job_id=job.job_id, owner="w", cause="idle", model="m", prompt="p", watermark=WATERMARK, now=1
        )
        if run is None:
            await self.store.finish_job(job.job_id, owner="w")
        else:
            self.run = run.run_id, job.job_id


async def export(store: SqliteStore, folder: Path, partition: Partition = USER) -> list[str]:
    parts = Exporting(store, embedding=EMBEDDING, spool_dir=folder).export(partition)
    return [line async for part in parts for line in part.lines]


async def import_(store: SqliteStore, executor: ThreadPoolExecutor, lines: Sequence[str]) -> Imported:
    engine = Engine(dim=DIM, view_names=VIEW_NAMES, budget_bytes=1 << 24, stm_turns=4, stm_tokens=100)
    residents = Residents(store, engine, executor, embedding=EMBEDDING)
    importing = Importing(store, residents, HashEmbedder(DIM), embedding=EMBEDDING, clock=Clock(), max_text_bytes=10**6)

    async def each() -> AsyncIterator[str]:
        for line in lines:
            yield line

    return await importing.import_(USER, each())


async def check(folder: Path, history: Sequence[Operation], cut: float, executor: ThreadPoolExecutor) -> None:
    source, target = SqliteStore(folder / "source"), SqliteStore(folder / "target")
    await source.open()
    await target.open()
    past = History(source)
    for operation in history:
        await past.apply(operation)
    lines = await export(source, folder)
    whole = len(lines) - 1
    part = lines[: 1 + int(cut * whole)]
    if len(part) < len(lines):
        with pytest.raises(InvalidInputError) as caught:
            await import_(target, executor, part)
        assert caught.value.reason == "INCOMPLETE"
    done = await import_(target, executor, lines)
    assert done.imported + done.skipped == len(past.ids)
    assert await export(target, folder) == lines
    again = await import_(target, executor, lines)
    assert (again.imported, again.skipped) == (0, len(past.ids))
    assert await export(target, folder) == lines
    for id_ in past.ids:
        here, there = await target.history(USER, id_), await source.history(USER, id_)
        assert [entry.memory for entry in here] == [entry.memory for entry in there]
        assert [(entry.reason, entry.changed_at, entry.run_id) for entry in here] == [
            (entry.reason, entry.changed_at, entry.run_id) for entry in there
        ]
    await target.erase(USER, now=1)
    await import_(target, executor, lines)
    assert await export(target, folder) == lines, "into an erased user, too"
    assert await target.check() == []
    await source.close()
    await target.close()


@given(history=operations, cut=st.floats(0, 1))
@settings(max_examples=40, deadline=None)
def test_an_export_of_an_import_is_the_same(history: list[Operation], cut: float) -> None:
    with (
        tempfile.TemporaryDirectory() as folder,
        ThreadPoolExecutor(1) as executor,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr(transfer, "BATCH_ITEMS", 2)  # so that a broken off import has stored something
        asyncio.run(check(Path(folder), history, cut, executor))
