"""What changes do to the tables of SQLite. Runs in the writing thread, inside a savepoint: raising undoes it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import apsw

from lightmem_server.errors import (
    InvalidInputError,
    NotFoundError,
    RequestReusedError,
    UserErasedError,
    VersionMismatchError,
)
from lightmem_server.store import erasure, history, jobs, runs, snapshots, support
from lightmem_server.store.protocol import Change, CommitResult, KeyRecord, VectorRecord
from lightmem_server.store.rows import ORDER_FACTOR, key_columns, memory_columns, read_statement, vector_columns
from lightmem_server.types import Kind, Memory, Partition

TABLES_WITH_WORDS = (
    "memory",
    "vector",
    "history",
    "snapshot",
    "run_step",
    "run",
    "job",
    "request",
    "support",
)
"""Where words of a user are, or what can be made into some: all that erasing a user has to empty, and deleting a memory to look
at. `run` and `job` have them in their errors and payloads at most, `request` in clients' ids, `support` as hashes."""

PRUNE_ROWS = 500
"""Requests forgotten in one commit: bounds what pruning adds to it."""


@dataclass(frozen=True, slots=True)
class _Target:
    """The partition that a commit changes, the version that it leads to, when, why, and as part of which run."""

    partition_id: int
    version: int
    now: int
    change: Change
    run_no: int | None = None

    def reason(self, id_: uuid.UUID) -> str:
        """Why a record is changed."""
        return self.change.reasons.get(id_) or self.change.reason or "update"


def apply_change(connection: apsw.Connection, change: Change, *, now: int) -> CommitResult:
    """Apply a change to the tables; see `Store.commit`.

    Raises:
        RequestReusedError, VersionMismatchError, NotFoundError, InvalidInputError, PreconditionError, UserErasedError: See
            `Store.commit`.
    """
    if len(change.puts) > ORDER_FACTOR:
        raise InvalidInputError("puts", f"a commit holds at most {ORDER_FACTOR} records", reason="TOO_MANY")
    found = connection.execute(
        "SELECT partition_id, version, generation FROM partition WHERE namespace = ? AND user_id = ?",
        (change.partition.namespace, change.partition.user_id),
    ).fetchone()
    if found is None:
        floor, generation = erasure.find_tombstone(connection, change.partition)
    else:
        floor, generation = found[1:]
    if change.generation not in (None, generation):
        raise UserErasedError(erasure.ERASED)
    if generation and change.request_id:
        erasure.check_request(connection, change.partition, change.request_id)
    if found is not None and change.request_id:
        replay = find_request(connection, found[0], found[1], change.request_id, change.request_digest)
        if replay is not None:
            return replay
    partition_id, version, _ = found or (0, floor, generation)
    if change.undoes is not None and not runs.undo(connection, change, partition_id):
        return CommitResult(version, is_replay=True, request_result=b"")
    run_no = None
    if change.run is not None:
        run_no, is_done = runs.admit(connection, change, change.run, partition_id)
        if is_done:
            return CommitResult(version, is_replay=True, request_result=b"")
    if found is None:
        partition_id = make_partition(connection, change.partition, floor, generation)
    target = _begin(connection, change, (partition_id, version), now=now, run_no=run_no)
    _check_versions(connection, target)
    for place, memory in enumerate(change.puts):
        _put(connection, target, memory, target.version * ORDER_FACTOR + place)
    for vector in change.vectors:
        _put_vector(connection, target, vector)
    for id_ in change.deletes:
        _delete(connection, target, id_)
    if change.deletes:
        snapshots.forget(connection, target.partition_id, target.version)
    runs.set_watermarks(connection, target.partition_id, change.watermarks)
    for job in change.jobs:
        jobs.enqueue(connection, target.partition_id, job)
    if change.request_id:
        connection.execute(
            "INSERT INTO request (partition_id, request_id, digest, result, created_at) VALUES (?, ?, ?, ?, ?)",
            (target.partition_id, change.request_id, change.request_digest, change.request_result, now),
        )
    return CommitResult(target.version, is_replay=False, request_result=change.request_result)


def find_request(
    connection: apsw.Connection, partition_id: int, version: int, request_id: str, digest: bytes
) -> CommitResult | None:
    """The result kept with a request_id, with the partition's present version.

    Raises:
        RequestReusedError: It was kept for another content.
    """
    row = connection.execute(
        "SELECT digest, result FROM request WHERE partition_id = ? AND request_id = ?", (partition_id, request_id)
    ).fetchone()
    if row is None:
        return None
    if row[0] != digest:
        raise RequestReusedError("this request_id was used before for another request")
    return CommitResult(version, is_replay=True, request_result=row[1])


