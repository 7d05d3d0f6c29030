"""A partition whole, out of the tables of SQLite and into them. `export` sees one moment; what imports runs in the writing
thread, inside a savepoint.

Where consolidation has come to is a version of the partition, and versions don't travel. So each record says whether it is new
to consolidation, those that aren't are noted as they come in, and when all are there the watermark passes them: the others are
given a version behind it.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable
from typing import Any

import apsw

from lightmem_server.errors import InvalidInputError, MemoryDiffersError, PreconditionError, UserErasedError
from lightmem_server.store import erasure, history, runs, sqlite_write
from lightmem_server.store.rows import (
    MEMORY_SELECT,
    MEMORY_SELECT_WIDTH,
    ORDER_FACTOR,
    VECTOR_SELECT,
    memory_columns,
    to_memory,
    to_stored_row,
)
from lightmem_server.store.run_protocol import RunRecord, RunState
from lightmem_server.store.sqlite_read import FROM_STORED, snapshot
from lightmem_server.store.transfer_protocol import (
    Carried,
    CarriedChange,
    CarriedMemory,
    CarriedVersion,
    ImportBatch,
    ImportedMemory,
    Outline,
)
from lightmem_server.types import Memory, Partition


def export(
    connection: apsw.Connection, partition: Partition, visit: Callable[[Carried], None], *, watermark: str
) -> None:
    """See `TransferStore.export`."""
    with snapshot(connection):
        found: Any = connection.execute(
            "SELECT partition_id FROM partition WHERE namespace = ? AND user_id = ?",
            (partition.namespace, partition.user_id),
        ).get
        schema_version = int(connection.pragma("user_version"))
        if found is None:
            visit(Outline(schema_version))
            return
        visit(_outline(connection, found, schema_version))
        _export_runs(connection, partition, visit)
        _export_memories(connection, found, visit, read_up_to=runs.read_watermark(connection, partition, watermark))


def import_batch(connection: apsw.Connection, batch: ImportBatch) -> int:
    """See `TransferStore.import_batch`."""
    partition_id, version = _enter(connection, batch.partition, batch.generation)
    run_numbers = {run.run_id: _put_run(connection, partition_id, run) for run in batch.runs}
    for carried in batch.changes:
        if carried.run_id not in run_numbers:
            run_numbers[carried.run_id] = _find_run(connection, partition_id, carried.run_id.bytes)
        change = carried.change
        connection.execute(
            "INSERT INTO run_change VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING",
            (
                run_numbers[carried.run_id],
                partition_id,
                change.memory_id.bytes,
                change.version_before,
                change.version_after,
                change.reason,
            ),
        )
    missing = [each for each in batch.memories if not _is_there(connection, batch.partition, partition_id, each)]
    if missing or batch.runs or batch.changes:
        connection.execute("UPDATE partition SET version = ? WHERE partition_id = ?", (version + 1, partition_id))
    for place, each in enumerate(missing):
        _insert(connection, partition_id, version + 1, (version + 1) * ORDER_FACTOR + place, each)
    return len(missing)


def finish_import(connection: apsw.Connection, partition: Partition, *, watermark: str, generation: int) -> bool:
    """See `TransferStore.finish_import`."""
    partition_id, version = _enter(connection, partition, generation)
    read = "SELECT memory_no FROM import_read JOIN memory USING (memory_no) WHERE partition_id = :partition_id"
    names = {"partition_id": partition_id, "version": version + 1}
    names["read_up_to"] = runs.read_watermark(connection, partition, watermark)
    if connection.execute(f"{read} LIMIT 1", names).fetchone() is not None:
        connection.execute("UPDATE partition SET version = :version WHERE partition_id = :partition_id", names)
        connection.execute(
            f"""UPDATE memory SET changed_version = :version WHERE partition_id = :partition_id
            AND changed_version > :read_up_to AND memory_no NOT IN ({read})""",  # noqa: S608
            names,
        )
        connection.execute(f"DELETE FROM import_read WHERE memory_no IN ({read})", names)  # noqa: S608
        runs.set_watermarks(connection, partition_id, {watermark: version})
        names["read_up_to"] = version
    new = "SELECT 1 FROM memory WHERE partition_id = :partition_id AND changed_version > :read_up_to LIMIT 1"
    return connection.execute(new, names).fetchone() is not None


def _outline(connection: apsw.Connection, partition_id: int, schema_version: int) -> Outline:
    counts: list[Any] = connection.execute(
        """SELECT (SELECT count(*) FROM run WHERE partition_id = :id),
            (SELECT count(*) FROM run_change WHERE partition_id = :id),
            (SELECT count(*) FROM history WHERE partition_id = :id),
            (SELECT count(*) FROM memory WHERE partition_id = :id)""",
        {"id": partition_id},
    ).fetchall()
    return Outline(schema_version, *counts[0])


def _export_runs(connection: apsw.Connection, partition: Partition, visit: Callable[[Carried], None]) -> None:
    rows = connection.execute(
        f"SELECT {runs.RUN_SELECT} WHERE p.namespace = ? AND p.user_id = ? ORDER BY r.run_no",
        (partition.namespace, partition.user_id),
    )
    for row in rows:
        run = runs.to_run(row)
        visit(run)
        for change in runs.changes_of(connection, run.run_id):
            visit(CarriedChange(run.run_id, change))


def _export_memories(
    connection: apsw.Connection, partition_id: int, visit: Callable[[Carried], None], *, read_up_to: int
) -> None:
    rows = connection.execute(
        f"""SELECT m.changed_version, m.order_no, {MEMORY_SELECT}, {VECTOR_SELECT} {FROM_STORED}
        WHERE m.partition_id = ? ORDER BY m.order_no""",
        (partition_id,),
    )
    for changed_version, *columns in rows:
        stored = to_stored_row(tuple(columns))
        body = columns[MEMORY_SELECT_WIDTH - 2]
        for version in _read_versions(connection, partition_id, stored.memory, body):
            visit(version)
        visit(CarriedMemory(stored.memory, stored.vector, is_new=changed_version > read_up_to))


def _read_versions(
    connection: apsw.Connection, partition_id: int, memory: Memory, body: str
) -> Iterable[CarriedVersion]:
    """The versions before the present one, oldest first."""
    if memory.version == 1:
        return ()
    rows: list[Any] = connection.execute(
        f"""SELECT changed_at, reason, (SELECT run_id FROM run WHERE run.run_no = history.run_no), {history.COLUMNS}
        FROM history WHERE partition_id = ? AND id = ? ORDER BY record_version DESC""",  # noqa: S608
        (partition_id, memory.id.bytes),
    ).fetchall()
    versions = []
    for changed_at, reason, run_id, version, *state, earlier_body in rows:
        body = body if earlier_body is None else earlier_body
        earlier = to_memory((memory.id.bytes, version, *state, body, 0, None))
        versions.append(CarriedVersion(earlier, changed_at, reason, history.to_id(run_id)))
    return versions[::-1]


def _enter(connection: apsw.Connection, partition: Partition, generation: int) -> tuple[int, int]:
    """The partition's number and version; made where it isn't there."""
    found: Any = connection.execute(
        "SELECT partition_id, version, generation FROM partition WHERE namespace = ? AND user_id = ?",
        (partition.namespace, partition.user_id),
    ).fetchone()
    if found is None:
        version, present = erasure.find_tombstone(connection, partition)
    else:
        version, present = found[1:]
    if present != generation:
        raise UserErasedError(erasure.ERASED)
    if found is None:
        return sqlite_write.make_partition(connection, partition, version, present), version
    running = "SELECT 1 FROM run WHERE partition_id = ? AND state = ?"
    if connection.execute(running, (found[0], RunState.RUNNING)).fetchone():
        raise PreconditionError("a run is at work for this user; wait for it, or cancel it", reason="RUN_AT_WORK")
    return found[0], version


def _put_run(connection: apsw.Connection, partition_id: int, run: RunRecord) -> int:
    """A run, unless it is there; its number."""
    connection.execute(
        """INSERT INTO run (run_id, partition_id, cause, state, owner, started_at, finished_at, model, prompt, from_version,
            to_version, kept_count, rejected, error, model_tokens, model_micros, restored_count, removed_count)
        VALUES (?, ?, ?, ?, '', ?, ?, ?, ?, 0, 0, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (run_id) DO NOTHING""",
        (
            run.run_id.bytes,
            partition_id,
            run.cause,
            run.state,
            run.started_at,
            run.finished_at,
            run.model,
            run.prompt,
            run.kept_count,
            json.dumps(dict(run.rejected), ensure_ascii=False),
            run.error,
            run.model_tokens,
            run.model_micros,
            run.restored_count,
            run.removed_count,
        ),
    )
    return _find_run(connection, partition_id, run.run_id.bytes)


def _find_run(connection: apsw.Connection, partition_id: int, run_id: bytes) -> int:
    row: Any = connection.execute("SELECT run_no, partition_id FROM run WHERE run_id = ?", (run_id,)).fetchone()
    if row is None:
        raise InvalidInputError("runs", f"run {uuid.UUID(bytes=run_id)} is named and not there", reason="BAD_LINE")
    if row[1] != partition_id:
        raise PreconditionError(
            "a run of this import is another user's here; erase that one first", reason="RUN_ELSEWHERE"
        )
    return int(row[0])


def _is_there(connection: apsw.Connection, partition: Partition, partition_id: int, imported: ImportedMemory) -> bool:
    """Whether a record is there already, as it is to be or further on.

    Raises:
        MemoryDiffersError, PreconditionError: See `TransferStore.import_batch`.
    """
    memory = imported.memory.memory
    if sqlite_write.is_tombstone(connection, partition_id, memory.id):
        raise PreconditionError(
            f"line {imported.line}: memory {memory.id} was deleted here; erase the user, and import into a new one",
            reason="MEMORY_DELETED",
        )
    versions = history.read(connection, partition, memory.id)
    if not versions:
        return False
    same = next((entry.memory for entry in versions if entry.memory.version == memory.version), None)
    if same is None or memory_columns(same) != memory_columns(memory):
        raise MemoryDiffersError(f"line {imported.line}: memory {memory.id} is here with other content")
    return True


def _insert(
    connection: apsw.Connection, partition_id: int, version: int, order_no: int, imported: ImportedMemory
) -> None:
    memory, vector = imported.memory.memory, imported.memory.vector
    memory_no = sqlite_write.insert(connection, partition_id, version, memory, order_no)
    if vector is not None:
        sqlite_write.put_vector(connection, memory_no, vector)
    if not imported.memory.is_new:
        connection.execute("INSERT INTO import_read VALUES (?)", (memory_no,))
    after = memory
    for earlier in reversed(imported.versions):
        run_no = None if earlier.run_id is None else _find_run(connection, partition_id, earlier.run_id.bytes)
        history.put(
            connection,
            partition_id,
            earlier.memory,
            body_after=memory_columns(after)[-1],
            changed_at=earlier.changed_at,
            reason=earlier.reason,
            run_no=run_no,
        )
        after = earlier.memory
