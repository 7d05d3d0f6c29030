"""Erasing a partition from the tables of SQLite. Runs in the writing thread; `erase` inside a savepoint."""

from __future__ import annotations

import hashlib
import hmac
import uuid
from typing import Any

import apsw

from lightmem_server.errors import UserErasedError
from lightmem_server.store import support
from lightmem_server.store.erasure_protocol import Erased
from lightmem_server.types import Partition

HASH_BYTES = 16

TABLES = (
    # What refers to others first; run_step and its sources go with their run, vector and access with their memory.
    "support",
    "run_change",
    "history",
    "run",
    "job",
    "request",
    "watermark",
    "snapshot",
    "tombstone",
    "memory",
    "partition",
)
"""All that hold rows of a partition."""

ERASED = "the user was erased after this was begun; nothing was stored"


def erase(connection: apsw.Connection, partition: Partition, *, receipt_id: uuid.UUID, now: int) -> Erased:
    """See `ErasureStore.erase`; `receipt_id` is that of the new receipt."""
    user_hash = _hash(connection, partition)
    row = connection.execute(
        "SELECT partition_id, version FROM partition WHERE namespace = ? AND user_id = ?",
        (partition.namespace, partition.user_id),
    ).fetchone()
    version, counts, withdrawn = 0, (0, 0, 0), 0
    if row is not None:
        partition_id, version = row
        counts = _count(connection, partition_id)
        _keep_requests(connection, partition_id, user_hash)
        withdrawn = support.withdraw_all(connection, partition_id)
        for table in TABLES:
            connection.execute(f"DELETE FROM {table} WHERE partition_id = ?", (partition_id,))  # noqa: S608
    connection.execute(
        """INSERT INTO erased_partition (user_hash, version, generation) VALUES (?, ?, 1) ON CONFLICT (user_hash) DO UPDATE
        SET version = max(version, excluded.version), generation = generation + 1""",
        (user_hash, version + 1),  # the erasure is a change: a replica that knows the one before is behind
    )
    erased = Erased(receipt_id, now, *counts, withdrawn_support_count=withdrawn)
    connection.execute(
        """INSERT INTO erasure (receipt_id, namespace, user_hash, erased_at, memory_count, vector_count, job_count,
            withdrawn_support_count) VALUES (?, ?, ?, ?, ?, ?, ?, ?)""",
        (receipt_id.bytes, partition.namespace, user_hash, now, *counts, erased.withdrawn_support_count),
    )
    return erased


def generation(connection: apsw.Connection, partition: Partition) -> int:
    """See `ErasureStore.generation`."""
    found: Any = connection.execute(
        "SELECT generation FROM partition WHERE namespace = ? AND user_id = ?",
        (partition.namespace, partition.user_id),
    ).get
    return find_tombstone(connection, partition)[1] if found is None else int(found)


def find_tombstone(connection: apsw.Connection, partition: Partition) -> tuple[int, int]:
    """The version and the generation at which a partition that is not there goes on; (0, 0): it was never erased."""
    row: Any = connection.execute(
        "SELECT version, generation FROM erased_partition WHERE user_hash = ?", (_hash(connection, partition),)
    ).fetchone()
    return (0, 0) if row is None else row


def check_request(connection: apsw.Connection, partition: Partition, request_id: str) -> None:
    """Refuse the retry of a request of an erased user.

    Raises:
        UserErasedError.
    """
    request_hash = _hash_request(_hash(connection, partition), request_id)
    if connection.execute("SELECT 1 FROM erased_request WHERE request_hash = ?", (request_hash,)).fetchone():
        raise UserErasedError(ERASED)


def _count(connection: apsw.Connection, partition_id: int) -> tuple[int, int, int]:
    """Memories, vectors, jobs."""
    rows: list[Any] = connection.execute(
        """SELECT (SELECT count(*) FROM memory WHERE partition_id = :id),
            (SELECT count(*) FROM memory JOIN vector USING (memory_no) WHERE partition_id = :id),
            (SELECT count(*) FROM job WHERE partition_id = :id)""",
        {"id": partition_id},
    ).fetchall()
    memories, vectors, jobs = rows[0]
    return memories, vectors, jobs


def _keep_requests(connection: apsw.Connection, partition_id: int, user_hash: bytes) -> None:
    rows: list[Any] = connection.execute(
        "SELECT request_id, created_at FROM request WHERE partition_id = ?", (partition_id,)
    ).fetchall()
    connection.executemany(
        "INSERT INTO erased_request VALUES (?, ?) ON CONFLICT DO NOTHING",
        [(_hash_request(user_hash, request_id), created_at) for request_id, created_at in rows],
    )


def _hash(connection: apsw.Connection, partition: Partition) -> bytes:
    salt: Any = connection.execute("SELECT salt FROM erasure_salt").get
    return hmac.digest(salt, partition.key.encode(), hashlib.sha256)[:HASH_BYTES]


def _hash_request(user_hash: bytes, request_id: str) -> bytes:
    return hmac.digest(user_hash, request_id.encode(), hashlib.sha256)[:HASH_BYTES]
