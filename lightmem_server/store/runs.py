"""Consolidation runs in SQLite. What writes runs in the writing thread, inside a savepoint.

begin ─▶ running ─finish─▶ done, failed ─undo─▶ undone
           │ ▲ └─────────cancel─▶ cancelled ──┘
           └─┘ another worker goes on: it becomes the owner, and the one before is refused
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import apsw

from lightmem_server.errors import InvalidInputError, NotFoundError, PreconditionError, RunEndedError
from lightmem_server.store.protocol import Change
from lightmem_server.store.run_protocol import Cancelled, RunChange, RunRecord, RunState, RunTag
from lightmem_server.types import Kind, Memory, Partition

HOUR_MICROS = 3600 * 1_000_000
MINUTE_MICROS = 60 * 1_000_000

MAX_ERROR_CHARACTERS = 1000

RUN_SELECT = """r.run_id, p.namespace, p.user_id, r.cause, r.state, r.started_at, r.finished_at, r.model, r.prompt,
    r.from_version, r.to_version, r.kept_count, r.rejected, r.error, r.model_tokens, r.model_micros, r.restored_count,
    r.removed_count FROM run r JOIN partition p USING (partition_id)"""

ENDED = "the run was cancelled, or is another worker's now"


def begin(
    connection: apsw.Connection,
    partition: Partition,
    *,
    job_id: int,
    owner: str,
    run_id: uuid.UUID,
    cause: str,
    model: str,
    prompt: str,
    watermark: str,
    now: int,
) -> RunRecord | None:
    """See `RunStore.begin_run`; `run_id` is that of a new run."""
    partition_id, version = _check_job(connection, job_id, owner)
    row: Any = connection.execute(
        "UPDATE run SET owner = ? WHERE partition_id = ? AND state = 'running' RETURNING run_id", (owner, partition_id)
    ).fetchall()
    if row:
        return find(connection, uuid.UUID(bytes=row[0][0]))
    start = read_watermark(connection, partition, watermark)
    news = connection.execute(
        "SELECT 1 FROM memory WHERE partition_id = ? AND changed_version > ? AND kind = ? LIMIT 1",
        (partition_id, start, int(Kind.TURN)),
    ).fetchone()
    if news is None:
        return None
    connection.execute(
        """INSERT INTO run (run_id, partition_id, cause, state, owner, started_at, model, prompt, from_version, to_version)
        VALUES (?, ?, ?, 'running', ?, ?, ?, ?, ?, ?)""",
        (run_id.bytes, partition_id, cause, owner, now, model, prompt, start, version),
    )
    return find(connection, run_id)


def admit(connection: apsw.Connection, change: Change, tag: RunTag, partition_id: int) -> tuple[int, bool]:
    """Check that a change may be made as a part of its run: the run's number, and whether its step was marked before.

    Raises:
        RunEndedError, NotFoundError, InvalidInputError: See `Store.commit`.
    """
    run_no = _at_work(connection, tag.run_id, tag.owner, partition_id)
    step = (run_no, tag.stage, tag.key)
    marked: Any = connection.execute(
        "SELECT is_marked FROM run_step WHERE run_no = ? AND stage = ? AND key = ?", step
    ).get
    if marked:
        return run_no, True
    if change.deletes:
        raise InvalidInputError("deletes", "a run deletes nothing: it could not be undone", reason="RUN_DELETES")
    made = {memory.id for memory in change.puts}
    evidence = {id_ for memory in change.puts for id_ in memory.evidence_ids} - made
    if not _are_there(connection, partition_id, evidence):
        raise NotFoundError("evidence of a derived memory was deleted")
    connection.execute("DELETE FROM run_step WHERE run_no = ? AND stage = ? AND key = ?", step)
    connection.execute("INSERT INTO run_step (run_no, stage, key, data, is_marked) VALUES (?, ?, ?, '', 1)", step)
    return run_no, False


def note_change(connection: apsw.Connection, run_no: int, partition_id: int, memory: Memory, reason: str) -> None:
    """Note that a run makes or changes a record."""
    before = None if memory.version == 1 else memory.version - 1
    connection.execute(
        """INSERT INTO run_change VALUES (?, ?, ?, ?, ?, ?)
        ON CONFLICT (run_no, id) DO UPDATE SET version_after = excluded.version_after""",
        (run_no, partition_id, memory.id.bytes, before, memory.version, reason),
    )


def undo(connection: apsw.Connection, change: Change, partition_id: int) -> bool:
    """Mark the run that a change takes back; false: it was marked before.

    Raises:
        NotFoundError, PreconditionError: See `Store.commit`.
    """
    assert change.undoes is not None, "the caller has looked"
    row: Any = connection.execute(
        "SELECT run_no, state FROM run WHERE run_id = ? AND partition_id = ?", (change.undoes.bytes, partition_id)
    ).fetchone()
    if row is None:
        raise NotFoundError("no such run")
    run_no, state = row
    if state == RunState.UNDONE:
        return False
    if connection.execute("SELECT 1 FROM run WHERE partition_id = ? AND state = 'running'", (partition_id,)).fetchone():
        raise PreconditionError("a run is at work for this user; wait for it, or cancel it", reason="RUN_AT_WORK")
    connection.execute(
        "UPDATE run SET state = ?, restored_count = ?, removed_count = ? WHERE run_no = ?",
        (RunState.UNDONE, len(change.puts), len(change.deletes), run_no),
    )
    return True


def save_step(connection: apsw.Connection, tag: RunTag, data: str, memory_ids: Sequence[uuid.UUID]) -> bool:
    """See `RunStore.save_step`."""
    run_no = _at_work(connection, tag.run_id, tag.owner)
    partition_id: Any = connection.execute("SELECT partition_id FROM run WHERE run_no = ?", (run_no,)).get
    if not _are_there(connection, partition_id, set(memory_ids)):
        return False
    connection.execute(
        "DELETE FROM run_step WHERE run_no = ? AND stage = ? AND key = ?", (run_no, tag.stage, tag.key)
    )  # its sources go with it
    connection.execute(
        "INSERT INTO run_step (run_no, stage, key, data) VALUES (?, ?, ?, ?)", (run_no, tag.stage, tag.key, data)
    )
    step_no = connection.last_insert_rowid()
    connection.executemany(
        "INSERT INTO run_step_source VALUES (?, ?, ?)", [(step_no, partition_id, id_.bytes) for id_ in set(memory_ids)]
    )
    return True


def load_step(connection: apsw.Connection, run_id: uuid.UUID, stage: str, key: str) -> str | None:
    """See `RunStore.load_step`."""
    row = connection.execute(
        "SELECT data FROM run_step JOIN run USING (run_no) WHERE run_id = ? AND stage = ? AND key = ?",
        (run_id.bytes, stage, key),
    ).fetchone()
    return None if row is None else str(row[0])


def forget_record(connection: apsw.Connection, partition_id: int, id_: uuid.UUID) -> None:
    """Drop what runs keep of a deleted record: the steps that may hold its words, and that they changed it."""
    key = (partition_id, id_.bytes)
    connection.execute(
        "DELETE FROM run_step WHERE step_no IN (SELECT step_no FROM run_step_source WHERE partition_id = ? AND id = ?)",
        key,
    )
    connection.execute("DELETE FROM run_change WHERE partition_id = ? AND id = ?", key)


def report(
    connection: apsw.Connection, run_id: uuid.UUID, *, owner: str, kept: int, rejected: Mapping[str, int]
) -> None:
    """See `RunStore.report_run`."""
    run_no = _at_work(connection, run_id, owner)
    counts = json.dumps(dict(rejected), ensure_ascii=False)
    connection.execute("UPDATE run SET kept_count = ?, rejected = ? WHERE run_no = ?", (kept, counts, run_no))


def spend(connection: apsw.Connection, run_id: uuid.UUID, *, micros: int, tokens: int, now: int) -> None:
    """See `RunStore.spend`."""
    row: Any = connection.execute(
        """UPDATE run SET model_micros = model_micros + ?, model_tokens = model_tokens + ? WHERE run_id = ?
        RETURNING (SELECT namespace FROM partition p WHERE p.partition_id = run.partition_id)""",
        (micros, tokens, run_id.bytes),
    ).fetchall()
    if not row:
        raise RunEndedError(ENDED)
    connection.execute("DELETE FROM model_time WHERE minute <= ?", (now - HOUR_MICROS - MINUTE_MICROS,))
    connection.execute(
        "INSERT INTO model_time VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET micros = micros + excluded.micros",
        (row[0][0], now - now % MINUTE_MICROS, micros),
    )


def model_time(connection: apsw.Connection, namespace: str, since: int) -> list[tuple[int, int]]:
    """See `RunStore.model_time`."""
    rows: list[Any] = connection.execute(
        "SELECT minute, micros FROM model_time WHERE namespace = ? AND minute >= ? ORDER BY minute", (namespace, since)
    ).fetchall()
    return rows


def finish(
    connection: apsw.Connection,
    run_id: uuid.UUID,
    *,
    job_id: int,
    owner: str,
    state: RunState,
    error: str,
    watermark: str,
    now: int,
) -> None:
    """See `RunStore.finish_run`."""
    partition_id, _ = _check_job(connection, job_id, owner)
    run_no = _at_work(connection, run_id, owner)
    if state is RunState.DONE:
        to_version: Any = connection.execute("SELECT to_version FROM run WHERE run_no = ?", (run_no,)).get
        set_watermarks(connection, partition_id, {watermark: to_version})
    _end(connection, partition_id, state, error, now)
    connection.execute("DELETE FROM job WHERE job_id = ?", (job_id,))


def fail(connection: apsw.Connection, partition_id: int, *, error: str, now: int) -> None:
    """End the run of a job that was set aside, if there is one."""
    _end(connection, partition_id, RunState.FAILED, error, now)


def cancel(connection: apsw.Connection, partition: Partition, kind: str, *, now: int) -> Cancelled:
    """See `RunStore.cancel_run`."""
    found: Any = connection.execute(
        "SELECT partition_id FROM partition WHERE namespace = ? AND user_id = ?",
        (partition.namespace, partition.user_id),
    ).get
    if found is None:
        return Cancelled(0, None)
    connection.execute("DELETE FROM job WHERE partition_id = ? AND kind = ?", (found, kind))
    return Cancelled(connection.changes(), _end(connection, found, RunState.CANCELLED, "", now))


def find(connection: apsw.Connection, run_id: uuid.UUID) -> RunRecord | None:
    """See `RunStore.find_run`."""
    row = connection.execute(f"SELECT {RUN_SELECT} WHERE r.run_id = ?", (run_id.bytes,)).fetchone()
    return None if row is None else to_run(row)


def list_of(connection: apsw.Connection, partition: Partition, limit: int) -> list[RunRecord]:
    """See `RunStore.list_runs`."""
    rows = connection.execute(
        f"SELECT {RUN_SELECT} WHERE p.namespace = ? AND p.user_id = ? ORDER BY r.run_no DESC LIMIT ?",
        (partition.namespace, partition.user_id, limit),
    ).fetchall()
    return [to_run(row) for row in rows]


def changes_of(connection: apsw.Connection, run_id: uuid.UUID) -> list[RunChange]:
    """See `RunStore.run_changes`."""
    rows: list[Any] = connection.execute(
        """SELECT c.id, c.version_before, c.version_after, c.reason FROM run_change c JOIN run USING (run_no)
        WHERE run_id = ? ORDER BY c.rowid""",
        (run_id.bytes,),
    ).fetchall()
    return [RunChange(uuid.UUID(bytes=id_), before, after, reason) for id_, before, after, reason in rows]


def read_watermark(connection: apsw.Connection, partition: Partition, name: str) -> int:
    """See `RunStore.watermark`."""
    version: Any = connection.execute(
        """SELECT w.version FROM watermark w JOIN partition USING (partition_id)
        WHERE namespace = ? AND user_id = ? AND name = ?""",
        (partition.namespace, partition.user_id, name),
    ).get
    return version or 0


def set_watermarks(connection: apsw.Connection, partition_id: int, watermarks: Mapping[str, int]) -> None:
    """Raise watermarks; one that is higher stays."""
    connection.executemany(
        """INSERT INTO watermark VALUES (?, ?, ?)
        ON CONFLICT (partition_id, name) DO UPDATE SET version = max(version, excluded.version)""",
        [(partition_id, name, version) for name, version in watermarks.items()],
    )


def _check_job(connection: apsw.Connection, job_id: int, owner: str) -> tuple[int, int]:
    """partition_id and version of a job that its owner holds."""
    row: tuple[int, int] | None = connection.execute(
        "SELECT partition_id, version FROM job JOIN partition USING (partition_id) WHERE job_id = ? AND lease_owner = ?",
        (job_id, owner),
    ).fetchone()
    if row is None:
        raise RunEndedError(ENDED)
    return row


def _at_work(connection: apsw.Connection, run_id: uuid.UUID, owner: str, partition_id: int | None = None) -> int:
    """The number of a run that is at work for this owner."""
    run_no: Any = connection.execute(
        """SELECT run_no FROM run WHERE run_id = ? AND state = 'running' AND owner = ?
        AND partition_id = coalesce(?, partition_id)""",
        (run_id.bytes, owner, partition_id),
    ).get
    if run_no is None:
        raise RunEndedError(ENDED)
    return int(run_no)


def _end(connection: apsw.Connection, partition_id: int, state: RunState, error: str, now: int) -> uuid.UUID | None:
    row: Any = connection.execute(
        """UPDATE run SET state = ?, error = ?, finished_at = ? WHERE partition_id = ? AND state = 'running'
        RETURNING run_no, run_id""",
        (state, error[:MAX_ERROR_CHARACTERS], now, partition_id),
    ).fetchall()
    if not row:
        return None
    connection.execute("DELETE FROM run_step WHERE run_no = ?", (row[0][0],))
    return uuid.UUID(bytes=row[0][1])


def _are_there(connection: apsw.Connection, partition_id: int, ids: Iterable[uuid.UUID]) -> bool:
    wanted = [id_.hex for id_ in ids]
    found: Any = connection.execute(
        "SELECT count(*) FROM memory WHERE partition_id = ? AND id IN (SELECT unhex(value) FROM json_each(?))",
        (partition_id, json.dumps(wanted)),
    ).get
    return bool(found == len(wanted))


def to_run(row: tuple[Any, ...]) -> RunRecord:
    """A run from the columns of RUN_SELECT."""
    run_id, namespace, user_id, cause, state, *times, model, prompt = row[:9]
    started_at, finished_at = times
    from_version, to_version, kept, rejected, error, *counts = row[9:]
    return RunRecord(
        uuid.UUID(bytes=run_id),
        Partition(namespace, user_id),
        cause,
        RunState(state),
        started_at,
        finished_at,
        model,
        prompt,
        from_version,
        to_version,
        kept,
        json.loads(rejected),
        error,
        *counts,
    )
