"""Opening SQLite safely, and what its errors mean to a person.

apsw was chosen over the standard library's sqlite3 because it brings a current SQLite with it: before 3.51.3 a rare race
at the reset of the WAL could lose a commit.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import apsw

from lightmem_server.errors import DamagedError, DiskError, StoreError, StoreVersionError

OLDEST_SQLITE = (3, 51, 3)
"""The first release without the WAL-reset bug."""

BUSY_TIMEOUT_MS = 5000
"""How long to wait for a lock that another program (a backup, the sqlite3 shell) holds."""

SENTENCES: tuple[tuple[type[apsw.Error], type[StoreError], str], ...] = (
    (apsw.FullError, DiskError, "the disk is full; nothing was stored, free some space and try again"),
    (apsw.IOError, DiskError, "the disk could not be read or written"),
    (apsw.ReadOnlyError, DiskError, "the database is read-only for this process"),
    (apsw.CorruptError, DamagedError, "the database is damaged; restore it from a backup"),
    (apsw.NotADBError, DamagedError, "the file is not a SQLite database, or its beginning is damaged"),
    (apsw.CantOpenError, DiskError, "the database cannot be opened; check the folder and its permissions"),
    (apsw.PermissionsError, DiskError, "the database may not be accessed by this process"),
    (apsw.BusyError, DiskError, "another program holds a lock on the database"),
    (apsw.LockedError, DiskError, "another program holds a lock on the database"),
    (apsw.NoMemError, StoreError, "not enough memory for the database"),
    (apsw.TooBigError, StoreError, "a value is larger than the database can hold"),
)
"""What SQLite reports, whose fault that is, and what it means."""


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
    if connection.readonly("main"):
        # SQLite has fallen back. Going on would leave a log beside it that nobody could write to later either.
        connection.close()
        raise apsw.ReadOnlyError("no right to write to it")
    connection.set_busy_timeout(BUSY_TIMEOUT_MS)
    connection.pragma("cache_size", -max(1, cache_bytes // 1024))
    connection.pragma("cell_size_check", True)
    connection.pragma("trusted_schema", False)
    return connection


def open_read_only(path: Path) -> apsw.Connection:
    """A connection that changes nothing and leaves nothing beside the file, whatever mode its writer left it in.

    Raises:
        apsw.Error: As SQLite reports it.
    """
    # Without a log nobody has it open: SQLite need not make the two files that readers and a writer share.
    is_at_rest = not path.with_name(f"{path.name}-wal").exists()
    uri = f"file:{quote(os.fspath(path.absolute()))}?mode=ro" + ("&immutable=1" if is_at_rest else "")
    connection = apsw.Connection(uri, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection.pragma("trusted_schema", False)
    connection.pragma("cell_size_check", True)
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


def to_store_error(error: apsw.Error, where: str = "") -> StoreError:
    """What a failure of SQLite means, in a sentence behind `where`; SQLite's own words follow."""
    for kind, class_, sentence in SENTENCES:
        if isinstance(error, kind):
            return class_(f"{where}{sentence} ({error})")
    return StoreError(f"{where}the database refused ({error})")


@contextmanager
def store_errors(where: str = "") -> Iterator[None]:
    """Turn SQLite's and the operating system's errors into StoreError; `where` goes before the sentence."""
    prefix = f"{where}: " if where else ""
    try:
        yield
    except apsw.Error as error:
        raise to_store_error(error, prefix) from error
    except OSError as error:
        raise DiskError(f"{prefix}{error.strerror or error}") from error
