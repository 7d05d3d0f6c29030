"""What the server needs of its system of record, shaped so that SQLite and PostgreSQL can both keep it.

Every implementation passes tests/contract/test_store*.py. All methods are coroutines that never block the event loop
and are safe to call at the same time.

Promises: what `commit` returned is on disk (survives SIGKILL and power loss), whole or not at all; a partition's version
counts its commits without gaps; reads see every commit that returned before they began.

Errors (every method): StoreError when the disk refuses, or the store is closed; after a failed commit nothing of it is
visible. OverloadedError when too many calls wait.

Where a user's words are, for whoever erases them or adds a place: records, vectors and their history; snapshots; the steps
of runs; payloads and errors of jobs, errors of runs; a request's id, which the client made (its result holds ids alone). The
tables of SQLite with words in them are `sqlite_write.TABLES_WITH_WORDS`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from lightmem_server.store.backup_protocol import BackupStore
from lightmem_server.store.erasure_protocol import ErasureStore
from lightmem_server.store.run_protocol import RunStore, RunTag
from lightmem_server.store.sharing_protocol import SharingStore
from lightmem_server.store.transfer_protocol import TransferStore
from lightmem_server.store.trouble import TroubledStore
from lightmem_server.types import Kind, Memory, MemoryFilter, Partition, Tier

MAX_GET = 1000
"""Most ids of one Store.get."""


@dataclass(frozen=True, slots=True)
class VectorRecord:
    """The vectors of one memory.

    Attributes:
        memory_id: Whose they are.
        model: The embedder's identity.
        vectors: (views, dim) float32.
    """

    memory_id: uuid.UUID
    model: str
    vectors: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class JobRecord:
    """Work that must not be forgotten. One of the same kind and key per partition waits at a time; a second is merged
    into it.

    Attributes:
        not_before: When it is due; merged, the earlier time holds.
        postpones: Merged, its own time holds: it is due so long after the last of its like.
        revives: Merged into a job that was set aside, that one is tried again at once, as if it had never failed.
    """

    kind: str
    key: str = ""
    payload: str = ""
    not_before: int = 0
    postpones: bool = False
    revives: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """What one commit does to one partition. Applied whole or not at all.

    Attributes:
        partition: Whose.
        puts: New records, and changed ones (same id, `version` one more than the stored one).
        vectors: Vectors of the new records, and new ones of changed records; a changed record without keeps its own. Those
            of a stored record that is not among the puts replace its vectors and leave its version: replicas get it anew.
        deletes: Ids to delete; a bodiless tombstone stays.
        jobs: Jobs to enqueue.
        request_id: "" for none. If it was committed before with the same `request_digest`, nothing is changed and the
            first result comes back.
        request_digest: Hash of the request's content.
        request_result: Kept with the request_id and returned on a replay.
        reason: Why records are changed, for their history; "update" when empty.
        reasons: The reason of single records, instead.
        expected_versions: Versions that records must have before the change, whether it touches them or not.
        watermarks: Name to the version that offline work has come to; never falls.
        run: Makes the change part of a consolidation run, which deletes nothing. What the puts name as evidence must then
            be there.
        undoes: The run whose changes this takes back. It must be over, and no other may be at work in the partition.
        generation: What `generation` said when the work began: refused if the partition was erased since. None: not looked
            at, as for what rests on records that would be gone.
    """

    partition: Partition
    puts: Sequence[Memory] = ()
    vectors: Sequence[VectorRecord] = ()
    deletes: Sequence[uuid.UUID] = ()
    jobs: Sequence[JobRecord] = ()
    request_id: str = ""
    request_digest: bytes = b""
    request_result: bytes = b""
    reason: str = ""
    reasons: Mapping[uuid.UUID, str] = field(default_factory=dict)
    expected_versions: Mapping[uuid.UUID, int] = field(default_factory=dict)
    watermarks: Mapping[str, int] = field(default_factory=dict)
    run: RunTag | None = None
    undoes: uuid.UUID | None = None
    generation: int | None = None


@dataclass(frozen=True, slots=True)
class CommitResult:
    """How a commit ended.

    Attributes:
        version: The partition's version after it (unchanged on a replay).
        is_replay: The request_id, or the run's step, had been committed before, or the run undone.
        request_result: The result kept with the request_id: this one's, or on a replay the first one's.
    """

    version: int
    is_replay: bool
    request_result: bytes


@dataclass(frozen=True, slots=True)
class StoredRow:
    """A record as a replica needs it. `order` is the partition's version at which it was first committed, times 2**16, plus
    its place in that commit: ascending in commit order, unique, and kept when the record changes."""

    memory: Memory
    vector: VectorRecord | None
    order: int


@dataclass(frozen=True, slots=True)
class Changes:
    """What happened to a partition after a version.

    Attributes:
        version: The version that these changes lead to.
        is_full: True when these are all records, because the caller knew nothing or what it knew is older than what the
            store remembers of deletions; replace, don't merge.
        rows: Records added or changed since, in `order`; never deleted ones.
        removed_ids: Records deleted since. Empty when is_full.
    """

    version: int
    is_full: bool
    rows: Sequence[StoredRow]
    removed_ids: Sequence[uuid.UUID]


@dataclass(frozen=True, slots=True)
class SnapshotRecord:
    """A partition as a replica exported it.

    Attributes:
        version: The partition's version that it shows.
        identity: Names what else its content depends on; of use only to a replica that has the same.
        data: The replica's own format.
    """

    version: int
    identity: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Page:
    """Part of a listing; `next_order` is None on the last."""

    memories: Sequence[Memory]
    next_order: int | None


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """An API key as it is stored: `secret_hash` is SHA-256 of the secret (which has 256 bits of its own)."""

    key_id: str
    namespace: str
    secret_hash: bytes
    label: str = ""
    user_ids: tuple[str, ...] = ()
    is_admin: bool = False
    created_at: int = 0
    expires_at: int | None = None
    revoked_at: int | None = None


@dataclass(frozen=True, slots=True)
class Stats:
    """Counts of a namespace or of one user. `counts` maps (tier, kind) to (active, archived), without what users share."""

    user_count: int
    counts: dict[tuple[Tier, Kind], tuple[int, int]] = field(default_factory=dict)
    pending_job_count: int = 0
    dead_job_count: int = 0
    size_bytes: int = 0
    shared_fact_count: int = 0


@dataclass(frozen=True, slots=True)
class ClaimedJob:
    """A job that a worker holds until `lease_until`. `attempt` counts its claims from 1: a crash of the worker counts too."""

    job_id: int
    partition: Partition
    kind: str
    key: str
    payload: str
    attempt: int
    lease_until: int


@dataclass(frozen=True, slots=True)
class DeadJob:
    """A job that was set aside, and why."""

    partition: Partition
    kind: str
    attempts: int
    error: str
    dead_at: int


class JobQueue(Protocol):
    """The working side of the jobs that `Store.commit` enqueues; a store keeps this as well.

    A job is done at least once: a worker whose lease lapsed may still be at work when another claims the job. At most one
    job of a partition is leased at a time. `owner` names a worker and no other. Times are microseconds.
    """

    async def claim_job(
        self, kinds: Sequence[str], *, owner: str, lease_micros: int, now: int, most_attempts: int | None = None
    ) -> ClaimedJob | None:
        """Take the job of these kinds that has been due longest; those whose lease lapsed come first. None: nothing is
        due. One whose lease lapsed after `most_attempts` claims is set aside: it may be what ended its workers."""

    async def extend_job(self, job_id: int, *, owner: str, lease_micros: int, now: int) -> bool:
        """Keep a job for longer. False: it is someone else's now, stop working."""

    async def finish_job(self, job_id: int, *, owner: str) -> bool:
        """Forget a job that is done. False: it is someone else's now."""

    async def fail_job(
        self, job_id: int, *, owner: str, error: str, now: int, most_attempts: int | None = None
    ) -> bool:
        """Let a job wait again, each time twice as long. If one of its kind and key waits already, it is merged into that
        one. After `most_attempts` claims it is set aside instead, with its error, until a job that `revives` comes. False: it
        is someone else's now."""

    async def release_job(self, job_id: int, *, owner: str, not_before: int) -> bool:
        """Give a job back undone, as if it had not been claimed: it is due at `not_before`. False: it is someone else's
        now."""

    async def next_job_at(self, kinds: Sequence[str]) -> int | None:
        """When the next job of these kinds is due, or its lease lapses; None: there is none."""

    async def enqueue_behind(self, job: JobRecord, *, watermark: str) -> int:
        """Let a job wait in every partition with a turn that changed since its watermark; returns in how many."""

    async def list_dead_jobs(self, namespace: str, user_id: str | None = None, *, limit: int) -> list[DeadJob]:
        """Jobs that were set aside, the newest first: of one user, or of all."""


