"""Earlier states of records in SQLite. Each row is what a record was before one change, with when and why it changed.

history: v1 ─changed_at, reason, run─▶ v2 ─▶ ... ─▶ memory: the present version
"""

from __future__ import annotations

import uuid
from typing import Any

import apsw

from lightmem_server.store.rows import MEMORY_SELECT, memory_columns, to_memory
from lightmem_server.store.run_protocol import HistoryEntry
from lightmem_server.types import Memory, Partition

COLUMNS = (
    """record_version, tier, kind, state, session_id, agent_id, occurred_at, valid_from, valid_to, previous_id, body"""
)


def keep(
    connection: apsw.Connection, memory_no: int, *, body_after: str, changed_at: int, reason: str, run_no: int | None
) -> None:
    """Copy a record's row before it is changed. A body that stays is not copied."""
    connection.execute(
        f"""INSERT INTO history (partition_id, id, changed_at, reason, run_no, {COLUMNS})
        SELECT partition_id, id, ?, ?, ?, record_version, tier, kind, state, session_id, agent_id, occurred_at, valid_from,
            valid_to, previous_id, iif(body = ?, NULL, body) FROM memory WHERE memory_no = ?""",  # noqa: S608
        (changed_at, reason, run_no, body_after, memory_no),
    )


def put(
    connection: apsw.Connection,
    partition_id: int,
    memory: Memory,
    *,
    body_after: str,
    changed_at: int,
    reason: str,
    run_no: int | None,
) -> None:
    """Store an earlier version of a record as `keep` would have left it."""
    *columns, body = memory_columns(memory)
    connection.execute(
        f"""INSERT INTO history (partition_id, id, changed_at, reason, run_no, {COLUMNS})
        VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)""",  # noqa: S608
        (
            *(partition_id, memory.id.bytes, changed_at, reason, run_no),
            *columns,
            None if body == body_after else body,
        ),
    )


def forget(connection: apsw.Connection, partition_id: int, id_: uuid.UUID) -> None:
    """Drop the history of a deleted record, and that of records of which an earlier version rested on it."""
    connection.execute("DELETE FROM history WHERE partition_id = ? AND id = ?", (partition_id, id_.bytes))
    connection.execute(
        """DELETE FROM history WHERE partition_id = :partition_id AND id IN
        (SELECT id FROM history WHERE partition_id = :partition_id AND instr(body, :id) > 0)""",
        {"partition_id": partition_id, "id": id_.hex},
    )


def read(connection: apsw.Connection, partition: Partition, memory_id: uuid.UUID) -> list[HistoryEntry]:
    """See `RunStore.history`."""
    names = {"namespace": partition.namespace, "user_id": partition.user_id, "id": memory_id.bytes}
    present = connection.execute(
        f"""SELECT m.partition_id, {MEMORY_SELECT} FROM partition p JOIN memory m USING (partition_id)
        LEFT JOIN access a USING (memory_no) WHERE p.namespace = :namespace AND p.user_id = :user_id AND m.id = :id""",  # noqa: S608
        names,
    ).fetchone()
    if present is None:
        return []
    partition_id, *columns = present
    rows: list[Any] = connection.execute(
        f"""SELECT changed_at, reason, (SELECT run_id FROM run WHERE run.run_no = history.run_no), {COLUMNS} FROM history
        WHERE partition_id = ? AND id = ? ORDER BY record_version DESC""",  # noqa: S608
        (partition_id, memory_id.bytes),
    ).fetchall()
    made: Any = connection.execute(
        """SELECT reason, run_id FROM run_change c JOIN run USING (run_no)
        WHERE c.partition_id = ? AND id = ? AND version_before IS NULL""",
        (partition_id, memory_id.bytes),
    ).fetchone()
    memory = to_memory(tuple(columns))
    body = columns[11]
    entries: list[HistoryEntry] = []
    for changed_at, reason, run_id, version, *state, earlier_body in rows:
        if version != memory.version - 1:
            break  # what is further back is forgotten
        entries.append(HistoryEntry(memory, changed_at, reason, to_id(run_id)))
        body = body if earlier_body is None else earlier_body
        memory = to_memory((memory_id.bytes, version, *state, body, 0, None))
    if memory.version == 1:
        reason, run_id = ("write", None) if made is None else made
        entries.append(HistoryEntry(memory, memory.created_at, reason, to_id(run_id)))
    elif not entries:
        entries.append(HistoryEntry(memory, memory.created_at, "", None))
    return entries[::-1]


def to_id(data: bytes | None) -> uuid.UUID | None:
    """An id of a column that may have none."""
    return None if data is None else uuid.UUID(bytes=data)
