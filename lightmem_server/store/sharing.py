"""Shared facts in SQLite: offers of support, and what comes of them. What writes runs in the writing thread, in a savepoint.

offer ─▶ support ─enough users─▶ share ─▶ shared_fact, memory of '*'
           └── every commit that touches a supporting fact: support.py
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Sequence
from typing import Any

import apsw

from lightmem_server.store import sqlite_write
from lightmem_server.store.protocol import Change, VectorRecord
from lightmem_server.store.rows import MEMORY_SELECT, to_memory
from lightmem_server.store.sharing_protocol import Names, Offer, SharedFact
from lightmem_server.store.support import can_support, count_users, remove, settle
from lightmem_server.types import SHARED_USER, Kind, Partition

SHARE = "share"
"""Reason of what is shared."""


def offer(connection: apsw.Connection, partition: Partition, offers: Sequence[Offer], *, min_users: int) -> list[bytes]:
    """See `SharingStore.offer`."""
    partition_id = _find(connection, partition)
    if partition_id is None:
        return []
    shared_id = _shared(connection, partition.namespace)
    held = {each.fact_id.bytes: each.key for each in offers if _holds(connection, partition_id, each)}
    rows: list[Any] = connection.execute(
        "SELECT fact_id, key FROM support WHERE partition_id = ?", (partition_id,)
    ).fetchall()
    before = dict(rows)
    gone = {fact_id: key for fact_id, key in before.items() if held.get(fact_id) != key}
    connection.executemany(
        "DELETE FROM support WHERE partition_id = ? AND fact_id = ?", [(partition_id, fact_id) for fact_id in gone]
    )
    connection.executemany(
        "INSERT INTO support VALUES (?, ?, ?, ?)",
        [(partition_id, fact_id, shared_id, key) for fact_id, key in held.items() if before.get(fact_id) != key],
    )
    for key in set(gone.values()):
        settle(connection, shared_id, key)
    return [key for key in dict.fromkeys(held.values()) if _is_due(connection, shared_id, key, min_users)]


def share(connection: apsw.Connection, namespace: str, facts: Sequence[SharedFact], *, min_users: int, now: int) -> int:
    """See `SharingStore.share`."""
    shared_id = _shared(connection, namespace)
    due = {fact.key: fact for fact in facts if _is_due(connection, shared_id, fact.key, min_users)}
    if not due:
        return 0
    change = Change(
        Partition(namespace, SHARED_USER),
        puts=[fact.memory for fact in due.values()],
        vectors=[VectorRecord(fact.memory.id, fact.model, fact.vectors) for fact in due.values()],
        reason=SHARE,
    )
    sqlite_write.apply_change(connection, change, now=now)
    connection.executemany(
        "INSERT INTO shared_fact VALUES (?, ?, ?, ?)",
        [(shared_id, fact.key, fact.memory.id.bytes, min_users) for fact in due.values()],
    )
    return len(due)


def retract(connection: apsw.Connection, namespace: str, memory_ids: Sequence[uuid.UUID]) -> int:
    """See `SharingStore.retract`."""
    shared_id = _shared(connection, namespace)
    count = 0
    for id_ in memory_ids:
        key: Any = connection.execute(
            "SELECT key FROM shared_fact WHERE shared_id = ? AND id = ?", (shared_id, id_.bytes)
        ).get
        if key is not None:
            connection.execute("DELETE FROM support WHERE shared_id = ? AND key = ?", (shared_id, key))
            remove(connection, shared_id, id_.bytes)
            count += 1
    return count


def require_support(connection: apsw.Connection, min_users: int) -> int:
    """See `SharingStore.require_support`."""
    connection.execute("UPDATE shared_fact SET min_users = ? WHERE min_users <> ?", (min_users, min_users))
    rows: list[Any] = connection.execute("SELECT shared_id, key FROM shared_fact").fetchall()
    return sum(settle(connection, shared_id, key) for shared_id, key in rows)


def names(connection: apsw.Connection, namespace: str, relations: Collection[str]) -> Names:
    """See `SharingStore.names`."""
    users = "FROM partition p JOIN memory m USING (partition_id) WHERE p.namespace = ? AND p.user_id <> ?"
    binding = (namespace, SHARED_USER)
    found: set[Any] = set()
    queries = (
        "SELECT user_id FROM partition WHERE namespace = ? AND user_id <> ?",
        f"SELECT DISTINCT m.agent_id, m.body ->> '$.speaker' {users}",
        f"SELECT DISTINCT value FROM (SELECT m.body {users} AND m.kind = {Kind.SUMMARY:d}), "  # noqa: S608
        "json_each(body, '$.participants')",
        f"SELECT DISTINCT m.body ->> '$.statement[0]' {users} AND m.kind IN ({Kind.FACT:d}, {Kind.PROFILE:d})",
    )
    for query in queries:
        for row in connection.execute(query, binding):
            found.update(row)
    objects = connection.execute(
        f"""SELECT DISTINCT m.body ->> '$.statement[2]' {users} AND m.kind = {Kind.FACT:d}
        AND m.body ->> '$.statement[1]' IN (SELECT value FROM json_each(?))""",  # noqa: S608
        (*binding, json.dumps(sorted(relations))),
    )
    return Names(frozenset(found - {"", None}), frozenset(str(said) for (said,) in objects))


def _is_due(connection: apsw.Connection, shared_id: int, key: bytes, min_users: int) -> bool:
    """Whether enough users support a key, and it is not shared yet."""
    is_shared = connection.execute(
        "SELECT 1 FROM shared_fact WHERE shared_id = ? AND key = ?", (shared_id, key)
    ).fetchone()
    return is_shared is None and count_users(connection, shared_id, key) >= min_users


def _holds(connection: apsw.Connection, partition_id: int, offered: Offer) -> bool:
    row = connection.execute(
        f"""SELECT {MEMORY_SELECT} FROM memory m LEFT JOIN access a USING (memory_no)
        WHERE m.partition_id = ? AND m.id = ? AND m.record_version = ? AND m.kind = ?""",  # noqa: S608
        (partition_id, offered.fact_id.bytes, offered.version, int(Kind.FACT)),
    ).fetchone()
    return row is not None and can_support(to_memory(row))


def _find(connection: apsw.Connection, partition: Partition) -> int | None:
    found: Any = connection.execute(
        "SELECT partition_id FROM partition WHERE namespace = ? AND user_id = ?",
        (partition.namespace, partition.user_id),
    ).get
    return None if found is None else int(found)


def _shared(connection: apsw.Connection, namespace: str) -> int:
    """The number of a namespace's shared partition; before the first fact it is at version 0, as one that isn't there."""
    partition = Partition(namespace, SHARED_USER)
    found = _find(connection, partition)
    if found is not None:
        return found
    connection.execute("INSERT INTO partition (namespace, user_id, version) VALUES (?, ?, 0)", (namespace, SHARED_USER))
    return int(connection.last_insert_rowid())
