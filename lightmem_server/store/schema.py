"""Brings a database to the current schema: numbered SQL files, applied in order inside one transaction.

The number of the last applied file is the database's `user_version`. A released file is never edited; a change is a new
file.
"""

from __future__ import annotations

from importlib.resources import files

import apsw

from lightmem_server.errors import StoreError, StoreVersionError

APPLICATION_ID = 0x4C4D656D
"""Marks a SQLite file as ours ("LMem"), so that another program's database is never migrated."""

RENUMBERED = {4: "erasure", 5: "import_read", 6: "support"}
"""Files that had other numbers in the first programs that wrote them, by a table that each makes: a database of schema 4 may
have any of them. They don't build on each other, so each is applied where its table isn't there yet."""


def read_migrations() -> list[str]:
    """The SQL of each migration; the first brings an empty database to version 1."""
    found = sorted(
        (file for file in files(__package__).joinpath("migrations").iterdir() if file.name.endswith(".sql")),
        key=lambda file: file.name,
    )
    numbers = [int(file.name.partition("_")[0]) for file in found]
    if not numbers or numbers != list(range(1, len(numbers) + 1)):
        raise StoreError(f"this installation is damaged: its migrations are numbered {numbers}")
    return [file.read_text("utf-8") for file in found]


def migrate(connection: apsw.Connection, migrations: list[str]) -> None:
    """Apply what the database lacks, all or nothing; `check_version` comes before.

    Raises:
        apsw.Error: As SQLite reports it.
    """
    with connection:  # one transaction, rolled back by an exception
        version = int(connection.pragma("user_version"))
        for number, sql in enumerate(migrations, start=1):
            if _is_lacking(connection, number, version):
                connection.execute(sql).fetchall()  # a script runs on only as its rows are taken
        if version < len(migrations):
            connection.pragma("application_id", APPLICATION_ID)
            connection.pragma("user_version", len(migrations))


def _is_lacking(connection: apsw.Connection, number: int, version: int) -> bool:
    """Whether a migration hasn't been applied to a database of this version."""
    table = RENUMBERED.get(number)
    if table is None or version < min(RENUMBERED):
        return number > version
    return not connection.table_exists(None, table)


def check_version(connection: apsw.Connection, newest: int) -> None:
    """Refuse a database that this program must not touch. Writes nothing.

    Raises:
        StoreVersionError: The database is newer than this program.
        StoreError: It belongs to another program.
    """
    version = int(connection.pragma("user_version"))
    application_id = int(connection.pragma("application_id"))
    is_empty = connection.execute("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)").get
    if application_id != APPLICATION_ID and not (is_empty and version == 0 and application_id == 0):
        raise StoreError("the database belongs to another program")
    if version > newest:
        raise StoreVersionError(
            f"the database has schema version {version}, this program knows up to {newest}; install a newer LightMem"
        )
