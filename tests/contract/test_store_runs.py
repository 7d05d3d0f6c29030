"""What every store keeps about consolidation: runs, steps, history, model time."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import pytest

from lightmem_server.errors import (
    InvalidInputError,
    NotFoundError,
    PreconditionError,
    RunEndedError,
    VersionMismatchError,
)
from lightmem_server.store.protocol import Change, JobRecord, JobStore, Store
from lightmem_server.store.run_protocol import Cancelled, HistoryEntry, RunChange, RunRecord, RunState, RunTag
from lightmem_server.types import Kind, Memory, Partition, State, Tier
from tests.contract.store_records import USER, make_change, make_id, make_memory

OWNER = "worker 1"
MARK = "consolidate"
MINUTE = 60_000_000
FACT: dict[str, Any] = {"tier": Tier.LTM, "kind": Kind.FACT}


@pytest.fixture
def jobs(store: Store) -> JobStore:
    return cast(JobStore, store)


async def claim(jobs: JobStore, *, owner: str = OWNER, now: int = 0, partition: Partition = USER) -> int:
    """The id of a job that this owner holds for the next 100 microseconds."""
    await jobs.commit(Change(partition, jobs=[JobRecord(MARK)]))
    job = await jobs.claim_job([MARK], owner=owner, lease_micros=100, now=now)
    assert job is not None
    return job.job_id


async def begin(jobs: JobStore, job_id: int, *, owner: str = OWNER, partition: Partition = USER) -> RunRecord:
    run = await jobs.begin_run(
        partition, job_id=job_id, owner=owner, cause="idle", model="m", prompt="p", watermark=MARK, now=5
    )
    assert run is not None
    return run


async def finish(jobs: JobStore, run: RunRecord, job_id: int, state: RunState = RunState.DONE) -> None:
    await jobs.finish_run(run.run_id, job_id=job_id, owner=OWNER, state=state, error="", watermark=MARK, now=9)


def tag(run: RunRecord, key: str = "1", owner: str = OWNER) -> RunTag:
    return RunTag(run.run_id, owner, "integrate", key)


async def started(jobs: JobStore) -> tuple[Memory, RunRecord, int]:
    """A turn, and a run at work on it."""
    turn = make_memory()
    await jobs.commit(make_change([turn]))
    job_id = await claim(jobs)
    return turn, await begin(jobs, job_id), job_id


# Runs


async def test_a_run_covers_what_is_new_and_leaves_the_watermark_at_its_end(jobs: JobStore) -> None:
    _, run, job_id = await started(jobs)
    assert run == RunRecord(run.run_id, USER, "idle", RunState.RUNNING, 5, None, "m", "p", 0, 2)
    await jobs.commit(make_change([make_memory("later")]))
    await jobs.report_run(run.run_id, owner=OWNER, kept=3, rejected={"question": 2})
    await finish(jobs, run, job_id)
    done = replace(run, state=RunState.DONE, finished_at=9, kept_count=3, rejected={"question": 2})
    assert await jobs.find_run(run.run_id) == done
    assert await jobs.watermark(USER, MARK) == 2
    assert (await jobs.stats("default")).pending_job_count == 0
    second = await begin(jobs, await claim(jobs))
    assert (second.from_version, second.to_version) == (2, 4)
    assert [run.run_id for run in await jobs.list_runs(USER, limit=9)] == [second.run_id, run.run_id]
    assert len(await jobs.list_runs(USER, limit=1)) == 1
    assert await jobs.list_runs(Partition("default", "bob"), limit=9) == []
    assert await jobs.find_run(make_id()) is None


async def test_without_a_turn_changed_since_there_is_no_run(jobs: JobStore) -> None:
    _, run, job_id = await started(jobs)
    await jobs.commit(Change(USER, puts=[make_memory(**FACT)], run=tag(run)))
    await finish(jobs, run, job_id)
    job_id = await claim(jobs)
    again = await jobs.begin_run(USER, job_id=job_id, owner=OWNER, cause="", model="", prompt="", watermark=MARK, now=0)
    assert again is None


async def test_a_run_at_work_is_gone_on_with_by_the_next_owner_and_refuses_the_last(jobs: JobStore) -> None:
    turn, run, job_id = await started(jobs)
    await jobs.save_step(tag(run, "w"), "words", [turn.id])
    second_job = await jobs.claim_job([MARK], owner="worker 2", lease_micros=100, now=100)
    assert second_job is not None
    with pytest.raises(RunEndedError):  # it holds the job no more, so it can't take the run back
        await begin(jobs, job_id)
    assert await begin(jobs, second_job.job_id, owner="worker 2") == run
    assert await jobs.load_step(run.run_id, "integrate", "w") == "words"
    for late in (
        jobs.commit(Change(USER, puts=[make_memory()], run=tag(run))),
        jobs.save_step(tag(run), "", []),
        jobs.report_run(run.run_id, owner=OWNER, kept=0, rejected={}),
        finish(jobs, run, job_id),
    ):
        with pytest.raises(RunEndedError):
            await late
    assert (await jobs.changes_since(USER, None)).version == run.to_version
    await jobs.commit(Change(USER, puts=[make_memory()], run=tag(run, owner="worker 2")))


async def test_a_step_that_is_committed_is_not_committed_again(jobs: JobStore) -> None:
    turn, run, _ = await started(jobs)
    await jobs.save_step(tag(run), "proposals", [turn.id])
    fact = make_memory(**FACT, evidence_ids=(turn.id,))
    first = await jobs.commit(Change(USER, puts=[fact], run=tag(run), watermarks={MARK: 1}))
    assert await jobs.load_step(run.run_id, "integrate", "1") == ""
    again = await jobs.commit(Change(USER, puts=[make_memory(**FACT)], run=tag(run), watermarks={MARK: 2}))
    assert (first.is_replay, again.is_replay, again.version) == (False, True, first.version)
    assert await jobs.watermark(USER, MARK) == 1
    assert await jobs.run_changes(run.run_id) == [RunChange(fact.id, None, 1, "update")]


async def test_a_watermark_is_set_with_its_change_and_never_falls(jobs: JobStore) -> None:
    assert await jobs.watermark(USER, "w") == 0
    await jobs.commit(Change(USER, watermarks={"w": 5, "v": 1}))
    await jobs.commit(Change(USER, watermarks={"w": 3}))
    with pytest.raises(NotFoundError):
        await jobs.commit(Change(USER, deletes=[make_id()], watermarks={"w": 9}))
    assert (await jobs.watermark(USER, "w"), await jobs.watermark(USER, "v")) == (5, 1)
    assert await jobs.watermark(Partition("default", "bob"), "w") == 0


async def test_a_failed_commit_of_a_run_marks_nothing(jobs: JobStore) -> None:
    _, run, _ = await started(jobs)
    with pytest.raises(NotFoundError):
        await jobs.commit(Change(USER, puts=[make_memory(**FACT, evidence_ids=(make_id(),))], run=tag(run)))
    with pytest.raises(InvalidInputError):
        await jobs.commit(Change(USER, deletes=[make_id()], run=tag(run)))
    with pytest.raises(RunEndedError):
        await jobs.commit(Change(Partition("default", "bob"), puts=[make_memory()], run=tag(run)))
    assert await jobs.load_step(run.run_id, "integrate", "1") is None
    assert await jobs.run_changes(run.run_id) == []


async def test_evidence_may_be_made_in_the_same_commit(jobs: JobStore) -> None:
    turn, run, _ = await started(jobs)
    summary = make_memory(kind=Kind.SUMMARY, evidence_ids=(turn.id,))
    await jobs.commit(
        Change(USER, puts=[summary, make_memory(**FACT, evidence_ids=(summary.id, turn.id))], run=tag(run))
    )


async def test_a_cancelled_run_is_over_for_its_owner(jobs: JobStore) -> None:
    turn, run, job_id = await started(jobs)
    await jobs.save_step(tag(run), "words", [turn.id])
    await jobs.commit(Change(USER, jobs=[JobRecord(MARK)]))
    assert await jobs.cancel_run(USER, MARK, now=7) == Cancelled(2, run.run_id)
    ended = await jobs.find_run(run.run_id)
    assert ended is not None
    assert (ended.state, ended.finished_at) == (RunState.CANCELLED, 7)
    assert await jobs.load_step(run.run_id, "integrate", "1") is None
    assert not await jobs.extend_job(job_id, owner=OWNER, lease_micros=1, now=0)
    with pytest.raises(RunEndedError):
        await jobs.commit(Change(USER, run=tag(run)))
    assert await jobs.watermark(USER, MARK) == 0
    assert await jobs.cancel_run(USER, MARK, now=8) == Cancelled(0, None)
    assert await jobs.cancel_run(Partition("default", "bob"), MARK, now=8) == Cancelled(0, None)


# Steps


async def test_steps_are_kept_replaced_and_dropped_with_the_run(jobs: JobStore) -> None:
    turn, run, job_id = await started(jobs)
    assert await jobs.load_step(run.run_id, "integrate", "1") is None
    assert await jobs.save_step(tag(run), "first", [turn.id, turn.id])
    assert await jobs.save_step(tag(run), "second", [turn.id])
    assert await jobs.load_step(run.run_id, "integrate", "1") == "second"
    assert await jobs.load_step(run.run_id, "integrate", "2") is None
    await finish(jobs, run, job_id)
    assert await jobs.load_step(run.run_id, "integrate", "1") is None


async def test_a_step_goes_with_a_memory_whose_words_it_may_hold(jobs: JobStore) -> None:
    turn, run, _ = await started(jobs)
    other = make_memory("My cat is Nino.")
    await jobs.commit(make_change([other]))
    await jobs.save_step(tag(run, "both"), "words", [turn.id, other.id])
    await jobs.save_step(tag(run, "other"), "words", [other.id])
    await jobs.commit(Change(USER, deletes=[turn.id]))
    assert await jobs.load_step(run.run_id, "integrate", "both") is None
    assert await jobs.load_step(run.run_id, "integrate", "other") == "words"
    # What a window gave that was at work meanwhile comes too late.
    assert not await jobs.save_step(tag(run, "both"), "words", [turn.id, other.id])
    assert await jobs.load_step(run.run_id, "integrate", "both") is None


# Model time


async def test_model_time_is_counted_by_namespace_and_minute_and_forgotten_after_an_hour(jobs: JobStore) -> None:
    _, run, _ = await started(jobs)
    for now, micros in ((5, 10), (MINUTE - 1, 20), (2 * MINUTE, 40)):
        await jobs.spend(run.run_id, micros=micros, tokens=3, now=now)
    assert await jobs.model_time("default", 0) == [(0, 30), (2 * MINUTE, 40)]
    assert await jobs.model_time("default", 1) == [(2 * MINUTE, 40)]
    assert await jobs.model_time("other", 0) == []
    await jobs.spend(run.run_id, micros=1, tokens=0, now=61 * MINUTE)
    assert await jobs.model_time("default", 0) == [(2 * MINUTE, 40), (61 * MINUTE, 1)]
    found = await jobs.find_run(run.run_id)
    assert found is not None
    assert (found.model_micros, found.model_tokens) == (71, 9)


# History


async def test_each_version_is_kept_with_when_why_and_by_whom(jobs: JobStore) -> None:
    _, run, job_id = await started(jobs)
    fact = make_memory("Ada lives in Lisbon.", **FACT, created_at=3)
    closed = replace(fact, valid_to=50, version=2)
    change = Change(USER, puts=[fact], run=tag(run), reason="add", reasons={make_id(): "other"})
    await jobs.commit(change)
    await jobs.commit(Change(USER, puts=[closed], run=tag(run, "2"), reason="add", reasons={fact.id: "supersede"}))
    await finish(jobs, run, job_id)
    pinned = replace(closed, is_pinned=True, version=3)
    await jobs.commit(Change(USER, puts=[pinned]))
    archived = replace(pinned, state=State.ARCHIVED, version=4)
    await jobs.commit(Change(USER, puts=[archived], reason="archive"))
    entries = await jobs.history(USER, fact.id)
    assert [(entry.memory, entry.reason, entry.run_id) for entry in entries] == [
        (fact, "add", run.run_id),
        (closed, "supersede", run.run_id),
        (pinned, "update", None),
        (archived, "archive", None),
    ]
    assert entries[0].changed_at == 3
    assert all(entry.changed_at > 3 for entry in entries[1:])
    assert await jobs.run_changes(run.run_id) == [RunChange(fact.id, None, 2, "add")]


async def test_a_record_without_changes_has_one_version(jobs: JobStore) -> None:
    turn = make_memory()
    await jobs.commit(make_change([turn]))
    assert await jobs.history(USER, turn.id) == [HistoryEntry(turn, turn.created_at, "write", None)]
    assert await jobs.history(Partition("default", "bob"), turn.id) == []
    assert await jobs.history(USER, make_id()) == []


async def test_words_of_a_deleted_memory_leave_every_history(jobs: JobStore) -> None:
    turn, run, job_id = await started(jobs)
    other = make_memory("other")
    await jobs.commit(make_change([other]))
    fact = make_memory("both said so", **FACT, evidence_ids=(turn.id, other.id))
    await jobs.commit(Change(USER, puts=[fact], run=tag(run)))
    changed = replace(fact, text="one said so", evidence_ids=(other.id,), version=2)
    await jobs.commit(Change(USER, puts=[changed], run=tag(run, "2")))
    await finish(jobs, run, job_id)
    await jobs.commit(Change(USER, puts=[replace(turn, is_pinned=True, version=2)]))
    await jobs.commit(Change(USER, deletes=[turn.id]))
    assert await jobs.history(USER, turn.id) == []
    assert [entry.memory for entry in await jobs.history(USER, fact.id)] == [changed]
    await jobs.commit(Change(USER, deletes=[fact.id]))
    assert await jobs.run_changes(run.run_id) == []


# Undoing


async def test_undoing_takes_a_run_back_once(jobs: JobStore) -> None:
    _, run, job_id = await started(jobs)
    fact = make_memory(**FACT)
    await jobs.commit(Change(USER, puts=[fact], run=tag(run)))
    with pytest.raises(PreconditionError) as caught:
        await jobs.commit(Change(USER, deletes=[fact.id], undoes=run.run_id))
    assert caught.value.reason == "RUN_AT_WORK"
    await finish(jobs, run, job_id)
    with pytest.raises(VersionMismatchError):
        await jobs.commit(Change(USER, deletes=[fact.id], undoes=run.run_id, expected_versions={fact.id: 2}))
    undo = Change(USER, deletes=[fact.id], undoes=run.run_id, expected_versions={fact.id: 1}, reason="undo")
    first = await jobs.commit(undo)
    again = await jobs.commit(undo)
    assert (first.is_replay, again.is_replay, again.version) == (False, True, first.version)
    undone = await jobs.find_run(run.run_id)
    assert undone is not None
    assert (undone.state, undone.restored_count, undone.removed_count) == (RunState.UNDONE, 0, 1)
    for other in (USER, Partition("default", "bob")):
        with pytest.raises(NotFoundError):
            await jobs.commit(Change(other, undoes=make_id() if other == USER else run.run_id))


@pytest.mark.parametrize(
    "change",
    [lambda id_: {id_: 2}, lambda id_: {id_: 1, uuid.UUID(int=9**9): 1}],
    ids=["another version", "no such record"],
)
async def test_expected_versions_guard_what_is_not_changed(
    jobs: JobStore, change: Callable[[uuid.UUID], dict[uuid.UUID, int]]
) -> None:
    turn = make_memory()
    await jobs.commit(make_change([turn]))
    with pytest.raises(VersionMismatchError):
        await jobs.commit(Change(USER, expected_versions=change(turn.id)))
    assert (await jobs.changes_since(USER, None)).version == 1
    await jobs.commit(Change(USER, expected_versions={turn.id: 1}))


async def test_a_job_for_all_who_have_news(jobs: JobStore) -> None:
    turn, run, job_id = await started(jobs)
    await finish(jobs, run, job_id)
    bob, eve = Partition("default", "bob"), Partition("other", "eve")
    for partition in (bob, eve):
        await jobs.commit(make_change([make_memory()], partition=partition))
    await jobs.commit(make_change([make_memory(**FACT)], partition=Partition("default", "no turns")))
    assert await jobs.enqueue_behind(JobRecord(MARK, payload="schedule"), watermark=MARK) == 2
    claimed = [await jobs.claim_job([MARK], owner="w", lease_micros=9, now=0) for _ in range(3)]
    assert {job.partition for job in claimed if job is not None} == {bob, eve}
    await jobs.commit(Change(USER, puts=[replace(turn, is_pinned=True, version=2)]))
    assert await jobs.enqueue_behind(JobRecord(MARK), watermark=MARK) == 3