class Store(RunStore, SharingStore, ErasureStore, TransferStore, BackupStore, TroubledStore, Protocol):
    """The system of record."""

    async def open(self) -> None:
        """Check versions, apply migrations, start. Raises StoreVersionError, StoreError."""

    async def close(self) -> None:
        """Finish what was begun, refuse the rest, release the files. Safe to call twice."""

    async def commit(self, change: Change) -> CommitResult:
        """Apply a change durably. Concurrent commits share one transaction and one sync (group commit), yet each
        succeeds or fails for itself.

        Cancelling the caller does not undo a commit that has begun.

        Raises:
            RequestReusedError: request_id known with another digest.
            VersionMismatchError: A put's version is not the stored version plus one, or a record's not the expected one.
            RunEndedError: `run` is not at work for its owner.
            UserErasedError: The partition was erased after its `generation`, or after the request was stored before.
            PreconditionError: `undoes` names a run that is at work, or another is; reason RUN_AT_WORK.
            NotFoundError: A put with version > 1, a vector, or a delete, of a record that is not there; a put of a
                record that was deleted: ids do not come back; evidence of a run's put that is not there; no such run.
            InvalidInputError: More than 65,536 puts; a deletion in a run.
            OverloadedError: Too many commits wait.
            StoreError: The disk refused.
        """

    async def find_request(self, partition: Partition, request_id: str, request_digest: bytes) -> CommitResult | None:
        """The result of an earlier commit with this request_id, None if there is none. Raises RequestReusedError."""

    async def get(self, partition: Partition, ids: Sequence[uuid.UUID]) -> list[Memory | None]:
        """Records by id, in order; None where the partition has none. Archived ones included. At most MAX_GET."""

    async def find_followers(self, partition: Partition, memory_id: uuid.UUID) -> list[Memory]:
        """Records whose `previous_id` is this one, in order; usually one or none."""

    async def find_dependents(self, partition: Partition, memory_id: uuid.UUID) -> list[Memory]:
        """Records that rest on this one, as evidence or as what they replaced, in order; archived ones included."""

    async def list_page(
        self, partition: Partition, record_filter: MemoryFilter, *, limit: int, before_order: int | None, now: int
    ) -> Page:
        """Records that pass the filter, newest first by order, below `before_order`. `now` decides validity where the
        filter has no as_of. Expired records are listed (they exist until they are deleted)."""

    async def changes_since(self, partition: Partition, version: int | None) -> Changes:
        """What a replica at `version` must apply; None: everything. An unknown partition has version 0 and no rows."""

    async def save_snapshot(self, partition: Partition, snapshot: SnapshotRecord) -> bool:
        """Keep a snapshot instead of the one before. Not a change: no version moves. False, with nothing kept: it is of a
        version before the last deletion or rewriting, whose words it may hold, or of none the partition ever had.

        A commit that deletes a record, or changes what it says, drops the snapshot with it.
        """

    async def load_snapshot(self, partition: Partition) -> SnapshotRecord | None:
        """The snapshot kept; None: there is none, or one that was not written to its end."""

    async def purge_tombstones(self, partition: Partition, up_to_version: int) -> int:
        """Forget the deletions up to a version (at most the present one); replicas older than it reload whole. Returns how
        many were forgotten."""

    async def record_access(self, partition: Partition, ids: Sequence[uuid.UUID], at: int) -> None:
        """Count one access of each. Not a change: no version moves. May be lost in a crash, and is
        where too many commits wait."""

    async def stats(self, namespace: str, user_id: str | None = None) -> Stats:
        """Figures of a namespace, or of one user."""

    async def put_key(self, key: KeyRecord) -> None:
        """Insert a key, or replace the one with its key_id."""

    async def find_key(self, key_id: str) -> KeyRecord | None:
        """A key by id."""

    async def list_keys(self, namespace: str, *, limit: int, after_key_id: str) -> list[KeyRecord]:
        """Keys of a namespace by key_id, after one ("" for the first page)."""

    async def embedding_models(self) -> dict[str, int]:
        """Embedder identities under which vectors are stored, with how many."""

    async def check(self) -> list[str]:
        """Findings of a quick integrity check, for `lightmem doctor`; empty when sound."""


class JobStore(Store, JobQueue, Protocol):
    """A store with the working side of its jobs, as workers need it."""
