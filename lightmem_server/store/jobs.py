"""The durable jobs of SQLite: who works on what, and until when. Runs in the writing thread, inside a savepoint.

    enqueue ─▶ waiting ─claim─▶ leased ─finish─▶ gone
                  ▲               │ ├─ extend: leased for longer
                  └──── fail ─────┘ └─ lapsed ─claim─▶ leased by another

At least once, and one leased job of a partition at a time. A job that fails waits twice as long each time, and is never
given up: it is work that must not be forgotten.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import apsw

from lightmem_server.store.protocol import ClaimedJob, JobRecord
from lightmem_server.types import Partition

FIRST_BACKOFF_MICROS = 5 * 1_000_000
LAST_BACKOFF_MICROS = 3600 * 1_000_000

MAX_ERROR_CHARACTERS = 1000
"""Kept of a failure, for whoever asks why a job does not end."""

LAPSED = "j.lease_owner IS NOT NULL AND j.lease_until <= :now"
DUE = "j.lease_owner IS NULL AND j.not_before <= :now"


def enqueue(connection: apsw.Connection, partition_id: int, job: JobRecord) -> None:
    """Let a job wait. Merged into a waiting one, the newer payload and the earlier time hold; one that waits after a
    failure keeps its time, or new work would undo its backoff."""
    connection.execute(
        """INSERT INTO job (partition_id, kind, key, payload, not_before) VALUES (?, ?, ?, ?, ?)
        ON CONFLICT (partition_id, kind, key) WHERE lease_owner IS NULL DO UPDATE SET payload = excluded.payload,
            not_before = iif(attempts > 0, not_before, min(not_before, excluded.not_before))""",
        (partition_id, job.kind, job.key, job.payload, job.not_before),
    )


def claim(
    connection: apsw.Connection, kinds: Sequence[str], *, owner: str, lease_micros: int, now: int
) -> ClaimedJob | None:
    """See `JobQueue.claim_job`."""
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


def fail(connection: apsw.Connection, job_id: int, *, owner: str, error: str, now: int) -> bool:
    """See `JobQueue.fail_job`."""
    row = connection.execute(
        "SELECT partition_id, kind, key, attempts FROM job WHERE job_id = ? AND lease_owner = ?", (job_id, owner)
    ).fetchone()
    if row is None:
        return False
    *target, attempts = row
    outcome = (attempts, now + backoff_micros(attempts), error[:MAX_ERROR_CHARACTERS])
    connection.execute(
        """UPDATE job SET attempts = max(attempts, ?), not_before = max(not_before, ?), last_error = ?
        WHERE partition_id = ? AND kind = ? AND key = ? AND lease_owner IS NULL""",
        (*outcome, *target),
    )
    if connection.changes() == 1:
        connection.execute("DELETE FROM job WHERE job_id = ?", (job_id,))
        return True
    connection.execute(
        """UPDATE job SET lease_owner = NULL, lease_until = NULL, attempts = ?, not_before = ?, last_error = ?
        WHERE job_id = ?""",
        (*outcome, job_id),
    )
    return True


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
