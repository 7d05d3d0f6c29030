"""What every store keeps about erasing a user: nothing is left, nothing comes back, and who comes back is new."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import cast

import pytest

from lightmem_server.errors import NotFoundError, RunEndedError, UserErasedError
from lightmem_server.store.protocol import Change, JobRecord, JobStore, SnapshotRecord, Store
from lightmem_server.store.run_protocol import RunRecord, RunState, RunTag
from lightmem_server.types import Kind, Memory, MemoryFilter, Partition, Tier
from tests.contract.store_records import USER, MakeStore, make_change, make_id, make_memory

BOB = Partition("default", "bob")
OTHER_TENANT = Partition("other", USER.user_id)
EVERYTHING = MemoryFilter(include_archived=True)
MARK = "consolidate"
OWNER = "worker"


@pytest.fixture
def jobs(store: Store) -> JobStore:
    return cast(JobStore, store)


async def texts(store: Store, partition: Partition = USER) -> list[str]:
    page = await store.list_page(partition, EVERYTHING, limit=1000, before_order=None, now=0)
    return [memory.text for memory in page.memories]


async def fill(jobs: JobStore) -> tuple[Memory, RunRecord, int]:
    """A turn with its vectors, a changed fact of a run at work that has saved a step, a snapshot, a request, two jobs."""
    turn = make_memory("I moved to Porto.")
    await jobs.commit(make_change([turn], request_id="r1", request_digest=b"d", jobs=[JobRecord(MARK)]))
    job = await jobs.claim_job([MARK], owner=OWNER, lease_micros=100, now=0)
    assert job is not None
    run = await jobs.begin_run(
        USER, job_id=job.job_id, owner=OWNER, cause="idle", model="m", prompt="p", watermark=MARK, now=0
    )
    assert run is not None
    fact = make_memory("Ada lives in Porto.", tier=Tier.LTM, kind=Kind.FACT, evidence_ids=(turn.id,))
    await jobs.commit(make_change([fact], run=tag(run), jobs=[JobRecord(MARK)]))
    await jobs.commit(Change(USER, puts=[replace(fact, is_pinned=True, version=2)]))
    await jobs.save_step(tag(run, "w"), "words", [turn.id])
    await jobs.save_snapshot(USER, SnapshotRecord(3, "i", b"words"))
    return turn, run, job.job_id


def tag(run: RunRecord, key: str = "1") -> RunTag:
    return RunTag(run.run_id, OWNER, "integrate", key)


async def test_an_erased_user_is_nowhere(jobs: JobStore) -> None:
    turn, run, _ = await fill(jobs)
    await jobs.commit(make_change([make_memory("mine")], partition=BOB))
    await jobs.commit(make_change([make_memory("ours")], partition=OTHER_TENANT))
    erased = await jobs.erase(USER, now=7)
    assert (erased.memory_count, erased.vector_count, erased.job_count) == (2, 2, 2)
    assert (erased.erased_at, erased.withdrawn_support_count) == (7, 0)
    assert await texts(jobs) == []
    assert await jobs.get(USER, [turn.id]) == [None]
    assert await jobs.history(USER, turn.id) == []
    assert await jobs.list_runs(USER, limit=9) == []
    assert await jobs.find_run(run.run_id) is None
    assert await jobs.load_step(run.run_id, "integrate", "w") is None
    assert await jobs.load_snapshot(USER) is None
    assert await jobs.watermark(USER, MARK) == 0
    stats = await jobs.stats("default")
    assert (stats.user_count, stats.pending_job_count) == (1, 0)
    assert (await texts(jobs, BOB), await texts(jobs, OTHER_TENANT)) == (["mine"], ["ours"])


async def test_erasing_again_or_an_unknown_user_counts_nothing(store: Store) -> None:
    await store.commit(make_change([make_memory()]))
    first = await store.erase(USER, now=1)
    again = await store.erase(USER, now=2)
    unknown = await store.erase(BOB, now=3)
    assert [each.memory_count for each in (first, again, unknown)] == [1, 0, 0]
    assert len({each.receipt_id for each in (first, again, unknown)}) == 3


async def test_work_that_began_before_stores_nothing(jobs: JobStore) -> None:
    turn, run, job_id = await fill(jobs)
    generation = await jobs.generation(USER)
    await jobs.erase(USER, now=7)
    late: list[tuple[Callable[[], Awaitable[object]], type[Exception]]] = [
        (lambda: jobs.commit(make_change([make_memory("late")], generation=generation)), UserErasedError),
        (lambda: jobs.commit(Change(USER, jobs=[JobRecord(MARK)], generation=generation)), UserErasedError),
        (lambda: jobs.commit(Change(USER, puts=[replace(turn, version=2)])), NotFoundError),
        (lambda: jobs.commit(Change(USER, deletes=[turn.id])), NotFoundError),
        (lambda: jobs.commit(Change(USER, puts=[make_memory("made of it")], run=tag(run))), RunEndedError),
        (lambda: jobs.commit(Change(USER, undoes=run.run_id)), NotFoundError),
        (lambda: jobs.save_step(tag(run, "2"), "words", []), RunEndedError),
        (lambda: jobs.spend(run.run_id, micros=1, tokens=1, now=0), RunEndedError),
        (
            lambda: jobs.finish_run(
                run.run_id, job_id=job_id, owner=OWNER, state=RunState.DONE, error="", watermark=MARK, now=0
            ),
            RunEndedError,
        ),
    ]
    for work, refusal in late:
        with pytest.raises(refusal):
            await work()
    assert not await jobs.save_snapshot(USER, SnapshotRecord(3, "i", b"words"))
    assert not await jobs.fail_job(job_id, owner=OWNER, error="words", now=0)
    await jobs.record_access(USER, [turn.id], 9)
    assert await jobs.enqueue_behind(JobRecord(MARK), watermark=MARK) == 0
    assert (await jobs.stats("default")).user_count == 0


async def test_the_first_write_of_a_user_can_be_stopped_too(store: Store) -> None:
    generation = await store.generation(USER)
    await store.erase(USER, now=1)
    with pytest.raises(UserErasedError):
        await store.commit(make_change([make_memory()], generation=generation))
    await store.commit(make_change([make_memory()], generation=await store.generation(USER)))


async def test_a_request_stored_before_is_not_stored_again(make_store: MakeStore) -> None:
    store = make_store()
    await store.open()
    change = make_change([make_memory()], request_id="r1", request_digest=b"d")
    await store.commit(change)
    await store.erase(USER, now=1)
    await store.commit(make_change([make_memory("new")], request_id="r2", request_digest=b"d"))
    await store.erase(USER, now=2)
    await store.close()
    store = make_store()
    await store.open()
    for request_id in ("r1", "r2"):
        with pytest.raises(UserErasedError):
            await store.commit(replace(change, request_id=request_id))
    await store.commit(replace(change, partition=BOB))
    await store.commit(replace(change, request_id="r3"))
    await store.close()


async def test_who_comes_back_is_new_and_no_replica_takes_one_for_the_other(store: Store) -> None:
    old = [make_memory(f"old {number}") for number in range(3)]
    for memory in old:
        await store.commit(make_change([memory]))
    before = (await store.changes_since(USER, None)).version
    await store.save_snapshot(USER, SnapshotRecord(before, "i", b"words"))
    await store.erase(USER, now=1)
    empty = await store.changes_since(USER, before)
    assert (empty.version, empty.is_full, empty.rows) == (0, True, ())
    new = make_memory("new")
    result = await store.commit(make_change([new]))
    assert result.version > before
    assert not await store.save_snapshot(USER, SnapshotRecord(before, "i", b"words"))
    for version in range(before + 1):
        changes = await store.changes_since(USER, version)
        assert changes.is_full
        assert [row.memory.id for row in changes.rows] == [new.id]
    await store.commit(make_change([old[0]]))  # an import may bring an id back
    assert await texts(store) == ["old 0", "new"]
    assert [row.memory.text for row in (await store.changes_since(USER, None)).rows] == ["new", "old 0"]


async def test_versions_never_fall_however_often_a_user_is_erased(store: Store) -> None:
    seen = [0]
    for generation in range(1, 4):
        seen.append((await store.commit(make_change([make_memory()]))).version)
        await store.erase(USER, now=1)
        await store.erase(USER, now=1)
        assert await store.generation(USER) == 2 * generation
    assert seen == sorted(set(seen))


async def test_writers_of_others_go_on(store: Store) -> None:
    bobs = [make_memory(str(number)) for number in range(50)]
    writes = [store.commit(make_change([memory], partition=BOB)) for memory in bobs]
    mine = [store.commit(make_change([make_memory()])) for _ in range(10)]
    await asyncio.gather(*mine)
    await asyncio.gather(*writes, store.erase(USER, now=1), store.wipe())
    assert len(await texts(store, BOB)) == 50
    assert await texts(store) == []


async def test_wiping_is_for_everything_before_it(store: Store) -> None:
    await store.wipe()
    await store.commit(make_change([make_memory()]))
    await store.erase(USER, now=1)
    await store.wipe()
    await store.wipe()
    assert await store.check() == []
    assert await store.find_run(make_id()) is None
