"""What the server needs of its system of record for consolidation: runs, their steps, the history of records.

A part of `Store`; its promises and errors hold here too. A run is at work for one owner at a time: what an owner that lost it
still sends is refused, so that no work is done twice.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from lightmem_server.types import Memory, Partition


class RunState(StrEnum):
    """How far a run is. A failed or cancelled one keeps what it had committed; it can be undone as one that is done."""

    RUNNING = "running"
    """At work, or waiting to be resumed."""
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    UNDONE = "undone"


@dataclass(frozen=True, slots=True)
class RunRecord:
    """One run.

    Attributes:
        cause: What started it.
        model, prompt: Identity of what wrote, and the version of what it was told.
        from_version, to_version: It covers what changed in the partition after the one, up to the other.
        kept_count, rejected: Candidates; the rejected by the name of the rule.
        error: Why it failed.
        restored_count, removed_count: What its undoing did.
    """

    run_id: uuid.UUID
    partition: Partition
    cause: str
    state: RunState
    started_at: int
    finished_at: int | None
    model: str
    prompt: str
    from_version: int
    to_version: int
    kept_count: int = 0
    rejected: Mapping[str, int] = field(default_factory=dict)
    error: str = ""
    model_tokens: int = 0
    model_micros: int = 0
    restored_count: int = 0
    removed_count: int = 0


@dataclass(frozen=True, slots=True)
class RunTag:
    """Makes a commit part of a run: it is refused unless the run is at work for this owner, and not done again where its
    step was marked before."""

    run_id: uuid.UUID
    owner: str
    stage: str
    key: str


@dataclass(frozen=True, slots=True)
class RunChange:
    """A record that a run made (`version_before` None) or changed; `version_after` is the last that the run made."""

    memory_id: uuid.UUID
    version_before: int | None
    version_after: int
    reason: str


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One version of a record.

    Attributes:
        memory: The record as it was from then on.
        changed_at: When it became so.
        reason: Why: "write" for the first version that no run made.
        run_id: The run that did it; None: no run.
    """

    memory: Memory
    changed_at: int
    reason: str
    run_id: uuid.UUID | None


@dataclass(frozen=True, slots=True)
class Cancelled:
    """What was cancelled."""

    job_count: int
    run_id: uuid.UUID | None


class RunStore(Protocol):
    """Runs, steps and history. `owner` names a worker and no other; times are microseconds.

    Every method with an owner raises RunEndedError when the run, or the job, is not at work for it.
    """

    async def watermark(self, partition: Partition, name: str) -> int:
        """A version that `Change.watermarks` set; 0: none."""

    async def begin_run(
        self,
        partition: Partition,
        *,
        job_id: int,
        owner: str,
        cause: str,
        model: str,
        prompt: str,
        watermark: str,
        now: int,
    ) -> RunRecord | None:
        """Go on with the partition's run that is at work, as the owner's from now on; else begin one, from the watermark to the
        partition's version. None: there is none, and no turn has changed since the watermark."""

    async def load_step(self, run_id: uuid.UUID, stage: str, key: str) -> str | None:
        """The data of a step; "" for one that a commit marked."""

    async def save_step(self, tag: RunTag, data: str, memory_ids: Sequence[uuid.UUID]) -> bool:
        """Keep a step, or replace it. False, with nothing kept: not all of these memories are there."""

    async def report_run(self, run_id: uuid.UUID, *, owner: str, kept: int, rejected: Mapping[str, int]) -> None:
        """Keep the counts of a run at work."""

    async def spend(self, run_id: uuid.UUID, *, micros: int, tokens: int, now: int) -> None:
        """Account for model time of a run, also for its namespace."""

    async def model_time(self, namespace: str, since: int) -> list[tuple[int, int]]:
        """Model time of a namespace by minute, oldest first: (beginning of the minute, microseconds). Kept for an hour."""

    async def finish_run(
        self, run_id: uuid.UUID, *, job_id: int, owner: str, state: RunState, error: str, watermark: str, now: int
    ) -> None:
        """End a run and its job in one transaction; its steps are dropped. Done, the watermark is at its `to_version`."""

    async def cancel_run(self, partition: Partition, kind: str, *, now: int) -> Cancelled:
        """Drop the jobs of a kind, also one at work, and end the run."""

    async def find_run(self, run_id: uuid.UUID) -> RunRecord | None:
        """A run."""

    async def list_runs(self, partition: Partition, *, limit: int) -> list[RunRecord]:
        """A partition's runs, newest first."""

    async def run_changes(self, run_id: uuid.UUID) -> list[RunChange]:
        """What a run made and changed, but for what was deleted since, in order."""

    async def history(self, partition: Partition, memory_id: uuid.UUID) -> list[HistoryEntry]:
        """The versions of a record, oldest first; empty: no such record. Versions that rested on a memory that was deleted
        since are left out, and so are those from before the history was kept."""
