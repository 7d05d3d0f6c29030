"""Withdraws support from shared facts in SQLite, with whatever changes the facts that gave it. Runs in the writing thread,
inside the savepoint of that change.

    a user's fact goes, or holds no longer ─▶ its support goes ─▶ too few users left: the shared fact goes, its bytes too
"""

from __future__ import annotations

import uuid
from typing import Any

import apsw

from lightmem_server.store import snapshots
from lightmem_server.types import Memory, State, Statement


def can_support(fact: Memory) -> bool:
    """Whether a fact may count: it is in search, and nothing ends it."""
    return fact.state is State.ACTIVE and fact.valid_to is None and fact.expires_at is None


def review(connection: apsw.Connection, partition_id: int, fact: Memory, said_before: Statement | None) -> None:
    """Withdraw the support of a changed fact, unless it says what it said, and still holds."""
    if fact.statement != said_before or not can_support(fact):
        withdraw(connection, partition_id, fact.id)


def withdraw(connection: apsw.Connection, partition_id: int, fact_id: uuid.UUID) -> None:
    """Withdraw the support of one fact, if it gives any."""
    lost: list[Any] = connection.execute(
        "DELETE FROM support WHERE partition_id = ? AND fact_id = ? RETURNING shared_id, key",
        (partition_id, fact_id.bytes),
    ).fetchall()
    for shared_id, key in lost:
        settle(connection, shared_id, key)


def withdraw_all(connection: apsw.Connection, partition_id: int) -> int:
    """Withdraw all support of a partition, as erasing it has to; returns from how many things that users say alike."""
    lost: list[Any] = connection.execute(
        "DELETE FROM support WHERE partition_id = ? RETURNING shared_id, key", (partition_id,)
    ).fetchall()
    for shared_id, key in set(lost):
        settle(connection, shared_id, key)
    return len(set(lost))


def count_users(connection: apsw.Connection, shared_id: int, key: bytes) -> int:
    """How many users support a key."""
    count: Any = connection.execute(
        "SELECT count(DISTINCT partition_id) FROM support WHERE shared_id = ? AND key = ?", (shared_id, key)
    ).get
    return int(count)


def settle(connection: apsw.Connection, shared_id: int, key: bytes) -> bool:
    """Delete the shared fact of a key that too few users support; returns whether it did."""
    row = connection.execute(
        "SELECT id, min_users FROM shared_fact WHERE shared_id = ? AND key = ?", (shared_id, key)
    ).fetchone()
    if row is None or count_users(connection, shared_id, key) >= row[1]:
        return False
    remove(connection, shared_id, row[0])
    return True


def remove(connection: apsw.Connection, shared_id: int, id_: bytes) -> None:
    """Delete a shared fact, with its vector and what snapshots may hold of it. Shared facts never change: they have no
    history, and no run makes them."""
    version: Any = connection.execute(
        "UPDATE partition SET version = version + 1 WHERE partition_id = ? RETURNING version", (shared_id,)
    ).fetchall()[0][0]
    connection.execute("DELETE FROM shared_fact WHERE shared_id = ? AND id = ?", (shared_id, id_))
    connection.execute("DELETE FROM memory WHERE partition_id = ? AND id = ?", (shared_id, id_))
    connection.execute("INSERT INTO tombstone VALUES (?, ?, ?)", (shared_id, id_, version))
    snapshots.forget(connection, shared_id, version)
