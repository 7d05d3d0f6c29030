"""What is read from the tables of SQLite. Runs in a reading thread; each function sees one moment of the database."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import apsw

from lightmem_server.errors import InvalidInputError
from lightmem_server.store.metadata import matches
from lightmem_server.store.protocol import MAX_GET, Changes, CommitResult, KeyRecord, Page, Stats
from lightmem_server.store.rows import MEMORY_SELECT, VECTOR_SELECT, to_key, to_memory, to_stored_row
from lightmem_server.store.sqlite_write import find_request as find_request_in
from lightmem_server.types import SHARED_USER, Kind, Memory, MemoryFilter, Partition, State, Tier

FROM_MEMORY = "FROM memory m LEFT JOIN access a USING (memory_no)"
FROM_STORED = f"{FROM_MEMORY} LEFT JOIN vector v USING (memory_no) LEFT JOIN model o USING (model_no)"


@contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """Let several statements see the same moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # Not COMMIT: nothing was written, and ROLLBACK works after every error.
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def find_request(
    connection: apsw.Connection, partition: Partition, request_id: str, request_digest: bytes
) -> CommitResult | None:
    """See `Store.find_request`."""
    with snapshot(connection):
        found = _find_partition(connection, partition)
        if found is None:
            return None
        partition_id, version, _ = found
        return find_request_in(connection, partition_id, version, request_id, request_digest)


def get(connection: apsw.Connection, partition: Partition, ids: Sequence[uuid.UUID]) -> list[Memory | None]:
    """See `Store.get`.

    Raises:
        InvalidInputError: More than MAX_GET ids.
    """
    if len(ids) > MAX_GET:
        raise InvalidInputError("ids", f"are more than {MAX_GET}", reason="TOO_MANY")
    # One statement for all: a statement each takes twice as long.
    cursor = connection.execute(
        f"""SELECT {MEMORY_SELECT} {FROM_MEMORY} WHERE m.partition_id =
            (SELECT p.partition_id FROM partition p WHERE p.namespace = ? AND p.user_id = ?)
        AND m.id IN (SELECT unhex(value) FROM json_each(?))""",  # noqa: S608
        (partition.namespace, partition.user_id, json.dumps([id_.hex for id_ in ids])),
    )
    found = {memory.id: memory for memory in map(to_memory, cursor)}
    return [found.get(id_) for id_ in ids]


def find_followers(connection: apsw.Connection, partition: Partition, memory_id: uuid.UUID) -> list[Memory]:
    """See `Store.find_followers`."""
    rows = connection.execute(
        f"""SELECT {MEMORY_SELECT} {FROM_MEMORY} JOIN partition p USING (partition_id)
        WHERE p.namespace = ? AND p.user_id = ? AND m.previous_id = ? ORDER BY m.order_no""",
        (partition.namespace, partition.user_id, memory_id.bytes),
    ).fetchall()
    return [to_memory(row) for row in rows]


def find_dependents(connection: apsw.Connection, partition: Partition, memory_id: uuid.UUID) -> list[Memory]:
    """See `Store.find_dependents`. Reads what a partition has beside turns, which is little."""
    rows = connection.execute(
        f"""SELECT {MEMORY_SELECT} {FROM_MEMORY} JOIN partition p USING (partition_id)
        WHERE p.namespace = ? AND p.user_id = ? AND m.kind <> ? AND instr(m.body, ?) ORDER BY m.order_no""",
        (partition.namespace, partition.user_id, int(Kind.TURN), memory_id.hex),
    ).fetchall()
    found = [to_memory(row) for row in rows]  # a text may hold the digits, too
    return [memory for memory in found if memory_id in (*memory.evidence_ids, *memory.supersedes_ids)]