def record_access(connection: apsw.Connection, partition: Partition, ids: Sequence[uuid.UUID], at: int) -> None:
    """Count an access of each record that is there."""
    connection.executemany(
        """INSERT INTO access (memory_no, access_count, last_accessed_at)
        SELECT memory_no, 1, ? FROM memory JOIN partition USING (partition_id)
        WHERE namespace = ? AND user_id = ? AND id = ?
        ON CONFLICT (memory_no) DO UPDATE SET access_count = access_count + 1,
            last_accessed_at = max(coalesce(last_accessed_at, excluded.last_accessed_at), excluded.last_accessed_at)""",
        ((at, partition.namespace, partition.user_id, id_.bytes) for id_ in ids),
    )


def put_key(connection: apsw.Connection, key: KeyRecord) -> None:
    """Insert or replace a key."""
    connection.execute(
        """INSERT INTO api_key VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (key_id) DO UPDATE SET
        (namespace, secret_hash, label, user_ids, is_admin, created_at, expires_at, revoked_at) =
        (excluded.namespace, excluded.secret_hash, excluded.label, excluded.user_ids, excluded.is_admin,
         excluded.created_at, excluded.expires_at, excluded.revoked_at)""",
        key_columns(key),
    )


def touch(connection: apsw.Connection) -> None:
    """Write what is there already: durable, as any commit, and no change."""
    connection.pragma("user_version", connection.pragma("user_version"))


def purge_tombstones(connection: apsw.Connection, partition: Partition, up_to_version: int) -> int:
    """Forget deletions up to a version; returns how many."""
    row = connection.execute(
        """UPDATE partition SET purge_floor = max(purge_floor, min(version, ?)) WHERE namespace = ? AND user_id = ?
        RETURNING partition_id, purge_floor""",
        (up_to_version, partition.namespace, partition.user_id),
    ).fetchall()
    if not row:
        return 0
    connection.execute("DELETE FROM tombstone WHERE partition_id = ? AND deleted_version <= ?", row[0])
    return int(connection.changes())


def prune_requests(connection: apsw.Connection, created_before: int) -> bool:
    """Forget some old requests; returns whether more may be left."""
    connection.execute(
        "DELETE FROM request WHERE rowid IN (SELECT rowid FROM request WHERE created_at < ? LIMIT ?)",
        (created_before, PRUNE_ROWS),
    )
    is_full = connection.changes() == PRUNE_ROWS
    connection.execute(
        "DELETE FROM erased_request WHERE rowid IN (SELECT rowid FROM erased_request WHERE created_at < ? LIMIT ?)",
        (created_before, PRUNE_ROWS),
    )
    return is_full or bool(connection.changes() == PRUNE_ROWS)


def make_partition(connection: apsw.Connection, partition: Partition, floor: int, generation: int) -> int:
    """A partition that goes on where its tombstone stands, as (0, 0) when it has none; what is older must be loaded whole."""
    connection.execute(
        """INSERT INTO partition (namespace, user_id, version, purge_floor, snapshot_floor, generation)
        VALUES (?, ?, ?, ?, ?, ?)""",
        (partition.namespace, partition.user_id, floor, floor, floor, generation),
    )
    return int(connection.last_insert_rowid())


def _begin(
    connection: apsw.Connection, change: Change, found: tuple[int, int], *, now: int, run_no: int | None
) -> _Target:
    partition_id, version = found
    connection.execute("UPDATE partition SET version = ? WHERE partition_id = ?", (version + 1, partition_id))
    return _Target(partition_id, version + 1, now, change, run_no)


def _check_versions(connection: apsw.Connection, target: _Target) -> None:
    for id_, version in target.change.expected_versions.items():
        row = connection.execute(
            "SELECT record_version FROM memory WHERE partition_id = ? AND id = ?", (target.partition_id, id_.bytes)
        ).fetchone()
        if row is None or row[0] != version:
            raise VersionMismatchError(f"memory {id_} is not at version {version}")


def _put(connection: apsw.Connection, target: _Target, memory: Memory, order_no: int) -> None:
    if target.run_no is not None:
        runs.note_change(connection, target.run_no, target.partition_id, memory, target.reason(memory.id))
    if memory.version > 1:
        _change(connection, target, memory)
        return
    if is_tombstone(connection, target.partition_id, memory.id):
        raise NotFoundError(f"memory {memory.id} was deleted and its id does not come back")
    insert(connection, target.partition_id, target.version, memory, order_no)


