"""The queue of jobs against a plain list, under every order of claims, failures, lapses, and reopenings."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from lightmem_server.store.jobs import backoff_micros
from lightmem_server.store.protocol import Change, ClaimedJob, JobRecord
from lightmem_server.store.sqlite import SqliteStore
from lightmem_server.types import Partition

R = TypeVar("R")

PARTITIONS = [Partition("default", "ada"), Partition("default", "bob")]
LEASE = 10_000_000
MOST_ATTEMPTS = 2

partitions = st.sampled_from(PARTITIONS)
keys = st.sampled_from(["", "idle"])
owners = st.sampled_from(["w1", "w2"])
delays = st.sampled_from([0, 0, 0, 1, LEASE, 3 * LEASE])


@dataclass
class Job:
    """What the queue must know of one job. `until` is the end of its lease, None while it waits."""

    partition: Partition
    key: str
    payload: str
    not_before: int
    attempts: int = 0
    owner: str = ""
    until: int | None = None
    is_dead: bool = False


class QueueMachine(RuleBasedStateMachine):
    """Every rule is done to both."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.folder = tempfile.TemporaryDirectory()
        self.store = self._open()
        self.jobs: list[Job] = []
        self.held: list[tuple[ClaimedJob, Job, str]] = []
        self.now = 0
        self.enqueued = 0

    def _open(self) -> SqliteStore:
        store = SqliteStore(Path(self.folder.name))
        self.run(store.open())
        return store

    def run(self, work: Coroutine[Any, Any, R]) -> R:
        return self.loop.run_until_complete(work)

    def waiting(self, partition: Partition, key: str) -> Job | None:
        found = [job for job in self.jobs if job.until is None and (job.partition, job.key) == (partition, key)]
        assert len(found) <= 1
        return found[0] if found else None

    def wait_again(self, job: Job, attempts: int, not_before: int, *, is_dead: bool) -> None:
        other = self.waiting(job.partition, job.key)
        if other is None:
            job.attempts, job.not_before, job.is_dead = attempts, not_before, is_dead
            job.owner, job.until = "", None
            return
        self.jobs.remove(job)
        other.attempts, other.not_before = max(other.attempts, attempts), max(other.not_before, not_before)
        other.is_dead = is_dead

    @rule(partition=partitions, key=keys, delay=delays, postpones=st.booleans(), revives=st.booleans())
    def enqueue(self, partition: Partition, key: str, delay: int, postpones: bool, revives: bool) -> None:
        self.enqueued += 1
        payload, at = str(self.enqueued), self.now + delay
        record = JobRecord("k", key, payload, not_before=at, postpones=postpones, revives=revives)
        self.run(self.store.commit(Change(partition, jobs=[record])))
        if revives:
            for job in self.jobs:
                if job.partition == partition and job.until is None:
                    job.attempts, job.is_dead = 0, False
        waiting = self.waiting(partition, key)
        if waiting is None:
            self.jobs.append(Job(partition, key, payload, at))
            return
        waiting.payload = payload
        if not waiting.attempts:
            waiting.not_before = at if postpones else min(waiting.not_before, at)

    @rule(owner=owners)
    def claim(self, owner: str) -> None:
        for job in list(self.jobs):
            if job.until is not None and job.until <= self.now and job.attempts >= MOST_ATTEMPTS:
                self.wait_again(job, job.attempts, self.now, is_dead=True)
        claimed = self.run(
            self.store.claim_job(["k"], owner=owner, lease_micros=LEASE, now=self.now, most_attempts=MOST_ATTEMPTS)
        )
        busy = {job.partition for job in self.jobs if job.until is not None and job.until > self.now}
        lapsed = [job for job in self.jobs if job.until is not None and job.until <= self.now]
        due = [job for job in self.jobs if job.until is None and not job.is_dead and job.not_before <= self.now]
        free_lapsed = [job for job in lapsed if job.partition not in busy]
        free_due = [job for job in due if job.partition not in busy]
        candidates = free_lapsed or free_due
        if claimed is None:
            assert not candidates
            return
        job = next(
            job
            for job in candidates
            if (job.partition, job.key, job.payload) == (claimed.partition, claimed.key, claimed.payload)
        )
        times = [other.until if other.until is not None else other.not_before for other in candidates]
        assert (job.until if job.until is not None else job.not_before) == min(times)
        job.attempts, job.owner, job.until = job.attempts + 1, owner, self.now + LEASE
        assert (claimed.attempt, claimed.lease_until) == (job.attempts, job.until)
        self.held.append((claimed, job, owner))

    def holds(self, job: Job, owner: str) -> bool:
        return any(job is other for other in self.jobs) and job.until is not None and job.owner == owner

    @rule(data=st.data())
    def extend(self, data: st.DataObject) -> None:
        if self.held:
            claimed, job, owner = data.draw(st.sampled_from(self.held[-2:]))
            kept = self.run(self.store.extend_job(claimed.job_id, owner=owner, lease_micros=LEASE, now=self.now))
            assert kept == self.holds(job, owner)
            if kept:
                job.until = self.now + LEASE

    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        if self.held:
            claimed, job, owner = data.draw(st.sampled_from(self.held[-2:]))
            finished = self.run(self.store.finish_job(claimed.job_id, owner=owner))
            assert finished == self.holds(job, owner)
            if finished:
                self.jobs.remove(job)

    @rule(data=st.data(), limit=st.sampled_from([None, MOST_ATTEMPTS]))
    def fail(self, data: st.DataObject, limit: int | None) -> None:
        if self.held:
            self._fail(*data.draw(st.sampled_from(self.held[-2:])), limit)

    def _fail(self, claimed: ClaimedJob, job: Job, owner: str, limit: int | None) -> None:
        failed = self.run(
            self.store.fail_job(claimed.job_id, owner=owner, error="e", now=self.now, most_attempts=limit)
        )
        assert failed == self.holds(job, owner)
        if failed:
            is_dead = limit is not None and job.attempts >= limit
            self.wait_again(job, job.attempts, self.now + backoff_micros(job.attempts), is_dead=is_dead)

    @rule(owner=owners)
    def claim_and_fail(self, owner: str) -> None:
        """What a job that is bad meets, again and again."""
        self.now += 3 * LEASE
        count = len(self.held)
        self.claim(owner)
        if len(self.held) > count:
            self._fail(*self.held[-1], MOST_ATTEMPTS)

    @rule(data=st.data(), delay=delays)
    def release(self, data: st.DataObject, delay: int) -> None:
        if self.held:
            claimed, job, owner = data.draw(st.sampled_from(self.held[-2:]))
            released = self.run(self.store.release_job(claimed.job_id, owner=owner, not_before=self.now + delay))
            assert released == self.holds(job, owner)
            if released:
                self.wait_again(job, job.attempts - 1, self.now + delay, is_dead=False)

    @rule(delay=delays)
    def wait(self, delay: int) -> None:
        self.now += delay

    @rule()
    def reopen(self) -> None:
        self.run(self.store.close())
        self.store = self._open()
        for job in self.jobs:
            job.until = None if job.until is None else 0  # whoever held it is gone

    @invariant()
    def nothing_is_lost_or_doubled(self) -> None:
        stats = self.run(self.store.stats("default"))
        dead = [job for job in self.jobs if job.is_dead]
        assert (stats.pending_job_count, stats.dead_job_count) == (len(self.jobs) - len(dead), len(dead))
        times = [job.until if job.until is not None else job.not_before for job in self.jobs if not job.is_dead]
        assert self.run(self.store.next_job_at(["k"])) == min(times, default=None)

    def teardown(self) -> None:
        self.run(self.store.close())
        self.folder.cleanup()
        self.loop.close()


TestQueueMachine = QueueMachine.TestCase
TestQueueMachine.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