def list_page(
    connection: apsw.Connection,
    partition: Partition,
    record_filter: MemoryFilter,
    *,
    limit: int,
    before_order: int | None,
    now: int,
) -> Page:
    """See `Store.list_page`."""
    condition, bindings = _to_condition(record_filter, now)
    page: list[Memory] = []
    last_order = 0
    with snapshot(connection):
        found = _find_partition(connection, partition)
        if found is None:
            return Page((), None)
        bindings["partition_id"] = found[0]
        if before_order is not None:
            condition += " AND m.order_no < :before_order"
            bindings["before_order"] = before_order
        cursor = connection.execute(
            f"""SELECT m.order_no, {MEMORY_SELECT} {FROM_MEMORY}
            WHERE m.partition_id = :partition_id AND {condition} ORDER BY m.order_no DESC""",
            bindings,
        )
        for order_no, *columns in cursor:
            memory = to_memory(tuple(columns))
            if record_filter.metadata is not None and not matches(record_filter.metadata, memory.metadata):
                continue
            if len(page) == limit:
                cursor.close()
                return Page(page, last_order)
            page.append(memory)
            last_order = order_no
    return Page(page, None)


def is_at(connection: apsw.Connection, partition: Partition, version: int) -> bool:
    """Whether a partition is at this version: one look-up in one index."""
    found = _find_partition(connection, partition)
    return found is not None and found[1] == version


def changes_since(connection: apsw.Connection, partition: Partition, version: int | None) -> Changes:
    """See `Store.changes_since`. When nothing changed this is one look-up in one index."""
    found = _find_partition(connection, partition)
    if found is None:
        return Changes(0, is_full=version != 0, rows=(), removed_ids=())
    if found[1] == version:
        return Changes(version, is_full=False, rows=(), removed_ids=())
    with snapshot(connection):
        found = _find_partition(connection, partition)
        if found is None:  # erased since
            return Changes(0, is_full=True, rows=(), removed_ids=())
        partition_id, current, purge_floor = found
        # A replica ahead of the store has seen what a restored backup has not.
        is_full = version is None or version < purge_floor or version > current
        columns = f"SELECT m.order_no, {MEMORY_SELECT}, {VECTOR_SELECT} {FROM_STORED} WHERE m.partition_id = ?"
        if is_full:
            # Without a condition on changed_version the rows come in the order of an index and need no sorting.
            cursor = connection.execute(f"{columns} ORDER BY m.order_no", (partition_id,))
            return Changes(current, is_full=True, rows=[to_stored_row(row) for row in cursor], removed_ids=())
        since = (partition_id, version)
        cursor = connection.execute(f"{columns} AND m.changed_version > ? ORDER BY m.order_no", since)
        rows = [to_stored_row(row) for row in cursor]
        cursor = connection.execute("SELECT id FROM tombstone WHERE partition_id = ? AND deleted_version > ?", since)
        return Changes(current, is_full=False, rows=rows, removed_ids=[uuid.UUID(bytes=row[0]) for row in cursor])


def stats(connection: apsw.Connection, namespace: str, user_id: str | None) -> Stats:
    """See `Store.stats`."""
    names = {"namespace": namespace, "user_id": user_id}
    scope = "p.namespace = :namespace" + ("" if user_id is None else " AND p.user_id = :user_id")
    with snapshot(connection):
        user_count = connection.execute(
            f"SELECT count(*) FROM partition p WHERE {scope} AND p.user_id <> '{SHARED_USER}'",  # noqa: S608
            names,
        ).get
        groups: list[Any] = connection.execute(
            f"""SELECT m.tier, m.kind, m.state, count(*) FROM partition p JOIN memory m USING (partition_id)
            WHERE {scope} AND p.user_id <> '{SHARED_USER}' GROUP BY m.tier, m.kind, m.state""",  # noqa: S608
            names,
        ).fetchall()
        shared_count: Any = connection.execute(
            f"SELECT count(*) FROM partition p JOIN shared_fact ON shared_id = partition_id WHERE {scope}",  # noqa: S608
            names,
        ).get
        jobs: list[Any] = connection.execute(
            f"SELECT count(*), count(dead_at) FROM partition p JOIN job USING (partition_id) WHERE {scope}",  # noqa: S608
            names,
        ).fetchall()
        size_bytes = int(connection.pragma("page_count")) * int(connection.pragma("page_size"))
    counts: dict[tuple[Tier, Kind], tuple[int, int]] = {}
    for tier, kind, state, count in groups:
        active, archived = counts.get((Tier(tier), Kind(kind)), (0, 0))
        is_active = State(state) is State.ACTIVE
        counts[Tier(tier), Kind(kind)] = (active + count, archived) if is_active else (active, archived + count)
    return Stats(
        user_count=user_count,
        counts=counts,
        pending_job_count=jobs[0][0] - jobs[0][1],
        dead_job_count=jobs[0][1],
        size_bytes=size_bytes,
        shared_fact_count=shared_count,
    )


