"""A database that each earlier schema wrote opens, is brought up to date, and reads as it was written; so does its backup.

`databases/` has one file for each commit that changed what the migrations make: NUMBER_COMMIT.sql, written by the program
of that commit (`write_database.py`). A released migration is never edited; these are from before the first release, too.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from pathlib import Path

import apsw
import numpy as np
import pytest

from lightmem_server.errors import StoreVersionError
from lightmem_server.store.connection import open_connection
from lightmem_server.store.protocol import Change
from lightmem_server.store.restore import restore
from lightmem_server.store.schema import read_migrations
from lightmem_server.store.sqlite import DATABASE_NAME, SqliteStore
from tests.unit.store import write_database as written
from tests.unit.store.test_backup import back_up

FIXTURES = sorted(Path(__file__).with_name("databases").glob("*.sql"))


def make_database(fixture: Path, path: Path) -> None:
    """The database of a fixture."""
    path.parent.mkdir(exist_ok=True)
    with closing(open_connection(path, cache_bytes=1 << 20)) as connection:
        connection.execute(fixture.read_text("utf-8")).fetchall()
        assert connection.pragma("user_version") == int(fixture.name[:4])


async def assert_as_written(store: SqliteStore) -> None:
    """Everything that `write_database` wrote, byte by byte, and what is to come is numbered on."""
    changes = await store.changes_since(written.ANN, None)
    expected = [written.turn_of(0), replace(written.turn_of(1), is_pinned=True, version=2), written.turn_of(2)]
    expected[0] = replace(expected[0], access_count=1, last_accessed_at=11)
    assert [row.memory for row in changes.rows] == expected
    for number, row in enumerate(changes.rows):
        assert row.vector is not None
        assert row.vector.model == written.MODEL
        np.testing.assert_array_equal(row.vector.vectors, written.vectors_of(number))
    assert changes.version == len(written.TEXTS) + 2
    since = await store.changes_since(written.ANN, len(written.TEXTS))
    assert since.removed_ids == [written.id_of(3)]
    found = await store.find_request(written.ANN, written.REQUEST_ID, written.REQUEST_DIGEST)
    assert found is not None
    assert found.request_result == written.REQUEST_RESULT
    assert await store.find_key(written.KEY.key_id) == written.KEY
    (other,) = (await store.changes_since(written.BEN, None)).rows
    assert other.memory.text == "Only Ben's."
    assert await store.next_job_at(["consolidate"]) == 5
    assert await store.check() == []


async def assert_at_work(store: SqliteStore) -> None:
    """It takes jobs, changes and deletions."""
    job = await store.claim_job(["consolidate"], owner="w", lease_micros=1, now=10)
    assert job is not None
    assert job.payload == "{}"
    assert await store.finish_job(job.job_id, owner="w")
    result = await store.commit(
        Change(written.ANN, puts=[replace(written.turn_of(2), version=2, metadata={})], deletes=[written.id_of(0)])
    )
    assert result.version == len(written.TEXTS) + 3
    assert [entry.memory.version for entry in await store.history(written.ANN, written.id_of(2))] == [1, 2]


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture.stem)
async def test_earlier_database_is_brought_up_to_date(fixture: Path, tmp_path: Path) -> None:
    make_database(fixture, tmp_path / DATABASE_NAME)
    store = SqliteStore(tmp_path)
    await store.open()
    await assert_as_written(store)
    await assert_at_work(store)
    await store.close()
    with closing(open_connection(tmp_path / DATABASE_NAME, cache_bytes=1 << 20)) as connection:
        assert connection.pragma("user_version") == len(read_migrations())


@pytest.mark.parametrize("fixture", FIXTURES, ids=lambda fixture: fixture.stem)
async def test_backup_of_an_earlier_schema_is_restored(fixture: Path, tmp_path: Path) -> None:
    backup, data_dir = tmp_path / "old.db", tmp_path / "data"
    make_database(fixture, backup)
    before = backup.read_bytes()
    restore(backup, data_dir, lambda moment: None)
    assert backup.read_bytes() == before
    store = SqliteStore(data_dir)
    await store.open()
    await assert_as_written(store)
    path = Path((await back_up(store, "new.db"))[-1].path)
    await store.close()
    restore(path, tmp_path / "again", lambda moment: None)


def test_every_schema_has_a_database() -> None:
    """Whoever adds a migration adds what its schema's program writes: see write_database.py."""
    numbers = {int(fixture.name[:4]) for fixture in FIXTURES}
    assert numbers == set(range(1, len(read_migrations()) + 1))


async def test_newer_backup_is_refused(tmp_path: Path) -> None:
    backup, data_dir = tmp_path / "new.db", tmp_path / "data"
    make_database(FIXTURES[-1], backup)
    with closing(apsw.Connection(str(backup))) as connection:
        connection.pragma("user_version", len(read_migrations()) + 1)
    with pytest.raises(StoreVersionError, match=r"schema version \d+, this program knows up to \d+; install a newer"):
        restore(backup, data_dir, lambda moment: None)
    assert not (data_dir / DATABASE_NAME).exists()
