"""Undoing a run: what it changed is what it was, what it made is gone, and nothing that builds on it is broken."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest

from lightmem_server.errors import NotFoundError, PreconditionError
from lightmem_server.pipeline.consolidation.run import JOB_KIND, WATERMARK
from lightmem_server.pipeline.consolidation.undo import Undoing, Undone
from lightmem_server.slm.fakes import HashEmbedder
from lightmem_server.store.protocol import Change, JobRecord, VectorRecord
from lightmem_server.store.run_protocol import RunRecord, RunState, RunTag
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Kind, Memory, State, Tier, Turn
from tests.contract.store_records import make_memory
from tests.unit.pipeline.conftest import ANA, DIM, Pipeline

FACT: dict[str, Any] = {"tier": Tier.LTM, "kind": Kind.FACT}


@dataclass
class Desk:
    """Runs that a test puts together commit by commit."""

    pipeline: Pipeline

    def __post_init__(self) -> None:
        self.undoing = Undoing(self.pipeline.store, self.pipeline.residents, HashEmbedder(DIM), embedding="hash")

    @property
    def store(self) -> SqliteStore:
        assert isinstance(self.pipeline.store, SqliteStore)
        return self.pipeline.store

    async def begin(self) -> tuple[RunRecord, int]:
        await self.pipeline.write(Turn("I moved to Porto."))
        await self.store.commit(Change(ANA, jobs=[JobRecord(JOB_KIND)]))
        job = await self.store.claim_job([JOB_KIND], owner="w", lease_micros=1, now=0)
        assert job is not None
        run = await self.store.begin_run(
            ANA, job_id=job.job_id, owner="w", cause="", model="", prompt="", watermark=WATERMARK, now=0
        )
        assert run is not None
        return run, job.job_id

    async def end(self, run: RunRecord, job_id: int) -> None:
        await self.store.finish_run(
            run.run_id, job_id=job_id, owner="w", state=RunState.DONE, error="", watermark=WATERMARK, now=0
        )

    async def run(self, *commits: Sequence[Memory], reason: str = "add") -> uuid.UUID:
        """A run that puts records, commit by commit."""
        run, job_id = await self.begin()
        for number, puts in enumerate(commits):
            tag = RunTag(run.run_id, "w", "integrate", str(number))
            vectors = [await self.vector(memory) for memory in puts]
            await self.store.commit(Change(ANA, puts=puts, vectors=vectors, run=tag, reason=reason))
        await self.end(run, job_id)
        await self.pipeline.residents.refresh(ANA)
        return run.run_id

    async def vector(self, memory: Memory) -> VectorRecord:
        return VectorRecord(memory.id, "hash", await HashEmbedder(DIM).embed_passages([memory.text] * 2))

    async def undo(self, run_id: uuid.UUID) -> Undone:
        return await self.undoing.undo("default", run_id)

    async def get(self, memory: Memory) -> Memory | None:
        return (await self.store.get(ANA, [memory.id]))[0]


@pytest.fixture
async def desk(pipeline: Pipeline) -> Desk:
    return Desk(pipeline)


async def refused(desk: Desk, run_id: uuid.UUID) -> str:
    with pytest.raises(PreconditionError) as caught:
        await desk.undo(run_id)
    return caught.value.reason


async def test_what_was_changed_is_what_it_was_and_what_was_made_is_gone(desk: Desk) -> None:
    fact = make_memory("Ana lives in Lisbon.", **FACT)
    await desk.run([fact])
    new = make_memory("Ana lives in Porto.", **FACT, supersedes_ids=(fact.id,))
    closed = replace(fact, text="Ana lived in Lisbon.", valid_to=5, version=2)
    again = replace(closed, confidence=0.5, version=3)
    run_id = await desk.run([new, closed], [again, replace(new, confidence=0.9, version=2)])
    assert await desk.undo(run_id) == Undone(restored_count=1, removed_count=1)
    assert await desk.get(new) is None
    assert await desk.get(fact) == replace(fact, version=4)
    rows = {row.memory.id: row for row in (await desk.store.changes_since(ANA, None)).rows}
    vector = rows[fact.id].vector
    assert vector is not None
    expected = (await desk.vector(fact)).vectors
    assert (vector.vectors == expected).all()
    assert [entry.reason for entry in await desk.store.history(ANA, fact.id)] == ["add", "add", "add", "undo"]
    assert "Ana lives in Lisbon." in await desk.pipeline.texts("Lisbon")
    assert "Ana lives in Porto." not in await desk.pipeline.texts("Porto")


async def test_undoing_again_gives_the_first_counts(desk: Desk) -> None:
    run_id = await desk.run([make_memory(**FACT), make_memory(**FACT)])
    first = await desk.undo(run_id)
    version = (await desk.store.changes_since(ANA, None)).version
    assert await desk.undo(run_id) == first == Undone(0, 2)
    assert (await desk.store.changes_since(ANA, None)).version == version


async def test_an_unknown_run_and_one_of_another_namespace_look_the_same(desk: Desk) -> None:
    run_id = await desk.run([make_memory(**FACT)])
    errors = []
    for namespace, id_ in (("default", uuid.UUID(int=7)), ("other", run_id)):
        with pytest.raises(NotFoundError) as caught:
            await desk.undoing.undo(namespace, id_)
        errors.append((type(caught.value), str(caught.value)))
    assert errors[0] == errors[1]


async def test_a_run_at_work_is_in_the_way(desk: Desk) -> None:
    run_id = await desk.run([make_memory(**FACT)])
    run, job_id = await desk.begin()
    assert await refused(desk, run_id) == "RUN_AT_WORK"
    await desk.end(run, job_id)
    assert (await desk.undo(run_id)).removed_count == 1


@pytest.mark.parametrize("how", ["changes it", "archives it", "rests on it", "supersedes it"])
async def test_a_later_run_that_builds_on_it_is_in_the_way_until_it_is_undone(desk: Desk, how: str) -> None:
    fact = make_memory(**FACT)
    first = await desk.run([fact])
    builds = {
        "changes it": replace(fact, confidence=0.7, version=2),
        "archives it": replace(fact, state=State.ARCHIVED, version=2),
        "rests on it": make_memory(kind=Kind.PROFILE, tier=Tier.LTM, evidence_ids=(fact.id,)),
        "supersedes it": make_memory(**FACT, supersedes_ids=(fact.id,)),
    }
    reason = "archive" if how == "archives it" else "reinforce"
    second = await desk.run([builds[how]], reason=reason)
    assert await refused(desk, first) == "LATER_RUN"
    assert await desk.get(fact) is not None
    await desk.undo(second)
    assert (await desk.undo(first)).removed_count == 1


async def test_a_users_edit_is_in_the_way(desk: Desk) -> None:
    fact = make_memory(**FACT)
    run_id = await desk.run([fact])
    await desk.pipeline.editing.update(ANA, fact.id, lambda memory: replace(memory, is_pinned=True), expected_version=0)
    assert await refused(desk, run_id) == "EDITED"


async def test_archiving_since_is_not_in_the_way_and_stays(desk: Desk) -> None:
    fact, made = make_memory(**FACT), make_memory(**FACT)
    await desk.run([fact])
    run_id = await desk.run([replace(fact, confidence=0.5, version=2), made])
    archived = [
        replace(fact, confidence=0.5, state=State.ARCHIVED, version=3),
        replace(made, state=State.ARCHIVED, version=2),
    ]
    await desk.store.commit(Change(ANA, puts=archived, reason="archive"))
    assert await desk.undo(run_id) == Undone(1, 1)
    assert await desk.get(fact) == replace(fact, state=State.ARCHIVED, version=4)


async def test_what_a_user_deleted_is_left_out(desk: Desk) -> None:
    fact, made = make_memory(**FACT), make_memory(**FACT)
    run_id = await desk.run([fact, made])
    await desk.pipeline.editing.delete(ANA, made.id)
    assert await desk.undo(run_id) == Undone(0, 1)


async def test_undone_turns_are_not_read_again(desk: Desk) -> None:
    run_id = await desk.run([make_memory(**FACT)])
    before = await desk.store.watermark(ANA, WATERMARK)
    await desk.undo(run_id)
    assert await desk.store.watermark(ANA, WATERMARK) == before > 0
