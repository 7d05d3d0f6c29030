"""No byte of what was deleted is left in SQLite's files, also where secure_delete doesn't reach."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import apsw
import pytest

from lightmem_server.errors import StoreError
from lightmem_server.store import sqlite as module
from lightmem_server.store.connection import open_connection, to_reader, to_writer
from lightmem_server.store.erasure import TABLES
from lightmem_server.store.protocol import Change
from lightmem_server.store.sqlite import DATABASE_NAME, SqliteStore
from lightmem_server.store.wipe import wipe
from lightmem_server.types import Memory, Partition
from tests.contract.store_records import make_change, make_memory

SECRET = "Zanzibar-4711"


def traces(folder: Path, secret: str = SECRET) -> list[str]:
    return sorted(file.name for file in folder.iterdir() if secret.encode() in file.read_bytes())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "test.db"


@pytest.fixture
def connection(path: Path) -> Iterator[apsw.Connection]:
    connection = open_connection(path, cache_bytes=1 << 20)
    to_writer(connection)
    connection.execute(
        "CREATE TABLE note (place INTEGER PRIMARY KEY, text TEXT); CREATE INDEX note_text ON note (text)"
    )
    connection.execute("CREATE TABLE erasure (wiped_at)")
    yield connection
    connection.close()


@pytest.fixture
def file(path: Path, connection: apsw.Connection) -> Iterator[int]:
    file = os.open(path, os.O_RDWR)
    yield file
    connection.close()  # before the descriptor: see `wipe`
    os.close(file)


def fill_and_delete(connection: apsw.Connection) -> None:
    """Rows of unlike lengths in no order, so that pages are balanced again and again; half of them are deleted."""
    choose = random.Random(4)
    for place in range(3000):
        whose = SECRET if choose.random() < 0.5 else "other"
        text = f"{choose.random()} {whose} " + "x" * choose.choice([0, 10, 100, 300])
        connection.execute("INSERT INTO note VALUES (?, ?)", (place, text))
    connection.execute("DELETE FROM note WHERE text LIKE '%Zanzibar%'")


def test_copies_in_the_gaps_of_pages_are_overwritten(connection: apsw.Connection, file: int, tmp_path: Path) -> None:
    fill_and_delete(connection)
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    assert traces(tmp_path) == ["test.db"], "secure_delete has come to reach the gaps: wipe is not needed any more"
    left = connection.execute("SELECT * FROM note ORDER BY place").fetchall()
    assert wipe(connection, file=file, now=1)
    assert traces(tmp_path) == []
    assert connection.execute("PRAGMA integrity_check").get == "ok"
    assert connection.execute("SELECT * FROM note ORDER BY place").fetchall() == left


def test_the_cache_brings_nothing_back(connection: apsw.Connection, file: int, tmp_path: Path) -> None:
    fill_and_delete(connection)
    assert wipe(connection, file=file, now=1)
    connection.execute("UPDATE note SET text = text || 'y'")  # writes every page
    assert traces(tmp_path) == []
    connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_TRUNCATE)
    assert traces(tmp_path) == []
    assert connection.execute("PRAGMA integrity_check").get == "ok"


def test_a_reader_in_the_way_is_told(connection: apsw.Connection, file: int, path: Path, tmp_path: Path) -> None:
    connection.execute("INSERT INTO note VALUES (1, ?)", (SECRET,))
    reader = open_connection(path, cache_bytes=1 << 20)
    to_reader(reader)
    reader.execute("BEGIN; SELECT * FROM note").fetchall()
    connection.execute("DELETE FROM note")
    assert not wipe(connection, file=file, now=1)
    reader.close()
    assert wipe(connection, file=file, now=1)
    assert traces(tmp_path) == []


# Through the store


def change_of(user: str, memory: Memory, number: int = 0) -> Change:
    return make_change(
        [memory],
        partition=Partition("default", user),
        request_id=f"{user} {number}",
        request_digest=b"d",
        request_result=b"r",
    )


@pytest.fixture
async def store(tmp_path: Path) -> SqliteStore:
    store = SqliteStore(tmp_path)
    await store.open()
    return store


@pytest.mark.parametrize("seed", range(4))
async def test_nothing_of_an_erased_user_is_in_any_file(store: SqliteStore, tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    users = [SECRET, "ann", "bob"]
    stored: dict[str, list[Memory]] = {user: [] for user in users}
    for number in range(600):
        user = choose.choice(users)
        text = f"{user} {number} " * choose.choice([1, 5, 50, 300])
        if stored[user] and choose.random() < 0.3:
            place = choose.randrange(len(stored[user]))
            old = stored[user][place]
            stored[user][place] = replace(old, text=text, version=old.version + 1)
        else:
            place = len(stored[user])
            stored[user].append(make_memory(text, session_id=f"{user} {number % 3}", metadata={user: user}))
        await store.commit(change_of(user, stored[user][place], number))
    await store.erase(Partition("default", SECRET), now=1)
    await store.wipe()
    assert traces(tmp_path) == []
    assert await store.check() == []
    for user in users[1:]:
        assert list(await store.get(Partition("default", user), [m.id for m in stored[user]])) == stored[user]
    await store.commit(change_of("ann", make_memory("x" * 5000), 10**6))
    await store.close()
    assert traces(tmp_path) == []


async def test_every_table_of_a_partition_is_emptied(store: SqliteStore, tmp_path: Path) -> None:
    """A new table with rows of partitions is found here by whoever adds it."""
    await store.commit(change_of("ann", make_memory()))
    await store.erase(Partition("default", "ann"), now=1)
    await store.close()
    connection = apsw.Connection(str(tmp_path / DATABASE_NAME))
    tables = [str(row[0]) for row in connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'")]
    named = {
        name
        for name in tables
        if any(row[1] == "partition_id" for row in connection.execute(f"PRAGMA table_info({name})"))
    }
    elsewhere = {"run_step_source", "support"}  # goes with its run; `support.withdraw_all`
    assert named - elsewhere == set(TABLES)
    assert all(connection.execute(f"SELECT count(*) FROM {name}").get == 0 for name in named)
    connection.close()


async def test_wiping_waits_for_a_reader_and_says_so_when_it_stays(
    store: SqliteStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "WIPE_ATTEMPTS", 2)
    await store.commit(change_of(SECRET, make_memory(SECRET)))
    reader = apsw.Connection(str(tmp_path / DATABASE_NAME))
    reader.execute("BEGIN; SELECT * FROM memory").fetchall()
    await store.erase(Partition("default", SECRET), now=1)
    with pytest.raises(StoreError) as caught:
        await store.wipe()
    assert caught.value.reason == "ERASURE_INCOMPLETE"
    assert traces(tmp_path)
    monkeypatch.setattr(module, "WIPE_ATTEMPTS", 10**6)
    wiping = threading.Timer(0.05, reader.close)
    wiping.start()
    await store.wipe()
    wiping.join()
    assert traces(tmp_path) == []
    await store.close()


async def test_an_erasure_that_a_crash_broke_off_is_finished_at_the_next_start(tmp_path: Path) -> None:
    """The files as they are after a kill between the commit and the wiping."""
    data, copy = tmp_path / "data", tmp_path / "copy"
    store = SqliteStore(data)
    await store.open()
    await store.commit(change_of(SECRET, make_memory(SECRET)))
    reader = apsw.Connection(str(data / DATABASE_NAME))  # keeps the background from emptying the log
    reader.execute("BEGIN; SELECT * FROM memory").fetchall()
    await store.erase(Partition("default", SECRET), now=1)
    copy.mkdir()
    for file in (data / DATABASE_NAME, data / f"{DATABASE_NAME}-wal"):
        (copy / file.name).write_bytes(file.read_bytes())
    reader.close()
    await store.close()
    assert traces(copy) == [f"{DATABASE_NAME}-wal"]
    again = SqliteStore(copy)
    await again.open()
    assert traces(copy) == []
    await again.close()
