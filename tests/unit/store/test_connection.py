"""The settings of connections, and what errors say."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from lightmem_server.errors import StoreError, StoreVersionError
from lightmem_server.store.connection import (
    check_library,
    open_connection,
    store_errors,
    to_reader,
    to_store_error,
    to_writer,
)


@pytest.mark.parametrize("version", ["3.51.3", "3.51.10", "3.54.1", "4.0.0", apsw.sqlite_lib_version()])
def test_safe_libraries_are_accepted(version: str) -> None:
    check_library(version)


@pytest.mark.parametrize("version", ["3.40.1", "3.51.2", "3.9.99", "2.100.100"])
def test_libraries_that_can_lose_commits_are_refused(version: str) -> None:
    with pytest.raises(StoreVersionError, match=version):
        check_library(version)


def test_writer_is_durable_and_erases(tmp_path: Path) -> None:
    connection = open_connection(tmp_path / "test.db", cache_bytes=1 << 20)
    to_writer(connection)
    settings = {
        name: connection.pragma(name) for name in ("journal_mode", "synchronous", "secure_delete", "cache_size")
    }
    assert settings == {"journal_mode": "wal", "synchronous": 2, "secure_delete": 1, "cache_size": -1024}
    assert connection.pragma("foreign_keys") == 1
    connection.close()


def test_reader_cannot_write(tmp_path: Path) -> None:
    connection = open_connection(tmp_path / "test.db", cache_bytes=1 << 20)
    to_reader(connection)
    with pytest.raises(apsw.ReadOnlyError):
        connection.execute("CREATE TABLE a (x)")
    connection.close()


@pytest.mark.parametrize(
    ("error", "word"),
    [
        (apsw.FullError, "full"),
        (apsw.IOError, "disk"),
        (apsw.ReadOnlyError, "read-only"),
        (apsw.CorruptError, "damaged"),
        (apsw.NotADBError, "not a SQLite database"),
        (apsw.CantOpenError, "cannot be opened"),
        (apsw.BusyError, "lock"),
        (apsw.SQLError, "refused"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else None,
)
def test_errors_say_what_is_wrong(error: type[apsw.Error], word: str) -> None:
    message = to_store_error(error("detail")).message
    assert word in message
    assert "detail" in message
    with pytest.raises(StoreError, match=f"^here: .*{word}") as caught, store_errors("here"):
        raise error("detail")
    assert isinstance(caught.value.__cause__, error)


def test_errors_of_the_system_are_store_errors(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match=r"^No such file or directory$"), store_errors():
        (tmp_path / "missing").read_bytes()
