"""The durable jobs of SQLite: who works on what, and until when. Runs in the writing thread, inside a savepoint.

    enqueue ─▶ waiting ─claim─▶ leased ─finish─▶ gone
                ▲ ▲               │ ├─ extend: leased for longer
                │ └ fail, release ┘ ├─ lapsed ─claim─▶ leased by another
                └─ revive ── dead ◀─┘

At least once, and one leased job of a partition at a time. A job that fails waits twice as long each time. It is never
forgotten: one that failed too often is set aside (dead), seen in the figures, and tried again when somebody asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import apsw

from lightmem_server.store import runs
from lightmem_server.store.protocol import ClaimedJob, DeadJob, JobRecord
from lightmem_server.types import Kind, Partition

FIRST_BACKOFF_MICROS = 5 * 1_000_000
LAST_BACKOFF_MICROS = 3600 * 1_000_000

MAX_ERROR_CHARACTERS = 1000
"""Kept of a failure, for whoever asks why a job does not end."""

LAPSED = "j.lease_owner IS NOT NULL AND j.lease_until <= :now"
DUE = "j.lease_owner IS NULL AND j.dead_at IS NULL AND j.not_before <= :now"

LAPSED_TOO_OFTEN = "its worker ended without a word each time"


def enqueue(connection: apsw.Connection, partition_id: int, job: JobRecord) -> None:
    """Let a job wait. Merged into a waiting one, the newer payload and the earlier time hold, or the newer one's if it
    postpones; one that waits after a failure keeps its time, or new work would undo its backoff."""
    if job.revives:
        connection.execute(
            "UPDATE job SET dead_at = NULL, attempts = 0 WHERE partition_id = ? AND kind = ? AND lease_owner IS NULL",
            (partition_id, job.kind),
        )
    time = "excluded.not_before" if job.postpones else "min(not_before, excluded.not_before)"
    connection.execute(
        f"""INSERT INTO job (partition_id, kind, key, payload, not_before) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (partition_id, kind, key) WHERE lease_owner IS NULL DO UPDATE SET payload = excluded.payload,
            not_before = iif(attempts > 0, not_before, {time})""",  # noqa: S608
        (partition_id, job.kind, job.key, job.payload, job.not_before),
    )


def claim(
    connection: apsw.Connection,
    kinds: Sequence[str],
    *,
    owner: str,
    lease_micros: int,
    now: int,
    most_attempts: int | None,
) -> ClaimedJob | None:
    """See `JobQueue.claim_job`."""
    if most_attempts is not None:
        _set_lapsed_aside(connection, kinds, now, most_attempts)
    names = {"kinds": json.dumps(list(kinds), ensure_ascii=False), "now": now}
    for condition, due_at in ((LAPSED, "lease_until"), (DUE, "not_before")):
        found = connection.execute(
            f"""SELECT j.job_id FROM job j WHERE j.kind IN (SELECT value FROM json_each(:kinds)) AND {condition}
            AND NOT EXISTS (SELECT 1 FROM job l WHERE l.partition_id = j.partition_id
                AND l.lease_owner IS NOT NULL AND l.lease_until > :now)
            ORDER BY j.{due_at}, j.job_id LIMIT 1""",  # noqa: S608
            names,
        ).fetchone()
        if found is not None:
            return _lease(connection, found[0], owner, now + lease_micros)
    return None


def lapse_all(connection: apsw.Connection) -> None:
    """End every lease: whoever opens the store alone knows that their owners are no more."""
    connection.execute("UPDATE job SET lease_until = 0 WHERE lease_owner IS NOT NULL")


def extend(connection: apsw.Connection, job_id: int, *, owner: str, lease_micros: int, now: int) -> bool:
    """See `JobQueue.extend_job`."""
    connection.execute(
        "UPDATE job SET lease_until = ? WHERE job_id = ? AND lease_owner = ?", (now + lease_micros, job_id, owner)
    )
    return connection.changes() == 1


def finish(connection: apsw.Connection, job_id: int, *, owner: str) -> bool:
    """See `JobQueue.finish_job`."""
    connection.execute("DELETE FROM job WHERE job_id = ? AND lease_owner = ?", (job_id, owner))
    return connection.changes() == 1


def fail(
    connection: apsw.Connection, job_id: int, *, owner: str, error: str, now: int, most_attempts: int | None
) -> bool:
    """See `JobQueue.fail_job`."""
    attempts = _find_attempts(connection, job_id, owner)
    if attempts is None:
        return False
    dead_at = now if most_attempts is not None and attempts >= most_attempts else None
    _wait_again(connection, job_id, attempts, now + backoff_micros(attempts), error, dead_at)
    return True


def release(connection: apsw.Connection, job_id: int, *, owner: str, not_before: int) -> bool:
    """See `JobQueue.release_job`."""
    attempts = _find_attempts(connection, job_id, owner)
    if attempts is None:
        return False
    _wait_again(connection, job_id, attempts - 1, not_before, "", None)
    return True


def next_at(connection: apsw.Connection, kinds: Sequence[str]) -> int | None:
    """See `JobQueue.next_job_at`."""
    at: Any = connection.execute(
        """SELECT min(iif(lease_owner IS NULL, not_before, lease_until)) FROM job
        WHERE dead_at IS NULL AND kind IN (SELECT value FROM json_each(?))""",
        (json.dumps(list(kinds), ensure_ascii=False),),
    ).get
    return None if at is None else int(at)


def enqueue_behind(connection: apsw.Connection, job: JobRecord, watermark: str) -> int:
    """See `JobQueue.enqueue_behind`."""
    rows: list[Any] = connection.execute(
        """SELECT p.partition_id FROM partition p LEFT JOIN watermark w
            ON w.partition_id = p.partition_id AND w.name = ?
        WHERE EXISTS (SELECT 1 FROM memory m WHERE m.partition_id = p.partition_id
            AND m.changed_version > coalesce(w.version, 0) AND m.kind = ?)""",
        (watermark, int(Kind.TURN)),
    ).fetchall()
    for (partition_id,) in rows:
        enqueue(connection, partition_id, job)
    return len(rows)


def list_dead(connection: apsw.Connection, namespace: str, user_id: str | None, limit: int) -> list[DeadJob]:
    """See `JobQueue.list_dead_jobs`."""
    rows: list[Any] = connection.execute(
        """SELECT user_id, kind, attempts, last_error, dead_at FROM job JOIN partition USING (partition_id)
        WHERE namespace = ?1 AND (?2 IS NULL OR user_id = ?2) AND dead_at IS NOT NULL
        ORDER BY dead_at DESC, job_id DESC LIMIT ?3""",
        (namespace, user_id, limit),
    ).fetchall()
    return [DeadJob(Partition(namespace, user), *rest) for user, *rest in rows]


def backoff_micros(attempts: int) -> int:
    """How long a job waits after its n-th failure.

    >>> [backoff_micros(attempts) // 1_000_000 for attempts in (1, 2, 3, 100)]
    [5, 10, 20, 3600]
    """
    return min(LAST_BACKOFF_MICROS, FIRST_BACKOFF_MICROS << min(attempts - 1, 32))


def _lease(connection: apsw.Connection, job_id: int, owner: str, lease_until: int) -> ClaimedJob:
    connection.execute(
        "UPDATE job SET lease_owner = ?, lease_until = ?, attempts = attempts + 1 WHERE job_id = ?",
        (owner, lease_until, job_id),
    )
    row: tuple[str, str, str, str, str, int] | None = connection.execute(
        """SELECT namespace, user_id, kind, key, payload, attempts FROM job JOIN partition USING (partition_id)
        WHERE job_id = ?""",
        (job_id,),
    ).fetchone()
    assert row is not None, "it was just updated"
    namespace, user_id, kind, key, payload, attempt = row
    return ClaimedJob(job_id, Partition(namespace, user_id), kind, key, payload, attempt, lease_until)


def _find_attempts(connection: apsw.Connection, job_id: int, owner: str) -> int | None:
    row = connection.execute(
        "SELECT attempts FROM job WHERE job_id = ? AND lease_owner = ?", (job_id, owner)
    ).fetchone()
    return None if row is None else int(row[0])


def _wait_again(
    connection: apsw.Connection, job_id: int, attempts: int, not_before: int, error: str, dead_at: int | None
) -> None:
    """Let a leased job wait, or set it aside; where one of its kind and key waits, it becomes that one."""
    rows: list[Any] = connection.execute(
        "SELECT partition_id, kind, key, last_error FROM job WHERE job_id = ?", (job_id,)
    ).fetchall()
    partition_id, kind, key, last_error = rows[0]
    error = error[:MAX_ERROR_CHARACTERS] or last_error
    connection.execute(
        """UPDATE job SET attempts = max(attempts, ?), not_before = max(not_before, ?), last_error = ?, dead_at = ?
        WHERE partition_id = ? AND kind = ? AND key = ? AND lease_owner IS NULL""",
        (attempts, not_before, error, dead_at, partition_id, kind, key),
    )
    if connection.changes() == 1:
        connection.execute("DELETE FROM job WHERE job_id = ?", (job_id,))
    else:
        connection.execute(
            """UPDATE job SET lease_owner = NULL, lease_until = NULL, attempts = ?, not_before = ?, last_error = ?,
                dead_at = ? WHERE job_id = ?""",
            (attempts, not_before, error, dead_at, job_id),
        )
    if dead_at is not None:
        runs.fail(connection, partition_id, error=error, now=dead_at)


def _set_lapsed_aside(connection: apsw.Connection, kinds: Sequence[str], now: int, most_attempts: int) -> None:
    rows: list[Any] = connection.execute(
        f"""SELECT job_id, attempts FROM job j WHERE {LAPSED} AND attempts >= :most
        AND kind IN (SELECT value FROM json_each(:kinds))""",  # noqa: S608
        {"now": now, "most": most_attempts, "kinds": json.dumps(list(kinds), ensure_ascii=False)},
    ).fetchall()
    for job_id, attempts in rows:
        _wait_again(connection, job_id, attempts, now, LAPSED_TOO_OFTEN, now)
