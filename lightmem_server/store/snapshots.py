"""Snapshots of partitions in SQLite: part by part in, whole out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import apsw

from lightmem_server.store.protocol import SnapshotRecord
from lightmem_server.types import Partition

PART_BYTES = 1 << 20
"""Bytes of one part: bounds how long a commit waits behind it."""


def count_parts(snapshot: SnapshotRecord) -> int:
    """How many parts a snapshot has, at least one."""
    return max(1, -(-len(snapshot.data) // PART_BYTES))


def put_part(connection: apsw.Connection, partition: Partition, snapshot: SnapshotRecord, part: int) -> bool:
    """Write one part over that of an earlier snapshot; false when the whole is out of date, and the rest is not needed."""
    row = connection.execute(
        """SELECT partition_id FROM partition
        WHERE namespace = ? AND user_id = ? AND ? BETWEEN snapshot_floor AND version""",
        (partition.namespace, partition.user_id, snapshot.version),
    ).fetchone()
    if row is None:
        return False
    (partition_id,) = row
    parts = count_parts(snapshot)
    key = (partition_id, parts, snapshot.version, snapshot.identity)
    if part:
        before = connection.execute(
            "SELECT 1 FROM snapshot WHERE partition_id = ? AND parts = ? AND version = ? AND identity = ? AND part = ?",
            (*key, part - 1),
        ).fetchone()
        if before is None:
            return False
    connection.execute(
        """INSERT INTO snapshot (partition_id, parts, version, identity, part, data) VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (partition_id, part) DO UPDATE SET (parts, version, identity, data) =
        (excluded.parts, excluded.version, excluded.identity, excluded.data)""",
        (*key, part, snapshot.data[part * PART_BYTES : (part + 1) * PART_BYTES]),
    )
    if part == parts - 1:
        connection.execute("DELETE FROM snapshot WHERE partition_id = ? AND part >= ?", (partition_id, parts))
    return True


def load(connection: apsw.Connection, partition: Partition) -> SnapshotRecord | None:
    """See `Store.load_snapshot`."""
    rows: list[Any] = connection.execute(
        """SELECT s.parts, s.version, s.identity, s.data FROM partition p JOIN snapshot s USING (partition_id)
        WHERE p.namespace = ? AND p.user_id = ? ORDER BY s.part""",
        (partition.namespace, partition.user_id),
    ).fetchall()
    if not rows or len({row[:3] for row in rows}) > 1 or len(rows) != rows[0][0]:
        return None
    _, version, identity, _ = rows[0]
    return SnapshotRecord(version, identity, b"".join(row[3] for row in rows))


def each(connection: apsw.Connection) -> Iterator[tuple[Partition, SnapshotRecord]]:
    """Every snapshot that was written to its end, one at a time."""
    partitions: list[Any] = connection.execute(
        """SELECT namespace, user_id FROM partition p
        WHERE EXISTS (SELECT 1 FROM snapshot s WHERE s.partition_id = p.partition_id) ORDER BY namespace, user_id"""
    ).fetchall()
    for namespace, user_id in partitions:
        partition = Partition(namespace, user_id)
        if (snapshot := load(connection, partition)) is not None:
            yield partition, snapshot


def forget(connection: apsw.Connection, partition_id: int, version: int) -> None:
    """Drop the snapshot of a partition, and refuse those of earlier versions from now on: words of it are gone."""
    connection.execute("UPDATE partition SET snapshot_floor = ? WHERE partition_id = ?", (version, partition_id))
    connection.execute("DELETE FROM snapshot WHERE partition_id = ?", (partition_id,))
