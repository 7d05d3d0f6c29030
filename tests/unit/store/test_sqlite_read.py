"""No query on the way of a request may scan a table: cost must not grow with what other users store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import pytest

from lightmem_server.store import sqlite_read
from lightmem_server.store.connection import open_connection, to_writer
from lightmem_server.store.protocol import Change, JobRecord
from lightmem_server.store.schema import migrate, read_migrations
from lightmem_server.store.sqlite_write import apply_change
from lightmem_server.types import Kind, MemoryFilter
from tests.contract.store_records import USER, make_change, make_id, make_memory

FILTER = MemoryFilter(kinds=frozenset({Kind.TURN}), session_ids=frozenset({"s"}), occurred_from=0)

Query = Callable[[apsw.Connection], object]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_connection(tmp_path / "test.db", cache_bytes=1 << 20)
    to_writer(connection)
    migrate(connection, read_migrations())
    memory = make_memory()
    apply_change(connection, make_change([memory, make_memory(previous_id=memory.id)]), now=0)
    apply_change(connection, Change(USER, deletes=[memory.id], jobs=[JobRecord("k")]), now=0)
    yield connection
    connection.close()


def statements(connection: apsw.Connection, query: Query) -> list[tuple[str, Any]]:
    """The SELECTs that a query runs, with their bindings."""
    seen: list[tuple[str, Any]] = []

    def note(_: object, sql: str, bindings: Any) -> bool:
        seen.append((sql, bindings))
        return True

    connection.exec_trace = note
    query(connection)
    connection.exec_trace = None
    return [(sql, bindings) for sql, bindings in seen if sql.lstrip().startswith("SELECT")]


def plan(connection: apsw.Connection, sql: str, bindings: Any) -> list[str]:
    return [str(row[3]) for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", bindings)]


QUERIES: dict[str, Query] = {
    "find_request": lambda connection: sqlite_read.find_request(connection, USER, "r", b""),
    "get": lambda connection: sqlite_read.get(connection, USER, [make_id()]),
    "find_followers": lambda connection: sqlite_read.find_followers(connection, USER, make_id()),
    "first page": lambda connection: sqlite_read.list_page(connection, USER, FILTER, limit=1, before_order=None, now=0),
    "next page": lambda connection: sqlite_read.list_page(
        connection, USER, FILTER, limit=1, before_order=1 << 40, now=0
    ),
    "changes": lambda connection: sqlite_read.changes_since(connection, USER, 1),
    "everything": lambda connection: sqlite_read.changes_since(connection, USER, None),
    "stats of a user": lambda connection: sqlite_read.stats(connection, USER.namespace, USER.user_id),
    "find_key": lambda connection: sqlite_read.find_key(connection, "k"),
    "list_keys": lambda connection: sqlite_read.list_keys(connection, "default", 10, "k"),
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES.keys())
def test_query_uses_indexes(connection: apsw.Connection, query: Query) -> None:
    ran = statements(connection, query)
    assert ran
    for sql, bindings in ran:
        steps = plan(connection, sql, bindings)
        assert not [step for step in steps if step.startswith("SCAN") and "json_each" not in step], (sql, steps)


@pytest.mark.parametrize("name", ["first page", "next page", "everything", "list_keys"])
def test_query_needs_no_sorting(connection: apsw.Connection, name: str) -> None:
    for sql, bindings in statements(connection, QUERIES[name]):
        assert not [step for step in plan(connection, sql, bindings) if "TEMP B-TREE" in step], sql


def test_changes_are_found_by_their_version(connection: apsw.Connection) -> None:
    steps = [step for sql, b in statements(connection, QUERIES["changes"]) for step in plan(connection, sql, b)]
    assert any("memory_changed (partition_id=? AND changed_version>?)" in step for step in steps), steps
    assert any("tombstone_deleted (partition_id=? AND deleted_version>?)" in step for step in steps), steps


def test_followers_are_found_by_what_they_follow(connection: apsw.Connection) -> None:
    ((sql, bindings),) = statements(connection, QUERIES["find_followers"])
    assert any("memory_previous (partition_id=? AND previous_id=?)" in step for step in plan(connection, sql, bindings))


def test_nothing_new_is_one_look_up(connection: apsw.Connection) -> None:
    ran = statements(connection, lambda connection: sqlite_read.changes_since(connection, USER, 2))
    assert len(ran) == 1
    assert len(plan(connection, *ran[0])) == 1
