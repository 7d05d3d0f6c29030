"""Migrations: complete, applied once, all or nothing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import apsw
import pytest

from lightmem_server.errors import StoreError, StoreVersionError
from lightmem_server.store.connection import open_connection, to_writer
from lightmem_server.store.schema import APPLICATION_ID, check_version, migrate, read_migrations
from lightmem_server.store.sqlite_write import TABLES_WITH_WORDS

MIGRATIONS = ["CREATE TABLE a (x); INSERT INTO a VALUES (1);", "ALTER TABLE a ADD COLUMN y; CREATE TABLE b (x);"]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[apsw.Connection]:
    connection = open_connection(tmp_path / "test.db", cache_bytes=1 << 20)
    to_writer(connection)
    yield connection
    connection.close()


def tables(connection: apsw.Connection) -> list[str]:
    return [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema ORDER BY name")]


def is_table(connection: apsw.Connection, name: str) -> bool:
    return bool(connection.execute("SELECT type = 'table' FROM sqlite_schema WHERE name = ?", (name,)).get)


def test_our_migrations_apply_to_an_empty_database(connection: apsw.Connection) -> None:
    migrations = read_migrations()
    migrate(connection, migrations)
    assert connection.pragma("user_version") == len(migrations)
    assert connection.pragma("application_id") == APPLICATION_ID
    assert {"partition", "memory", "vector", "request", "job", "tombstone", "api_key"} <= set(tables(connection))


def test_tables_that_may_hold_words_are_named(connection: apsw.Connection) -> None:
    """A new table is put on one list or the other by whoever adds it."""
    without = {"partition", "model", "access", "tombstone", "watermark", "run_step_source", "run_change"}
    without |= {"erasure", "erasure_salt", "erased_partition", "erased_request", "import_read", "shared_fact"}
    migrate(connection, read_migrations())
    made = {name for name in tables(connection) if not name.startswith("sqlite_") and is_table(connection, name)}
    assert made == {*TABLES_WITH_WORDS, *without, "api_key", "model_time"}


def test_migrating_again_changes_nothing(connection: apsw.Connection) -> None:
    migrate(connection, MIGRATIONS)
    migrate(connection, MIGRATIONS)
    assert connection.execute("SELECT count(*) FROM a").get == 1


def test_migrating_continues_where_it_stopped(connection: apsw.Connection) -> None:
    migrate(connection, MIGRATIONS[:1])
    migrate(connection, MIGRATIONS)
    assert tables(connection) == ["a", "b"]
    assert connection.execute("SELECT x, y FROM a").fetchall() == [(1, None)]
    assert connection.pragma("user_version") == 2


def test_failing_migration_leaves_the_database_as_it_was(connection: apsw.Connection) -> None:
    migrate(connection, MIGRATIONS[:1])
    with pytest.raises(apsw.SQLError):
        migrate(connection, [*MIGRATIONS, "CREATE TABLE c (x); CREATE TABLE b (x);"])
    assert tables(connection) == ["a"]
    assert connection.pragma("user_version") == 1
    migrate(connection, MIGRATIONS)


@pytest.mark.parametrize(
    ("application_id", "user_version", "error"),
    [
        (APPLICATION_ID, 3, StoreVersionError),
        (APPLICATION_ID + 1, 1, StoreError),
        (0, 1, StoreError),
    ],
    ids=["newer", "other program", "unmarked"],
)
def test_databases_not_ours_to_touch_are_refused(
    connection: apsw.Connection, application_id: int, user_version: int, error: type[StoreError]
) -> None:
    connection.pragma("application_id", application_id)
    connection.pragma("user_version", user_version)
    with pytest.raises(StoreError) as caught:
        check_version(connection, 2)
    assert type(caught.value) is error


@pytest.mark.parametrize("user_version", [1, 2], ids=["older", "same"])
def test_older_and_same_versions_are_accepted(connection: apsw.Connection, user_version: int) -> None:
    migrate(connection, MIGRATIONS[:user_version])
    check_version(connection, 2)
