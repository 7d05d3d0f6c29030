"""Durable jobs: done at least once, one of a partition at a time, slower after each failure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lightmem_server.store.jobs import LAST_BACKOFF_MICROS, backoff_micros
from lightmem_server.store.protocol import Change, ClaimedJob, JobRecord
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Partition
from tests.contract.store_records import USER

LEASE = 100
OTHER = Partition("default", "bob")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore(tmp_path)
    await store.open()
    yield store
    await store.close()


async def enqueue(store: SqliteStore, *jobs: JobRecord, partition: Partition = USER) -> None:
    await store.commit(Change(partition, jobs=jobs))


async def claim(store: SqliteStore, now: int, owner: str = "w", kinds: tuple[str, ...] = ("k",)) -> ClaimedJob | None:
    return await store.claim_job(kinds, owner=owner, lease_micros=LEASE, now=now)


async def claim_one(store: SqliteStore, now: int, owner: str = "w") -> ClaimedJob:
    job = await claim(store, now, owner)
    assert job is not None
    return job


async def waiting(store: SqliteStore) -> int:
    return (await store.stats("default")).pending_job_count


async def test_due_job_is_claimed_with_its_payload_and_finished(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "key", "payload", not_before=10))
    assert await claim(store, 9) is None
    job = await claim_one(store, 10)
    assert job == ClaimedJob(job.job_id, USER, "k", "key", "payload", attempt=1, lease_until=10 + LEASE)
    assert await store.finish_job(job.job_id, owner="w")
    assert await waiting(store) == 0
    assert await claim(store, 1000) is None


async def test_longest_due_comes_first(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "late", not_before=20))
    await enqueue(store, JobRecord("k", "early", not_before=10), partition=OTHER)
    assert [(await claim_one(store, 30)).key for _ in range(2)] == ["early", "late"]


async def test_other_kinds_are_left(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("other"))
    assert await claim(store, 0) is None
    assert await claim(store, 0, kinds=("k", "other")) is not None


async def test_one_job_of_a_partition_at_a_time(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "1"), JobRecord("k", "2"))
    await enqueue(store, JobRecord("k", "3"), partition=OTHER)
    jobs = await asyncio.gather(*(claim(store, 0, owner=str(i)) for i in range(4)))
    claimed = [job for job in jobs if job is not None]
    assert sorted(job.partition.user_id for job in claimed) == ["ada", "bob"]
    first = next(job for job in claimed if job.partition == USER)
    owner = str(jobs.index(first))
    assert await store.finish_job(first.job_id, owner=owner)
    assert (await claim_one(store, 0)).key == "2"


async def test_waiting_jobs_merge(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "1", "first", not_before=50))
    await enqueue(store, JobRecord("k", "1", "second", not_before=10))
    await enqueue(store, JobRecord("k", "1", "third", not_before=90))
    assert await waiting(store) == 1
    job = await claim_one(store, 10)
    assert job.payload == "third"


async def test_job_enqueued_while_one_is_worked_on_waits_after_it(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "1", "first"))
    job = await claim_one(store, 0)
    await enqueue(store, JobRecord("k", "1", "second"))
    assert await claim(store, 1) is None
    assert await store.finish_job(job.job_id, owner="w")
    assert (await claim_one(store, 2)).payload == "second"


async def test_lapsed_lease_goes_to_another(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k"))
    first = await claim_one(store, 0, owner="dead")
    assert await claim(store, LEASE - 1) is None
    second = await claim_one(store, LEASE)
    assert (second.job_id, second.attempt) == (first.job_id, 2)
    assert not await store.extend_job(first.job_id, owner="dead", lease_micros=LEASE, now=LEASE)
    assert not await store.finish_job(first.job_id, owner="dead")
    assert not await store.fail_job(first.job_id, owner="dead", error="late", now=LEASE)
    assert await store.finish_job(first.job_id, owner="w")


async def test_extended_lease_does_not_lapse(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k"))
    job = await claim_one(store, 0)
    assert await store.extend_job(job.job_id, owner="w", lease_micros=LEASE, now=LEASE - 1)
    assert await claim(store, LEASE, owner="other") is None
    assert await claim(store, 2 * LEASE - 1, owner="other") is not None


async def test_failed_job_waits_longer_each_time(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k"))
    now = 0
    for attempt in (1, 2, 3):
        job = await claim_one(store, now)
        assert job.attempt == attempt
        assert await store.fail_job(job.job_id, owner="w", error="no model", now=now)
        assert await claim(store, now + backoff_micros(attempt) - 1) is None
        now += backoff_micros(attempt)
    await enqueue(store, JobRecord("k", payload="new"))  # does not undo the backoff
    assert await claim(store, now - 1) is None
    assert (await claim_one(store, now)).payload == "new"


async def test_failed_job_merges_into_one_that_waits(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", payload="first"))
    job = await claim_one(store, 0)
    await enqueue(store, JobRecord("k", payload="second"))
    assert await store.fail_job(job.job_id, owner="w", error="no model", now=0)
    assert await waiting(store) == 1
    assert await claim(store, backoff_micros(1) - 1) is None
    merged = await claim_one(store, backoff_micros(1))
    assert (merged.payload, merged.attempt) == ("second", 2)


async def test_jobs_survive_a_restart_and_leases_do_not(store: SqliteStore) -> None:
    """Nobody else has the folder open: a user's jobs need not wait until the lease of a killed server has passed."""
    await enqueue(store, JobRecord("k", "1"), JobRecord("l", "2"))
    job = await claim_one(store, 0)
    await store.close()
    await store.open()
    again = await claim(store, 1, kinds=("k", "l"))
    assert again is not None
    assert (again.job_id, again.attempt) == (job.job_id, 2)
    assert await store.finish_job(job.job_id, owner="w")
    assert await claim(store, 1, kinds=("k", "l")) is not None


