"""Does the durable jobs of consolidation: claims them, keeps their leases, and puts back what can't go on.

    claim ─▶ budget? ─▶ begin or resume the run ─▶ Consolidator.run, with a heartbeat beside it ─▶ finish run and job at once
               │ used up: back, due when some is free        ├─ failed: back, later each time; too often: set aside
               └──────────────────────────────────────       ├─ budget used up, or the server stops: back, its steps kept
                                                             └─ cancelled, or the lease lost: stop

Failures of the surroundings (disk, model, load) never set a job aside: they are retried, at last once an hour. A worker that
was killed leaves its lease, which lapses; the next goes on at the saved steps.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import structlog

from lightmem_server.errors import (
    BudgetSpentError,
    InvalidInputError,
    LightMemError,
    ModelError,
    OverloadedError,
    RunEndedError,
    UnavailableError,
)
from lightmem_server.pipeline.clock import Clock
from lightmem_server.pipeline.consolidation.budget import HOUR_MICROS, MICROS, MINUTE_MICROS, resumes_at
from lightmem_server.pipeline.consolidation.progress import DONE, WAIT, Ending, Progress, ProgressBoard
from lightmem_server.pipeline.consolidation.run import JOB_KIND, WATERMARK, Consolidator
from lightmem_server.store.protocol import Change, ClaimedJob, CommitResult, JobStore
from lightmem_server.store.run_protocol import Cancelled, RunRecord, RunState, RunTag
from lightmem_server.types import Partition

Commit: TypeAlias = Callable[[Change], Awaitable[CommitResult]]

SURROUNDINGS = (UnavailableError, OverloadedError, ModelError)
"""Failures that say nothing against the job."""

LONGEST_REST_SECONDS = 60.0
SHORTEST_REST_SECONDS = 1.0
"""Between two looks at the queue; new work wakes the worker at once."""

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class WorkerPolicy:
    """How the worker goes about it.

    Attributes:
        workers: Runs at work at once, of different users.
        seconds_per_hour: Model time of a namespace in any hour; 0: no limit.
        most_attempts: After which a job is set aside.
        lease_seconds: How long after a crash nobody goes on. A third of it passes between two heartbeats.
    """

    workers: int = 1
    seconds_per_hour: float = 1200.0
    most_attempts: int = 8
    lease_seconds: float = 60.0

    @property
    def limit_micros(self) -> int:
        """The budget of an hour."""
        return round(self.seconds_per_hour * MICROS)


class Worker:
    """The consolidation jobs of one server."""

    def __init__(
        self,
        store: JobStore,
        consolidator: Consolidator,
        board: ProgressBoard,
        clock: Clock,
        policy: WorkerPolicy,
        *,
        commit: Commit | None = None,
    ) -> None:
        """`commit` is how a run's change is made durable and visible; None: by the store alone."""
        self._store = store
        self._consolidator = consolidator
        self._board = board
        self._clock = clock
        self._policy = policy
        self._commit = store.commit if commit is None else commit
        self._owner = uuid.uuid4().hex
        self._at_work: dict[Partition, asyncio.Task[None]] = {}
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look at the queue now: there is new work."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled; then what is at work is given back."""
        async with asyncio.TaskGroup() as group:
            for number in range(self._policy.workers):
                group.create_task(self._loop(f"{self._owner}-{number}"))

    async def step(self, owner: str = "") -> bool:
        """Do the job that is due longest; false when none is due.

        Raises:
            StoreError: The queue could not be read, or a job not be put back; its lease lapses.
        """
        owner = owner or self._owner
        job = await self._store.claim_job(
            [JOB_KIND],
            owner=owner,
            lease_micros=self._lease_micros,
            now=self._clock.now(),
            most_attempts=self._policy.most_attempts,
        )
        if job is None:
            return False
        try:
            await self._work(job, owner)
        except RunEndedError:
            self._end(job.partition, None, Ending.CANCELLED)
        except asyncio.CancelledError:
            await asyncio.shield(self._store.release_job(job.job_id, owner=owner, not_before=self._clock.now()))
            raise
        return True

    async def cancel(self, partition: Partition) -> Cancelled:
        """Drop a user's jobs and end the run at work; what it had committed stays and can be undone."""
        cancelled = await self._store.cancel_run(partition, JOB_KIND, now=self._clock.now())
        task = self._at_work.get(partition)
        if task is not None:
            task.cancel()
        elif cancelled.job_count:
            self._end(partition, cancelled.run_id, Ending.CANCELLED)
        return cancelled

    def stop(self, partition: Partition) -> None:
        """End the run at work, and the following, of a partition that is gone from the store with its jobs."""
        task = self._at_work.get(partition)
        if task is not None:
            task.cancel()
        else:
            self._end(partition, None, Ending.CANCELLED)

    @property
    def _lease_micros(self) -> int:
        return round(self._policy.lease_seconds * MICROS)

    async def _loop(self, owner: str) -> None:
        while True:
            self._wake.clear()
            try:
                if await self.step(owner):
                    continue
                due_at = await self._store.next_job_at([JOB_KIND])
            except LightMemError as error:  # the disk refuses, or too much waits; leases lapse by themselves
                log.warning("consolidation_queue_failed", error=error.message)
                due_at = None
            wait = LONGEST_REST_SECONDS if due_at is None else (due_at - self._clock.now()) / MICROS
            rest = min(LONGEST_REST_SECONDS, max(SHORTEST_REST_SECONDS, wait))
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), rest)

    async def _work(self, job: ClaimedJob, owner: str) -> None:
        until = await self._budget_free_at(job.partition.namespace)
        if until is not None:
            await self._put_back(job, owner, None, until)
            return
        record = await self._store.begin_run(
            job.partition,
            job_id=job.job_id,
            owner=owner,
            cause=job.payload,
            model=self._consolidator.model,
            prompt=self._consolidator.prompt,
            watermark=WATERMARK,
            now=self._clock.now(),
        )
        if record is None:
            await self._store.finish_job(job.job_id, owner=owner)
            self._end(job.partition, None, Ending.DONE)
            return
        run = _Run(self, record, owner)
        self._board.post(job.partition, run.progress)
        task = asyncio.create_task(self._consolidator.run(run))
        self._at_work[job.partition] = task
        try:
            await self._attend(task, job, owner)
        finally:
            task.cancel()
            await asyncio.wait({task})
            del self._at_work[job.partition]
        await self._settle(task, job, run)

    async def _attend(self, task: asyncio.Task[None], job: ClaimedJob, owner: str) -> None:
        """Keep the lease while the task is at work; without it, stop the task."""
        while not (await asyncio.wait({task}, timeout=self._policy.lease_seconds / 3))[0]:
            try:
                is_ours = await self._store.extend_job(
                    job.job_id, owner=owner, lease_micros=self._lease_micros, now=self._clock.now()
                )
            except UnavailableError as error:  # the lease may last until the disk is back
                log.warning("heartbeat_failed", error=error.message)
                continue
            if not is_ours:
                return

    async def _settle(self, task: asyncio.Task[None], job: ClaimedJob, run: _Run) -> None:
        """Write down how the work ended, and tell who follows."""
        error = asyncio.CancelledError() if task.cancelled() else task.exception()
        if error is None:
            await self._store.finish_run(
                run.run_id,
                job_id=job.job_id,
                owner=run.owner,
                state=RunState.DONE,
                error="",
                watermark=WATERMARK,
                now=self._clock.now(),
            )
            log.info("consolidated", run_id=str(run.run_id), kept=run.progress.kept)
            self._board.post(
                job.partition, replace(run.progress, stage=DONE, remaining_seconds=None, ending=Ending.DONE)
            )
        elif isinstance(error, BudgetSpentError):
            until = self._clock.now() + round(error.retry_after_seconds * MICROS)
            await self._put_back(job, run.owner, run, until)
        elif isinstance(error, RunEndedError | asyncio.CancelledError):
            # Should something else than a cancellation have stopped it, the job is still ours, and is tried again.
            await self._store.fail_job(job.job_id, owner=run.owner, error="was stopped", now=self._clock.now())
            self._end(job.partition, run.run_id, Ending.CANCELLED)
        else:
            await self._fail(job, run, error)

    async def _fail(self, job: ClaimedJob, run: _Run, error: BaseException) -> None:
        is_surroundings = isinstance(error, SURROUNDINGS)
        message = error.message if isinstance(error, LightMemError) else f"a defect: {type(error).__name__}"
        if isinstance(error, LightMemError):
            log.warning("consolidation_failed", run_id=str(run.run_id), attempt=job.attempt, error=message)
        else:
            log.error("consolidation_failed", run_id=str(run.run_id), attempt=job.attempt, exc_info=error)
        await self._store.fail_job(
            job.job_id,
            owner=run.owner,
            error=message,
            now=self._clock.now(),
            most_attempts=None if is_surroundings else self._policy.most_attempts,
        )
        self._end(job.partition, run.run_id, Ending.FAILED, message)

    async def _put_back(self, job: ClaimedJob, owner: str, run: _Run | None, until: int) -> None:
        await self._store.release_job(job.job_id, owner=owner, not_before=until)
        last = Progress(None, WAIT) if run is None else run.progress
        seconds = max(0.0, (until - self._clock.now()) / MICROS)
        self._board.post(job.partition, replace(last, stage=WAIT, remaining_seconds=seconds))

    def _end(self, partition: Partition, run_id: uuid.UUID | None, ending: Ending, error: str = "") -> None:
        self._board.post(partition, Progress(run_id, ending.value, ending=ending, error=error))

    async def _budget_free_at(self, namespace: str) -> int | None:
        now = self._clock.now()
        spent = await self._store.model_time(namespace, now - HOUR_MICROS - MINUTE_MICROS)
        return resumes_at(spent, self._policy.limit_micros, now)