def insert(connection: apsw.Connection, partition_id: int, version: int, memory: Memory, order_no: int) -> int:
    """A record that was not there, whatever its version, at a version of the partition; its number.

    Raises:
        VersionMismatchError: It is there.
    """
    connection.execute(
        """INSERT INTO memory (partition_id, id, order_no, changed_version, record_version, tier, kind, state,
            session_id, agent_id, occurred_at, valid_from, valid_to, previous_id, body)
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (partition_id, id) DO NOTHING""",
        (partition_id, memory.id.bytes, order_no, version, *memory_columns(memory)),
    )
    if connection.changes() == 0:
        raise VersionMismatchError(f"memory {memory.id} exists already")
    memory_no = connection.last_insert_rowid()
    if memory.access_count:
        connection.execute(
            "INSERT INTO access (memory_no, access_count, last_accessed_at) VALUES (?, ?, ?)",
            (memory_no, memory.access_count, memory.last_accessed_at),
        )
    return int(memory_no)


def _change(connection: apsw.Connection, target: _Target, memory: Memory) -> None:
    row = connection.execute(
        "SELECT memory_no, record_version, session_id, agent_id, body FROM memory WHERE partition_id = ? AND id = ?",
        (target.partition_id, memory.id.bytes),
    ).fetchone()
    if row is None:
        raise NotFoundError(f"no memory {memory.id}")
    memory_no, record_version, *said = row
    if memory.version != record_version + 1:
        raise VersionMismatchError(f"memory {memory.id} is at version {record_version}")
    *_, session_id, agent_id, _, _, _, _, body = columns = memory_columns(memory)
    if said != [session_id, agent_id, body]:
        snapshots.forget(connection, target.partition_id, target.version)
    if memory.kind is Kind.FACT:
        support.review(connection, target.partition_id, memory, read_statement(said[2]))
    history.keep(
        connection,
        memory_no,
        body_after=body,
        changed_at=target.now,
        reason=target.reason(memory.id),
        run_no=target.run_no,
    )
    connection.execute(
        """UPDATE memory SET changed_version = ?, record_version = ?, tier = ?, kind = ?, state = ?, session_id = ?,
            agent_id = ?, occurred_at = ?, valid_from = ?, valid_to = ?, previous_id = ?, body = ?
        WHERE memory_no = ?""",
        (target.version, *columns, memory_no),
    )


def _put_vector(connection: apsw.Connection, target: _Target, vector: VectorRecord) -> None:
    row: Any = connection.execute(
        "UPDATE memory SET changed_version = ? WHERE partition_id = ? AND id = ? RETURNING memory_no",
        (target.version, target.partition_id, vector.memory_id.bytes),
    ).fetchall()
    if not row:
        raise NotFoundError(f"no memory {vector.memory_id} for this vector")
    put_vector(connection, int(row[0][0]), vector)


def put_vector(connection: apsw.Connection, memory_no: int, vector: VectorRecord) -> None:
    """The vectors of a record, instead of those that it has."""
    connection.execute(
        """INSERT INTO vector (memory_no, model_no, views, dim, data) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (memory_no) DO UPDATE SET (model_no, views, dim, data) =
        (excluded.model_no, excluded.views, excluded.dim, excluded.data)""",
        (memory_no, _model_no(connection, vector.model), *vector_columns(vector)),
    )


def _model_no(connection: apsw.Connection, identity: str) -> int:
    row = connection.execute("SELECT model_no FROM model WHERE identity = ?", (identity,)).fetchone()
    if row is not None:
        return int(row[0])
    connection.execute("INSERT INTO model (identity) VALUES (?)", (identity,))
    return int(connection.last_insert_rowid())


def _delete(connection: apsw.Connection, target: _Target, id_: uuid.UUID) -> None:
    key = (target.partition_id, id_.bytes)
    connection.execute("DELETE FROM memory WHERE partition_id = ? AND id = ?", key)  # vector and access go with it
    if connection.changes() == 0:
        raise NotFoundError(f"no memory {id_}")
    history.forget(connection, target.partition_id, id_)
    support.withdraw(connection, target.partition_id, id_)
    runs.forget_record(connection, target.partition_id, id_)
    connection.execute("INSERT INTO tombstone VALUES (?, ?, ?)", (*key, target.version))


def is_tombstone(connection: apsw.Connection, partition_id: int, id_: uuid.UUID) -> bool:
    """Whether the id is of a record that was deleted."""
    row = connection.execute(
        "SELECT 1 FROM tombstone WHERE partition_id = ? AND id = ?", (partition_id, id_.bytes)
    ).fetchone()
    return row is not None
