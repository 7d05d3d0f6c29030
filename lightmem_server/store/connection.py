"""Opening SQLite safely, and what its errors mean to a person.

apsw was chosen over the standard library's sqlite3 because it brings a current SQLite with it: before 3.51.3 a rare race
at the reset of the WAL could lose a commit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import apsw

from lightmem_server.errors import StoreError, StoreVersionError

OLDEST_SQLITE = (3, 51, 3)
"""The first release without the WAL-reset bug."""

BUSY_TIMEOUT_MS = 5000
"""How long to wait for a lock that another program (a backup, the sqlite3 shell) holds."""

SENTENCES: tuple[tuple[type[apsw.Error], str], ...] = (
    (apsw.FullError, "the disk is full; nothing was stored, free some space and try again"),
    (apsw.IOError, "the disk could not be read or written"),
    (apsw.ReadOnlyError, "the database is read-only for this process"),
    (apsw.CorruptError, "the database is damaged; restore it from a backup"),
    (apsw.NotADBError, "the file is not a SQLite database, or its beginning is damaged"),
    (apsw.CantOpenError, "the database cannot be opened; check the folder and its permissions"),
    (apsw.PermissionsError, "the database may not be accessed by this process"),
    (apsw.BusyError, "another program holds a lock on the database"),
    (apsw.LockedError, "another program holds a lock on the database"),
    (apsw.NoMemError, "not enough memory for the database"),
    (apsw.TooBigError, "a value is larger than the database can hold"),
)


def check_library(version: str) -> None:
    """Refuse a SQLite that could lose commits.

    Raises:
        StoreVersionError: Older than 3.51.3.

    >>> check_library("3.54.1")
    """
    if tuple(int(part) for part in version.split(".")[:3]) < OLDEST_SQLITE:
        oldest = ".".join(map(str, OLDEST_SQLITE))
        raise StoreVersionError(f"SQLite {version} can lose commits when it resets its log; install {oldest} or newer")


def open_connection(path: Path, *, cache_bytes: int) -> apsw.Connection:
    """A connection that has written nothing yet; `to_reader` or `to_writer` makes it fit for use.

    Raises:
        apsw.Error: As SQLite reports it.
    """
    # SQLite would make the file readable by others; its -wal and -shm files inherit the mode. A file that is there is not
    # opened beside SQLite: closing it again would drop the locks that this process's other connections hold.
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    connection = apsw.Connection(os.fspath(path))
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.pragma("cache_size", -max(1, cache_bytes // 1024))
    connection.pragma("cell_size_check", True)
    connection.pragma("trusted_schema", False)
    return connection


def to_reader(connection: apsw.Connection) -> None:
    """Refuse writes on this connection."""
    connection.pragma("query_only", True)


def to_writer(connection: apsw.Connection) -> None:
    """The settings that the promises of durability and erasure rest on. Changes the file's journal mode, so check first
    that the file is ours.

    Raises:
        apsw.Error: As SQLite reports it.
    """
    if connection.pragma("journal_mode", "wal") != "wal":
        raise apsw.CantOpenError("write-ahead logging is not possible on this file system")
    connection.pragma("synchronous", "full")  # each commit reaches the disk before it returns
    connection.pragma("fullfsync", True)  # on macOS fsync alone stops at the drive's cache
    connection.pragma("checkpoint_fullfsync", True)
    connection.pragma("secure_delete", True)  # what is deleted is overwritten with zeros
    connection.pragma("foreign_keys", True)


def to_store_error(error: apsw.Error) -> StoreError:
    """What a failure of SQLite means, in a sentence; SQLite's own words follow."""
    sentence = next((text for kind, text in SENTENCES if isinstance(error, kind)), "the database refused")
    return StoreError(f"{sentence} ({error})")


@contextmanager
def store_errors(where: str = "") -> Iterator[None]:
    """Turn SQLite's and the operating system's errors into StoreError; `where` goes before the sentence."""
    prefix = f"{where}: " if where else ""
    try:
        yield
    except apsw.Error as error:
        raise StoreError(prefix + to_store_error(error).message) from error
    except OSError as error:
        raise StoreError(f"{prefix}{error.strerror or error}") from error