class _Run:
    """The handle of a run at work; see `run.RunHandle`."""

    def __init__(self, worker: Worker, record: RunRecord, owner: str) -> None:
        self._worker = worker
        self._record = record
        self.owner = owner
        self.progress = Progress(record.run_id, "select", kept=record.kept_count, rejected=record.rejected)
        self._stage_began = (0, 0.0)

    @property
    def run_id(self) -> uuid.UUID:
        return self._record.run_id

    @property
    def partition(self) -> Partition:
        return self._record.partition

    @property
    def trigger(self) -> str:
        return self._record.cause

    @property
    def from_version(self) -> int:
        return self._record.from_version

    @property
    def to_version(self) -> int:
        return self._record.to_version

    async def load_step(self, stage: str, key: str) -> str | None:
        return await self._worker._store.load_step(self.run_id, stage, key)

    async def save_step(self, stage: str, key: str, data: str, *, memory_ids: Sequence[uuid.UUID]) -> bool:
        return await self._worker._store.save_step(RunTag(self.run_id, self.owner, stage, key), data, memory_ids)

    async def report(self, stage: str, *, done: int, total: int, kept: int, rejected: Mapping[str, int]) -> None:
        await self._worker._store.report_run(self.run_id, owner=self.owner, kept=kept, rejected=rejected)
        now = self._worker._clock.monotonic()
        if stage != self.progress.stage:
            self._stage_began = (done, now)
        first, began = self._stage_began
        remaining = (now - began) / (done - first) * (total - done) if done > first else None
        self.progress = Progress(self.run_id, stage, done, total, kept, dict(rejected), remaining)
        self._worker._board.post(self.partition, self.progress)

    async def spend(self, *, seconds: float, tokens: int) -> None:
        now = self._worker._clock.now()
        await self._worker._store.spend(self.run_id, micros=round(seconds * MICROS), tokens=tokens, now=now)
        until = await self._worker._budget_free_at(self.partition.namespace)
        if until is not None:
            raise BudgetSpentError(
                "the namespace's model time of this hour is used up", retry_after_seconds=(until - now) / MICROS
            )

    async def commit(self, change: Change, *, stage: str, key: str, watermark: int | None = None) -> CommitResult:
        if change.partition != self.partition:
            raise InvalidInputError("partition", "is not the run's", reason="WRONG_PARTITION")
        watermarks = {} if watermark is None else {WATERMARK: watermark}
        tag = RunTag(self.run_id, self.owner, stage, key)
        return await self._worker._commit(replace(change, run=tag, watermarks={**change.watermarks, **watermarks}))