def find_key(connection: apsw.Connection, key_id: str) -> KeyRecord | None:
    """See `Store.find_key`."""
    row = connection.execute("SELECT * FROM api_key WHERE key_id = ?", (key_id,)).fetchone()
    return to_key(row) if row is not None else None


def list_keys(connection: apsw.Connection, namespace: str, limit: int, after_key_id: str) -> list[KeyRecord]:
    """See `Store.list_keys`."""
    rows = connection.execute(
        "SELECT * FROM api_key WHERE namespace = ? AND key_id > ? ORDER BY key_id LIMIT ?",
        (namespace, after_key_id, limit),
    ).fetchall()
    return [to_key(row) for row in rows]


def embedding_models(connection: apsw.Connection) -> dict[str, int]:
    """See `Store.embedding_models`."""
    rows: list[Any] = connection.execute(
        "SELECT identity, count(*) FROM vector JOIN model USING (model_no) GROUP BY model_no"
    ).fetchall()
    return dict(rows)


def check(connection: apsw.Connection) -> list[str]:
    """See `Store.check`."""
    try:
        with snapshot(connection):
            findings: list[Any] = connection.execute("PRAGMA quick_check").fetchall()
            if findings != [("ok",)]:
                return [str(finding) for (finding,) in findings]
            broken = connection.execute("PRAGMA foreign_key_check").fetchall()
            ahead = connection.execute(
                """SELECT namespace, user_id FROM partition p WHERE version <
                (SELECT max(changed_version) FROM memory m WHERE m.partition_id = p.partition_id)"""
            ).fetchall()
    except (apsw.CorruptError, apsw.NotADBError) as error:
        return [str(error)]
    return [
        *(f"row {rowid} of {table} refers to a missing row of {parent}" for table, rowid, parent, _ in broken),
        *(f"partition {namespace}/{user_id} has records newer than its version" for namespace, user_id in ahead),
    ]


def _find_partition(connection: apsw.Connection, partition: Partition) -> tuple[int, int, int] | None:
    """partition_id, version, purge_floor."""
    row: tuple[int, int, int] | None = connection.execute(
        "SELECT partition_id, version, purge_floor FROM partition WHERE namespace = ? AND user_id = ?",
        (partition.namespace, partition.user_id),
    ).fetchone()
    return row


def _to_condition(record_filter: MemoryFilter, now: int) -> tuple[str, dict[str, Any]]:
    """The filter, but for metadata, as SQL with named bindings."""
    conditions = [
        "(m.valid_from IS NULL OR m.valid_from <= :valid_at)",
        "(m.valid_to IS NULL OR m.valid_to > :valid_at)",
    ]
    bindings: dict[str, Any] = {"valid_at": now if record_filter.as_of is None else record_filter.as_of}
    lists: list[tuple[str, frozenset[Any]]] = [
        ("tier", record_filter.tiers),
        ("kind", record_filter.kinds),
        ("session_id", record_filter.session_ids),
        ("agent_id", record_filter.agent_ids),
    ]
    for column, values in lists:
        if values:
            conditions.append(f"m.{column} IN (SELECT value FROM json_each(:{column}))")  # noqa: S608
            bindings[column] = json.dumps(sorted(values), ensure_ascii=False)
    if record_filter.occurred_from is not None:
        conditions.append("m.occurred_at >= :occurred_from")
        bindings["occurred_from"] = record_filter.occurred_from
    if record_filter.occurred_to is not None:
        conditions.append("m.occurred_at < :occurred_to")
        bindings["occurred_to"] = record_filter.occurred_to
    if not record_filter.include_archived:
        conditions.append(f"m.state = {State.ACTIVE:d}")
    return " AND ".join(conditions), bindings