def test_backoff_is_bounded() -> None:
    assert backoff_micros(10**6) == LAST_BACKOFF_MICROS


async def fail(store: SqliteStore, job: ClaimedJob, now: int, most_attempts: int | None) -> None:
    assert await store.fail_job(job.job_id, owner="w", error="no model", now=now, most_attempts=most_attempts)


async def test_a_job_that_failed_too_often_is_set_aside_and_seen(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "1"))
    await fail(store, await claim_one(store, 0), 0, 2)
    await fail(store, await claim_one(store, 10**7), 10**7, 2)
    assert await claim(store, 10**12) is None
    stats = await store.stats("default")
    assert (stats.pending_job_count, stats.dead_job_count) == (0, 1)
    (dead,) = await store.list_dead_jobs("default", limit=9)
    assert (dead.partition, dead.kind, dead.attempts, dead.error, dead.dead_at) == (USER, "k", 2, "no model", 10**7)
    assert await store.list_dead_jobs("other", limit=9) == []
    assert await store.next_job_at(["k"]) is None


async def test_new_work_does_not_revive_a_dead_job_but_asking_for_it_does(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "1"))
    await fail(store, await claim_one(store, 0), 0, 1)
    await enqueue(store, JobRecord("k", "1", "newer"))
    assert await claim(store, 10**12) is None
    await enqueue(store, JobRecord("k", "asked", not_before=5, revives=True))
    claimed = [await claim_one(store, 10**12)]
    assert await store.finish_job(claimed[0].job_id, owner="w")
    claimed.append(await claim_one(store, 10**12))
    assert sorted((job.key, job.payload, job.attempt) for job in claimed) == [("1", "newer", 1), ("asked", "", 1)]


async def test_a_job_whose_workers_die_is_set_aside(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "1"))
    for attempt in range(3):
        job = await store.claim_job(["k"], owner="w", lease_micros=LEASE, now=attempt * LEASE, most_attempts=3)
        assert job is not None
    assert await store.claim_job(["k"], owner="w", lease_micros=LEASE, now=3 * LEASE, most_attempts=3) is None
    (dead,) = await store.list_dead_jobs("default", limit=9)
    assert (dead.attempts, dead.error) == (3, "its worker ended without a word each time")


async def test_a_users_dead_jobs_are_found_behind_newer_ones_of_others(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "1"))
    await fail(store, await claim_one(store, 0), 0, 1)
    await enqueue(store, JobRecord("k", "1"), partition=OTHER)
    await fail(store, await claim_one(store, 10), 10, 1)
    assert [dead.partition for dead in await store.list_dead_jobs("default", limit=1)] == [OTHER]
    assert [dead.partition for dead in await store.list_dead_jobs("default", USER.user_id, limit=1)] == [USER]


async def test_a_job_given_back_has_not_been_tried(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "1"))
    job = await claim_one(store, 0)
    assert await store.release_job(job.job_id, owner="w", not_before=50)
    assert not await store.release_job(job.job_id, owner="w", not_before=50)
    assert await claim(store, 49) is None
    assert await store.next_job_at(["k"]) == 50
    assert (await claim_one(store, 50)).attempt == 1


async def test_a_job_given_back_merges_into_one_that_waits(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k", "1", "first"))
    job = await claim_one(store, 0)
    await enqueue(store, JobRecord("k", "1", "second"))
    assert await store.release_job(job.job_id, owner="w", not_before=7)
    assert await waiting(store) == 1
    merged = await claim_one(store, 7)
    assert (merged.payload, merged.attempt) == ("second", 1)


async def test_a_job_that_postpones_is_due_after_the_last_of_its_like(store: SqliteStore) -> None:
    for at in (10, 30, 20):
        await enqueue(store, JobRecord("k", "idle", not_before=at, postpones=True))
    assert await claim(store, 19) is None
    assert (await claim_one(store, 20)).key == "idle"


async def test_the_next_job_is_known(store: SqliteStore) -> None:
    assert await store.next_job_at(["k"]) is None
    await enqueue(store, JobRecord("k", "1", not_before=30), JobRecord("other", not_before=1))
    assert await store.next_job_at(["k"]) == 30
    await claim_one(store, 30)
    assert await store.next_job_at(["k"]) == 30 + LEASE


async def test_the_number_of_a_finished_job_is_not_given_again(store: SqliteStore) -> None:
    await enqueue(store, JobRecord("k"))
    first = await claim_one(store, 0)
    assert await store.finish_job(first.job_id, owner="w")
    await enqueue(store, JobRecord("k"))
    second = await claim_one(store, 0)
    assert not await store.extend_job(first.job_id, owner="w", lease_micros=LEASE, now=0)
    assert second.job_id != first.job_id
